//! The wall clock. The host says on the kernel command line what time it was at launch, because a microVM may
//! have no clock of its own.
//!
//! Neither source is ever early. The host's time misses what passed before the kernel began to count, a
//! second on a loaded host; a clock of the machine's own, which the kernel has read where there is one,
//! misses the fraction of a second. So the later of the two is right.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec};

use crate::console::uptime;

/// The clock stays at the epoch's beginning.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClockError {
    #[error("`{0}` is no time: expected seconds since the epoch, such as 1764000000.250")]
    NotATime(String),
    #[error("the kernel refuses the host's time: {0}")]
    Refused(#[source] io::Error),
}

/// Sets the clock to the host's time at launch plus the time that has passed since.
pub(crate) fn set(launched: &str) -> Result<(), ClockError> {
    let not_a_time = || ClockError::NotATime(launched.to_owned());
    let launched = parse(launched).ok_or_else(not_a_time)?;
    let now = launched.checked_add(uptime()).ok_or_else(not_a_time)?;
    if now <= kernels_own() {
        return Ok(());
    }
    let tv_sec = i64::try_from(now.as_secs()).map_err(|_| not_a_time())?;
    let now = Timespec { tv_sec, tv_nsec: i64::from(now.subsec_nanos()) };
    rustix::time::clock_settime(ClockId::Realtime, now).map_err(|error| ClockError::Refused(error.into()))
}

/// What the kernel believes the time to be; zero if that is before the epoch.
fn kernels_own() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Reads seconds with a decimal fraction. Not a floating point number: those lose milliseconds this far from
/// zero.
fn parse(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9.9}").parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_exactly() {
        assert_eq!(parse("1764000000.250"), Some(Duration::from_millis(1_764_000_000_250)));
        assert_eq!(parse("1764000000"), Some(Duration::from_secs(1_764_000_000)));
        assert_eq!(parse("1.0000000019"), Some(Duration::new(1, 1)));
        for text in ["", ".", "1.", "1.x", "-1.0", "1.-5", "tomorrow", "1.²"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
