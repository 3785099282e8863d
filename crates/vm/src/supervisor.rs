//! Keeps one session's machine running, from its first boot to its end.
//!
//! Each boot is launched, its console followed, its state published; when it ends, the supervisor decides
//! what that meant. A reboot starts it again at once. A crash is reported with the console's last lines and
//! starts it again after a pause that doubles. A guest that powers off or halts has ended the machine, and so
//! has a guest that cannot start: it would fail the same way again.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dozlab_session::guest_config::GuestStage;
use dozlab_session::vm_status::{VmState, VmStatus};
use tokio::process::ChildStdout;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::console::{Console, ConsoleEvent};
use crate::hypervisor::{Hypervisor, LaunchError, RunningVm, VmEnd};
use crate::machine::Machine;

/// The pause before a crashed machine is started again, doubled with each crash in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A machine that fails this often in a row without ever reaching a prompt will not.
const MOST_FAILURES: u32 = 5;

/// How long a boot may take to its prompt. An emulated machine on a loaded computer needs a minute.
const BOOT_PATIENCE: Duration = Duration::from_secs(300);
/// How often a guest that is to power off is asked again: it misses what comes before it watches its power button.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a supervisor is asked from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Go on.
    Run,
    /// Let the guest power off in order, and end.
    Stop,
    /// End at once; nobody needs the disk any more.
    Kill,
}

/// How a supervised machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered off or halted, or was asked to.
    Stopped {
        /// Why, for a person.
        reason: String,
    },
    /// The machine cannot be kept running.
    Failed {
        /// Why, for a person, with the console's last lines where they help.
        reason: String,
    },
}

/// The supervisor itself could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The machine could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A file of its own could not be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs one machine.
#[derive(Debug)]
pub struct Supervisor<H> {
    /// Who runs it.
    pub hypervisor: H,
    /// What is run.
    pub machine: Machine,
    /// Where the serial console is kept.
    pub console_log: PathBuf,
    /// Where the machine's state is published.
    pub status: PathBuf,
    /// How long the guest may take to power off in order.
    pub grace: Duration,
}

/// What one boot came to.
#[derive(Debug)]
enum BootEnd {
    Again { crash: Option<String>, reached_prompt: bool },
    Over(Outcome),
}

