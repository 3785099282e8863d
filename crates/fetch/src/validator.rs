//! What a server says to tell versions of one file apart (RFC 9110, 8.8), and ranges of it (RFC 9110, 14.4).

use std::ops::Range;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, DATE, ETAG, HeaderMap, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

/// Names one version of a remote file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// Its entity tag, quotes and `W/` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was changed last, as the server writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

impl Validator {
    pub(crate) fn of(headers: &HeaderMap, length: Option<u64>) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED), length }
    }

    /// Whether versions can be told apart at all.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Whether the other one is the same version, as far as both say.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let weak = |tag: &String| tag.trim_start_matches("W/").to_owned();
        let lengths_differ = matches!((self.length, other.length), (Some(one), Some(two)) if one != two);
        if lengths_differ {
            return false;
        }
        match (&self.etag, &other.etag) {
            (Some(one), Some(two)) => weak(one) == weak(two),
            (None, None) => self.last_modified.is_some() && self.last_modified == other.last_modified,
            _ => false,
        }
    }

    /// What `If-Range` may carry: a strong tag, or a date that is at least a second older than the answer, for
    /// within one second a file may change twice (RFC 9110, 8.8.2.2).
    pub(crate) fn strong(&self, headers: &HeaderMap) -> Option<String> {
        if let Some(etag) = &self.etag {
            return (!etag.starts_with("W/")).then(|| etag.clone());
        }
        let modified = self.last_modified.as_ref()?;
        let changed = httpdate::parse_http_date(modified).ok()?;
        let answered = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        (answered.duration_since(changed).ok()? >= Duration::from_secs(1)).then(|| modified.clone())
    }
}

/// `Content-Range: bytes 0-9/100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) range: Range<u64>,
    /// Of the whole file; `None` where the server writes `*`.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let end = last.checked_add(1)?;
        (first < end && total.is_none_or(|total| end <= total)).then_some(Self { range: first..end, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn content_ranges_that_contradict_themselves_are_none() {
        let parsed = ContentRange::parse("bytes 0-9/100").unwrap();
        assert_eq!(parsed, ContentRange { range: 0..10, total: Some(100) });
        assert_eq!(ContentRange::parse("bytes 5-5/*").unwrap().total, None);
        for bad in [
            "bytes 9-0/100",
            "bytes 0-100/100",
            "items 0-9/100",
            "bytes */100",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad} was taken");
        }
    }

    #[test]
    fn only_a_strong_validator_may_join_ranges() {
        let strong = |pairs: &[(&'static str, &'static str)]| {
            let headers = headers(pairs);
            Validator::of(&headers, None).strong(&headers)
        };
        assert_eq!(strong(&[("etag", "\"a\"")]).as_deref(), Some("\"a\""));
        assert_eq!(strong(&[("etag", "W/\"a\"")]), None);
        let (modified, now) = ("Tue, 24 Nov 2026 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:01 GMT");
        assert_eq!(strong(&[("last-modified", modified), ("date", now)]).as_deref(), Some(modified));
        assert_eq!(strong(&[("last-modified", modified), ("date", modified)]), None);
        assert_eq!(strong(&[("last-modified", modified)]), None);
    }

    #[test]
    fn a_version_without_a_tag_or_date_is_never_the_same() {
        let none = Validator { length: Some(1), ..Validator::default() };
        assert!(!none.is_same(&none.clone()));
        let tagged = Validator { etag: Some("\"a\"".into()), length: Some(1), last_modified: None };
        assert!(tagged.is_same(&Validator {
            length: None,
            etag: Some("W/\"a\"".into()),
            last_modified: None
        }));
        assert!(!tagged.is_same(&Validator { length: Some(2), ..tagged.clone() }));
    }
}
