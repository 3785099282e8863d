//! Whether the processor's timer works.
//!
//! Where its frequency is not known from elsewhere, as on an emulated processor, Linux counts the local APIC's timer for a
//! tenth of a second, told by the time-stamp counter. A host that lets the machine wait for that long just then makes
//! the count far too small, and Linux goes on without that timer (`APIC frequency too slow, disabling apic timer`,
//! arch/x86/kernel/apic/apic.c). A microVM has no other that would wake it: it runs until it sleeps for the first time, and
//! never again. Starting again is the remedy, for which it is early enough here.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

/// What the kernel says when it gives the timer up: counted too slow, or inconsistent with other clocks.
const GIVEN_UP: [&str; 2] = ["disabling apic timer", "APIC timer disabled"];

/// The longest record of `/dev/kmsg`.
const RECORD: usize = 8192;

/// Whether the kernel has given up the processor's timer. One that cannot be asked is believed to have it.
pub(super) fn is_given_up() -> bool {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("the flag is a small number");
    let Ok(mut log) = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg") else {
        return false;
    };
    let mut record = [0; RECORD];
    loop {
        match log.read(&mut record) {
            Ok(0) => return false,
            Ok(length) if tells_of_it(&record[..length]) => return true,
            Ok(_) => {}
            // Records were overwritten meanwhile: the next read goes on with the oldest that is left.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn tells_of_it(record: &[u8]) -> bool {
    let record = String::from_utf8_lossy(record);
    GIVEN_UP.iter().any(|words| record.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_recognised() {
        for record in [
            "4,211,1034561,-;APIC frequency too slow, disabling apic timer\n",
            "4,211,1034561,-;APIC timer disabled due to verification failure\n",
        ] {
            assert!(tells_of_it(record.as_bytes()), "{record}");
        }
        // What is said where somebody switched the timer off on the command line.
        assert!(!tells_of_it(b"6,211,1034561,-;Disabling APIC timer\n"));
        assert!(!tells_of_it(b"6,5,0,-;tsc: Detected 2596.123 MHz processor\n"));
    }

    #[test]
    fn asking_the_kernels_log_comes_to_an_end() {
        // The machine that runs this test has woken up before.
        assert!(!is_given_up());
    }
}
