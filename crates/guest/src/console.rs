//! Lines on the serial console, by which the host follows the VM's start.
//!
//! Each line is one write, unbuffered: what was said is on the console even if the next step never returns.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use dozlab_session::guest_config::{GuestLine, GuestStage};
use rustix::fs::{Mode, OFlags};
use rustix::time::ClockId;

/// The kernel's console.
pub(crate) struct Console {
    device: OwnedFd,
    /// The stage that was reached last; remarks are made under it, so that none looks like progress.
    stage: Cell<GuestStage>,
}

impl Console {
    /// Opens the console. Without the device node the standard output serves, which the kernel connected to
    /// it.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        let device = match rustix::fs::open(c"/dev/console", flags, Mode::empty()) {
            Ok(device) => device,
            Err(_) => io::stdout().as_fd().try_clone_to_owned()?,
        };
        Ok(Self { device, stage: Cell::new(GuestStage::Start) })
    }

    /// Says that a stage is reached.
    pub(crate) fn reached(&self, stage: GuestStage, detail: &str) {
        self.stage.set(stage);
        self.say(stage, detail);
    }

    /// Says something that is no progress, under the stage that was reached last.
    pub(crate) fn remark(&self, detail: &str) {
        self.say(self.stage.get(), detail);
    }

    fn say(&self, stage: GuestStage, detail: &str) {
        let uptime_ms = u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX);
        let detail = detail.replace(['\n', '\r'], " ");
        let line = format!("{}\n", GuestLine { uptime_ms, stage, detail });
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.device, rest)) {
                Ok(written) => rest = &rest[written..],
                // A console that takes nothing is no reason to stop a VM that works.
                Err(_) => return,
            }
        }
    }
}

/// Time since the kernel started.
pub(crate) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
