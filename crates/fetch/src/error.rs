//! Why nothing could be fetched, for a person to act on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::compression::Compression;
use crate::settings::SettingsError;

/// Nothing complete was fetched. URLs in it are without user, password and query.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The secrets cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The HTTP client cannot be made.
    #[error("cannot prepare for HTTP: {reason}")]
    Client {
        /// What is wrong.
        reason: String,
    },
    /// The server could not be reached, or failed each time.
    #[error(
        "cannot fetch {location}: {reason} ({attempts} attempts); see whether the server is well and can be \
        reached from here, then try again"
    )]
    Unreachable {
        /// What was to be fetched.
        location: String,
        /// How often it was tried without a byte in between.
        attempts: usize,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The server answered that it will not give the file.
    #[error("cannot fetch {location}: the server answered {status}{}", advice(*status))]
    Refused {
        /// What was to be fetched.
        location: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server is who it should not be, or speaks in a way that is not understood.
    #[error("cannot fetch {location}: {reason}")]
    Protocol {
        /// What was to be fetched.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// The server wants to be left alone for longer than the policy waits.
    #[error("cannot fetch {location}: the server asks to wait for {} s; try again after that", wait.as_secs())]
    Later {
        /// What was to be fetched.
        location: String,
        /// How long it asks for.
        wait: Duration,
    },
    /// The credentials of a cloud's storage cannot be had.
    #[error("cannot fetch {location}: no credentials for it: {reason}")]
    Credentials {
        /// What was to be fetched.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The file changed while it was fetched, each time.
    #[error(
        "cannot fetch {location}: it changed while it was fetched, {times} times over; wait until it is whole"
    )]
    Changing {
        /// What was to be fetched.
        location: String,
        /// How often.
        times: usize,
    },
    /// The local file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{location} is empty")]
    Empty {
        /// What was fetched.
        location: String,
    },
    /// It is not what the digest says.
    #[error(
        "{location} is not what IMAGE_SHA256 says: its SHA-256 is {actual}, wanted is {wanted}; correct the \
        variable, or distrust the server"
    )]
    WrongDigest {
        /// What was fetched.
        location: String,
        /// The digest that was given, in hexadecimal.
        wanted: String,
        /// The digest of the bytes that arrived.
        actual: String,
    },
    /// The compressed stream is damaged or ends early.
    #[error(
        "{location} cannot be decompressed ({compression}): {source}; it is damaged or cut short where it lies"
    )]
    Damaged {
        /// What was fetched.
        location: String,
        /// How it is compressed.
        compression: Compression,
        /// What the decoder said.
        source: io::Error,
    },
    /// The target cannot be written.
    #[error("cannot write what is fetched: {source}")]
    Write {
        /// What the system said.
        source: io::Error,
    },
    /// The observer did not want it, and knows why.
    #[error("{location} is refused")]
    Unwanted {
        /// What was fetched.
        location: String,
    },
}

impl FetchError {
    /// Whether the server was not there, or not able to answer: it says nothing about the file.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Later { .. })
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        401 => {
            " (not authenticated): give a valid token in IMAGE_BEARER_TOKEN_FILE, or headers in IMAGE_HEADER_FILE"
        }
        403 => " (forbidden): the credentials do not allow it, or the signed URL has expired",
        404 | 410 => ": there is no such file; see whether the URL is right",
        _ => "",
    }
}

/// Why one attempt failed, and what can be done about it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may work another time, after `wait` if the server says so.
    Transient { reason: String, wait: Option<Duration> },
    /// The file is another one than it was.
    Changed,
    /// The server cannot be trusted with ranges.
    NoRanges { reason: String },
    /// Nothing helps.
    Final(FetchError),
}

impl Failure {
    pub(crate) fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), wait: None }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}
