//! A session's disk: an image cloned, grown to its size, and in place only when complete; or the image itself with a
//! writable disk to lay over it ([`prepare_overlay`]). Which of them is a [`Strategy`].
//!
//! ```text
//!   image ── clone ──→ GROWN.partial ── e2fsck -fy ──→ resize2fs ──→ fsync ──→ rename to GROWN: once
//!                                       GROWN ── clone ──→ DISK.partial ──→ seed ──→ fsync ──→ rename to DISK: each session
//! ```
//!
//! The partial file is locked while it is worked on, so two preparations of one disk cannot meet; one that a
//! crash left is overwritten by the next. Cancelling (dropping the future) removes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dozlab_process::ToolError;

mod clone;
mod fetched;
mod grow;
mod overlay;
mod partial;
mod seed;
mod strategy;

pub(crate) use clone::clone_file;
pub use fetched::FetchDiskError;
pub(crate) use fetched::{TemporaryStore, prepare_fetched};
pub use overlay::{prepare_overlay, prepare_writable};
pub(crate) use partial::{Partial, folder_of, is_same_file};
pub use seed::SeedFile;
pub use strategy::{Cloning, Strategy, Suited, UnknownCloning, UnknownStrategy, suited};

use crate::cancel::run_blocking;
use crate::e2fsprogs::{CheckError, FsckFailure};
use crate::progress::{Progress, Stage, begin, finish};
use crate::space::{self, Bytes, NoSpace};
use crate::store::{HeldImage, StoreError, protect};
use crate::superblock::Superblock;

/// Bytes of a block of an image's file system; a disk is a whole number of them.
const BLOCK: u64 = 4096;

/// How a disk came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// It shares its blocks with the image until it writes them (`FICLONE`: xfs, btrfs, bcachefs).
    Reflink,
    /// The image's data was copied, its holes left out.
    SparseCopy,
    /// It is a writable disk to lay over the image.
    Overlay,
    /// The image was fetched into its place.
    Fetched,
    /// A complete disk was there already, and is as it was.
    Kept,
}

/// A disk that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// How it came to be.
    pub method: Method,
    /// Bytes of the disk.
    pub size: u64,
    /// How long each step took, in order; empty for a disk that was kept.
    pub steps: Vec<(Stage, Duration)>,
}

/// There is no new disk, and nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The image or the disk cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image is no ext4 file system.
    #[error("{} holds no ext4 file system; import it first, or give another image", path.display())]
    NotAFileSystem {
        /// The image.
        path: PathBuf,
    },
    /// The image is shorter than its superblock says.
    #[error("{} is cut short: its file system has {expected} bytes, the file only {actual}; fetch it \
        again", path.display())]
    CutShort {
        /// The image.
        path: PathBuf,
        /// Bytes of the file system.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// What is in the disk's place is not a whole disk.
    #[error("{} is there, but is no complete disk; remove it if nothing in it is needed", path.display())]
    Occupied {
        /// The disk.
        path: PathBuf,
    },
    /// The disk would be smaller than the image.
    #[error(
        "a disk of {} ({asked} bytes) cannot hold the image, which needs {} ({minimum} bytes)",
        Bytes(*asked), Bytes(*minimum)
    )]
    TooSmall {
        /// Bytes that were asked for.
        asked: u64,
        /// Bytes of the image.
        minimum: u64,
    },
    /// Another process is preparing the same disk.
    #[error("{} is being prepared by another process; wait for it, or end it", path.display())]
    Busy {
        /// The disk.
        path: PathBuf,
    },
    /// The writable disk was made for another image.
    #[error(
        "{} holds changes to another image than this one; give the image it was made for, or remove it if nothing \
        in it is needed",
        path.display()
    )]
    OtherBase {
        /// The writable disk.
        path: PathBuf,
    },
    /// Where a file is to be in the image, or on the way to it, is something else.
    #[error(
        "the image has something else at {path} than what cloud-init's seed needs there; use an image without it, or \
        WRITABLE_DISK_PATH"
    )]
    SeedBlocked {
        /// The path in the image.
        path: String,
    },
    /// The file system does not clone files, and nothing else will do.
    #[error("{} cannot be a reflink of the image: {source}; use `copy`, or a folder on xfs or btrfs", path.display())]
    NoReflink {
        /// The disk.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot give the image.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is too little room for the disk.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// The image is damaged beyond what `e2fsck -fy` repairs.
    #[error(transparent)]
    Damaged(#[from] FsckFailure),
    /// A program is missing or failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl From<CheckError> for PrepareError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Tool(error) => Self::Tool(error),
            CheckError::Damaged(error) => Self::Damaged(error),
        }
    }
}

