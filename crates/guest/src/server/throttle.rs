//! Holds back clients that send faster than what they send to reads.
//!
//! The connection must always be read, whatever a single program does: the client's keystrokes, its signals
//! and its window adjustments, without which no output moves, come behind its data. So what a program has not
//! read yet waits in its channel's own queue (`input`), and the client must stop sending before that grows
//! without bounds.
//!
//! SSH has a window for that, but the library renews a window as soon as data arrive, read or not, and only
//! lets us say how large it is to become ([`Throttle::window`], asked at each renewal, for the whole
//! connection). It sends no renewal of its own accord either: a window that was closed could never be opened
//! again. So while any queue of the connection is full, a window is renewed when it is used up and no sooner,
//! and to two bytes. The client goes on two bytes at a time, each after a pause ([`Throttle::hold_back`]),
//! and the first of them that arrives when the queue has room again opens the window wide.
//!
//! A queue can so hold its limit, the two windows that were granted before the client felt it, and 200 bytes
//! for each second in which the program reads nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How much a client may send on a channel before it hears from the server, in bytes. A window must fit into
/// the socket's receive buffer, so that a client's writing never waits while the server's does.
pub(super) const WINDOW: u32 = 256 * 1024;
/// The window of a client that is held back. The library renews a window that is below its half: the smallest
/// number that has a half.
const TRICKLE: u32 = 2;
/// What passes before a client that is held back may send the next bytes. Everything on its connection waits
/// as long.
const PAUSE: Duration = Duration::from_millis(10);

/// How many queues of a connection are full.
#[derive(Default)]
pub(super) struct Throttle {
    full: AtomicUsize,
}

impl Throttle {
    /// The size to which the connection's next window is to be renewed.
    pub(super) fn window(&self) -> u32 {
        if self.is_on() { TRICKLE } else { WINDOW }
    }

    /// To be called for all data that arrive, with what is left of the window: waits where the client is held
    /// back.
    pub(super) async fn hold_back(&self, window_left: usize) {
        if self.is_on() && window_left <= TRICKLE as usize {
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn is_on(&self) -> bool {
        self.full.load(Ordering::Relaxed) > 0
    }
}

/// A queue's part in the [`Throttle`] of its connection: it is full, or it is not.
pub(super) struct Fullness {
    throttle: Arc<Throttle>,
    is_full: bool,
}

impl Fullness {
    pub(super) fn new(throttle: Arc<Throttle>) -> Self {
        Self { throttle, is_full: false }
    }

    pub(super) fn set(&mut self, is_full: bool) {
        match (self.is_full, is_full) {
            (false, true) => self.throttle.full.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.throttle.full.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.is_full = is_full;
    }
}

impl Drop for Fullness {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_full_queue_holds_the_connection_back_until_it_has_room_or_is_gone() {
        let throttle = Arc::new(Throttle::default());
        let (mut one, mut other) =
            (Fullness::new(Arc::clone(&throttle)), Fullness::new(Arc::clone(&throttle)));
        one.set(true);
        one.set(true);
        other.set(true);
        other.set(false);
        assert_eq!(throttle.window(), TRICKLE);
        one.set(false);
        assert_eq!(throttle.window(), WINDOW);
        other.set(true);
        drop(other);
        assert_eq!(throttle.window(), WINDOW);
    }
}
