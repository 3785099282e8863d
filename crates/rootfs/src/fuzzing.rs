//! Ways in for the fuzz targets, which are there under `--cfg fuzzing` alone. Errors are what inputs are expected to
//! end in; a panic, or a staged tree that differs from the folder it describes, is not.

use std::fs::{self, File};
use std::path::Path;

pub use crate::import::fuzzing::{layers, tar};
use crate::superblock::Superblock;

/// Reads what tells kinds of sources apart, of a file in `folder`.
pub fn source(bytes: &[u8], folder: &Path) {
    let path = folder.join("source");
    fs::write(&path, bytes).expect("the folder is the target's own");
    let file = File::open(&path).expect("it was just written");
    if let Ok(Some(superblock)) = Superblock::read(&file) {
        let _ = superblock.size();
    }
    let _ = crate::import::fuzzing::kind(&path);
}
