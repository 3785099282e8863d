//! What the store knows of an image beside its bytes.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ImageName, StoreError};

/// The SHA-256 of an image's bytes, holes read as zeros. Written `sha256:` and 64 lower-case hexadecimal
/// digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub(crate) fn from_digits(digits: &str) -> Option<Self> {
        let is_hexadecimal =
            digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        (digits.len() == 64 && is_hexadecimal).then(|| Self(digits.to_owned()))
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The 64 digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_digits)
            .ok_or_else(|| format!("`{text}` is no digest"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// One named image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// Its name in the store.
    pub name: ImageName,
    /// The digest of the ext4 file.
    pub digest: Digest,
    /// Length of the ext4 file in bytes: the smallest disk that it can become.
    pub size: u64,
    /// Bytes that it takes on disk; less than `size`, for its free space is holes.
    pub stored: u64,
    /// When it was put into the store, in seconds since the epoch.
    pub created: u64,
    /// Where it came from, for a person: a path, or a Debian suite.
    pub source: String,
    /// The user that a learner logs in as: uid 1000 where the image has it, else `root`.
    pub user: String,
    /// Whether the image has an `/sbin/init` to hand over to.
    pub has_init: bool,
    /// `PRETTY_NAME` of its `/etc/os-release`: `Debian GNU/Linux 12 (bookworm)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_name: Option<String>,
}

impl ImageRecord {
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, StoreError> {
        let bad = |reason| StoreError::BadRecord { path: path.to_owned(), reason };
        let record: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if path.file_stem().is_none_or(|stem| stem != record.name.as_str()) {
            return Err(bad(format!("it is about `{}`", record.name)));
        }
        Ok(record)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a record has only strings, numbers and flags");
        json.push(b'\n');
        json
    }
}
