//! From arriving bytes to a file: decompressed, its zeros left out as holes, and digested, a thread each.
//!
//! ```text
//!   input ─→ SHA-256 of it, decompress ─→ write ─→ SHA-256 of the content ─→ block is used again
//! ```
//!
//! Either digest is computed only where it is wanted: together they take as long as decompressing does.
//!
//! A fixed handful of blocks goes round in a circle, so memory is bounded however fast either end is.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};

use crate::compression::{Compression, MAGIC_LENGTH};

mod sparse;

use sparse::SparseWriter;

/// Bytes of one block.
const BLOCK: usize = 256 << 10;
/// Blocks in the circle.
const BLOCKS: usize = 6;

/// What is known of the content before any of it is written.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Its first bytes, decompressed: 256 KiB, or all of it where it is shorter.
    pub head: &'a [u8],
    /// How it was compressed.
    pub compression: Compression,
    /// Bytes that are transferred in all, as far as the sender says.
    pub length: Option<u64>,
}

/// The observer does not want the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwanted;

/// Watches a transfer, and may end it. Called from other threads.
pub trait Observer: Send + Sync {
    /// Sees the first bytes before anything is written; again if the transfer has to begin anew.
    ///
    /// # Errors
    /// [`Unwanted`] ends the transfer with [`FetchError::Unwanted`](crate::FetchError::Unwanted).
    fn begins(&self, start: &Start<'_>) -> Result<(), Unwanted>;

    /// Hears how many bytes have arrived, of how many.
    fn received(&self, bytes: u64, total: Option<u64>);
}

/// Which digests are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Of the bytes that arrive.
    pub(crate) transferred: bool,
    /// Of the bytes of the file.
    pub(crate) content: bool,
}

/// What went through.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) compression: Compression,
    /// Bytes that arrived.
    pub(crate) transferred: Counted,
    /// Bytes of the file.
    pub(crate) content: Counted,
}

/// How many bytes there were, and their SHA-256 where it is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) bytes: u64,
    pub(crate) sha256: Option<[u8; 32]>,
}

/// Counts bytes on their way.
struct Counter {
    bytes: u64,
    hasher: Option<Sha256>,
}

