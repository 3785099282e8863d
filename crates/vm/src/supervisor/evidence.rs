//! What one boot of a machine came to, judged by what its console said and how its hypervisor ended.

use std::time::Duration;

use dozlab_session::guest_config::GuestStage;
use tokio::process::ChildStdout;
use tokio::time::Instant;

use crate::console::{Console, ConsoleEvent};
use crate::hypervisor::VmEnd;
use crate::supervisor::Outcome;

/// What one boot came to.
#[derive(Debug)]
pub(super) enum BootEnd {
    /// The guest restarts, this long after its prompt.
    Restart {
        had_prompt_for: Duration,
    },
    /// It failed; how long after its prompt, if it had one.
    Failure {
        reason: String,
        had_prompt_for: Option<Duration>,
    },
    Over(Outcome),
}

/// What the console said about the machine's end.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    prompt_since: Option<Instant>,
    failed: Option<String>,
    pub(super) panic: Option<String>,
    powered_down: bool,
    pub(super) halted: bool,
}

impl Evidence {
    /// Takes an event in; returns the stage it speaks of.
    pub(super) fn take(&mut self, event: ConsoleEvent) -> Option<GuestStage> {
        match event {
            ConsoleEvent::Guest(line) => {
                tracing::debug!(stage = line.stage.as_str(), uptime_ms = line.uptime_ms, "{}", line.detail);
                match line.stage {
                    GuestStage::Ssh => {
                        self.prompt_since.get_or_insert_with(Instant::now);
                    }
                    GuestStage::Failed => self.failed = Some(line.detail),
                    _ => {}
                }
                return Some(line.stage);
            }
            ConsoleEvent::Panic(reason) => self.panic = Some(format!("kernel panic: {reason}")),
            ConsoleEvent::PowerDown => self.powered_down = true,
            ConsoleEvent::Halted => self.halted = true,
            ConsoleEvent::Restarting => {}
        }
        None
    }

    /// What is still in the console's pipe when the hypervisor has ended.
    pub(super) async fn take_rest(&mut self, console: &mut Console<ChildStdout>) {
        let rest = async {
            while let Some(event) = console.next().await {
                self.take(event);
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    }

    pub(super) fn judge(self, end: &VmEnd, last_lines: &[String]) -> BootEnd {
        let had_prompt_for = self.prompt_since.map(|since| since.elapsed());
        let failure =
            |what: &str| BootEnd::Failure { reason: with_last_lines(what, last_lines), had_prompt_for };
        if let Some(reason) = self.failed.filter(|_| had_prompt_for.is_none()) {
            return BootEnd::Over(Outcome::Failed { reason: format!("the guest could not start: {reason}") });
        }
        if let Some(reason) = self.panic {
            return failure(&reason);
        }
        if self.halted {
            return BootEnd::Over(stopped("the guest halted the machine"));
        }
        if self.powered_down {
            return BootEnd::Over(stopped("the guest powered the machine off"));
        }
        match end {
            VmEnd::PoweredOff => BootEnd::Over(stopped("the guest powered the machine off")),
            VmEnd::Reset => match had_prompt_for {
                Some(had_prompt_for) => BootEnd::Restart { had_prompt_for },
                None => failure("it restarts before it has a prompt"),
            },
            VmEnd::Died { status, message } => {
                let status = status.map_or_else(|| "an unknown status".into(), |status| status.to_string());
                let said = if message.is_empty() { String::new() } else { format!(": {message}") };
                failure(&format!("the hypervisor ended ({status}){said}"))
            }
        }
    }
}

fn with_last_lines(reason: &str, last_lines: &[String]) -> String {
    if last_lines.is_empty() {
        return format!("{reason}; its console said nothing");
    }
    let last = &last_lines[last_lines.len().saturating_sub(5)..];
    format!("{reason}; its console said last:\n  {}", last.join("\n  "))
}

pub(super) fn stopped(reason: &str) -> Outcome {
    Outcome::Stopped { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died() -> VmEnd {
        VmEnd::Died { status: None, message: "out of memory".into() }
    }

    fn with_prompt() -> Evidence {
        Evidence { prompt_since: Some(Instant::now()), ..Evidence::default() }
    }

    #[test]
    fn a_guest_that_cannot_start_is_not_tried_again() {
        let evidence = Evidence { failed: Some("no root".into()), powered_down: true, ..Evidence::default() };
        let BootEnd::Over(Outcome::Failed { reason }) = evidence.judge(&VmEnd::PoweredOff, &[]) else {
            panic!("it is over");
        };
        assert_eq!(reason, "the guest could not start: no root");
    }

    #[test]
    fn a_learner_who_prints_our_failure_line_fails_nothing() {
        let evidence = Evidence { failed: Some("fake".into()), ..with_prompt() };
        assert!(matches!(evidence.judge(&VmEnd::Reset, &[]), BootEnd::Restart { .. }));
    }

    #[test]
    fn a_crash_carries_the_consoles_last_lines() {
        let lines = ["one".to_owned(), "two".to_owned()];
        let BootEnd::Failure { reason, had_prompt_for: None } = Evidence::default().judge(&died(), &lines)
        else {
            panic!("it is a crash");
        };
        assert!(reason.contains("out of memory") && reason.ends_with("said last:\n  one\n  two"), "{reason}");
    }

    #[test]
    fn a_panic_is_a_crash_although_the_guest_resets() {
        let evidence = Evidence { panic: Some("kernel panic: x".into()), ..with_prompt() };
        assert!(matches!(evidence.judge(&VmEnd::Reset, &[]), BootEnd::Failure { .. }));
    }

    #[test]
    fn powering_off_and_halting_end_the_machine() {
        for (evidence, end) in [
            (Evidence::default(), VmEnd::PoweredOff),
            (Evidence { powered_down: true, ..Evidence::default() }, VmEnd::Reset),
            (Evidence { halted: true, ..Evidence::default() }, died()),
        ] {
            assert!(matches!(evidence.judge(&end, &[]), BootEnd::Over(Outcome::Stopped { .. })));
        }
    }
}
