//! Runs one session: its steps to a prompt, its processes while it lasts, and its end.
//!
//! ```text
//! init-rootfs ─▶ network-setup ─▶ terminal, vm, editor ─▶ a prompt ─▶ … ─▶ ended, stopped or thrown away
//! ```
//!
//! Whatever ends it (a request, the guest's own power-off, the deadline, an error), the processes are ended in order,
//! the network is removed, and the record says what happened. Only a request to discard removes the folder.

mod editor_watch;
mod look_after;
mod processes;
mod ready;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use dozlab_network::namespace::{Namespace, NamespaceError};
use dozlab_process::{BoundChild, Identity};
use dozlab_session::guest_config::GuestStage;
use dozlab_session::vm_status::{VmState, VmStatus};
use tokio::sync::watch;

use crate::component::Component;
use crate::folders::Folders;
use crate::launch::{Clock, Network, Watcher, now_ms};
use crate::record::{SessionRecord, SessionState, Stage};
use crate::session_folder::{SessionFolder, SessionFolderError, SessionLock};

/// How often it is looked at on the way to a prompt.
const LOOK_EVERY_AT_START: Duration = Duration::from_millis(5);

/// How long a component may take to end. The VM's own grace for the guest is shorter.
const COMPONENT_GRACE: Duration = Duration::from_secs(20);

/// The same where nothing needs to be kept.
const DISCARD_GRACE: Duration = Duration::from_millis(300);

/// What a supervisor is asked from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRequest {
    /// Go on.
    Run,
    /// End in order, and keep the session's disk.
    Stop,
    /// End at once, and remove everything.
    Discard,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// It stopped and kept its disk; why.
    Stopped(String),
    /// It could not be kept running; why.
    Failed(String),
    /// It is gone.
    Discarded,
}

/// A session could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Its folder could not be used.
    #[error(transparent)]
    Folder(#[from] SessionFolderError),
    /// A component could not be started.
    #[error("cannot start {component}: {source}")]
    Start {
        /// The component.
        component: Component,
        /// What the system said.
        source: io::Error,
    },
    /// A component that prepares something failed.
    #[error("{component} failed ({status}): {message}")]
    Failed {
        /// The component.
        component: Component,
        /// Its exit status.
        status: ExitStatus,
        /// What it said last.
        message: String,
    },
    /// The network could not be made or removed.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Our own program could not be found.
    #[error("cannot find this program's own file, which the components are started from: {0}")]
    OwnProgram(#[source] io::Error),
    /// The machine failed.
    #[error("{0}")]
    Machine(String),
}

/// Runs one session.
pub struct Supervisor<'a> {
    folder: SessionFolder,
    record: SessionRecord,
    watcher: &'a dyn Watcher,
    program: PathBuf,
    folders: Folders,
    children: BTreeMap<Component, BoundChild>,
    namespace: Option<Namespace>,
    /// Since when the editor is waited for; `None` once it answered, or where there is none to wait for.
    editor_awaited: Option<Instant>,
    _lock: SessionLock,
}

/// Why a session that nobody asked to end has ended.
enum Over {
    Stopped(String),
    Failed(String),
}

impl<'a> Supervisor<'a> {
    /// Takes charge of a session.
    ///
    /// # Errors
    /// [`SessionFolderError::Locked`] when somebody else has.
    pub fn new(
        folder: SessionFolder,
        record: SessionRecord,
        folders: Folders,
        watcher: &'a dyn Watcher,
    ) -> Result<Self, SuperviseError> {
        let lock = folder.lock_patiently()?;
        folder.forget_vm_status()?;
        let program = std::env::current_exe().map_err(SuperviseError::OwnProgram)?;
        let mut supervisor = Self {
            folder,
            record,
            watcher,
            program,
            folders,
            children: BTreeMap::new(),
            namespace: None,
            editor_awaited: None,
            _lock: lock,
        };
        supervisor.record.processes = BTreeMap::from([(Component::Supervisor, Identity::current())]);
        supervisor.write_record()?;
        Ok(supervisor)
    }

