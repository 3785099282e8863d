//! How the kernel treats the SSH server and what it starts.
//!
//! The server must answer while the image's init starts twenty services on one slow processor, and must live while a
//! learner's program eats all memory. What it starts is treated like any other program.

use std::fs;
use std::io;

use rustix::fs::{Mode, OFlags};

/// Written to `oom_score_adj`, `proc(5)`: the out-of-memory killer takes almost anything else first.
const SPARED: &str = "-900";
/// Niceness of the server, `sched(7)`.
const SERVER_NICENESS: i32 = -10;

/// Gives this process the server's treatment. What the kernel refuses is left as it is.
pub(crate) fn raise() {
    let _ = fs::write("/proc/self/oom_score_adj", SPARED);
    let _ = rustix::process::setpriority_process(None, SERVER_NICENESS);
    // Where the scheduler groups tasks by session, niceness counts within the group only, and this is the group's.
    let _ = fs::write("/proc/self/autogroup", SERVER_NICENESS.to_string());
}

/// Gives this process an ordinary program's treatment again. Makes system calls only, so that a process between fork
/// and exec may call it.
pub(crate) fn reset() -> io::Result<()> {
    rustix::process::setpriority_process(None, 0)?;
    let score =
        rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&score, b"0")?;
    Ok(())
}
