//! What a connection's task and its owner share: the output on its way, how the shell ended, when the server
//! was last heard, and whether the owner has hung up.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::byte_queue::ByteQueue;
use crate::ssh::ShellEnd;

/// The state of one connection.
pub(super) struct Line {
    /// What the shell wrote and nobody took yet.
    pub(super) output: ByteQueue,
    state: Mutex<State>,
    task: AtomicWaker,
    ended: CancellationToken,
}

struct State {
    end: Option<ShellEnd>,
    last_heard: Instant,
    listening: bool,
    hung_up: bool,
}

impl Line {
    /// A new connection, whose output may wait up to this many bytes.
    pub(super) fn new(output_capacity: usize) -> Self {
        let state = State { end: None, last_heard: Instant::now(), listening: true, hung_up: false };
        Self {
            output: ByteQueue::new(output_capacity),
            state: Mutex::new(state),
            task: AtomicWaker::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Keeps how the shell ended; its last output may come afterwards.
    pub(super) fn note_end(&self, end: ShellEnd) {
        self.state().end.get_or_insert(end);
    }

    /// Nothing comes any more. An end that was noted before stands.
    pub(super) fn finish(&self, end: ShellEnd) {
        self.note_end(end);
        self.output.close();
        self.ended.cancel();
    }

    /// How the shell ended, if it did.
    pub(super) fn end(&self) -> Option<ShellEnd> {
        self.state().end.clone()
    }

    /// Waits until nothing comes any more.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The server sent something.
    pub(super) fn heard(&self) {
        self.state().last_heard = Instant::now();
    }

    /// Whether we listen to the server. Its silence counts from when we began to.
    pub(super) fn set_listening(&self, listening: bool) {
        let mut state = self.state();
        if listening && !state.listening {
            state.last_heard = Instant::now();
        }
        state.listening = listening;
    }

    /// Waits until we listened for this long and heard nothing.
    pub(super) async fn silent(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let verdict_at = {
                let state = self.state();
                if state.listening { state.last_heard + limit } else { now + limit }
            };
            if verdict_at <= now {
                return;
            }
            sleep_until(verdict_at).await;
        }
    }

    /// The owner is gone: the connection's task shall end, whatever it waits for.
    pub(super) fn hang_up(&self) {
        self.state().hung_up = true;
        self.task.wake();
    }

    /// Whether the owner is gone; if not, `task` is woken when it goes.
    pub(super) fn poll_hung_up(&self, task: &Waker) -> bool {
        self.task.register(task);
        self.state().hung_up
    }

    /// Nothing that happens under the lock can panic half-way, so a poisoned lock guards a sound state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(45);

    #[tokio::test(start_paused = true)]
    async fn a_server_is_dead_after_a_silence_counted_from_what_it_last_sent() {
        let line = Line::new(1);
        let start = Instant::now();
        tokio::time::sleep(Duration::from_secs(30)).await;
        line.heard();
        line.silent(LIMIT).await;
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_to_which_we_do_not_listen_is_not_dead() {
        let line = Line::new(1);
        line.set_listening(false);
        assert!(tokio::time::timeout(LIMIT * 10, line.silent(LIMIT)).await.is_err());
        let start = Instant::now();
        line.set_listening(true);
        line.silent(LIMIT).await;
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test]
    async fn the_first_end_that_is_noted_stands() {
        let line = Line::new(1);
        line.note_end(ShellEnd::Exited(3));
        line.finish(ShellEnd::Closed);
        line.finish(ShellEnd::Lost);
        line.ended().await;
        assert_eq!(line.end(), Some(ShellEnd::Exited(3)));
    }
}