impl<H: Hypervisor> Supervisor<H> {
    /// Boots the machine and keeps it running until it ends or `requests` asks for its end.
    ///
    /// # Errors
    /// [`SupervisorError`] when the first launch fails, or the state cannot be published. Later launches that
    /// fail are crashes like others.
    pub async fn run(&self, mut requests: watch::Receiver<Request>) -> Result<Outcome, SupervisorError> {
        let mut failures = 0;
        for boot in 1.. {
            let (crash, reached_prompt) = match self.boot(boot, &mut requests).await {
                Ok(BootEnd::Over(outcome)) => return self.end(boot, outcome),
                Ok(BootEnd::Again { crash, reached_prompt }) => (crash, reached_prompt),
                Err(SupervisorError::Launch(error)) if boot > 1 => (Some(error.to_string()), false),
                Err(error) => {
                    self.publish(boot, VmState::Failed, &[], now_ms(), Some(error.to_string()))?;
                    return Err(error);
                }
            };
            failures = if reached_prompt { 0 } else { failures + 1 };
            if failures == MOST_FAILURES {
                let reason = crash.unwrap_or_else(|| "it restarts before it has a prompt".into());
                let reason = format!("the machine failed {failures} times in a row: {reason}");
                return self.end(boot, Outcome::Failed { reason });
            }
            let Some(reason) = crash else {
                tracing::info!(boot, "the guest restarts");
                self.publish(boot, VmState::Restarting, &[], now_ms(), Some("the guest restarts".into()))?;
                continue;
            };
            let pause = (FIRST_PAUSE * 2u32.pow(failures.saturating_sub(1))).min(LONGEST_PAUSE);
            tracing::warn!(
                boot,
                pause_s = pause.as_secs(),
                "the machine died and is started again: {reason}"
            );
            self.publish(boot, VmState::Restarting, &[], now_ms(), Some(reason))?;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(_) = requests.wait_for(|request| *request != Request::Run) => {
                    return self.end(boot, stopped("it was asked to"));
                }
            }
        }
        unreachable!("the number of boots has no end")
    }

    async fn boot(
        &self,
        boot: u32,
        requests: &mut watch::Receiver<Request>,
    ) -> Result<BootEnd, SupervisorError> {
        let started = now_ms();
        let mut stages = Vec::new();
        self.publish(boot, VmState::Booting, &stages, started, None)?;
        let mut vm = self.hypervisor.launch(&self.machine).await?;
        let (hypervisor, pid) = (self.hypervisor.describe(), vm.identity().pid);
        tracing::info!(boot, hypervisor, pid, "the machine boots");
        let console = Console::new(vm.take_console(), Some(&self.console_log));
        let mut console = console.map_err(|source| self.file_error(&self.console_log, source))?;
        let mut evidence = Evidence::default();
        let mut console_open = true;
        let mut asked = Request::Run;
        let mut deadline = Instant::now() + BOOT_PATIENCE;
        let mut deadline_holds = true;
        let mut ask_again_at = deadline;
        let end = loop {
            tokio::select! {
                event = console.next(), if console_open => {
                    console_open = event.is_some();
                    if let Some(event) = event {
                        let stage = evidence.take(event);
                        let is_new = |stage: &GuestStage| stages.iter().all(|(seen, _)| seen != stage);
                        if let Some(stage) = stage.filter(is_new) {
                            stages.push((stage, now_ms()));
                            let ready = stages.iter().any(|(seen, _)| *seen == GuestStage::Ssh);
                            let state = if ready { VmState::Ready } else { VmState::Booting };
                            deadline_holds &= !ready || asked != Request::Run;
                            self.publish(boot, state, &stages, started, None)?;
                        }
                    }
                    if evidence.halted {
                        // Nothing wakes a halted machine; its disk is in order.
                        vm.kill(self.grace).await;
                        break vm.wait().await;
                    }
                }
                end = vm.wait() => break end,
                changed = requests.wait_for(|request| *request != asked) => {
                    // Without anybody left to ask, nobody needs the machine.
                    asked = changed.map_or(Request::Kill, |request| *request);
                    if asked == Request::Stop {
                        match vm.power_down().await {
                            Ok(()) => {
                                (deadline, deadline_holds) = (Instant::now() + self.grace, true);
                                ask_again_at = Instant::now() + ASK_AGAIN;
                            }
                            Err(error) => {
                                tracing::warn!(%error, "the guest cannot be asked to power off");
                                asked = Request::Kill;
                            }
                        }
                    }
                    if asked == Request::Kill {
                        vm.kill(Duration::from_millis(500)).await;
                        break vm.wait().await;
                    }
                }
                () = tokio::time::sleep_until(ask_again_at), if asked == Request::Stop => {
                    // A machine that ends in this moment has been asked often enough.
                    let _ = vm.power_down().await;
                    ask_again_at = Instant::now() + ASK_AGAIN;
                }
                () = tokio::time::sleep_until(deadline), if deadline_holds => {
                    if asked == Request::Run {
                        let seconds = BOOT_PATIENCE.as_secs();
                        evidence.panic = Some(format!("it had no prompt after {seconds} s"));
                    } else {
                        tracing::warn!(grace_s = self.grace.as_secs(), "the guest did not power off in time");
                    }
                    vm.kill(Duration::from_secs(2)).await;
                    break vm.wait().await;
                }
            }
        };
        evidence.take_rest(&mut console).await;
        if asked != Request::Run {
            return Ok(BootEnd::Over(stopped("it was asked to")));
        }
        Ok(evidence.judge(&end, &console.last_lines()))
    }

    fn end(&self, boot: u32, outcome: Outcome) -> Result<Outcome, SupervisorError> {
        let (state, reason) = match &outcome {
            Outcome::Stopped { reason } => (VmState::Stopped, reason),
            Outcome::Failed { reason } => (VmState::Failed, reason),
        };
        tracing::info!(boot, ?state, "the machine ended: {reason}");
        self.publish(boot, state, &[], now_ms(), Some(reason.clone()))?;
        Ok(outcome)
    }

    fn publish(
        &self,
        boot: u32,
        state: VmState,
        stages: &[(GuestStage, u64)],
        started_ms: u64,
        reason: Option<String>,
    ) -> Result<(), SupervisorError> {
        let hypervisor = self.hypervisor.describe();
        let status = VmStatus { state, boot, hypervisor, started_ms, stages: stages.to_vec(), reason };
        let text = serde_json::to_vec(&status).expect("a status has only strings and numbers");
        let partial = self.status.with_extension("partial");
        let written = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &self.status));
        written.map_err(|source| self.file_error(&self.status, source))
    }

    fn file_error(&self, path: &std::path::Path, source: std::io::Error) -> SupervisorError {
        SupervisorError::File { path: path.to_owned(), source }
    }
}

