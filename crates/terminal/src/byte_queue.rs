//! A bounded queue of bytes between two tasks, the one means of flow control inside the terminal.
//!
//! The writer asks for room first ([`ByteQueue::poll_room`]) and then pushes one message, whatever its size;
//! so a queue holds at most its capacity and one message more. The reader takes as much as it wants at once,
//! which turns many small SSH packets into few large WebSocket frames. One writer and one reader at a time.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// A bounded queue of bytes.
#[derive(Debug)]
pub(crate) struct ByteQueue {
    capacity: usize,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    closed: bool,
    writer: Option<Waker>,
}

impl ByteQueue {
    /// An empty queue that has room until it holds `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), arrived: Notify::new() }
    }

    /// Appends a message. The writer is expected to have waited for room.
    pub(crate) fn push(&self, message: &[u8]) {
        self.state().bytes.extend_from_slice(message);
        self.arrived.notify_one();
    }

    /// Ready when less than the capacity is queued, or nobody will take it any more.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.bytes.len() < self.capacity || state.closed {
            return Poll::Ready(());
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until less than the capacity is queued, or nobody will take it any more.
    pub(crate) async fn room(&self) {
        poll_fn(|context| self.poll_room(context)).await;
    }

    /// Waits for bytes and takes at most `limit` of them; `None` when the queue was closed and is empty.
    pub(crate) async fn take(&self, limit: usize) -> Option<Bytes> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.state();
                if !state.bytes.is_empty() {
                    let count = state.bytes.len().min(limit);
                    let taken = state.bytes.split_to(count).freeze();
                    wake(&mut state);
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Throws away what is queued.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.bytes.clear();
        wake(&mut state);
    }

    /// Nothing more comes: the reader gets what is queued, then `None`.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        wake(&mut state);
        drop(state);
        self.arrived.notify_one();
    }

    /// Nothing that happens under the lock can panic half-way, so a poisoned lock guards a sound state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(state: &mut State) {
    if let Some(writer) = state.writer.take() {
        writer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn many_messages_are_taken_as_one() {
        let queue = ByteQueue::new(10);
        queue.push(b"one ");
        queue.push(b"two ");
        assert_eq!(queue.take(100).await.as_deref(), Some(&b"one two "[..]));
    }

    #[tokio::test]
    async fn a_limit_leaves_the_rest_for_the_next_reader() {
        let queue = ByteQueue::new(10);
        queue.push(b"abcdef");
        assert_eq!(queue.take(4).await.as_deref(), Some(&b"abcd"[..]));
        assert_eq!(queue.take(4).await.as_deref(), Some(&b"ef"[..]));
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_writer_wait_until_something_is_taken() {
        let queue = ByteQueue::new(4);
        queue.push(b"abcd");
        assert!(queue.room().now_or_never().is_none());
        let (_, taken) = tokio::join!(queue.room(), queue.take(1));
        assert_eq!(taken.as_deref(), Some(&b"a"[..]));
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_holds_and_then_ends() {
        let queue = ByteQueue::new(4);
        queue.push(b"last");
        queue.close();
        queue.room().await;
        assert_eq!(queue.take(100).await.as_deref(), Some(&b"last"[..]));
        assert_eq!(queue.take(100).await, None);
    }
}
