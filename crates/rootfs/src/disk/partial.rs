//! A file that is seen in its place only when it is complete: `NAME.partial` until then, locked by whoever
//! makes it, and removed with them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{PrepareError, write_error};

/// The disk while it is not complete. Locked; removed when dropped, unless it was published.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl Partial {
    /// Opens the partial file of `target`, empty; one that a crash left is overwritten.
    pub(crate) fn create(target: &Path) -> Result<Self, PrepareError> {
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open().map_err(|error| write_error(&path, 0, error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(PrepareError::Busy { path: target.to_owned() });
        }
        // Between opening and locking, its owner may have renamed or removed it: then it is not ours to
        // write.
        if !is_same_file(&file, &path) {
            return Err(PrepareError::Busy { path: target.to_owned() });
        }
        let partial = Self { path, file };
        partial.file.set_len(0).map_err(|error| write_error(&partial.path, 0, error))?;
        Ok(partial)
    }

    /// Writes the file through to the device and puts it in its place.
    pub(crate) fn publish(&self, target: &Path) -> Result<(), PrepareError> {
        let failed = |error| write_error(&self.path, 0, error);
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.path, target).map_err(failed)?;
        File::open(folder_of(target)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if is_same_file(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The folder that a file is in, which may be named relatively.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether the path names the file that is open.
pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}
