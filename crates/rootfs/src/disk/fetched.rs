//! A session's disk straight from where its image lives, without a store.
//!
//! ```text
//!   URL ── fetch ──→ DISK.partial ── e2fsck -fy ──→ resize2fs ──→ seed ──→ fsync ──→ rename to DISK
//! ```
//!
//! An image that is a tar is first made into one, in a store of its own beside the disk, which goes afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dozlab_fetch::{Expected, Fetcher, Location};

use super::{
    BLOCK, Cloning, Method, Partial, PrepareError, Prepared, SeedFile, folder_of, grow, keep, plant,
    prepare_file,
};
use crate::cancel::run_blocking;
use crate::import::{ImportError, ImportOptions};
use crate::progress::{Progress, Stage, begin, finish};
use crate::receive::{Kind, Receipt, ReceiveError, receive};
use crate::store::{Store, StoreError};

/// There is no new disk, and nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum FetchDiskError {
    /// The image could not be fetched.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The tar could not be made into an image.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The temporary store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk could not be made of the image.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

/// Fetches the image and makes it the disk `target` of `size` bytes (rounded down to 4 KiB; `None` leaves it as large
/// as it is), with the files of `seed`. A complete disk in its place is kept.
///
/// # Errors
/// See [`FetchDiskError`].
pub(crate) async fn prepare_fetched(
    fetcher: &Fetcher,
    location: &Location,
    expected: &Expected,
    target: &Path,
    size: Option<u64>,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, FetchDiskError> {
    if let Some((kept, _)) = keep(target)? {
        return Ok(kept);
    }
    let partial = Arc::new(Partial::create(target)?);
    // Another process may have finished it before we had the lock.
    if let Some((kept, _)) = keep(target)? {
        return Ok(kept);
    }
    // What a crash has left.
    let _ = fs::remove_dir_all(import_folder(target));
    let size = size.map(|size| size / BLOCK * BLOCK);
    let mut steps = Vec::new();
    let mut started = Instant::now();
    let mut step_done = |stage| {
        steps.push((stage, started.elapsed()));
        started = Instant::now();
    };

    let receipt = Receipt { target: &partial.file, folder: folder_of(target), most: size };
    let received = receive(fetcher, location, expected, receipt, Arc::clone(&progress)).await?;
    // Nothing is known beforehand, so something was fetched.
    let Some((kind, fetched)) = received else {
        return Err(PrepareError::NotAFileSystem { path: target.to_owned() }.into());
    };
    step_done(Stage::Download);
    if kind == Kind::Tar {
        return from_tar(location, partial, target, size, seed, progress).await;
    }
    let size = size.unwrap_or(fetched.length);
    begin(&*progress, Stage::Check, "");
    grow::check_clone(&partial.path, size).await?;
    finish(&*progress, Stage::Check);
    step_done(Stage::Check);
    begin(&*progress, Stage::Grow, "");
    grow::grow(&partial.path, &partial.file, size).await?;
    finish(&*progress, Stage::Grow);
    step_done(Stage::Grow);
    plant(&partial, size, seed).await?;
    begin(&*progress, Stage::Sync, "");
    let target = target.to_owned();
    run_blocking(move |_| partial.publish(&target)).await?;
    finish(&*progress, Stage::Sync);
    step_done(Stage::Sync);
    Ok(Prepared { method: Method::Fetched, size, steps })
}

/// Makes an image of the tar in the partial file, and the disk of that.
async fn from_tar(
    location: &Location,
    tar: Arc<Partial>,
    target: &Path,
    size: Option<u64>,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, FetchDiskError> {
    let temporary = TemporaryStore::beside(target)?;
    let store = temporary.store();
    let options = ImportOptions { description: Some(location.to_string()), ..ImportOptions::default() };
    store.import("image", &tar.path, options, Arc::clone(&progress)).await?;
    // The disk's partial file has the same name.
    drop(tar);
    let image = store.hold("image")?;
    let size = size.unwrap_or(image.record().size);
    Ok(prepare_file(image.path(), target, size, Cloning::Auto, seed, progress).await?)
}

/// Where a tar is made into an image.
fn import_folder(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".import");
    path.into()
}

/// A store beside a disk, for one image that is not to be kept.
#[derive(Debug)]
pub(crate) struct TemporaryStore(Store);

impl TemporaryStore {
    pub(crate) fn beside(target: &Path) -> Result<Self, StoreError> {
        Ok(Self(Store::open(&import_folder(target))?))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0
    }
}

impl Drop for TemporaryStore {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.folder());
    }
}
