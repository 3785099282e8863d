//! Process 1 of an image that has no init: adopts and buries orphans, keeps the SSH server alive, and ends
//! the machine when it is told to.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::process::{Pid, WaitOptions};
use rustix::system::RebootCommand;

use crate::boot::overlay;
use crate::console::Console;
use crate::power::{self, Action};
use crate::raw_signal::{self, Awaited, EVERY_PROCESS};

/// How long programs have to end when they are asked to, before they are ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often to look whether they have.
const INTERVAL: Duration = Duration::from_millis(10);
/// A server that dies is started again after this long, so that one that cannot live does not eat the
/// processor.
const RESTART_DELAY: Duration = Duration::from_millis(500);

/// What a signal to process 1 asks for: busybox's signals, systemd's, and the kernel's for Ctrl-Alt-Del.
fn action_for(signal: i32) -> Option<Action> {
    match signal {
        libc::SIGTERM | libc::SIGINT => Some(Action::Restart),
        libc::SIGUSR1 => Some(Action::Halt),
        libc::SIGUSR2 => Some(Action::PowerOff),
        _ if signal == raw_signal::real_time(3) => Some(Action::Halt),
        _ if signal == raw_signal::real_time(4) => Some(Action::PowerOff),
        _ if signal == raw_signal::real_time(5) => Some(Action::Restart),
        _ => None,
    }
}

/// Signals that process 1 waits for. Block them before the server is started, so that none is lost.
pub(crate) fn block_signals() -> Awaited {
    let real_time = [3, 4, 5].map(raw_signal::real_time);
    let mut signals = vec![libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2];
    signals.extend(real_time);
    Awaited::block(&signals)
}

/// Stays process 1 for as long as the machine runs. `start_server` starts the SSH server anew.
pub(crate) fn run(
    console: &Console,
    signals: &Awaited,
    mut server: Option<Pid>,
    mut start_server: impl FnMut() -> Option<Pid>,
) -> ! {
    // Without this, Ctrl-Alt-Del (which is how Firecracker asks) restarts the machine without a word.
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    loop {
        if bury_the_dead(server) {
            console.remark("the SSH server has ended; it is started again");
            sleep(RESTART_DELAY);
            server = start_server();
        }
        if let Some(action) = action_for(signals.wait()) {
            end(console, action);
        }
    }
}

/// Ends the machine if one of the signals has asked for it that have come so far: whoever takes over would
/// not know.
pub(crate) fn obey(console: &Console, signals: &Awaited) {
    if let Some(action) = std::iter::from_fn(|| signals.take()).find_map(action_for) {
        end(console, action);
    }
}

/// Waits for all children that have ended. Returns whether the server was among them.
fn bury_the_dead(server: Option<Pid>) -> bool {
    let mut server_ended = false;
    while let Ok(Some((child, _))) = rustix::process::wait(WaitOptions::NOHANG) {
        server_ended |= Some(child) == server;
    }
    server_ended
}

/// Ends everything, then the machine.
fn end(console: &Console, action: Action) -> ! {
    console.remark(match action {
        Action::PowerOff => "powering off",
        Action::Halt => "halting",
        Action::Restart => "rebooting",
    });
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGCONT] {
        // That there is nobody left is no error.
        let _ = raw_signal::send(EVERY_PROCESS, signal);
    }
    if !everybody_ends_within(PATIENCE) {
        let _ = raw_signal::send(EVERY_PROCESS, libc::SIGKILL);
        everybody_ends_within(PATIENCE);
    }
    rustix::fs::sync();
    // A file system that stays writable was synced, and its journal is replayed.
    for writable in ["/", overlay::DISK] {
        let _ = rustix::mount::mount_remount(writable, MountFlags::RDONLY, "");
    }
    finish(console, action)
}

/// Ends the machine now; process 1 has nothing else to do, and must not end before it.
pub(crate) fn finish(console: &Console, action: Action) -> ! {
    if let Err(error) = power::at_once(action) {
        console.remark(&error.to_string());
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn everybody_ends_within(time: Duration) -> bool {
    let start = Instant::now();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) if start.elapsed() < time => sleep(INTERVAL),
            Ok(None) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_mean_what_busybox_and_systemd_mean() {
        assert_eq!(action_for(libc::SIGTERM), Some(Action::Restart));
        assert_eq!(action_for(libc::SIGUSR2), Some(Action::PowerOff));
        assert_eq!(action_for(libc::SIGRTMIN() + 3), Some(Action::Halt));
        assert_eq!(action_for(libc::SIGCHLD), None);
    }
}
