//! For tests: a controller that dies before one of its writes, as by `kill -9`. There is none of it in
//! release builds.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable that says before which write to die, counted from 1.
const VARIABLE: &str = "DOZLAB_CONTROLLER_DIE_BEFORE_WRITE";

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Ends this process if the write that comes now is the one.
pub(crate) fn before_write() {
    let write = WRITES.fetch_add(1, Ordering::Relaxed) + 1;
    let fatal = std::env::var(VARIABLE).ok().and_then(|value| value.parse::<u64>().ok());
    if fatal == Some(write) {
        // It does not return, unless the signal cannot be sent to oneself, which cannot happen.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
