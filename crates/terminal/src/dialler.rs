//! Keeps one connection into the VM ready, and hands it to the terminal that asks first.
//!
//! One task dials, as soon as the VM can be dialled and whenever there is no spare connection; so the first
//! prompt costs no handshake, and terminals that wait together after a reboot do not make the VM compute ten
//! handshakes at once. What stands between a learner and a prompt is published as a [`Condition`]: the page
//! shows it, `/ready` answers with it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dozlab_session::vm_status::VmState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::ssh::{Connection, DialError, Target, dial};
use crate::vm_watch::VmView;

/// Pause after the first dial that failed; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two dials.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait, after a spare connection broke, for the supervisor's word on why: a VM that reboots
/// closes its connections a moment before that word.
const CONFIRMATION: Duration = Duration::from_millis(100);

/// What stands between a learner and a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The VM starts.
    Booting,
    /// The VM should run, but its SSH server does not answer yet.
    Connecting,
    /// Nothing: we are logged in.
    Ready,
    /// The VM went down and comes back.
    Restarting,
    /// The VM is off.
    Stopped(Option<String>),
    /// The VM cannot be run.
    Failed(Option<String>),
    /// The server is not this VM's.
    WrongHostKey(String),
    /// The server does not let us in.
    LoginRefused(String),
}

impl Condition {
    /// One word, for the page and for `/ready`.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Connecting => "waiting",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Stopped(_) => "stopped",
            Self::Failed(_) => "failed",
            Self::WrongHostKey(_) => "wrong-host-key",
            Self::LoginRefused(_) => "login-refused",
        }
    }

    /// One sentence for anybody: nothing in it comes from inside the machine.
    pub(crate) fn sentence(&self) -> &'static str {
        match self {
            Self::Booting => "the machine is starting",
            Self::Connecting => "waiting for the machine to answer",
            Self::Ready => "the machine is ready",
            Self::Restarting => "the machine is restarting",
            Self::Stopped(_) => "the machine is switched off",
            Self::Failed(_) => "the machine cannot be started",
            Self::WrongHostKey(_) => "the SSH server that answers is not this machine's",
            Self::LoginRefused(_) => "the SSH server that answers refuses the session's key",
        }
    }

    /// The same for the learner, with the reason, which may quote the machine's console.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Stopped(Some(reason)) | Self::Failed(Some(reason)) => {
                format!("{}: {reason}", self.sentence())
            }
            Self::WrongHostKey(error) | Self::LoginRefused(error) => error.clone(),
            _ => self.sentence().to_owned(),
        }
    }

    /// Whether no patience helps: the answer came from something that is not this session's VM, or does not
    /// know it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::WrongHostKey(_) | Self::LoginRefused(_))
    }

    fn of_view(view: &VmView, went_down: bool) -> Self {
        match view {
            VmView::Unknown if went_down => Self::Restarting,
            VmView::Unknown => Self::Connecting,
            VmView::Unwritten => Self::Booting,
            VmView::Known { state, boot, reason } => match state {
                VmState::Ready => Self::Connecting,
                VmState::Booting if *boot <= 1 => Self::Booting,
                VmState::Booting | VmState::Restarting => Self::Restarting,
                VmState::Stopped => Self::Stopped(reason.clone()),
                VmState::Failed => Self::Failed(reason.clone()),
            },
        }
    }
}

/// A connection, and the token that is cancelled when the VM it leads to is known to have gone down.
pub(crate) struct Dialled {
    /// Logged in, with an open channel.
    pub(crate) connection: Connection,
    /// Cancelled when this boot of the VM is over.
    pub(crate) boot_over: CancellationToken,
}

/// Where terminals ask for connections.
pub(crate) struct Dialler {
    requests: mpsc::UnboundedSender<oneshot::Sender<Dialled>>,
    condition: watch::Receiver<Condition>,
}

impl Dialler {
    /// Starts dialling.
    pub(crate) fn start(
        target: Target,
        view: watch::Receiver<VmView>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let (requests, incoming) = mpsc::unbounded_channel();
        let condition = watch::Sender::new(Condition::of_view(&view.borrow(), false));
        let dialler = Self { requests, condition: condition.subscribe() };
        let mut dialling = Dialling {
            target,
            view,
            condition,
            metrics,
            incoming,
            waiting: VecDeque::new(),
            boot: 0,
            boot_over: CancellationToken::new(),
            went_down: false,
            waiting_since: Instant::now(),
        };
        tokio::spawn(async move {
            shutdown.run_until_cancelled(dialling.run()).await;
        });
        dialler
    }

    /// What stands between a learner and a prompt.
    pub(crate) fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }

    /// Waits, however long it takes, for a connection; `None` when the session ends.
    pub(crate) async fn connect(&self) -> Option<Dialled> {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).ok()?;
        answer.await.ok()
    }
}

/// The task behind a [`Dialler`].
struct Dialling {
    target: Target,
    view: watch::Receiver<VmView>,
    condition: watch::Sender<Condition>,
    metrics: Arc<Metrics>,
    incoming: mpsc::UnboundedReceiver<oneshot::Sender<Dialled>>,
    waiting: VecDeque<oneshot::Sender<Dialled>>,
    /// The boot of the VM to which connections are made.
    boot: u32,
    /// Given to each connection of that boot.
    boot_over: CancellationToken,
    /// Whether the VM has been reached before, and was lost.
    went_down: bool,
    /// Since when there has been no prompt to be had.
    waiting_since: Instant,
}

