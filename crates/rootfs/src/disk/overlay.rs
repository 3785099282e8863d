//! A session's disk as two files: the image itself, read-only, and a writable disk that the guest lays over it.
//!
//! ```text
//!   store: blobs/sha256/DIGEST.ext4 ←─ hard link, or lease and symbolic link ── BASE      (/dev/vda, read-only)
//!                                               mke2fs, debugfs ──→ WRITABLE  (/dev/vdb: upper/, work/)
//! ```
//!
//! The writable disk is a sparse ext4 of the session's size: what the guest sees as its free space is this disk's, and
//! when that is full the guest is told so. Its file system begins empty, so making it takes the same few milliseconds
//! whatever the image.
//!
//! The layout (`upper/` and `work/` at the top) is that of the existing init container's `WRITABLE_DISK_PATH`.

use std::path::Path;
use std::sync::Arc;

use super::{PrepareError, Prepared, SeedFile};
use crate::progress::Progress;
use crate::store::HeldImage;

/// Prepares both files: `base`, which stays for as long as its name does, and the disk `writable` of `size` bytes
/// (rounded down to 4 KiB). A complete writable disk in its place is kept, whatever its size; `seed` is then passed
/// over.
///
/// # Errors
/// See [`PrepareError`].
pub async fn prepare_overlay(
    image: &HeldImage,
    base: &Path,
    writable: &Path,
    size: u64,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, PrepareError> {
    image.attach(base)?;
    make::writable_disk(writable, size, Some(&image.record().digest), seed, progress).await
}

/// Makes the writable disk alone, for a base that is not of a store.
///
/// # Errors
/// See [`PrepareError`].
pub async fn prepare_writable(
    writable: &Path,
    size: u64,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, PrepareError> {
    make::writable_disk(writable, size, None, seed, progress).await
}

mod make;
