//! What is known of an image in the store, and whether its bytes are what they were.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use dozlab_process::ToolError;
use serde::Serialize;

use super::{Digest, ImageRecord, Store, StoreError, io_error, is_held};
use crate::cancel::run_blocking;
use crate::e2fsprogs::{Check, CheckError, check};
use crate::import::digest;
use crate::progress::Progress;

/// An image, and what the store has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Its record.
    #[serde(flatten)]
    pub record: ImageRecord,
    /// Its file.
    pub path: PathBuf,
    /// All its names.
    pub names: Vec<String>,
    /// When it was last used, in seconds since the epoch.
    pub last_used: u64,
    /// The sizes in bytes to which it is kept grown.
    pub grown: Vec<u64>,
    /// How many sessions on the store's file system lie over it.
    pub linked: u64,
    /// Where sessions on other file systems lie over it.
    pub leased: Vec<PathBuf>,
    /// Whether a process is reading it.
    pub is_held: bool,
}

/// How the bytes of an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The image.
    pub record: ImageRecord,
    /// What its digest is; another than in its record if it is damaged.
    pub found: Digest,
    /// How many grown copies of it were damaged, and are gone: the next session has them made again.
    pub removed_grown: usize,
}

impl Verified {
    /// Whether the image is what it was.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.found == self.record.digest
    }
}

/// An image could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store has no such image, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A program is missing.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl Store {
    /// What is known of the image with this name or digest.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn inspect(&self, reference: &str) -> Result<Inspection, StoreError> {
        let _lock = self.lock()?;
        let record = self.get(reference)?;
        let path = self.blob(&record.digest);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let metadata = file.metadata().map_err(io_error("look at", &path))?;
        let is_held = is_held(&file);
        let last_used = metadata.modified().ok().and_then(|when| when.duration_since(UNIX_EPOCH).ok());
        let grown = self.grown_files()?.into_iter().filter(|grown| grown.digest == record.digest);
        let mut grown: Vec<u64> = grown.map(|grown| grown.size).collect();
        grown.sort_unstable();
        Ok(Inspection {
            names: self.names_of(&record.digest)?,
            last_used: last_used.map_or(0, |age| age.as_secs()),
            grown,
            linked: metadata.nlink().saturating_sub(1),
            leased: self.leased_to(&record.digest)?,
            is_held,
            path,
            record,
        })
    }

    /// Computes the digest of an image anew, and checks its grown copies.
    ///
    /// # Errors
    /// [`VerifyError`]. A damaged image is no error, but the result.
    pub async fn verify(
        &self,
        reference: &str,
        progress: Arc<dyn Progress>,
    ) -> Result<Verified, VerifyError> {
        let held = self.hold(reference)?;
        let path = held.path().to_owned();
        let (found, _) =
            run_blocking(move |cancel| digest(&path, &*progress, &cancel).map_err(io_error("read", &path)))
                .await?;
        let record = held.record().clone();
        let mut removed_grown = 0;
        for grown in self.grown_files()?.into_iter().filter(|grown| grown.digest == record.digest) {
            match check(&grown.path, Check::ReadOnly, None).await {
                Ok(()) => {}
                Err(CheckError::Tool(error)) => return Err(error.into()),
                Err(CheckError::Damaged(damage)) => {
                    tracing::warn!(%damage, "a grown image is removed");
                    let _lock = self.lock()?;
                    fs::remove_file(&grown.path).map_err(io_error("remove", &grown.path))?;
                    removed_grown += 1;
                }
            }
        }
        Ok(Verified { record, found, removed_grown })
    }
}
