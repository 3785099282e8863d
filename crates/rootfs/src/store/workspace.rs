//! Temporary folders that outlive their owner by no more than the next sweep.
//!
//! The owner holds an exclusive lock on the folder itself, which the kernel drops with the process, however
//! it ends. So a folder whose lock can be had belongs to nobody any more. They are made and swept under the
//! store's lock, and thus never seen between their making and their locking.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A temporary folder on the store's own file system, mode 0700, removed with all it holds when dropped.
#[derive(Debug)]
pub(crate) struct Workspace {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Workspace {
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("import-").tempdir_in(parent)?;
        let lock = File::open(folder.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// Removes the folders in `parent` whose owner is gone.
pub(super) fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            // Its owner has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        // Not worth an error: it is in nobody's way. A program that was just killed may still be writing
        // there, and the next sweep has it.
        match fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(folder = %path.display(), "removed what an interrupted import left"),
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "cannot remove what an import left")
            }
        }
    }
    Ok(())
}