impl Counter {
    fn new(is_digest_wanted: bool) -> Self {
        Self { bytes: 0, hasher: is_digest_wanted.then(Sha256::new) }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> Counted {
        Counted { bytes: self.bytes, sha256: self.hasher.map(|hasher| hasher.finalize().into()) }
    }
}

/// Why nothing complete went through.
#[derive(Debug)]
pub(crate) enum ContentError {
    /// The input failed: who feeds it knows why.
    Input(io::Error),
    /// There was no byte.
    Empty,
    /// The compressed stream is damaged.
    Damaged(Compression, io::Error),
    /// The file cannot be written.
    Write(io::Error),
    /// The observer does not want it.
    Unwanted,
}

/// Reads `input` to its end into `target`, which is empty.
pub(crate) fn receive(
    input: impl Read + Send,
    length: Option<u64>,
    target: &File,
    wanted: Wanted,
    observer: &dyn Observer,
) -> Result<Content, ContentError> {
    let counter = Counter::new(wanted.transferred);
    let mut input = Input { inner: input, counter, failed: None, length, observer };
    let mut magic = Vec::with_capacity(MAGIC_LENGTH);
    if let Err(error) = (&mut input).take(MAGIC_LENGTH as u64).read_to_end(&mut magic) {
        return Err(ContentError::Input(input.failed.unwrap_or(error)));
    }
    if magic.is_empty() {
        return Err(ContentError::Empty);
    }
    let compression = Compression::of(&magic);
    let (to_write, written) = sync_channel(BLOCKS);
    let (to_digest, digested) = sync_channel(BLOCKS);
    let (to_reuse, reusable) = sync_channel(BLOCKS);
    let (decoded, writing, digest) = thread::scope(|scope| {
        let writer = scope.spawn(move || write(&written, &to_digest, target));
        let digester = scope.spawn(move || digest(&digested, &to_reuse, Counter::new(wanted.content)));
        // Alive until the writer has ended: a writer that fails is seen by blocks that find no taker.
        let decoded = decode(&mut input, &magic, compression, &to_write, &reusable);
        drop(to_write);
        (decoded, writer.join(), digester.join())
    });
    let length = unwind(writing).map_err(ContentError::Write);
    let content = unwind(digest);
    match decoded {
        Err(Decode::NoTaker) => return Err(length.err().unwrap_or(ContentError::Unwanted)),
        Err(Decode::Unwanted) => return Err(ContentError::Unwanted),
        Err(Decode::Failed(error)) => {
            return Err(match input.failed {
                Some(failed) => ContentError::Input(failed),
                None => ContentError::Damaged(compression, error),
            });
        }
        Ok(()) => {}
    }
    let length = length?;
    debug_assert_eq!(length, content.bytes, "what was written was counted");
    Ok(Content { compression, transferred: input.counter.finish(), content })
}

fn unwind<T>(outcome: thread::Result<T>) -> T {
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

enum Decode {
    /// The writer has ended, and knows why.
    NoTaker,
    Unwanted,
    Failed(io::Error),
}

fn decode<R: Read + Send>(
    input: &mut Input<'_, R>,
    magic: &[u8],
    compression: Compression,
    to_write: &SyncSender<Vec<u8>>,
    reusable: &Receiver<Vec<u8>>,
) -> Result<(), Decode> {
    let (length, observer) = (input.length, input.observer);
    let mut decoder = compression.decoder(magic.chain(&mut *input)).map_err(Decode::Failed)?;
    let mut fresh = BLOCKS;
    let mut is_first = true;
    loop {
        let mut block = if fresh > 0 {
            fresh -= 1;
            vec![0; BLOCK]
        } else {
            reusable.recv().map_err(|_| Decode::NoTaker)?
        };
        let filled = fill(&mut decoder, &mut block).map_err(Decode::Failed)?;
        block.truncate(filled);
        if is_first {
            let start = Start { head: &block, compression, length };
            observer.begins(&start).map_err(|Unwanted| Decode::Unwanted)?;
            is_first = false;
        }
        let is_last = block.len() < BLOCK;
        to_write.send(block).map_err(|_| Decode::NoTaker)?;
        if is_last {
            break;
        }
    }
    drop(decoder);
    // Bytes behind the end of a compressed stream belong to what was transferred.
    io::copy(input, &mut io::sink()).map(drop).map_err(Decode::Failed)
}

/// Reads until the block is full or there is no more, and returns how much that was. The block's old bytes are read
/// over: a vector that is emptied and filled again would be zeroed each time.
fn fill(reader: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match reader.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn write(blocks: &Receiver<Vec<u8>>, to_digest: &SyncSender<Vec<u8>>, target: &File) -> io::Result<u64> {
    let mut writer = SparseWriter::new(target);
    for block in blocks {
        writer.write(&block)?;
        // The digester never ends before this thread does.
        let _ = to_digest.send(block);
    }
    writer.finish()
}

fn digest(blocks: &Receiver<Vec<u8>>, to_reuse: &SyncSender<Vec<u8>>, mut counter: Counter) -> Counted {
    for block in blocks {
        counter.add(&block);
        // Nobody takes the last ones.
        let _ = to_reuse.send(block);
    }
    counter.finish()
}

/// The input, counted and digested, and remembering its error: decoders wrap errors beyond recognition.
struct Input<'a, R> {
    inner: R,
    counter: Counter,
    failed: Option<io::Error>,
    length: Option<u64>,
    observer: &'a dyn Observer,
}

impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.counter.add(&buffer[..count]);
                self.observer.received(self.counter.bytes, self.length);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
