//! A tar becomes an image that has all that was in it, the same one each time.

use std::io::Write;
use std::sync::Arc;

use dozlab_rootfs::import::{ImportError, ImportOptions};
use dozlab_rootfs::{NoProgress, Progress, Stage, Update};
use tar::EntryType;

use super::support::{Entry, Lab, assert_is_sound, debugfs, inode, tar, tool, write};

/// `cap_net_raw=ep`, as `setcap` writes it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const LONG_TARGET: &str = "a/target/of/more/than/sixty/bytes/which/does/not/fit/into/the/inode/itself";

fn debian_in_small() -> Vec<u8> {
    tar(&[
        Entry { modified: 1_600_000_000, ..Entry::folder("./") },
        Entry::folder("etc/"),
        Entry::file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nlab:x:1000:1000::/home/lab:/bin/sh\n"),
        Entry::file("usr/lib/os-release", b"PRETTY_NAME=\"Small Linux 1\"\n"),
        Entry::symlink("etc/os-release", "../usr/lib/os-release"),
        Entry::symlink("sbin", "usr/sbin"),
        Entry::symlink("usr/sbin/init", "/lib/systemd/systemd"),
        Entry { mode: 0o755, ..Entry::file("usr/lib/systemd/systemd", b"\x7fELF") },
        Entry::symlink("lib", "usr/lib"),
        Entry { mode: 0o4755, ..Entry::file("usr/bin/sudo", &[1; 10_000]) },
        Entry { mode: 0o2755, owner: (0, 42), ..Entry::file("usr/bin/chage", b"x") },
        Entry { mode: 0, owner: (70_000, 80_000), ..Entry::file("secret", b"nobody reads me") },
        Entry { mode: 0o1777, ..Entry::folder("tmp") },
        Entry { mode: 0o111, owner: (1000, 1000), modified: 5, ..Entry::folder("home/lab") },
        Entry { owner: (1000, 1000), ..Entry::file("home/lab/it's a \"name\" ü $HOME `x` \\n", b"quoted") },
        Entry { owner: (1000, 1001), ..Entry::symlink("home/lab/long", LONG_TARGET) },
        Entry { mode: 0o600, ..Entry::hard_link("home/lab/sudo", "usr/bin/sudo") },
        Entry { mode: 0o660, owner: (0, 6), device: (8, 1), ..Entry::new(EntryType::Block, "dev/sda1") },
        Entry { mode: 0o666, device: (1, 3), ..Entry::new(EntryType::Char, "dev/null") },
        Entry { mode: 0o640, device: (300, 70_000), ..Entry::new(EntryType::Char, "dev/large") },
        Entry { mode: 0o620, ..Entry::new(EntryType::Fifo, "run/initctl") },
        Entry {
            records: &[
                ("SCHILY.xattr.security.capability", CAPABILITY),
                ("SCHILY.xattr.user.note", b"a b\0c"),
            ],
            mode: 0o755,
            ..Entry::file("usr/bin/ping", b"ping")
        },
        Entry { records: &[("mtime", b"1650000000.75")], ..Entry::file("usr/share/dated", b"") },
    ])
}

#[tokio::test]
async fn everything_in_the_tar_is_in_the_image() {
    let lab = Lab::new();
    write(&lab.path("small.tar"), &debian_in_small());

    let record = lab.import("small", &lab.path("small.tar")).await.unwrap();

    let image = lab.blob(&record);
    assert_is_sound(&image);
    assert_eq!((record.user.as_str(), record.has_init), ("lab", true));
    assert_eq!(record.os_name.as_deref(), Some("Small Linux 1"));
    assert!(record.stored < record.size, "free space is not holes: {record:?}");
    for (path, expected) in [
        ("/etc/passwd", "regular 0644 0 0 1 61 1700000000"),
        ("/usr/bin/sudo", "regular 04755 0 0 2 10000 1700000000"),
        ("/home/lab/sudo", "regular 04755 0 0 2 10000 1700000000"),
        ("/usr/bin/chage", "regular 02755 0 42 1 1 1700000000"),
        ("/secret", "regular 0000 70000 80000 1 15 1700000000"),
        ("/tmp", "directory 01777 0 0 2 4096 1700000000"),
        ("/home/lab", "directory 0111 1000 1000 2 4096 5"),
        ("/home/lab/it's a \"\"name\"\" ü $HOME `x` \\n", "regular 0644 1000 1000 1 6 1700000000"),
        ("/home/lab/long", "symlink 0777 1000 1001 1 74 1700000000"),
        ("/sbin", "symlink 0777 0 0 1 8 1700000000"),
        ("/dev/sda1", "block-special 0660 0 6 1 0 1700000000"),
        ("/dev/null", "character-special 0666 0 0 1 0 1700000000"),
        ("/dev/large", "character-special 0640 0 0 1 0 1700000000"),
        ("/run/initctl", "FIFO 0620 0 0 1 0 1700000000"),
        ("/usr/share/dated", "regular 0644 0 0 1 0 1650000000"),
    ] {
        assert_eq!(inode(&image, path), expected, "{path}");
    }
    assert!(inode(&image, "/").ends_with(" 1600000000"), "{}", inode(&image, "/"));
    assert!(debugfs(&image, "stat /dev/sda1").contains("major/minor number: 08:01"));
    assert!(debugfs(&image, "stat /dev/large").contains("major/minor number: 300:70000"));
    assert_eq!(debugfs(&image, "cat /home/lab/sudo").into_bytes(), [1; 10_000]);
    assert!(debugfs(&image, "stat /usr/bin/ping").contains("01 00 00 02 00 20 00 00"));
    assert!(debugfs(&image, "ea_list /usr/bin/ping").contains("user.note (5)"));
    assert_eq!(debugfs(&image, "cat /home/lab/long"), LONG_TARGET);
}

