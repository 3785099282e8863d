//! Ranges of a file, several at a time, delivered in order.
//!
//! Each segment takes up a broken connection where it ended. Segments that are
//! done wait for the ones before them, so the window bounds memory: 5 MiB.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::{HeaderMap, HeaderValue, IF_RANGE};
use reqwest::{Response, StatusCode};

use super::feed::Sender;
use crate::error::Failure;
use crate::http::Resource;
use crate::retry::Attempts;
use crate::validator::{ContentRange, Validator};

/// Bytes of one segment. Small, for memory; large enough that a request for each costs little.
pub(super) const SEGMENT: u64 = 1 << 20;
/// Segments under way or waiting for their turn.
const WINDOW: usize = 5;

/// The segments of one version of a file.
pub(super) struct Segments<'a> {
    pub(super) resource: &'a Resource<'a>,
    pub(super) validator: Validator,
    /// What `If-Range` carries, where the validator is strong enough.
    pub(super) if_range: Option<String>,
    pub(super) total: u64,
}

impl Segments<'_> {
    /// Feeds the whole file, of which `first` answers for the first segment.
    pub(super) async fn deliver(&self, first: Response, sender: &Sender) -> Result<(), Failure> {
        let first = self.segment(0..SEGMENT.min(self.total), Some(first)).await?;
        if sender.send(first).await.is_err() {
            return Ok(());
        }
        let rest = (1..self.total.div_ceil(SEGMENT)).map(|index| index * SEGMENT);
        let rest = rest.map(|start| self.segment(start..(start + SEGMENT).min(self.total), None));
        let mut segments = stream::iter(rest).buffered(WINDOW);
        while let Some(segment) = segments.try_next().await? {
            if sender.send(segment).await.is_err() {
                // Who reads knows why.
                return Ok(());
            }
        }
        Ok(())
    }

    async fn segment(&self, range: Range<u64>, mut open: Option<Response>) -> Result<Bytes, Failure> {
        let length = usize::try_from(range.end - range.start).expect("a segment is 1 MiB at most");
        let mut bytes = BytesMut::with_capacity(length);
        let mut attempts = Attempts::new(self.resource.policy, self.resource.location.clone());
        loop {
            let before = bytes.len() as u64;
            match self.continue_segment(&range, &mut bytes, open.take()).await {
                Ok(()) if bytes.len() == length => return Ok(bytes.freeze()),
                // The server may send less than it was asked for.
                Ok(()) if bytes.len() as u64 > before => {}
                Ok(()) => attempts.wait("the server sends an empty range".into(), None, 0).await?,
                Err(Failure::Transient { reason, wait }) => {
                    attempts.wait(reason, wait, bytes.len() as u64 - before).await?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Adds what is missing of a segment, or some of it.
    async fn continue_segment(
        &self,
        range: &Range<u64>,
        bytes: &mut BytesMut,
        open: Option<Response>,
    ) -> Result<(), Failure> {
        let missing = range.start + bytes.len() as u64..range.end;
        let mut response = match open {
            Some(response) => response,
            None => self.resource.get(Some(&missing), &self.conditions()).await?,
        };
        let sent = self.check(&response, &missing)?;
        let mut left = sent.end - sent.start;
        while let Some(chunk) = self.resource.chunk(&mut response).await? {
            if chunk.len() as u64 > left {
                return Err(Failure::NoRanges {
                    reason: "the server sends more than its Content-Range says".into(),
                });
            }
            left -= chunk.len() as u64;
            bytes.extend_from_slice(&chunk);
        }
        if left > 0 {
            return Err(Failure::transient("the answer ended before its range did"));
        }
        Ok(())
    }

    fn conditions(&self) -> HeaderMap {
        let value = self.if_range.as_deref().and_then(|value| HeaderValue::from_str(value).ok());
        value.map(|value| (IF_RANGE, value)).into_iter().collect()
    }

    /// Whether the answer is what was asked for, and which range it has.
    fn check(&self, response: &Response, asked: &Range<u64>) -> Result<Range<u64>, Failure> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // 200 says that `If-Range` did not fit, 416 that the file has become shorter.
            _ => return Err(Failure::Changed),
        }
        let wrong = |what: String| Failure::NoRanges { reason: what };
        let content_range = ContentRange::of(response.headers())
            .ok_or_else(|| wrong("the server answers 206 without a valid Content-Range".into()))?;
        let now = Validator::of(response.headers(), content_range.total.or(Some(self.total)));
        if !now.is_same(&self.validator) && self.validator.is_telling() {
            return Err(Failure::Changed);
        }
        let sent = content_range.range;
        // The first request asks for a whole segment before anybody knows that the file is shorter.
        let is_asked = sent.start == asked.start && sent.end <= asked.end;
        if !is_asked {
            return Err(wrong(format!("asked for {asked:?}, the server sends {sent:?}")));
        }
        Ok(sent)
    }
}
