//! How often a machine failed in a row, and what follows from that.
//!
//! A prompt alone is no success: a machine that dies as soon as its SSH server listens would be started again
//! for ever. What failed before is forgotten only once a boot has had a prompt [for a while](STEADY).

use std::time::Duration;

/// The pause before a machine that failed is started again, doubled with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A machine that fails this often in a row will not do better.
const MOST: u32 = 5;

/// How long a boot must have had a prompt for the failures before it to count no more.
const STEADY: Duration = Duration::from_secs(60);

/// The failures so far, since a boot that went well.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_a_row: u32,
}

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Start the machine again after this pause.
    Pause(Duration),
    /// Leave it: it failed this often in a row.
    GiveUp(u32),
}

impl Failures {
    /// A boot ended in order that had a prompt for so long.
    pub(super) fn went_well(&mut self, had_prompt_for: Duration) {
        if had_prompt_for >= STEADY {
            self.in_a_row = 0;
        }
    }

    /// A boot failed; `had_prompt_for` is how long after its prompt, if it had one.
    pub(super) fn failed(&mut self, had_prompt_for: Option<Duration>) -> Next {
        self.went_well(had_prompt_for.unwrap_or_default());
        self.in_a_row += 1;
        if self.in_a_row >= MOST {
            return Next::GiveUp(self.in_a_row);
        }
        Next::Pause((FIRST_PAUSE * 2u32.pow(self.in_a_row - 1)).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(failures: &mut Failures, had_prompt_for: Option<Duration>) -> Vec<u64> {
        let pause = || match failures.failed(had_prompt_for) {
            Next::Pause(pause) => Some(pause.as_secs()),
            Next::GiveUp(times) => {
                assert_eq!(times, MOST);
                None
            }
        };
        std::iter::from_fn(pause).collect()
    }

    #[test]
    fn the_pauses_grow_until_the_machine_is_given_up() {
        assert_eq!(pauses(&mut Failures::default(), None), [1, 2, 4, 8]);
    }

    #[test]
    fn a_machine_that_dies_soon_after_its_prompt_is_given_up_too() {
        assert_eq!(pauses(&mut Failures::default(), Some(Duration::from_secs(59))), [1, 2, 4, 8]);
    }

    #[test]
    fn a_boot_that_was_up_for_a_minute_wipes_out_what_failed_before() {
        let mut failures = Failures { in_a_row: MOST - 1 };
        assert_eq!(failures.failed(Some(STEADY)), Next::Pause(FIRST_PAUSE));
        failures = Failures { in_a_row: MOST - 1 };
        failures.went_well(STEADY);
        assert_eq!(pauses(&mut failures, None), [1, 2, 4, 8]);
    }

    #[test]
    fn a_restart_soon_after_the_prompt_neither_counts_nor_wipes_out() {
        let mut failures = Failures { in_a_row: MOST - 1 };
        failures.went_well(Duration::from_secs(1));
        assert_eq!(failures.failed(None), Next::GiveUp(MOST));
    }
}