impl Dialling {
    async fn run(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.wait_for_boot().await;
            match self.dial().await {
                Some(Ok(connection)) => {
                    pause = FIRST_PAUSE;
                    self.reached();
                    self.keep(connection).await;
                }
                Some(Err(error)) => {
                    self.failed(&error);
                    self.pause(&mut pause).await;
                }
                None => {}
            }
        }
    }

    /// Waits until the VM can be dialled, and says meanwhile how it is.
    async fn wait_for_boot(&mut self) {
        loop {
            let view = self.view.borrow_and_update().clone();
            if let Some(boot) = view.dialable_boot() {
                self.boot = boot;
                return;
            }
            self.lost(Condition::of_view(&view, self.went_down));
            tokio::select! {
                () = next_view(&mut self.view) => {}
                Some(request) = self.incoming.recv() => self.take_in(request),
            }
        }
    }

    /// Dials; `None` when this boot ended meanwhile.
    async fn dial(&mut self) -> Option<Result<Connection, DialError>> {
        let target = self.target.clone();
        let mut attempt = pin!(dial(&target));
        loop {
            tokio::select! {
                result = &mut attempt => return Some(result),
                Some(request) = self.incoming.recv() => self.take_in(request),
                () = next_view(&mut self.view) => {
                    if self.boot_has_ended() {
                        return None;
                    }
                }
            }
        }
    }

    /// Holds the connection until a terminal takes it or it is lost.
    async fn keep(&mut self, connection: Connection) {
        let mut spare = Dialled { connection, boot_over: self.boot_over.clone() };
        loop {
            while let Some(request) = self.waiting.pop_front() {
                match request.send(spare) {
                    Ok(()) => return,
                    Err(unwanted) => spare = unwanted,
                }
            }
            tokio::select! {
                Some(request) = self.incoming.recv() => self.take_in(request),
                () = spare.connection.lost() => return self.spare_was_lost().await,
                () = next_view(&mut self.view) => {
                    if self.boot_has_ended() {
                        return;
                    }
                }
            }
        }
    }

    /// If that was the VM going down, its supervisor says so within a moment.
    async fn spare_was_lost(&mut self) {
        let news = timeout(CONFIRMATION, next_view(&mut self.view)).await;
        if news.is_ok() && self.boot_has_ended() {
            return;
        }
        let condition = Condition::of_view(&self.view.borrow(), self.went_down);
        self.lost(condition);
    }

    /// Pauses before the next dial; somebody who begins to wait, or news of the VM, cuts it short.
    async fn pause(&mut self, pause: &mut Duration) {
        let duration = *pause;
        *pause = (duration * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = sleep(duration) => return,
            Some(request) = self.incoming.recv() => self.take_in(request),
            () = next_view(&mut self.view) => {
                self.boot_has_ended();
            }
        }
        *pause = FIRST_PAUSE;
    }

    /// Whether the supervisor says that the boot to which connections were made is over; if so, whoever holds
    /// one is told.
    fn boot_has_ended(&mut self) -> bool {
        let view = self.view.borrow().clone();
        if view.dialable_boot() == Some(self.boot) {
            return false;
        }
        std::mem::take(&mut self.boot_over).cancel();
        self.lost(Condition::of_view(&view, self.went_down));
        true
    }

    /// Somebody waits for a connection. Who has gone meanwhile is forgotten.
    fn take_in(&mut self, request: oneshot::Sender<Dialled>) {
        self.waiting.retain(|request| !request.is_closed());
        self.waiting.push_back(request);
    }

    fn reached(&mut self) {
        if *self.condition.borrow() == Condition::Ready {
            return;
        }
        let waited = self.waiting_since.elapsed();
        info!(milliseconds = waited.as_millis() as u64, "logged in to the VM");
        self.metrics.ssh_ready(waited);
        self.went_down = true;
        self.publish(Condition::Ready);
    }

    fn failed(&mut self, error: &DialError) {
        self.metrics.dial_failed(error);
        let condition = match error {
            DialError::WrongHostKey { .. } => Condition::WrongHostKey(error.to_string()),
            DialError::LoginRefused { .. } => Condition::LoginRefused(error.to_string()),
            _ => Condition::of_view(&self.view.borrow(), self.went_down),
        };
        if *self.condition.borrow() != condition {
            warn!(%error, "cannot log in to the VM");
        }
        self.lost(condition);
    }

    fn lost(&mut self, condition: Condition) {
        if *self.condition.borrow() == Condition::Ready {
            self.waiting_since = Instant::now();
        }
        self.publish(condition);
    }

    fn publish(&self, condition: Condition) {
        self.condition.send_if_modified(|current| {
            let changed = *current != condition;
            *current = condition;
            changed
        });
    }
}

/// Waits for news of the VM; for good where nobody tells any.
async fn next_view(view: &mut watch::Receiver<VmView>) {
    if view.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
