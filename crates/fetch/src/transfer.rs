//! A whole transfer: asks, judges the first answer, delivers the bytes in order, and begins again where it must.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::header::{HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::{Response, StatusCode};

use crate::compression::Compression;
use crate::content::{self, Content, ContentError, Observer, Wanted};
use crate::error::{Failure, FetchError};
use crate::http::{Resource, client};
use crate::location::Location;
use crate::remote::Remote;
use crate::retry::Attempts;
use crate::settings::{Policy, Secrets};
use crate::validator::{ContentRange, Validator};

mod feed;
mod ranges;

use feed::{CancelOnDrop, FileReader, Sender, channel};
use ranges::{SEGMENT, Segments};

/// How often a file may turn out to be another one during a transfer.
const MOST_CHANGES: usize = 3;

/// Fetches files.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: reqwest::Client,
    secrets: Secrets,
    policy: Policy,
}

/// What is known beforehand of what will arrive.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The version that is there already: if it is still the one, nothing is transferred.
    pub known: Option<Validator>,
    /// SHA-256 of the bytes as they are transferred, before they are decompressed.
    pub sha256: Option<[u8; 32]>,
    /// Whether [`Fetched::digests`] is wanted: they take about as long as decompressing.
    pub digests: bool,
}

impl Expected {
    fn wanted(&self) -> Wanted {
        Wanted { transferred: self.digests || self.sha256.is_some(), content: self.digests }
    }
}

/// What became of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server still has the version that was known; the target is empty.
    NotModified,
    /// The target holds it.
    Fetched(Fetched),
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// How the bytes were compressed.
    pub compression: Compression,
    /// Bytes that were transferred.
    pub transferred: u64,
    /// Bytes of the target, decompressed.
    pub length: u64,
    /// Where [`Expected::digests`] asked for them.
    pub digests: Option<Digests>,
    /// Names the version. Empty for a local file.
    pub validator: Validator,
}

/// SHA-256 of what was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Of the bytes as they were transferred.
    pub transferred: [u8; 32],
    /// Of the target's, holes read as zeros.
    pub content: [u8; 32],
}

/// How the server is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ranges,
    Whole,
}

impl Fetcher {
    /// A fetcher that sends `secrets` to the servers that are named, and is as patient as `policy`.
    ///
    /// # Errors
    /// [`FetchError::Client`].
    pub fn new(secrets: Secrets, policy: Policy) -> Result<Self, FetchError> {
        Ok(Self { client: client(&policy)?, secrets, policy })
    }

    /// Fetches into `target`, whose former content is lost. It is not synced. Dropping the future ends the transfer.
    ///
    /// # Errors
    /// See [`FetchError`]. What the target holds then is of no use.
    pub async fn fetch(
        &self,
        location: &Location,
        expected: &Expected,
        target: &File,
        observer: Arc<dyn Observer>,
    ) -> Result<Outcome, FetchError> {
        let received = match location {
            Location::File(path) => {
                let content = fetch_file(path, target, expected.wanted(), observer).await?;
                Some((content, Validator::default()))
            }
            _ => self.fetch_remote(location, expected, target, observer).await?,
        };
        let Some((content, validator)) = received else { return Ok(Outcome::NotModified) };
        if let (Some(actual), Some(wanted)) = (content.transferred.sha256, expected.sha256)
            && actual != wanted
        {
            let (wanted, actual) = (hexadecimal(&wanted), hexadecimal(&actual));
            return Err(FetchError::WrongDigest { location: location.to_string(), wanted, actual });
        }
        Ok(Outcome::Fetched(fetched(content, validator)))
    }

