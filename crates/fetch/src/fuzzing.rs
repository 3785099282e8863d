//! Ways in for the fuzz targets, which are there under `--cfg fuzzing` alone.

use std::time::SystemTime;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::retry::retry_after;
use crate::validator::{ContentRange, Validator};

/// Reads what a server's headers say of versions, ranges and waiting; `lines` are `Name: value`.
pub fn headers(lines: &[u8]) {
    let headers: HeaderMap = lines.split(|byte| *byte == b'\n').filter_map(header).collect();
    if let Some(ContentRange { range, total }) = ContentRange::of(&headers) {
        assert!(range.start < range.end && total.is_none_or(|total| range.end <= total));
    }
    let _ = retry_after(&headers, SystemTime::UNIX_EPOCH);
    let validator = Validator::of(&headers, None);
    assert!(!validator.is_telling() || validator.is_same(&validator));
    let _ = validator.strong(&headers);
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let value = line[colon + 1..].trim_ascii();
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(value).ok()?))
}
