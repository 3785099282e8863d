//! What the store knows of places that images were fetched from.
//!
//! ```text
//!   sources/url-FINGERPRINT.json     what a URL led to, and by what the server tells versions apart
//!   sources/sha256-DIGITS.json       the image that bytes with this digest, compressed or a tar, became
//!   sources/oci-FINGERPRINT.json     what an OCI reference led to
//!   sources/KEY.partial              locked by whoever is fetching for that key
//! ```
//!
//! A record is only a hint: without one, or without its image, things are fetched again. A URL is written without
//! what may be secret in it, and its fingerprint cannot be turned back.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dozlab_fetch::Validator;
use serde::{Deserialize, Serialize};

use super::{Digest, HeldImage, Store, StoreError, io_error};
use crate::disk::{Partial, PrepareError};

/// How often to look whether another process has done with a source.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often to say that it is waited for.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What a place led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceRecord {
    /// The place, for a person.
    pub(crate) location: String,
    /// The image that it became.
    pub(crate) digest: Digest,
    /// SHA-256 of the bytes that were transferred, in hexadecimal; an OCI image is no such bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transferred_sha256: Option<String>,
    /// Names the version there.
    pub(crate) validator: Validator,
    /// When the server last said that this is its version, in milliseconds since the epoch.
    pub(crate) checked: u64,
}

/// One place, or one digest, in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceKey(String);

impl SourceKey {
    pub(crate) fn url(fingerprint: &str) -> Self {
        Self(format!("url-{fingerprint}"))
    }

    pub(crate) fn oci(fingerprint: &str) -> Self {
        Self(format!("oci-{fingerprint}"))
    }

    pub(crate) fn sha256(digits: &str) -> Self {
        Self(format!("sha256-{digits}"))
    }
}

/// Held by whoever is fetching; given back when dropped.
#[derive(Debug)]
pub(crate) struct SourceLock(#[expect(dead_code, reason = "it is held, not read")] Partial);

impl Store {
    /// What is known for a key, and the image, if that is still there.
    pub(crate) fn source(&self, key: &SourceKey) -> Result<Option<(SourceRecord, HeldImage)>, StoreError> {
        let path = self.source_path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let Ok(record) = serde_json::from_slice::<SourceRecord>(&bytes) else {
            tracing::warn!(path = %path.display(), "passing over a damaged record of a source");
            return Ok(None);
        };
        Ok(self.hold_digest(&record.digest)?.map(|image| (record, image)))
    }

    /// The image with this digest, if there is one.
    pub(crate) fn hold_digest(&self, digest: &Digest) -> Result<Option<HeldImage>, StoreError> {
        match self.hold(digest.digits()) {
            Ok(image) => Ok(Some(image)),
            Err(StoreError::NoSuchImage { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers what a key led to, and forgets what led to images that are gone. The key must be locked.
    pub(crate) fn remember_source(&self, key: &SourceKey, record: &SourceRecord) -> Result<(), StoreError> {
        let path = self.source_path(key);
        let _lock = self.lock()?;
        self.forget_sources_of_no_image()?;
        let json = serde_json::to_vec_pretty(record).expect("a record has only strings and numbers");
        self.replace(&path, &json)
    }

    /// Waits until nobody else is fetching for the key, and says so.
    pub(crate) async fn lock_source(
        &self,
        key: &SourceKey,
        location: &str,
    ) -> Result<SourceLock, PrepareError> {
        let path = self.source_path(key).with_extension("");
        let mut waited = Duration::ZERO;
        loop {
            match Partial::create(&path) {
                Ok(partial) => return Ok(SourceLock(partial)),
                Err(PrepareError::Busy { .. }) => {}
                Err(error) => return Err(error),
            }
            if waited.as_millis().is_multiple_of(SAY_EVERY.as_millis()) {
                tracing::info!(%location, "another process is fetching it: waiting for that");
            }
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
        }
    }

    fn forget_sources_of_no_image(&self) -> Result<(), StoreError> {
        let folder = self.sources();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let path = entry.map_err(io_error("read", &folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record =
                fs::read(&path).ok().and_then(|json| serde_json::from_slice::<SourceRecord>(&json).ok());
            if record.is_none_or(|record| !self.blob(&record.digest).exists()) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn source_path(&self, key: &SourceKey) -> std::path::PathBuf {
        self.sources().join(format!("{}.json", key.0))
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
