//! When to try again, and what to say when trying again did not help.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use oci_client::Reference;
use oci_client::errors::OciDistributionError;

use super::PullError;

/// Attempts after the first, with pauses of about 0.5, 1, 2 and 4 seconds.
const FURTHER_ATTEMPTS: usize = 4;

/// The attempts at one thing; they begin anew whenever it got further.
pub(super) struct Attempts(ExponentialBackoff);

impl Attempts {
    pub(super) fn new() -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(8))
            .with_max_times(FURTHER_ATTEMPTS)
            .with_jitter();
        Self(pauses.build())
    }

    /// Waits before the next attempt, or gives up.
    pub(super) async fn after(&mut self, failure: Failure, reference: &Reference) -> Result<(), PullError> {
        if failure.may_pass
            && let Some(pause) = self.0.next()
        {
            tracing::warn!(image = %reference, reason = failure.reason, ?pause, "the registry fails; trying again");
            tokio::time::sleep(pause).await;
            return Ok(());
        }
        let (image, reason) = (reference.whole(), failure.reason);
        Err(match failure.kind {
            Kind::Unauthorized => {
                PullError::Unauthorized { registry: reference.registry().to_owned(), image, reason }
            }
            Kind::NotFound => PullError::NotFound { image, reason },
            Kind::Other => PullError::Registry { image, reason },
        })
    }
}

/// One attempt has failed.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    /// Whether the same may work a little later.
    may_pass: bool,
    pub(super) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unauthorized,
    NotFound,
    Other,
}

impl Failure {
    /// What `oci-client` says, without URLs.
    pub(super) fn of(error: OciDistributionError) -> Self {
        use OciDistributionError::{
            AuthenticationFailure, IoError, RegistryError, RequestError, ServerError, UnauthorizedError,
        };
        match error {
            UnauthorizedError { .. } => Self::new(Kind::Unauthorized, false, "not authorized".to_owned()),
            AuthenticationFailure(reason) => Self::new(Kind::Unauthorized, false, brief(&reason)),
            RegistryError { envelope, .. } => {
                let said: Vec<String> = envelope
                    .errors
                    .iter()
                    .map(|error| format!("{:?} {}", error.code, error.message))
                    .collect();
                let said = brief(&said.join(", "));
                let kind = if said.contains("Unknown") {
                    Kind::NotFound
                } else if said.contains("Unauthorized") || said.contains("Denied") {
                    Kind::Unauthorized
                } else {
                    Kind::Other
                };
                Self::new(kind, said.contains("Toomanyrequests"), said)
            }
            ServerError { code, message, .. } => {
                let kind = match code {
                    401 | 403 => Kind::Unauthorized,
                    404 => Kind::NotFound,
                    _ => Kind::Other,
                };
                let may_pass = code == 408 || code == 429 || code >= 500;
                Self::new(kind, may_pass, format!("status {code} {}", brief(&message)).trim_end().to_owned())
            }
            RequestError(error) => Self::new(Kind::Other, true, request(error)),
            IoError(error) => Self::broken(error),
            other => Self::new(Kind::Other, false, brief(&other.to_string())),
        }
    }

    /// The connection broke while a body arrived.
    pub(super) fn broken(error: std::io::Error) -> Self {
        let reason = match error.downcast::<reqwest::Error>() {
            Ok(error) => request(error),
            Err(error) => error.to_string(),
        };
        Self::new(Kind::Other, true, reason)
    }

    pub(super) fn cut_short(arrived: u64, size: u64) -> Self {
        Self::new(Kind::Other, true, format!("the connection ended after {arrived} of {size} bytes"))
    }

    fn new(kind: Kind, may_pass: bool, reason: String) -> Self {
        Self { kind, may_pass, reason }
    }
}

/// The error with its causes, which say more than it does, and without its URL.
fn request(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        said.push_str(": ");
        said.push_str(&inner.to_string());
        cause = inner.source();
    }
    said
}

/// A stranger's words: a line of them, without what a terminal would obey.
fn brief(words: &str) -> String {
    words
        .chars()
        .map(|each| if each.is_control() { ' ' } else { each })
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}
