//! The parts of [`crate::fuzzing`] that know how trees are staged.

use std::fs;
use std::io;
use std::path::Path;

use super::source::SourceKind;
use super::staging::{Kind, Limits, StagedTree, Staging, is_device};
use super::{ImportError, layer, tar};

const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 500 };

/// Stages a tar in `folder/tree`.
pub fn tar(bytes: &[u8], folder: &Path) {
    let mut staging = staging(folder);
    if tar::add_all(bytes, &mut staging, &bad_archive).is_ok()
        && let Ok(tree) = staging.finish()
    {
        check(&tree);
    }
}

/// Lays layers out in `folder/tree`, the lowest first.
pub fn layers(layers: &[&[u8]], folder: &Path) {
    let mut staging = staging(folder);
    for layer in layers {
        if layer::apply_tar(*layer, &mut staging, &bad_archive).is_err() {
            return;
        }
    }
    if let Ok(tree) = staging.finish() {
        check(&tree);
    }
}

/// Tells what a file is.
pub fn kind(path: &Path) -> bool {
    SourceKind::of(path).is_ok()
}

fn staging(folder: &Path) -> Staging {
    Staging::new(folder.join("tree"), LIMITS, None).expect("the folder is the target's own")
}

fn bad_archive(source: io::Error) -> ImportError {
    ImportError::BadArchive { path: "fuzz".into(), source }
}

/// What lies in the folder is what the tree says, and nothing else.
fn check(tree: &StagedTree) {
    let mut real = 1;
    for (path, index) in &tree.paths {
        let kind = &tree.inodes[*index].kind;
        let found = fs::symlink_metadata(path.under(&tree.folder));
        if is_device(kind) {
            assert!(found.is_err(), "{path} is a device and exists in memory alone");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{path} is missing: {error}"));
        match kind {
            Kind::Folder => assert!(found.is_dir(), "{path}"),
            Kind::File { size, .. } => assert!(found.is_file() && found.len() == *size, "{path}"),
            Kind::Symlink(_) => assert!(found.is_symlink(), "{path}"),
            Kind::Special(_) => assert!(!found.is_file() && !found.is_dir(), "{path}"),
        }
        real += usize::from(!path.as_bytes().is_empty());
    }
    let mut folders = vec![tree.folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folders can be read by their owner") {
            let entry = entry.expect("as above");
            real -= 1;
            if entry.file_type().expect("as above").is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert_eq!(real, 1, "something lies in the folder that the tree does not know");
}
