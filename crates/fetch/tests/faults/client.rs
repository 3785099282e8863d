//! The client that is held against the servers.

use std::io::{Read, Seek};
use std::sync::Arc;
use std::time::Duration;

use dozlab_fetch::{
    Expected, FetchError, Fetcher, Location, Observer, Outcome, Policy, Secrets, Start, Unwanted,
};

/// Patient for less long than a person would want.
fn policy() -> Policy {
    Policy {
        attempts: 4,
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_secs(2),
        stall: Duration::from_secs(1),
        connect: Duration::from_secs(2),
    }
}

struct TakesAll;

impl Observer for TakesAll {
    fn begins(&self, _: &Start<'_>) -> Result<(), Unwanted> {
        Ok(())
    }
    fn received(&self, _: u64, _: Option<u64>) {}
}

/// What is fetched from a URL, or why nothing is.
pub(crate) async fn fetch(url: &str) -> Result<Vec<u8>, FetchError> {
    let (outcome, bytes) = fetch_with(url, &Expected::default(), Secrets::default()).await?;
    assert!(matches!(outcome, Outcome::Fetched(fetched) if fetched.length == bytes.len() as u64));
    Ok(bytes)
}

pub(crate) async fn fetch_with(
    url: &str,
    expected: &Expected,
    secrets: Secrets,
) -> Result<(Outcome, Vec<u8>), FetchError> {
    let mut target = tempfile::tempfile().unwrap();
    let fetcher = Fetcher::new(secrets, policy()).unwrap();
    let outcome =
        fetcher.fetch(&Location::parse(url).unwrap(), expected, &target, Arc::new(TakesAll)).await?;
    let mut bytes = Vec::new();
    target.rewind().unwrap();
    target.read_to_end(&mut bytes).unwrap();
    Ok((outcome, bytes))
}
