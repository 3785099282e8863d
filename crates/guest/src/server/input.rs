//! What a client sent on a channel and its reader, a process or a socket, has not read yet.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::throttle::{Fullness, Throttle};

/// How much waits before the client is held back, in bytes.
const LIMIT: usize = 1024 * 1024;
/// Pieces smaller than this are joined, so that a queue of small pieces is no larger than their bytes.
const JOINED: usize = 4 * 1024;

/// A queue of bytes on their way to a reader.
pub(super) struct Input {
    sink: Sink,
    pieces: VecDeque<BytesMut>,
    bytes: usize,
    fullness: Fullness,
    /// Whether the end of the client's data is to be passed on. A terminal stays open.
    closable: bool,
    /// The client will send no more.
    ended: bool,
}

/// Where the bytes go.
enum Sink {
    /// There is no reader yet.
    Awaited,
    Open(Box<dyn AsyncWrite + Send + Unpin>),
    /// The reader, or the client, has closed its end.
    Closed,
}

impl Input {
    /// Keeps data that arrive before there is a reader.
    pub(super) fn waiting(throttle: Arc<Throttle>) -> Self {
        Self {
            sink: Sink::Awaited,
            pieces: VecDeque::new(),
            bytes: 0,
            fullness: Fullness::new(throttle),
            closable: false,
            ended: false,
        }
    }

    /// Gives the data a reader, and closes it after the client's last byte if it is `closable`.
    pub(super) fn connect(&mut self, sink: Box<dyn AsyncWrite + Send + Unpin>, closable: bool) {
        self.sink = Sink::Open(sink);
        self.closable = closable;
        self.close_if_done();
    }

    /// Adds what the client sent. Data that nobody will read are dropped, as a closed pipe would.
    pub(super) fn push(&mut self, data: Bytes) {
        if self.is_closed() {
            return;
        }
        self.bytes += data.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + data.len() <= JOINED => last.extend_from_slice(&data),
            _ => self.pieces.push_back(data.into()),
        }
        self.fullness.set(self.bytes >= LIMIT);
    }

    /// The client has sent its last byte.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.close_if_done();
    }

    /// Whether there is nothing more to hand over.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.sink, Sink::Closed)
    }

    /// Hands some bytes over. Waits for ever where there is nothing to hand over. Nothing is lost when it is
    /// interrupted.
    pub(super) async fn drain(&mut self) {
        let (Sink::Open(sink), Some(first)) = (&mut self.sink, self.pieces.front_mut()) else {
            return std::future::pending().await;
        };
        match sink.write(first).await {
            Ok(count) if count > 0 => {
                self.bytes -= count;
                first.advance(count);
                if first.is_empty() {
                    self.pieces.pop_front();
                }
                self.fullness.set(self.bytes >= LIMIT);
                self.close_if_done();
            }
            // The reader has closed its end.
            _ => self.close(),
        }
    }

    fn close_if_done(&mut self) {
        if self.ended && self.closable && self.pieces.is_empty() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.sink = Sink::Closed;
        self.pieces = VecDeque::new();
        self.bytes = 0;
        self.fullness.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::throttle::WINDOW;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn input_is_handed_over_in_order_and_then_closed() {
        let (near, mut far) = tokio::io::duplex(3);
        let mut input = Input::waiting(Arc::default());
        input.push(Bytes::from_static(b"hello "));
        input.push(Bytes::from_static(&[b'w'; JOINED]));
        input.push(Bytes::from_static(b"orld"));
        input.end();
        input.connect(Box::new(near), true);
        let mut received = String::new();
        let handing_over = async {
            while !input.is_closed() {
                input.drain().await;
            }
        };
        let (_, read) = tokio::join!(handing_over, far.read_to_string(&mut received));
        read.expect("the far end reads");
        assert_eq!(received, format!("hello {}orld", "w".repeat(JOINED)));
        assert_eq!(input.bytes, 0);
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_client_back_until_it_is_read() {
        let throttle = Arc::new(Throttle::default());
        let mut input = Input::waiting(Arc::clone(&throttle));
        while throttle.window() == WINDOW {
            input.push(Bytes::from_static(&[0; 32 * 1024]));
        }
        assert_eq!(input.bytes, LIMIT);
        let (near, _far) = tokio::io::duplex(64 * 1024);
        input.connect(Box::new(near), true);
        input.drain().await;
        assert_eq!(throttle.window(), WINDOW);
    }

    #[tokio::test]
    async fn what_nobody_will_read_is_not_kept() {
        let throttle = Arc::new(Throttle::default());
        let mut input = Input::waiting(Arc::clone(&throttle));
        input.push(Bytes::from_static(&[0; 2 * LIMIT]));
        let (near, far) = tokio::io::duplex(16);
        drop(far);
        input.connect(Box::new(near), false);
        input.drain().await;
        input.push(Bytes::from_static(b"more"));
        assert!(input.is_closed());
        assert_eq!((input.bytes, input.pieces.len(), throttle.window()), (0, 0, WINDOW));
    }
}