    /// Runs the session to its end. `ready` is called once, when a prompt can be had.
    ///
    /// # Errors
    /// [`SuperviseError`], which is in the record too; the session's processes have ended and its disk is kept.
    pub async fn run(
        mut self,
        mut requests: watch::Receiver<EndRequest>,
        ready: impl FnOnce(&SessionFolder, &SessionRecord),
    ) -> Result<SessionEnd, SuperviseError> {
        let over = tokio::select! {
            over = self.live(ready) => over.map(Some),
            asked = requests.wait_for(|request| *request != EndRequest::Run) => {
                tracing::info!(request = ?asked.as_deref(), "the session is asked to end");
                drop(asked);
                Ok(None)
            }
        };
        let discard = *requests.borrow() == EndRequest::Discard;
        self.end_components(if discard { DISCARD_GRACE } else { COMPONENT_GRACE }, &mut requests).await;
        self.remove_network().await?;
        if *requests.borrow() == EndRequest::Discard {
            self.folder.remove()?;
            return Ok(SessionEnd::Discarded);
        }
        let (state, reason) = match &over {
            Ok(None) => (SessionState::Stopped, "it was asked to".to_owned()),
            Ok(Some(Over::Stopped(reason))) => (SessionState::Stopped, reason.clone()),
            Ok(Some(Over::Failed(reason))) => (SessionState::Failed, reason.clone()),
            Err(error) => (SessionState::Failed, error.to_string()),
        };
        self.record.state = state;
        self.record.reason = Some(reason.clone());
        self.record.processes.clear();
        let written = self.write_record();
        // What the session failed of comes first: that it cannot be written down may follow from it.
        over?;
        written?;
        Ok(match state {
            SessionState::Failed => SessionEnd::Failed(reason),
            _ => SessionEnd::Stopped(reason),
        })
    }

    async fn live(
        &mut self,
        ready: impl FnOnce(&SessionFolder, &SessionRecord),
    ) -> Result<Over, SuperviseError> {
        self.prepare_disk().await?;
        self.prepare_network().await?;
        self.watcher.begin(Stage::Vm);
        let launched = now_ms();
        self.start(Component::FirecrackerVm)?;
        self.start(Component::TerminalSidecar)?;
        if self.record.editor.is_some() {
            self.start_editor()?;
        }
        self.write_record()?;
        self.reach_prompt(launched).await?;
        self.record.state = SessionState::Running;
        self.record.reason = None;
        self.record.had_prompt = true;
        self.write_record()?;
        ready(&self.folder, &self.record);
        self.look_after().await
    }

