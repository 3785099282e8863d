//! The kernel's command line.
//!
//! Everything on it is public to the guest; secrets travel in the initramfs.

use std::time::{SystemTime, UNIX_EPOCH};

use dozlab_session::guest_config::TIME_PARAMETER;

/// Parameters that make no difference to a lab and a large one to how long the kernel takes to start:
/// messages go to the log only, the cryptography is not tested against itself, and one serial port is looked
/// for, not four. `random.trust_cpu` lets the kernel use the processor's random numbers at once, `panic=-1`
/// makes it start again instead of standing still.
const ALWAYS: &str =
    "console=ttyS0 quiet panic=-1 random.trust_cpu=on cryptomgr.notests 8250.nr_uarts=1 no_timer_check";

/// Puts a command line together: what always holds, what the back end needs, what the machine asks for, and
/// the time.
pub(crate) fn compose(backend: &[String], machine: &[String]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = format!("{TIME_PARAMETER}={}.{:03}", now.as_secs(), now.subsec_millis());
    let words = std::iter::once(ALWAYS).chain(backend.iter().chain(machine).map(String::as_str));
    words.chain([time.as_str()]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_comes_with_each_launch() {
        let line = compose(&["reboot=t".into()], &["dozlab.probe".into()]);
        assert!(line.starts_with("console=ttyS0 quiet"), "{line}");
        assert!(line.contains(" reboot=t dozlab.probe dozlab.time="), "{line}");
        let time: f64 = line.rsplit('=').next().unwrap().parse().unwrap();
        assert!(time > 1.7e9);
    }
}
