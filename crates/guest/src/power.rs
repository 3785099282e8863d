//! Switching the machine off, halting and restarting it: by whatever process 1 understands, or by the kernel
//! at once.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::system::RebootCommand;

use crate::raw_signal;

pub(crate) mod button;
pub(crate) mod command;
pub(crate) mod initctl;

/// Made by systemd when it starts to take requests; its signals are handled by then.
const SYSTEMD_LISTENS: &str = "/run/systemd/private";
/// How often to look whether it does.
const INTERVAL: Duration = Duration::from_millis(100);

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is switched off.
    PowerOff,
    /// It stands still and stays on.
    Halt,
    /// It starts again.
    Restart,
}

/// The machine is not switched off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PowerError {
    #[error("cannot ask process 1 to {action}: {source}; are you root?")]
    Signal { action: &'static str, source: io::Error },
    #[error(
        "process 1 is a program that does not say how it is told to {action}, and {program} did not work: {reason}"
    )]
    Program { action: &'static str, program: PathBuf, reason: String },
    #[error("the kernel refuses to {action}: {source}; are you root?")]
    Kernel { action: &'static str, source: io::Error },
}

impl Action {
    /// The action as a verb, for a person; also the name of the program that does it.
    fn verb(self) -> &'static str {
        match self {
            Self::PowerOff => "power off",
            Self::Halt => "halt",
            Self::Restart => "reboot",
        }
    }

    fn program(self) -> &'static Path {
        Path::new(match self {
            Self::PowerOff => "/sbin/poweroff",
            Self::Halt => "/sbin/halt",
            Self::Restart => "/sbin/reboot",
        })
    }

    fn kernel_command(self) -> RebootCommand {
        match self {
            Self::PowerOff => RebootCommand::PowerOff,
            Self::Halt => RebootCommand::Halt,
            Self::Restart => RebootCommand::Restart,
        }
    }
}

/// Programs that can be process 1, by how they are told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Init {
    /// systemd: real-time signals, `systemd(1)`.
    Systemd,
    /// This program, or busybox, whose signals it understands.
    Busybox,
    /// Anything else: the image's own commands know.
    Other,
}

impl Init {
    fn running() -> Self {
        let is_ours = || {
            let (first, own) = (fs::metadata("/proc/1/exe").ok()?, fs::metadata("/proc/self/exe").ok()?);
            Some(first.dev() == own.dev() && first.ino() == own.ino())
        };
        let program = fs::read_link("/proc/1/exe").unwrap_or_default();
        if is_ours() == Some(true) || program.ends_with("busybox") {
            return Self::Busybox;
        }
        match fs::read_to_string("/proc/1/comm") {
            Ok(name) if name.trim_end() == "systemd" => Self::Systemd,
            _ => Self::Other,
        }
    }

    fn signal(self, action: Action) -> Option<i32> {
        match (self, action) {
            (Self::Systemd, Action::Halt) => Some(raw_signal::real_time(3)),
            (Self::Systemd, Action::PowerOff) => Some(raw_signal::real_time(4)),
            (Self::Systemd, Action::Restart) => Some(raw_signal::real_time(5)),
            (Self::Busybox, Action::Halt) => Some(libc::SIGUSR1),
            (Self::Busybox, Action::PowerOff) => Some(libc::SIGUSR2),
            (Self::Busybox, Action::Restart) => Some(libc::SIGTERM),
            (Self::Other, _) => None,
        }
    }
}

/// Waits until systemd takes requests.
pub(crate) async fn systemd_listens() {
    while !Path::new(SYSTEMD_LISTENS).exists() {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Asks process 1 for an orderly end.
///
/// # Errors
///
/// Process 1 may not be signalled, or takes no signals for this and the image's command fails.
pub(crate) fn request(action: Action) -> Result<(), PowerError> {
    if let Some(signal) = Init::running().signal(action) {
        let sent = raw_signal::send(1, signal);
        return sent.map_err(|source| PowerError::Signal { action: action.verb(), source });
    }
    let failed =
        |reason| PowerError::Program { action: action.verb(), program: action.program().to_owned(), reason };
    match Command::new(action.program()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Ends the machine at once. What is still in memory is written to the disk first. Returns only with an
/// error, or if the machine goes on for a moment.
///
/// # Errors
///
/// The kernel refuses, which it does for everybody but root.
pub(crate) fn at_once(action: Action) -> Result<(), PowerError> {
    rustix::fs::sync();
    let ended = rustix::system::reboot(action.kernel_command());
    ended.map_err(|error| PowerError::Kernel { action: action.verb(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_init_is_told_in_its_own_way() {
        assert_eq!(Init::Busybox.signal(Action::PowerOff), Some(libc::SIGUSR2));
        assert_eq!(Init::Systemd.signal(Action::PowerOff), Some(libc::SIGRTMIN() + 4));
        assert_eq!(Init::Other.signal(Action::PowerOff), None);
    }
}
