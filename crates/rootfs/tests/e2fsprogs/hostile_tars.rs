//! What a stranger's tar may not do, each refused by the entry's name, with nothing left of it.

use std::sync::Arc;

use dozlab_rootfs::NoProgress;
use dozlab_rootfs::import::{ImportError, ImportOptions};
use tar::EntryType;

use super::support::{Entry, Lab, tar, write};

#[tokio::test]
async fn entries_that_reach_outside_or_through_links_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let cases: [(&str, &str, Vec<Entry<'_>>); 13] = [
        ("/etc/passwd", "absolute", vec![Entry::file("/etc/passwd", b"x")]),
        ("../up", "`..`", vec![Entry::file("../up", b"x")]),
        ("a/../../up", "`..`", vec![Entry::folder("a"), Entry::file("a/../../up", b"x")]),
        (
            "out/file",
            "symbolic link `out`",
            vec![Entry::symlink("out", target), Entry::file("out/file", b"x")],
        ),
        (
            "out/deep/file",
            "symbolic link `out`",
            vec![Entry::symlink("out", target), Entry::file("out/deep/file", b"x")],
        ),
        ("out", "is a folder here", vec![Entry::symlink("out", target), Entry::folder("out")]),
        ("hard", "absolute", vec![Entry::hard_link("hard", "/etc/shadow")]),
        ("hard", "`..`", vec![Entry::hard_link("hard", "../../etc/shadow")]),
        ("hard", "not in the archive", vec![Entry::hard_link("hard", "etc/shadow")]),
        ("hard", "hard link to the folder", vec![Entry::folder("d"), Entry::hard_link("hard", "d")]),
        ("f/below", "`f` is no folder", vec![Entry::file("f", b"x"), Entry::file("f/below", b"x")]),
        ("line\\nbreak", "line break", vec![Entry::file("line\nbreak", b"x")]),
        ("odd", "unknown type", vec![Entry::new(EntryType::new(b'V'), "odd")]),
    ];
    for (entry, reason, entries) in cases {
        let lab = Lab::new();
        write(&lab.path("hostile.tar"), &tar(&entries));
        let error = lab.import("x", &lab.path("hostile.tar")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`{entry}`")) && error.contains(reason), "{entry}: {error}");
        lab.assert_store_is_empty();
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "something was written outside");
}

#[tokio::test]
async fn a_symbolic_link_replaced_by_a_file_does_not_touch_its_target() {
    let lab = Lab::new();
    let victim = lab.path("victim");
    write(&victim, b"untouched");
    let entries = [Entry::symlink("x", victim.to_str().unwrap()), Entry::file("x", b"overwritten?")];
    write(&lab.path("hostile.tar"), &tar(&entries));
    lab.import("x", &lab.path("hostile.tar")).await.unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
}

#[tokio::test]
async fn pax_records_that_do_not_read_cleanly_are_refused() {
    for (key, value, reason) in [
        ("SCHILY.xattr.user.x", &b"a\n16 path=/etc/x\n"[..], "pax header"),
        ("mtime", b"yesterday", "its time `yesterday`"),
        ("GNU.sparse.major", b"1", "sparse"),
        ("SCHILY.xattr.user.large", &[b'x'; 4000], "more than 3500 bytes of extended attributes"),
    ] {
        let lab = Lab::new();
        write(
            &lab.path("hostile.tar"),
            &tar(&[Entry { records: &[(key, value)], ..Entry::file("name", b"x") }]),
        );
        let error = lab.import("x", &lab.path("hostile.tar")).await.unwrap_err().to_string();
        assert!(error.contains("`name`") && error.contains(reason), "{key}: {error}");
        lab.assert_store_is_empty();
    }
}

#[tokio::test]
async fn bombs_stop_at_the_limits() {
    let lab = Lab::new();
    let zeros = vec![0; 8 << 20];
    let bomb = zstd::encode_all(&tar(&[Entry::file("zeros", &zeros)])[..], 1).unwrap();
    assert!(bomb.len() < 10_000);
    write(&lab.path("bomb.zst"), &bomb);
    let options = ImportOptions { max_bytes: 1 << 20, ..ImportOptions::default() };
    let error =
        lab.store.import("x", &lab.path("bomb.zst"), options, Arc::new(NoProgress)).await.unwrap_err();
    assert!(
        matches!(error, ImportError::TooLarge { .. }) && error.to_string().contains("1.0 MiB"),
        "{error}"
    );

    write(
        &lab.path("many.tar"),
        &tar(&[Entry::folder("a"), Entry::folder("b"), Entry::hard_link("c", "b/x")]),
    );
    let options = ImportOptions { max_entries: 2, ..ImportOptions::default() };
    let error =
        lab.store.import("x", &lab.path("many.tar"), options, Arc::new(NoProgress)).await.unwrap_err();
    assert!(
        matches!(error, ImportError::TooLarge { .. }) && error.to_string().contains("2 entries"),
        "{error}"
    );
    lab.assert_store_is_empty();
}
