//! The client's data on their way into the process.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// How much of the client's data waits for a process that does not read, in bytes, before the connection waits with it.
const INPUT_LIMIT: usize = 4 * 1024 * 1024;

/// What the client sent to the process and the process has not read yet.
pub(super) struct Input {
    /// Nothing once the process, or the client, has closed its end.
    sink: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Whether the end of the client's data is to be passed on. A terminal stays open.
    closable: bool,
    /// The client will send no more.
    ended: bool,
}

impl Input {
    /// Keeps data that arrive before there is a process.
    pub(super) fn waiting() -> Self {
        Self { sink: None, pieces: VecDeque::new(), bytes: 0, closable: false, ended: false }
    }

    pub(super) fn connect(&mut self, sink: Box<dyn AsyncWrite + Send + Unpin>, closable: bool) {
        self.sink = Some(sink);
        self.closable = closable;
        self.close_if_done();
    }

    pub(super) fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        self.pieces.push_back(data);
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.close_if_done();
    }

    /// Whether somebody may still read what is pushed.
    pub(super) fn is_open(&self) -> bool {
        self.sink.is_some()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < INPUT_LIMIT
    }

    /// Hands some bytes to the process. Waits for ever where there is nothing to hand over. Nothing is lost when it is
    /// interrupted.
    pub(super) async fn drain(&mut self) {
        let (Some(sink), Some(first)) = (&mut self.sink, self.pieces.front_mut()) else {
            return std::future::pending().await;
        };
        match sink.write(first).await {
            Ok(count) if count > 0 => {
                self.bytes -= count;
                first.advance(count);
                if first.is_empty() {
                    self.pieces.pop_front();
                }
                self.close_if_done();
            }
            // The process has closed its input.
            _ => self.sink = None,
        }
    }

    fn close_if_done(&mut self) {
        if self.ended && self.closable && self.pieces.is_empty() {
            self.sink = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn input_is_handed_over_in_order_and_then_closed() {
        let (near, mut far) = tokio::io::duplex(3);
        let mut input = Input::waiting();
        input.push(Bytes::from_static(b"hello "));
        input.push(Bytes::from_static(b"world"));
        input.end();
        input.connect(Box::new(near), true);
        let mut received = String::new();
        let handing_over = async {
            while input.sink.is_some() {
                input.drain().await;
            }
        };
        let (_, read) = tokio::join!(handing_over, far.read_to_string(&mut received));
        assert_eq!(read.expect("the far end reads"), 11);
        assert_eq!(received, "hello world");
        assert_eq!(input.bytes, 0);
    }

    #[tokio::test]
    async fn input_has_a_limit() {
        let mut input = Input::waiting();
        while input.has_room() {
            input.push(Bytes::from_static(&[0; 32 * 1024]));
        }
        assert_eq!(input.bytes, INPUT_LIMIT);
    }
}
