//! A root file system from where it lives into a file: what `dozlab-fetch` brings is looked at before it is written,
//! and measured against the space there is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dozlab_fetch::{Expected, FetchError, Fetched, Fetcher, Location, Observer, Outcome, Start, Unwanted};

use crate::import::source::SourceKind;
use crate::progress::{Progress, Stage, Unit, Update};
use crate::space::{self, Bytes, NoSpace};
use crate::superblock::Superblock;

/// Bytes between two updates of the progress.
const UPDATE_EVERY: u64 = 1 << 20;

/// No root file system was fetched.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What arrives is no root file system.
    #[error("{location} {found}: an image is an ext4 file or a tar of a root file system, compressed or not")]
    NotAFileSystem {
        /// What was fetched.
        location: String,
        /// What it is instead.
        found: &'static str,
    },
    /// The file system is larger than the file that it came in.
    #[error(
        "{location} is cut short: its file system has {} ({expected} bytes), the file only {actual} bytes; put the \
        whole image there",
        Bytes(*expected)
    )]
    CutShort {
        /// What was fetched.
        location: String,
        /// Bytes of the file system.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// The disk that was asked for is smaller than the image.
    #[error(
        "a disk of {} ({asked} bytes) cannot hold the image {location}, which needs {} ({minimum} bytes)",
        Bytes(*asked), Bytes(*minimum)
    )]
    TooSmall {
        /// What was fetched.
        location: String,
        /// Bytes that were asked for.
        asked: u64,
        /// Bytes of the image.
        minimum: u64,
    },
    /// There is too little room for it.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
}

/// What a file that was received holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ext4 file system.
    Ext4,
    /// A tar, decompressed.
    Tar,
}

/// Where to receive to, and how much of it.
pub(crate) struct Receipt<'a> {
    pub(crate) target: &'a File,
    /// The folder that the target is in, for its free space.
    pub(crate) folder: &'a Path,
    /// The largest file system that will do, in bytes.
    pub(crate) most: Option<u64>,
}

/// Fetches into the target; `None` where the server has nothing newer than what is known.
pub(crate) async fn receive(
    fetcher: &Fetcher,
    location: &Location,
    expected: &Expected,
    receipt: Receipt<'_>,
    progress: Arc<dyn Progress>,
) -> Result<Option<(Kind, Fetched)>, ReceiveError> {
    let watch = Arc::new(Watch {
        location: location.to_string(),
        folder: receipt.folder.to_owned(),
        most: receipt.most,
        needed: AtomicU64::new(0),
        reported: AtomicU64::new(0),
        seen: Mutex::new(None),
        refusal: Mutex::new(None),
        progress,
    });
    let observer: Arc<dyn Observer> = Arc::clone(&watch) as _;
    let outcome = fetcher.fetch(location, expected, receipt.target, observer).await;
    match outcome {
        Ok(Outcome::NotModified) => Ok(None),
        Ok(Outcome::Fetched(fetched)) => watch.judge(fetched).map(Some),
        Err(error) => Err(watch.explain(error)),
    }
}

/// Looks at what arrives.
struct Watch {
    location: String,
    folder: PathBuf,
    most: Option<u64>,
    /// Bytes that the target will take.
    needed: AtomicU64,
    /// Bytes received at the last update.
    reported: AtomicU64,
    seen: Mutex<Option<(SourceKind, u64)>>,
    refusal: Mutex<Option<ReceiveError>>,
    progress: Arc<dyn Progress>,
}

impl Watch {
    fn look(&self, start: &Start<'_>) -> Result<(), ReceiveError> {
        let not_one = |found| ReceiveError::NotAFileSystem { location: self.location.clone(), found };
        let kind = SourceKind::of_head(start.head).map_err(not_one)?;
        let superblock = Superblock::in_head(start.head);
        let size = superblock.as_ref().map_or(0, Superblock::size);
        match kind {
            SourceKind::Ext4 => {}
            SourceKind::Tar(compression) if compression.is_none() => {}
            _ => return Err(not_one("is compressed twice")),
        }
        if let Some(asked) = self.most.filter(|most| *most < size) {
            return Err(ReceiveError::TooSmall { location: self.location.clone(), asked, minimum: size });
        }
        // A tar is at least as large as it is compressed.
        let needed = superblock.as_ref().map_or_else(|| start.length.unwrap_or(0), Superblock::used);
        self.needed.store(needed, Ordering::Relaxed);
        // What an earlier attempt has written was given back.
        space::ensure(&self.folder, needed)?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((kind, size));
        Ok(())
    }

    fn judge(&self, fetched: Fetched) -> Result<(Kind, Fetched), ReceiveError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match seen {
            Some((SourceKind::Ext4, expected)) if fetched.length < expected => {
                let (location, actual) = (self.location.clone(), fetched.length);
                Err(ReceiveError::CutShort { location, expected, actual })
            }
            Some((SourceKind::Ext4, _)) => Ok((Kind::Ext4, fetched)),
            _ => Ok((Kind::Tar, fetched)),
        }
    }

    fn explain(&self, error: FetchError) -> ReceiveError {
        match error {
            FetchError::Unwanted { .. } => {
                let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
                refusal.unwrap_or(ReceiveError::Fetch(error))
            }
            FetchError::Write { ref source } => {
                let needed = self.needed.load(Ordering::Relaxed);
                match space::ran_out(source, &self.folder, needed) {
                    Some(no_space) => ReceiveError::NoSpace(no_space),
                    None => ReceiveError::Fetch(error),
                }
            }
            other => ReceiveError::Fetch(other),
        }
    }
}

impl Observer for Watch {
    fn begins(&self, start: &Start<'_>) -> Result<(), Unwanted> {
        self.reported.store(0, Ordering::Relaxed);
        self.look(start).map_err(|refusal| {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            Unwanted
        })
    }

    fn received(&self, bytes: u64, total: Option<u64>) {
        let reported = self.reported.load(Ordering::Relaxed);
        if bytes < reported + UPDATE_EVERY && total != Some(bytes) {
            return;
        }
        self.reported.store(bytes, Ordering::Relaxed);
        let (stage, unit, message) = (Stage::Download, Unit::Bytes, self.location.as_str());
        self.progress.update(Update { stage, done: bytes, total, unit, message });
    }
}