    async fn fetch_remote(
        &self,
        location: &Location,
        expected: &Expected,
        target: &File,
        observer: Arc<dyn Observer>,
    ) -> Result<Option<(Content, Validator)>, FetchError> {
        let remote = Remote::new(location, &self.secrets)?;
        let location = location.to_string();
        let resource = Resource {
            client: &self.client,
            policy: &self.policy,
            remote: &remote,
            location: location.clone(),
            resolved: Mutex::new(None),
        };
        let mut attempts = Attempts::new(&self.policy, location.clone());
        let mut mode = Mode::Ranges;
        let mut changes = 0;
        loop {
            target.set_len(0).map_err(|source| FetchError::Write { source })?;
            let round = Round { resource: &resource, expected, target, observer: &observer };
            match round.run(mode).await {
                Ok(received) => return Ok(received),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient { reason, wait }) => attempts.wait(reason, wait, 0).await?,
                Err(Failure::NoRanges { reason }) => {
                    tracing::warn!(%location, %reason, "asking for the whole instead of ranges");
                    mode = Mode::Whole;
                }
                Err(Failure::Changed) => {
                    changes += 1;
                    if changes == MOST_CHANGES {
                        return Err(FetchError::Changing { location, times: changes });
                    }
                    tracing::warn!(%location, "the file changed while it was fetched; beginning anew");
                    // Servers behind one name may disagree about the tag of the same file, but one answer is whole.
                    if changes + 1 == MOST_CHANGES {
                        mode = Mode::Whole;
                    }
                }
            }
        }
    }
}

/// One attempt at the whole file.
struct Round<'a> {
    resource: &'a Resource<'a>,
    expected: &'a Expected,
    target: &'a File,
    observer: &'a Arc<dyn Observer>,
}

