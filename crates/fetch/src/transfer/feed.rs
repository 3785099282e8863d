//! Where the network's side, which is asynchronous, meets the threads that read.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Deliveries under way. Each is at most a segment, so this bounds memory.
const CAPACITY: usize = 1;

/// The end that bytes are put into.
pub(super) struct Sender(mpsc::Sender<Option<Bytes>>);

/// The other end. It fails where the sender is dropped without [`Sender::finish`].
pub(super) struct Reader {
    receiver: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    is_finished: bool,
}

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct NoReader;

pub(super) fn channel() -> (Sender, Reader) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Sender(sender), Reader { receiver, current: Bytes::new(), is_finished: false })
}

impl Sender {
    pub(super) async fn send(&self, piece: Bytes) -> Result<(), NoReader> {
        self.0.send(Some(piece)).await.map_err(|_| NoReader)
    }

    /// Says that this was all.
    pub(super) async fn finish(&self) {
        // A reader that is gone has its own reason.
        let _ = self.0.send(None).await;
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.is_finished {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.current = piece,
                Some(None) => self.is_finished = true,
                None => return Err(io::Error::other("the transfer ended early")),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Stops a [`FileReader`] when it is dropped.
#[derive(Default)]
pub(super) struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file that is read until nobody waits for it any more.
pub(super) struct FileReader {
    file: File,
    cancelled: Arc<AtomicBool>,
}

impl FileReader {
    pub(super) fn new(file: File, cancel: &CancelOnDrop) -> Self {
        Self { file, cancelled: Arc::clone(&cancel.0) }
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        self.file.read(buffer)
    }
}
