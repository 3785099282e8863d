//! Keeps one session's machine running, from its first boot to its end.
//!
//! Each boot is launched, its console followed, its state published; when it ends, the supervisor decides
//! what that meant. A reboot starts it again at once. A crash, or a restart before there was a prompt, is
//! reported with the console's last lines and starts it again after a pause that doubles, a few
//! times in a row. A guest that powers off or halts has ended the machine, and so has a guest that
//! cannot start: it would fail the same way again.

mod evidence;
mod failures;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dozlab_session::guest_config::GuestStage;
use dozlab_session::vm_status::{VmState, VmStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::console::Console;
use crate::hypervisor::{Hypervisor, LaunchError, RunningVm};
use crate::machine::Machine;
use crate::supervisor::evidence::{BootEnd, Evidence, stopped};
use crate::supervisor::failures::{Failures, Next};

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

impl<H: Hypervisor> Supervisor<H> {
    /// Boots the machine and keeps it running until it ends or `requests` asks for its end.
    ///
    /// # Errors
    /// [`SupervisorError`] when the first launch fails, or the state cannot be published. Later launches that
    /// fail are crashes like others.
    pub async fn run(&self, mut requests: watch::Receiver<Request>) -> Result<Outcome, SupervisorError> {
        let mut failures = Failures::default();
        for boot in 1.. {
            let (reason, had_prompt_for) = match self.boot(boot, &mut requests).await {
                Ok(BootEnd::Over(outcome)) => return self.end(boot, outcome),
                Ok(BootEnd::Restart { had_prompt_for }) => {
                    failures.went_well(had_prompt_for);
                    tracing::info!(boot, "the guest restarts");
                    self.publish(
                        boot,
                        VmState::Restarting,
                        &[],
                        now_ms(),
                        Some("the guest restarts".into()),
                    )?;
                    continue;
                }
                Ok(BootEnd::Failure { reason, had_prompt_for }) => (reason, had_prompt_for),
                Err(SupervisorError::Launch(error)) if boot > 1 => (error.to_string(), None),
                Err(error) => {
                    self.publish(boot, VmState::Failed, &[], now_ms(), Some(error.to_string()))?;
                    return Err(error);
                }
            };
            let pause = match failures.failed(had_prompt_for) {
                Next::Pause(pause) => pause,
                Next::GiveUp(times) => {
                    let reason = format!("the machine failed {times} times in a row: {reason}");
                    return self.end(boot, Outcome::Failed { reason });
                }
            };
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

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
