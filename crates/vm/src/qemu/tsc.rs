//! How fast this machine's time-stamp counter runs.
//!
//! Under TCG the guest reads the host's counter, and `microvm` has no other clock to measure it by, so the
//! host measures it and tells the kernel with `tsc_early_khz`.

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough for an error of one part in a thousand at most, when the scheduler is a few microseconds late.
const MEASURE_FOR: Duration = Duration::from_millis(20);

/// The counter's frequency in kHz, measured once.
pub(super) fn frequency_khz() -> u64 {
    static FREQUENCY: OnceLock<u64> = OnceLock::new();
    *FREQUENCY.get_or_init(|| {
        let (started, first) = (Instant::now(), counter());
        std::thread::sleep(MEASURE_FOR);
        let (elapsed, last) = (started.elapsed(), counter());
        let ticks = u128::from(last.wrapping_sub(first));
        u64::try_from(ticks * 1_000_000 / elapsed.as_nanos()).unwrap_or(u64::MAX)
    })
}

fn counter() -> u64 {
    #[allow(unsafe_code)]
    // SAFETY: the instruction exists on every x86-64 processor and reads a register.
    unsafe {
        _rdtsc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequency_is_that_of_a_processor() {
        let khz = frequency_khz();
        assert!((500_000..10_000_000).contains(&khz), "{khz} kHz");
    }
}
