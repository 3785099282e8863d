//! Blocking work that stops when the future that waits for it is dropped.
//!
//! A thread cannot be cancelled from outside, so the work looks at a flag at each step and gives up by an
//! error. What it owns (temporary folders above all) goes when it returns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once nobody waits for the work any more.
#[derive(Clone, Default)]
pub(crate) struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// An error once the work was cancelled. It is seen by nobody: its receiver is gone.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        Ok(())
    }
}

struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread for blocking work; dropping the future raises the flag that `work` is given.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce(CancelFlag) -> T + Send + 'static,
) -> T {
    let flag = CancelFlag::default();
    let _cancel = CancelOnDrop(flag.clone());
    match tokio::task::spawn_blocking(move || work(flag)).await {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn dropping_the_future_stops_the_work() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = run_blocking(move |cancel| {
            while cancel.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            sender.send(()).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
        receiver.recv_timeout(Duration::from_secs(5)).expect("the work went on after its future was dropped");
    }
}