/// Prepares the disk `target` of `size` bytes (rounded down to 4 KiB) from an image of the store: a clone of the image
/// as it was grown to this size once, with the files of `seed`. A complete disk in its place is kept, whatever its
/// size, and `seed` is then passed over.
///
/// # Errors
/// See [`PrepareError`].
pub async fn prepare(
    image: &HeldImage,
    target: &Path,
    size: u64,
    cloning: Cloning,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, PrepareError> {
    if let Some((kept, _)) = keep(target)? {
        return Ok(kept);
    }
    let size = size / BLOCK * BLOCK;
    refuse_too_small(size, image.record().size)?;
    match image.grown(size, &progress).await? {
        Some(grown) => make(&grown.path, None, target, cloning, seed, progress).await,
        None => prepare_file(image.path(), target, size, cloning, seed, progress).await,
    }
}

/// Prepares the disk `target` of `size` bytes (rounded down to 4 KiB) from an image that is in no store, and is only
/// read, with the files of `seed`. A complete disk in its place is kept, whatever its size.
///
/// # Errors
/// See [`PrepareError`].
pub async fn prepare_file(
    image: &Path,
    target: &Path,
    size: u64,
    cloning: Cloning,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, PrepareError> {
    if let Some((kept, _)) = keep(target)? {
        return Ok(kept);
    }
    let size = size / BLOCK * BLOCK;
    let source = File::open(image).map_err(unreadable(image))?;
    refuse_too_small(size, whole_file_system(image, &source)?.size())?;
    make(image, Some(size), target, cloning, seed, progress).await
}

fn refuse_too_small(asked: u64, minimum: u64) -> Result<(), PrepareError> {
    if asked < minimum { Err(PrepareError::TooSmall { asked, minimum }) } else { Ok(()) }
}

/// Makes `target` of an image: a clone, grown to `size` unless the image has its size already.
async fn make(
    image: &Path,
    size: Option<u64>,
    target: &Path,
    cloning: Cloning,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, PrepareError> {
    let source = File::open(image).map_err(unreadable(image))?;
    let partial = Partial::create(target)?;
    // Another process may have finished it before we had the lock.
    if let Some((kept, _)) = keep(target)? {
        return Ok(kept);
    }
    let mut steps = Steps::default();
    let (partial, method) = copy(source, partial, cloning, Arc::clone(&progress)).await?;
    steps.done(Stage::Copy);
    if let Some(size) = size {
        check_and_grow(&partial, size, &*progress, &mut steps).await?;
    }
    let size = partial.file.metadata().map_err(unreadable(&partial.path))?.len();
    plant(&partial, size, seed).await?;
    publish(partial, target, &*progress).await?;
    steps.done(Stage::Sync);
    Ok(Prepared { method, size, steps: steps.taken })
}

/// Makes a grown image for the store in `partial`, and puts it in its place.
pub(crate) async fn make_grown(
    image: &Path,
    partial: Partial,
    place: &Path,
    size: u64,
    progress: &Arc<dyn Progress>,
) -> Result<(), PrepareError> {
    let source = File::open(image).map_err(unreadable(image))?;
    let (partial, _) = copy(source, partial, Cloning::Auto, Arc::clone(progress)).await?;
    check_and_grow(&partial, size, &**progress, &mut Steps::default()).await?;
    protect(&partial.file).map_err(|error| write_error(&partial.path, 0, error))?;
    publish(partial, place, &**progress).await
}

async fn check_and_grow(
    partial: &Partial,
    size: u64,
    progress: &dyn Progress,
    steps: &mut Steps,
) -> Result<(), PrepareError> {
    begin(progress, Stage::Check, "");
    grow::check_clone(&partial.path, size).await?;
    finish(progress, Stage::Check);
    steps.done(Stage::Check);
    begin(progress, Stage::Grow, "");
    grow::grow(&partial.path, &partial.file, size).await?;
    finish(progress, Stage::Grow);
    steps.done(Stage::Grow);
    Ok(())
}

/// Writes the seed's files into a disk that is not in its place yet.
async fn plant(partial: &Partial, size: u64, seed: &[SeedFile]) -> Result<(), PrepareError> {
    seed::into_image(&partial.path, seed).await.map_err(|error| grow::or_no_space(error, &partial.path, size))
}

async fn publish(partial: Partial, place: &Path, progress: &dyn Progress) -> Result<(), PrepareError> {
    begin(progress, Stage::Sync, "");
    let place = place.to_owned();
    run_blocking(move |_| partial.publish(&place)).await?;
    finish(progress, Stage::Sync);
    Ok(())
}

/// The steps of a preparation with their times.
struct Steps {
    taken: Vec<(Stage, Duration)>,
    started: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self { taken: Vec::new(), started: Instant::now() }
    }
}

impl Steps {
    fn done(&mut self, stage: Stage) {
        self.taken.push((stage, self.started.elapsed()));
        self.started = Instant::now();
    }
}

/// Clones the image into the partial disk, and gives that back.
async fn copy(
    source: File,
    partial: Partial,
    cloning: Cloning,
    progress: Arc<dyn Progress>,
) -> Result<(Partial, Method), PrepareError> {
    run_blocking(move |cancel| {
        let method = clone_file(&source, &partial.file, cloning, &*progress, &cancel).map_err(|error| {
            if cloning == Cloning::Reflink {
                return PrepareError::NoReflink { path: partial.path.clone(), source: error };
            }
            let needed = source.metadata().map_or(0, |metadata| metadata.blocks() * 512);
            write_error(&partial.path, needed, error)
        })?;
        Ok((partial, method))
    })
    .await
}

/// The disk that is there already.
fn keep(target: &Path) -> Result<Option<(Prepared, Superblock)>, PrepareError> {
    let file = match File::open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(target)(error)),
    };
    let superblock = whole_file_system(target, &file).map_err(|error| match error {
        PrepareError::NotAFileSystem { .. } | PrepareError::CutShort { .. } => {
            PrepareError::Occupied { path: target.to_owned() }
        }
        other => other,
    })?;
    let size = file.metadata().map_err(unreadable(target))?.len();
    Ok(Some((Prepared { method: Method::Kept, size, steps: Vec::new() }, superblock)))
}

/// The superblock of the file system in a file, all of whose bytes must be there.
fn whole_file_system(path: &Path, file: &File) -> Result<Superblock, PrepareError> {
    let metadata = file.metadata().map_err(unreadable(path))?;
    let no_file_system = || PrepareError::NotAFileSystem { path: path.to_owned() };
    if !metadata.is_file() {
        return Err(no_file_system());
    }
    let superblock = Superblock::read(file).map_err(unreadable(path))?.ok_or_else(no_file_system)?;
    let (expected, actual) = (superblock.size(), metadata.len());
    if actual < expected {
        return Err(PrepareError::CutShort { path: path.to_owned(), expected, actual });
    }
    Ok(superblock)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> PrepareError + '_ {
    move |source| PrepareError::Unreadable { path: path.to_owned(), source }
}

fn write_error(path: &Path, needed: u64, source: io::Error) -> PrepareError {
    match space::ran_out(&source, path.parent().unwrap_or(path), needed) {
        Some(no_space) => PrepareError::NoSpace(no_space),
        None => PrepareError::Write { path: path.to_owned(), source },
    }
}