    /// Follows the machine to its prompt. Each stage's time is taken from the machine's own report, not from when it was
    /// looked at.
    async fn reach_prompt(&mut self, launched: u64) -> Result<(), SuperviseError> {
        let mut begun = launched;
        let mut next =
            [(Stage::Vm, None), (Stage::Guest, Some(GuestStage::Start)), (Stage::Ssh, Some(GuestStage::Ssh))]
                .into_iter()
                .peekable();
        loop {
            self.check_components_at_start().await?;
            if let Some(status) = self.folder.vm_status() {
                while let Some((stage, guest)) = next.peek() {
                    let reached = guest.map_or(Some(status.started_ms), |guest| status.reached(guest));
                    let Some(reached) = reached else { break };
                    self.stage_done(*stage, reached.saturating_sub(begun), &status);
                    begun = reached;
                    next.next();
                    if let Some((stage, _)) = next.peek() {
                        self.watcher.begin(*stage);
                    }
                }
            }
            if next.peek().is_none() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY_AT_START).await;
        }
        self.watcher.begin(Stage::Terminal);
        while !ready::terminal_is_ready(self.record.terminal).await {
            self.check_components_at_start().await?;
            tokio::time::sleep(LOOK_EVERY_AT_START).await;
        }
        if let Some(status) = self.folder.vm_status() {
            self.stage_done(Stage::Terminal, now_ms().saturating_sub(begun), &status);
        }
        Ok(())
    }

    fn stage_done(&mut self, stage: Stage, milliseconds: u64, status: &VmStatus) {
        self.record.stages.insert(stage, milliseconds);
        let detail = if stage == Stage::Vm { status.hypervisor.as_str() } else { "" };
        self.watcher.done(stage, Duration::from_millis(milliseconds), detail);
    }

    /// On the way to a prompt nothing is started again: what ends has failed.
    async fn check_components_at_start(&mut self) -> Result<(), SuperviseError> {
        for component in [Component::FirecrackerVm, Component::TerminalSidecar] {
            let Some(child) = self.children.get_mut(&component) else { continue };
            let Some(status) = child.inner().try_wait().ok().flatten() else { continue };
            let said = self.folder.vm_status().filter(|_| component == Component::FirecrackerVm);
            if let Some(reason) =
                said.filter(|said| said.state == VmState::Failed).and_then(|said| said.reason)
            {
                return Err(SuperviseError::Machine(reason));
            }
            let message = self.last_words(component);
            return Err(SuperviseError::Failed { component, status, message });
        }
        Ok(())
    }

    /// Ends all components: first what the learner sees, the machine last. A request to discard that comes meanwhile
    /// makes it quick.
    async fn end_components(&mut self, grace: Duration, requests: &mut watch::Receiver<EndRequest>) {
        let mut children: Vec<_> = std::mem::take(&mut self.children).into_iter().collect();
        children.reverse();
        let discard = requests.wait_for(|request| *request == EndRequest::Discard);
        let mut hurried = std::pin::pin!(async { discard.await.is_ok() });
        let mut hurry = grace == DISCARD_GRACE;
        for (component, child) in &mut children {
            let grace = if hurry { DISCARD_GRACE } else { grace };
            tokio::select! {
                ended = child.end(grace) => {
                    if let Err(error) = ended {
                        tracing::warn!(%component, %error, "cannot wait for the component's end");
                    }
                    continue;
                }
                asked = &mut hurried, if !hurry => hurry = asked,
            }
            let _ = child.end(DISCARD_GRACE).await;
        }
    }

    async fn prepare_network(&mut self) -> Result<(), SuperviseError> {
        let clock = Clock::start(Stage::Network, self.watcher);
        if self.record.network == Network::Pod {
            Namespace::remove_left(self.record.name()).await?;
            // Kept before it is made, so that an end in the middle of that removes it.
            let namespace = self.namespace.insert(Namespace::choose(self.record.name())?).clone();
            namespace.create().await?;
            self.record.ssh = std::net::SocketAddrV4::new(namespace.address(), self.record.ssh.port());
            self.folder.make_secrets(self.record.ssh)?;
        }
        self.run_to_end(Component::NetworkSetup).await?;
        let detail = match self.record.network {
            Network::User => "user mode",
            Network::Pod => "network namespace",
        };
        clock.stop(detail, &mut self.record.stages, self.watcher);
        Ok(())
    }

    async fn remove_network(&mut self) -> Result<(), SuperviseError> {
        match self.namespace.take() {
            Some(namespace) => Ok(namespace.remove().await?),
            None => Ok(()),
        }
    }

    async fn prepare_disk(&mut self) -> Result<(), SuperviseError> {
        let clock = Clock::start(Stage::Disk, self.watcher);
        self.run_to_end(Component::InitRootfs).await?;
        let detail = format!("{}, {}", self.record.plan.disk, self.record.disk);
        clock.stop(&detail, &mut self.record.stages, self.watcher);
        Ok(())
    }

    fn write_record(&mut self) -> Result<(), SuperviseError> {
        for (component, child) in &self.children {
            self.record.processes.insert(*component, child.identity());
        }
        Ok(self.folder.write_record(&self.record)?)
    }
}
