//! Reading an image: it cannot be removed meanwhile, and counts as used.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::{ImageRecord, Store, StoreError, io_error};

const LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An image that cannot be removed while this value lives.
#[derive(Debug)]
pub struct HeldImage {
    pub(super) store: Store,
    pub(super) record: ImageRecord,
    pub(super) path: PathBuf,
    _lock: File,
}

impl HeldImage {
    /// What is known of the image.
    #[must_use]
    pub fn record(&self) -> &ImageRecord {
        &self.record
    }

    /// The ext4 file, to be read only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// The same, to be read: the image stays for as long as the returned value lives.
    ///
    /// # Errors
    /// Those of [`get`](Self::get); [`StoreError::Io`] where the image itself is missing.
    pub fn hold(&self, reference: &str) -> Result<HeldImage, StoreError> {
        // Under the lock, nobody can remove the image between reading its record and locking it.
        let _lock = self.lock()?;
        let record = self.get(reference)?;
        let path = self.blob(&record.digest);
        let blob = File::open(&path).map_err(io_error("open", &path))?;
        flock(&blob, FlockOperation::LockShared).map_err(|error| io_error("lock", &path)(error.into()))?;
        touch(&blob);
        Ok(HeldImage { store: self.clone(), record, path, _lock: blob })
    }
}

/// Whether somebody else holds a lock on the file; if not, it is ours alone until the file is closed. A program that
/// another thread has just started shares our locks for a moment, so one that is taken is asked for a few times.
pub(super) fn is_held(file: &File) -> bool {
    for _ in 0..LOOKS {
        if flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// Notes that a file of the store was used now. In a store that may only be read, nobody prunes.
pub(super) fn touch(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}