fn stopped(reason: &str) -> Outcome {
    Outcome::Stopped { reason: reason.into() }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the console said about the machine's end.
#[derive(Debug, Default)]
struct Evidence {
    reached_prompt: bool,
    failed: Option<String>,
    panic: Option<String>,
    powered_down: bool,
    halted: bool,
}

impl Evidence {
    /// Takes an event in; returns the stage it speaks of.
    fn take(&mut self, event: ConsoleEvent) -> Option<GuestStage> {
        match event {
            ConsoleEvent::Guest(line) => {
                tracing::debug!(stage = line.stage.as_str(), uptime_ms = line.uptime_ms, "{}", line.detail);
                match line.stage {
                    GuestStage::Ssh => self.reached_prompt = true,
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
    async fn take_rest(&mut self, console: &mut Console<ChildStdout>) {
        let rest = async {
            while let Some(event) = console.next().await {
                self.take(event);
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    }

    fn judge(self, end: &VmEnd, last_lines: &[String]) -> BootEnd {
        let reached_prompt = self.reached_prompt;
        if let Some(reason) = self.failed.filter(|_| !reached_prompt) {
            return BootEnd::Over(Outcome::Failed { reason: format!("the guest could not start: {reason}") });
        }
        if let Some(reason) = self.panic {
            return BootEnd::Again { crash: Some(with_last_lines(&reason, last_lines)), reached_prompt };
        }
        if self.halted {
            return BootEnd::Over(stopped("the guest halted the machine"));
        }
        if self.powered_down || *end == VmEnd::PoweredOff {
            return BootEnd::Over(stopped("the guest powered the machine off"));
        }
        let crash = match end {
            VmEnd::Reset | VmEnd::PoweredOff => None,
            VmEnd::Died { status, message } => {
                let status = status.map_or_else(|| "an unknown status".into(), |status| status.to_string());
                let said = if message.is_empty() { String::new() } else { format!(": {message}") };
                Some(with_last_lines(&format!("the hypervisor ended ({status}){said}"), last_lines))
            }
        };
        BootEnd::Again { crash, reached_prompt }
    }
}

fn with_last_lines(reason: &str, last_lines: &[String]) -> String {
    if last_lines.is_empty() {
        return format!("{reason}; its console said nothing");
    }
    let last = &last_lines[last_lines.len().saturating_sub(5)..];
    format!("{reason}; its console said last:\n  {}", last.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died() -> VmEnd {
        VmEnd::Died { status: None, message: "out of memory".into() }
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
        let evidence = Evidence { failed: Some("fake".into()), reached_prompt: true, ..Evidence::default() };
        assert!(matches!(evidence.judge(&VmEnd::Reset, &[]), BootEnd::Again { crash: None, .. }));
    }

    #[test]
    fn a_crash_carries_the_consoles_last_lines() {
        let lines = ["one".to_owned(), "two".to_owned()];
        let BootEnd::Again { crash: Some(reason), .. } = Evidence::default().judge(&died(), &lines) else {
            panic!("it is a crash");
        };
        assert!(reason.contains("out of memory") && reason.ends_with("said last:\n  one\n  two"), "{reason}");
    }

    #[test]
    fn a_panic_is_a_crash_although_the_guest_resets() {
        let evidence = Evidence { panic: Some("kernel panic: x".into()), ..Evidence::default() };
        assert!(matches!(evidence.judge(&VmEnd::Reset, &[]), BootEnd::Again { crash: Some(_), .. }));
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
