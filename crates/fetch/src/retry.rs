//! How long to wait before the next attempt, and when to give up.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::error::FetchError;
use crate::settings::Policy;

/// Progress of at least so many bytes makes the attempts count anew.
const PROGRESS: u64 = 64 << 10;

/// Counts the attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    policy: &'a Policy,
    location: String,
    made: usize,
    waits: ExponentialBackoff,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(policy: &'a Policy, location: String) -> Self {
        Self { policy, location, made: 0, waits: waits(policy) }
    }

    /// Waits for the next attempt, or says that it was the last.
    pub(crate) async fn wait(
        &mut self,
        reason: String,
        asked: Option<Duration>,
        progress: u64,
    ) -> Result<(), FetchError> {
        if progress >= PROGRESS {
            (self.made, self.waits) = (0, waits(self.policy));
        }
        self.made += 1;
        if let Some(wait) = asked.filter(|wait| *wait > self.policy.longest_wait) {
            return Err(FetchError::Later { location: self.location.clone(), wait });
        }
        let Some(wait) = self.waits.next() else {
            let (location, attempts) = (self.location.clone(), self.made);
            return Err(FetchError::Unreachable { location, attempts, reason });
        };
        let wait = asked.map_or(wait, |asked| asked.max(wait));
        let (location, milliseconds) = (&self.location, wait.as_millis());
        tracing::warn!(%location, %reason, milliseconds, "trying again after a wait");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn waits(policy: &Policy) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(policy.first_wait)
        .with_max_delay(policy.longest_wait)
        .with_max_times(policy.attempts.saturating_sub(1))
        .with_jitter()
        .build()
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_has_two_forms() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 10:00:00 GMT").unwrap();
        let after = |text: &'static str| {
            retry_after(&[(RETRY_AFTER, text.parse().unwrap())].into_iter().collect(), now)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Tue, 24 Nov 2026 10:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(after("Tue, 24 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }

    #[tokio::test]
    async fn attempts_end_and_progress_makes_them_count_anew() {
        let policy = Policy { attempts: 2, first_wait: Duration::from_millis(1), ..Policy::default() };
        let mut attempts = Attempts::new(&policy, "x".into());
        attempts.wait("first".into(), None, 0).await.unwrap();
        attempts.wait("second".into(), None, PROGRESS).await.unwrap();
        let error = attempts.wait("third".into(), None, 0).await.unwrap_err();
        assert!(matches!(error, FetchError::Unreachable { attempts: 2, .. }), "{error}");
        let asked = Some(policy.longest_wait + Duration::from_secs(1));
        let error = Attempts::new(&policy, "x".into()).wait(String::new(), asked, 0).await.unwrap_err();
        assert!(matches!(error, FetchError::Later { .. }) && error.is_unreachable(), "{error}");
    }
}
