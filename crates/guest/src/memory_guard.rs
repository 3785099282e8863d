//! How the kernel treats the SSH server and what it starts.
//!
//! The server must live while a learner's program eats all memory; what it starts is treated like any other
//! program. The server has no better niceness: it would be woken in the middle of a program's every line of
//! output, which was measured to make a program that prints to a terminal three times slower on an emulated
//! processor.

use std::fs;
use std::io;

use rustix::fs::{Mode, OFlags};

/// Written to `oom_score_adj`, `proc(5)`: the out-of-memory killer takes almost anything else first.
const SPARED: &str = "-900";

/// Has the out-of-memory killer spare this process. Where the kernel refuses, the process is as any other.
pub(crate) fn spare() {
    let _ = fs::write("/proc/self/oom_score_adj", SPARED);
}

/// Gives this process an ordinary program's treatment again. Makes system calls only, so that a process
/// between fork and exec may call it.
pub(crate) fn expose() -> io::Result<()> {
    let score =
        rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&score, b"0")?;
    Ok(())
}
