//! A process that can be recognised later: pid and start time.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, named so that a later process with the same pid is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// When the kernel started it: field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Identity {
    /// The identity of a process that runs now, `None` where there is none with this pid (a zombie counts as none).
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_ticks = start_ticks(&stat)?;
        Some(Self { pid, start_ticks })
    }

    /// This very process.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, start_ticks: 0 })
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to the process, and only to it.
    ///
    /// # Errors
    /// `NotFound` when the process has ended; `PermissionDenied` when it is somebody else's.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::NotFound, format!("process {} has ended", self.pid));
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(ended)?;
        // The descriptor holds on to whichever process has the pid now; only then is it safe to ask whether it is ours.
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| ended())?;
        if !self.is_running() {
            return Err(ended());
        }
        pidfd_send_signal(&descriptor, signal).map_err(io::Error::from)
    }

    /// Ends the process: SIGTERM, and SIGKILL if it still runs after `grace`. Returns when it is gone; a process that
    /// was gone already is no error.
    ///
    /// # Errors
    /// `PermissionDenied` when it is somebody else's, `TimedOut` when it survives SIGKILL for five seconds.
    pub fn end(self, grace: Duration) -> io::Result<()> {
        for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, Duration::from_secs(5))] {
            match self.signal(signal) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            }
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if !self.is_running() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {} survives SIGKILL", self.pid)))
    }
}

/// Reads the start time out of `/proc/PID/stat`; `None` for a zombie. The second field is the command's name in
/// parentheses and may itself hold spaces and parentheses, so fields are counted from the last closing one.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // `state` is field 3, so field 22 is the 19th after it.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        assert_eq!(start_ticks(stat), Some(777));
        assert_eq!(start_ticks(&stat.replace(") S", ") Z")), None);
    }

    #[test]
    fn this_process_runs_and_is_itself() {
        let me = Identity::current();
        assert!(me.is_running());
        assert!(!Identity { start_ticks: me.start_ticks + 1, ..me }.is_running());
    }

    #[test]
    fn a_stranger_with_the_same_pid_is_not_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let ours = Identity::of(child.id()).unwrap();
        let stranger = Identity { start_ticks: ours.start_ticks + 1, ..ours };
        assert_eq!(stranger.signal(Signal::KILL).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(ours.is_running());
        let reaper = std::thread::spawn(move || child.wait());
        ours.end(Duration::from_secs(5)).unwrap();
        reaper.join().unwrap().unwrap();
        ours.end(Duration::from_secs(5)).unwrap();
    }
}
