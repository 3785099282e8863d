//! A disk as two files: the image under a name of the session's own, and a writable disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use dozlab_rootfs::NoProgress;
use dozlab_rootfs::disk::{Method, PrepareError, SeedFile, prepare_overlay};

use super::support::{Lab, assert_is_sound, debugfs, inode, tool};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn the_writable_disk_is_sparse_and_has_the_layers_and_the_seed() {
    let lab = Lab::new();
    lab.import("one", &lab.ext4("one.ext4", 16)).await.unwrap();
    let held = lab.store.hold("one").unwrap();
    let (base, writable) = (lab.path("base.ext4"), lab.path("overlay.ext4"));
    let seed = [
        SeedFile {
            path: "/var/lib/cloud/seed/nocloud/meta-data".into(),
            mode: 0o644,
            content: b"id: x\n".into(),
        },
        SeedFile {
            path: "/var/lib/cloud/seed/nocloud/a \"b\"".into(),
            mode: 0o600,
            content: b"secret".into(),
        },
    ];
    let prepared = prepare_overlay(&held, &base, &writable, 4096 * MIB + 1000, &seed, Arc::new(NoProgress))
        .await
        .unwrap();

    assert_eq!((prepared.method, prepared.size), (Method::Overlay, 4096 * MIB));
    let metadata = writable.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (4096 * MIB, 0o600));
    assert!(metadata.blocks() * 512 < 8 * MIB, "it takes {} bytes", metadata.blocks() * 512);
    assert_is_sound(&writable);
    // Inode tables that are marked as written are not written by the guest.
    let groups = tool("dumpe2fs", &[writable.to_str().unwrap()]);
    let mut groups = groups.lines().filter(|line| line.starts_with("Group ") && line.contains("csum"));
    assert!(groups.all(|group| group.ends_with("ITABLE_ZEROED]")));
    for folder in ["/upper", "/work", "/upper/var/lib/cloud/seed"] {
        assert!(inode(&writable, folder).starts_with("directory 0755 0 0 "), "{}", inode(&writable, folder));
    }
    let file = "/upper/var/lib/cloud/seed/nocloud/a \"\"b\"\"";
    assert!(inode(&writable, file).starts_with("regular 0600 0 0 1 6 "), "{}", inode(&writable, file));
    assert_eq!(debugfs(&writable, "cat /upper/var/lib/cloud/seed/nocloud/meta-data"), "id: x\n");
    assert!(fs::read(&base).unwrap() == fs::read(held.path()).unwrap());
    let left = fs::read_dir(lab.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains("partial")).count(), 0);
}

#[tokio::test]
async fn a_writable_disk_is_kept_and_never_laid_over_another_image() {
    let lab = Lab::new();
    lab.import("one", &lab.ext4("one.ext4", 16)).await.unwrap();
    lab.import("two", &lab.ext4("two.ext4", 20)).await.unwrap();
    let (one, two) = (lab.store.hold("one").unwrap(), lab.store.hold("two").unwrap());
    let (base, writable) = (lab.path("base.ext4"), lab.path("overlay.ext4"));
    let prepare = async |image, base, size| {
        prepare_overlay(image, base, &writable, size, &[], Arc::new(NoProgress)).await
    };
    prepare(&one, &base, 64 * MIB).await.unwrap();
    let before = fs::read(&writable).unwrap();
    assert_eq!(prepare(&one, &base, 128 * MIB).await.unwrap().method, Method::Kept);
    assert!(fs::read(&writable).unwrap() == before);

    let error = prepare(&two, &base, 64 * MIB).await.unwrap_err();
    assert!(error.to_string().contains("base.ext4"), "{error}");
    let error = prepare(&two, &lab.path("other base"), 64 * MIB).await.unwrap_err();
    assert!(matches!(error, PrepareError::OtherBase { .. }), "{error}");
    assert!(fs::read(&writable).unwrap() == before);
}
