//! A count of bytes between two tasks, one of which waits for it to become small or large.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: AtomicUsize,
    changed: Notify,
}

impl Tally {
    /// A count of zero.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Counts so many more.
    pub(crate) fn add(&self, count: usize) {
        self.update(|current| current.saturating_add(count));
    }

    /// Counts so many less. Below zero it stays at zero: the other side of a network may claim anything.
    pub(crate) fn subtract(&self, count: usize) {
        self.update(|current| current.saturating_sub(count));
    }

    /// Waits until the count is below the limit.
    pub(crate) async fn below(&self, limit: usize) {
        self.wait_until(|count| count < limit).await;
    }

    /// Waits until the count is at least so large, and sets it back to zero.
    pub(crate) async fn take(&self, least: usize) -> usize {
        self.wait_until(|count| count >= least).await;
        self.count.swap(0, Ordering::Relaxed)
    }

    async fn wait_until(&self, satisfied: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            if satisfied(self.count.load(Ordering::Relaxed)) {
                return;
            }
            changed.await;
        }
    }

    fn update(&self, change: impl Fn(usize) -> usize) {
        // Only the number itself is shared, so no ordering towards other memory is needed.
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(change(count)));
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn one_waits_until_enough_was_subtracted() {
        let tally = Tally::new();
        tally.add(10);
        assert!(tally.below(5).now_or_never().is_none());
        tokio::join!(tally.below(5), async { tally.subtract(6) });
    }

    #[tokio::test]
    async fn one_waits_until_enough_was_added_and_takes_it_all() {
        let tally = Tally::new();
        tally.add(3);
        assert!(tally.take(5).now_or_never().is_none());
        let (taken, ()) = tokio::join!(tally.take(5), async { tally.add(4) });
        assert_eq!(taken, 7);
        assert!(tally.take(1).now_or_never().is_none());
    }

    #[test]
    fn a_claim_to_have_shown_more_than_was_sent_counts_as_all() {
        let tally = Tally::new();
        tally.add(3);
        tally.subtract(usize::MAX);
        assert!(tally.below(1).now_or_never().is_some());
    }
}
