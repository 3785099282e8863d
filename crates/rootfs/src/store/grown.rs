//! Images grown to the sizes that sessions ask for, so that a session's disk is a clone and nothing more.
//!
//! `grown/DIGEST-SIZE.ext4` is the image checked and grown once; it is made beside its place under a lock of its own, so
//! that of many sessions that want one at once, one makes it and the others wait. It can be made again at any time:
//! nobody depends on one but while cloning it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Digest, HeldImage, Store, StoreError, io_error, is_held, touch};
use crate::disk::{Partial, PrepareError, is_same_file, make_grown};
use crate::progress::Progress;

/// How often to look whether another process has finished growing the same image.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A grown image that cannot be removed while this value lives.
#[derive(Debug)]
pub(crate) struct GrownImage {
    pub(crate) path: PathBuf,
    _lock: File,
}

/// A grown image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GrownFile {
    pub(super) digest: Digest,
    /// Bytes of its file system.
    pub(super) size: u64,
    pub(super) path: PathBuf,
}

impl HeldImage {
    /// The image grown to `size` bytes; made where it is not there. `None` where the store cannot take one: it may only
    /// be read, or it has no room.
    pub(crate) async fn grown(
        &self,
        size: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<Option<GrownImage>, PrepareError> {
        let path = self.store.grown_path(&self.record.digest, size);
        loop {
            if let Some(grown) = self.store.hold_grown(&path)? {
                return Ok(Some(grown));
            }
            if !self.store.writable {
                return Ok(None);
            }
            let partial = match Partial::create(&path) {
                Ok(partial) => partial,
                Err(PrepareError::Busy { .. }) => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(error) => return or_without(error),
            };
            // Another process may have finished it before we had the lock.
            if path.exists() {
                continue;
            }
            match make_grown(&self.path, partial, &path, size, progress).await {
                Ok(()) => {}
                Err(error) => return or_without(error),
            }
        }
    }
}

/// A store without room is no reason to refuse a session whose disk may be elsewhere.
fn or_without(error: PrepareError) -> Result<Option<GrownImage>, PrepareError> {
    match error {
        PrepareError::NoSpace(error) => {
            tracing::warn!(%error, "the grown image is not kept: the disk is grown by itself");
            Ok(None)
        }
        other => Err(other),
    }
}

impl Store {
    pub(super) fn grown_folder(&self) -> PathBuf {
        self.folder.join("grown")
    }

    fn grown_path(&self, digest: &Digest, size: u64) -> PathBuf {
        self.grown_folder().join(format!("{}-{size}.ext4", digest.digits()))
    }

    fn hold_grown(&self, path: &Path) -> Result<Option<GrownImage>, StoreError> {
        // Under the lock, nobody can remove it between opening and locking it.
        let _lock = self.lock()?;
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("open", path))?,
        };
        flock(&file, FlockOperation::LockShared).map_err(|error| io_error("lock", path)(error.into()))?;
        touch(&file);
        Ok(Some(GrownImage { path: path.to_owned(), _lock: file }))
    }

    /// All grown images.
    pub(super) fn grown_files(&self) -> Result<Vec<GrownFile>, StoreError> {
        let folder = self.grown_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("read", &folder))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("read", &folder))?.path();
            files.extend(GrownFile::of(path));
        }
        Ok(files)
    }

    /// Removes a grown image, unless somebody is cloning it. Returns whether it is gone. The store's lock must be held.
    pub(super) fn remove_grown(&self, path: &Path) -> Result<bool, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(io_error("open", path)(error)),
        };
        if is_held(&file) {
            return Ok(false);
        }
        // Until it was ours, its maker may have finished and renamed it: what has the name now is somebody else's.
        if !is_same_file(&file, path) {
            return Ok(!path.exists());
        }
        fs::remove_file(path).map_err(io_error("remove", path))?;
        Ok(true)
    }

    /// Removes what growing left when it was killed, and grown images whose image is gone. The store's lock must be
    /// held.
    pub(super) fn sweep_grown(&self) -> Result<(), StoreError> {
        let folder = self.grown_folder();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let path = entry.map_err(io_error("read", &folder))?.path();
            let is_orphan = match GrownFile::of(path.clone()) {
                Some(grown) => !self.blob(&grown.digest).exists(),
                // One that is being made is locked, and stays.
                None => path.extension().is_some_and(|extension| extension == "partial"),
            };
            if is_orphan {
                self.remove_grown(&path)?;
            }
        }
        Ok(())
    }
}

impl GrownFile {
    fn of(path: PathBuf) -> Option<Self> {
        let (digits, size) = path.file_name()?.to_str()?.strip_suffix(".ext4")?.split_once('-')?;
        Some(Self { digest: Digest::from_digits(digits)?, size: size.parse().ok()?, path })
    }
}

/// What is in the store is only read.
pub(crate) fn protect(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o400))
}