#[tokio::test]
async fn the_same_tar_gives_the_same_image_however_it_is_compressed() {
    let lab = Lab::new();
    let plain = debian_in_small();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let compressed = [
        ("plain", plain.clone()),
        ("plain-again", plain.clone()),
        ("gz", gzip.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zstd::encode_all(&plain[..], 1).unwrap()),
    ];
    let mut digests = std::collections::HashSet::new();
    for (name, bytes) in compressed {
        let source = lab.path(name);
        write(&source, &bytes);
        digests.insert(lab.import(name, &source).await.unwrap().digest);
    }
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[tokio::test]
async fn source_date_epoch_is_the_image_s_clock_and_its_newest_time() {
    let lab = Lab::new();
    write(&lab.path("small.tar"), &debian_in_small());
    let options =
        ImportOptions::from_env(|name| (name == "SOURCE_DATE_EPOCH").then(|| "1660000000".to_owned()));
    let record =
        lab.store.import("small", &lab.path("small.tar"), options, Arc::new(NoProgress)).await.unwrap();
    let image = lab.blob(&record);
    assert_eq!(inode(&image, "/etc/passwd"), "regular 0644 0 0 1 61 1660000000");
    assert_eq!(inode(&image, "/usr/share/dated"), "regular 0644 0 0 1 0 1650000000");
    let header = tool("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let times = header
        .lines()
        .filter(|line| line.starts_with("Filesystem created") || line.starts_with("Last write"));
    assert!(
        times.clone().count() == 2
            && times.clone().all(|line| line.contains("Aug  8") || line.contains("Aug  9")),
        "{header}"
    );
}

#[tokio::test]
async fn the_last_entry_of_a_name_counts_and_parents_may_be_missing() {
    let lab = Lab::new();
    let entries = [
        Entry::file("a/b/file", b"first"),
        Entry::hard_link("link", "a/b/file"),
        Entry { mode: 0o600, ..Entry::file("a/b/file", b"second!") },
        Entry { mode: 0o700, ..Entry::folder("a/b") },
    ];
    write(&lab.path("layers.tar"), &tar(&entries));
    let image = lab.image(&lab.path("layers.tar")).await;
    assert_eq!(debugfs(&image, "cat /a/b/file"), "second!");
    assert_eq!(inode(&image, "/a/b/file"), "regular 0600 0 0 1 7 1700000000");
    assert_eq!(debugfs(&image, "cat /link"), "first");
    assert!(inode(&image, "/a/b").starts_with("directory 0700"));
    assert!(inode(&image, "/a").starts_with("directory 0755"));
}

#[tokio::test]
async fn an_image_of_many_small_files_has_inodes_and_room_to_spare() {
    let lab = Lab::new();
    let names: Vec<String> = (0..30_000).map(|number| format!("d{}/file-{number}", number % 97)).collect();
    let entries: Vec<Entry<'_>> = names.iter().map(|name| Entry::file(name, b"x")).collect();
    write(&lab.path("many.tar"), &tar(&entries));
    let image = lab.image(&lab.path("many.tar")).await;
    let header = tool("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let number = |label: &str| -> u64 {
        let line = header.lines().find(|line| line.starts_with(label)).unwrap();
        line.split(':').nth(1).unwrap().trim().parse().unwrap()
    };
    assert!(number("Free inodes") > 5_000, "{header}");
    assert!(number("Free blocks") * 4096 > 90 << 20, "{header}");
    assert_eq!(number("Reserved block count"), 0);
}

#[tokio::test]
async fn an_archive_that_ends_early_is_told_apart_from_one_that_cannot_be_read() {
    let lab = Lab::new();
    let body = vec![9; 100_000];
    let whole = tar(&[Entry::file("body", &body)]);
    write(&lab.path("short.tar"), &whole[..50_000]);
    let error = lab.import("x", &lab.path("short.tar")).await.unwrap_err();
    assert!(matches!(error, ImportError::BadArchive { .. }), "{error}");
    let compressed = zstd::encode_all(&whole[..], 1).unwrap();
    write(&lab.path("short.zst"), &compressed[..compressed.len() / 2]);
    let error = lab.import("x", &lab.path("short.zst")).await.unwrap_err();
    assert!(matches!(error, ImportError::BadArchive { .. }), "{error}");
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn dropping_an_import_leaves_nothing() {
    struct Waker(tokio::sync::Notify);
    impl Progress for Waker {
        fn update(&self, update: Update<'_>) {
            if update.stage == Stage::MakeFileSystem {
                self.0.notify_one();
            }
        }
    }
    let lab = Lab::new();
    write(&lab.path("small.tar"), &debian_in_small());
    let progress = Arc::new(Waker(tokio::sync::Notify::new()));
    let source = lab.path("small.tar");
    let import = lab.store.import("x", &source, ImportOptions::default(), progress.clone());
    tokio::select! {
        result = import => panic!("it was not dropped in time: {result:?}"),
        () = progress.0.notified() => {}
    }
    lab.assert_store_is_empty();
}
