//! How tests wait: until something holds, and not for ever.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How long anything may take that a test waits for, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something, with a deadline.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain until: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