impl Round<'_> {
    /// `None` where the server still has the version that is known.
    async fn run(&self, mode: Mode) -> Result<Option<(Content, Validator)>, Failure> {
        let known = self.expected.known.as_ref();
        let conditions = known.map(unless_it_is).unwrap_or_default();
        let range = (mode == Mode::Ranges).then_some(0..SEGMENT);
        let response = self.resource.get(range.as_ref(), &conditions).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED if known.is_some() => Ok(None),
            StatusCode::OK => self.whole(response).await,
            StatusCode::PARTIAL_CONTENT if mode == Mode::Ranges => self.ranges(response).await,
            // An empty file has no first byte; and some servers say so of ranges that they dislike.
            StatusCode::RANGE_NOT_SATISFIABLE if mode == Mode::Ranges => {
                Err(Failure::NoRanges { reason: "the server has no such range (416)".into() })
            }
            status => Err(self
                .resource
                .protocol(format!("the server answered {status}, which was not asked for"))
                .into()),
        }
    }

    /// The server sends everything in one answer.
    async fn whole(&self, mut response: Response) -> Result<Option<(Content, Validator)>, Failure> {
        let length = response.content_length();
        let validator = Validator::of(response.headers(), length);
        if self.is_known(&validator) {
            return Ok(None);
        }
        self.receive(validator, length, async |sender| {
            while let Some(bytes) = self.resource.chunk(&mut response).await? {
                if sender.send(bytes).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    /// The server sends ranges: several at a time, where there are several.
    async fn ranges(&self, response: Response) -> Result<Option<(Content, Validator)>, Failure> {
        let no_ranges = |reason: &str| Failure::NoRanges { reason: reason.to_owned() };
        let content_range = ContentRange::of(response.headers())
            .ok_or_else(|| no_ranges("the server answers 206 without a valid Content-Range"))?;
        let total =
            content_range.total.ok_or_else(|| no_ranges("the server does not say how long the file is"))?;
        let validator = Validator::of(response.headers(), Some(total));
        if self.is_known(&validator) {
            return Ok(None);
        }
        if total > SEGMENT && !validator.is_telling() {
            return Err(no_ranges("ranges of different versions could not be told apart"));
        }
        let if_range = validator.strong(response.headers());
        let segments = Segments { resource: self.resource, validator: validator.clone(), if_range, total };
        self.receive(validator, Some(total), async |sender| segments.deliver(response, sender).await).await
    }

    fn is_known(&self, validator: &Validator) -> bool {
        self.expected.known.as_ref().is_some_and(|known| known.is_same(validator))
    }

    /// Runs `deliver`, which feeds what it is given, and turns that into the file.
    async fn receive(
        &self,
        validator: Validator,
        length: Option<u64>,
        deliver: impl AsyncFnOnce(&Sender) -> Result<(), Failure>,
    ) -> Result<Option<(Content, Validator)>, Failure> {
        let (sender, reader) = channel();
        let target = self.target.try_clone().map_err(|source| FetchError::Write { source })?;
        let (observer, wanted) = (Arc::clone(self.observer), self.expected.wanted());
        let receiving = tokio::task::spawn_blocking(move || {
            content::receive(reader, length, &target, wanted, &*observer)
        });
        let delivered = deliver(&sender).await;
        if delivered.is_ok() {
            sender.finish().await;
        }
        drop(sender);
        let received = joined(receiving.await);
        let location = || self.resource.location.clone();
        match (delivered, received) {
            // The file that was not written, not wanted or not understood ended the delivery too.
            (_, Err(ContentError::Write(source))) => Err(FetchError::Write { source }.into()),
            (_, Err(ContentError::Unwanted)) => Err(FetchError::Unwanted { location: location() }.into()),
            (_, Err(ContentError::Damaged(compression, source))) => {
                Err(FetchError::Damaged { location: location(), compression, source }.into())
            }
            (Err(failure), _) => Err(failure),
            (Ok(()), Err(ContentError::Input(error))) => Err(Failure::transient(error.to_string())),
            (Ok(()), Err(ContentError::Empty)) => Err(FetchError::Empty { location: location() }.into()),
            (Ok(()), Ok(content)) => Ok(Some((content, validator))),
        }
    }
}

async fn fetch_file(
    path: &Path,
    target: &File,
    wanted: Wanted,
    observer: Arc<dyn Observer>,
) -> Result<Content, FetchError> {
    let unreadable = |source: io::Error| FetchError::Unreadable { path: path.to_owned(), source };
    let source = File::open(path).map_err(unreadable)?;
    let length = source.metadata().map_err(unreadable)?.len();
    target.set_len(0).map_err(|source| FetchError::Write { source })?;
    let target = target.try_clone().map_err(|source| FetchError::Write { source })?;
    let cancel = CancelOnDrop::default();
    let reader = FileReader::new(source, &cancel);
    let receiving = tokio::task::spawn_blocking(move || {
        content::receive(reader, Some(length), &target, wanted, &*observer)
    });
    let location = || path.display().to_string();
    match joined(receiving.await) {
        Ok(content) => Ok(content),
        Err(ContentError::Input(source)) => Err(unreadable(source)),
        Err(ContentError::Empty) => Err(FetchError::Empty { location: location() }),
        Err(ContentError::Damaged(compression, source)) => {
            Err(FetchError::Damaged { location: location(), compression, source })
        }
        Err(ContentError::Write(source)) => Err(FetchError::Write { source }),
        Err(ContentError::Unwanted) => Err(FetchError::Unwanted { location: location() }),
    }
}

fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> T {
    // Such a task is not cancelled; it can only panic.
    outcome.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
}

fn fetched(content: Content, validator: Validator) -> Fetched {
    let digests = content.transferred.sha256.zip(content.content.sha256);
    Fetched {
        compression: content.compression,
        transferred: content.transferred.bytes,
        length: content.content.bytes,
        digests: digests.map(|(transferred, content)| Digests { transferred, content }),
        validator,
    }
}

/// The conditions under which the server need not send the file.
fn unless_it_is(known: &Validator) -> HeaderMap {
    let mut conditions = HeaderMap::new();
    // A tag is the better one; both must not be sent for different versions.
    let (name, value) = match (&known.etag, &known.last_modified) {
        (Some(etag), _) => (IF_NONE_MATCH, etag),
        (None, Some(modified)) => (IF_MODIFIED_SINCE, modified),
        (None, None) => return conditions,
    };
    if let Ok(value) = HeaderValue::from_str(value) {
        conditions.insert(name, value);
    }
    conditions
}

fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
