//! An ext4 file becomes an image: the same bytes, or a reason.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;

use dozlab_rootfs::import::ImportError;

use super::support::{Lab, tool, write};

#[tokio::test]
async fn the_image_is_the_same_bytes_with_the_same_holes_and_the_source_is_as_it_was() {
    let lab = Lab::new();
    let source = lab.ext4("source.ext4", 64);
    let before = (fs::read(&source).unwrap(), source.metadata().unwrap().mtime_nsec());
    let record = lab.import("x", &source).await.unwrap();
    let image = lab.blob(&record);
    assert!(fs::read(&image).unwrap() == before.0);
    assert!((fs::read(&source).unwrap(), source.metadata().unwrap().mtime_nsec()) == before);
    assert_eq!(record.size, 64 << 20);
    assert!(record.stored < 16 << 20, "{record:?}");
    assert_eq!((record.user.as_str(), record.has_init, record.os_name), ("root", false, None));
}

#[tokio::test]
async fn a_file_that_is_cut_short_is_refused_with_both_lengths() {
    let lab = Lab::new();
    let source = lab.ext4("source.ext4", 64);
    OpenOptions::new().write(true).open(&source).unwrap().set_len(40 << 20).unwrap();
    let error = lab.import("x", &source).await.unwrap_err();
    assert!(
        matches!(error, ImportError::CutShort { expected, actual, .. } if (expected, actual) == (64 << 20, 40 << 20)),
        "{error}"
    );
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn a_damaged_file_system_is_refused_with_what_e2fsck_says() {
    let lab = Lab::new();
    let source = lab.ext4("source.ext4", 64);
    tool("debugfs", &["-w", "-R", "clri <2>", source.to_str().unwrap()]);
    let error = lab.import("x", &source).await.unwrap_err();
    assert!(matches!(&error, ImportError::Damaged(failure) if failure.code & 4 != 0), "{error}");
    assert!(error.to_string().contains("errors were left uncorrected"), "{error}");
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn what_is_no_file_system_is_refused_by_what_it_is() {
    let lab = Lab::new();
    let mut qcow = b"QFI\xfb".to_vec();
    qcow.resize(4096, 0);
    for (contents, word) in [(b"".to_vec(), "is empty"), (vec![7; 4096], "no archive"), (qcow, "qcow2")] {
        write(&lab.path("thing"), &contents);
        let error = lab.import("x", &lab.path("thing")).await.unwrap_err();
        assert!(
            matches!(error, ImportError::NotAFileSystem { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
    let error = lab.import("x", &lab.path("absent")).await.unwrap_err();
    assert!(matches!(error, ImportError::Unreadable { .. }), "{error}");
    let error = lab.import("x", std::path::Path::new("/dev/null")).await.unwrap_err();
    assert!(error.to_string().contains("is no regular file"), "{error}");
    let error = lab.import("../x", &lab.path("thing")).await.unwrap_err();
    assert!(matches!(error, ImportError::BadName(_)), "{error}");
    lab.assert_store_is_empty();
}
