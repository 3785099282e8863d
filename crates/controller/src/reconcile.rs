//! One session, looked at once: what is known of it is gathered, a decision is made, its steps are carried
//! out.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dozlab_pod::lab_session::{Endpoints, FINALIZER};
use dozlab_pod::{LabSession, LabSessionStatus};
use dozlab_session::phase::Phase;
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tracing::{debug, info, warn};

use crate::carry_out::Outcome;
use crate::decide::{self, Decision, Observed, Part, Pod, Rules, Service, Session, Step, Wanted};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::parts::{Installation, Lab, PartView, TERMINAL_PORT};
use crate::pod_view::{Owner, PodView, millis};
use crate::policies::Policies;
use crate::terminal;
use crate::traces::{Look, Traces, within};
use crate::world::{Key, Views};
use crate::writes::{WriteError, Writes};

/// How long one look may take, with all its requests.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a look decides anew because what it decided on has changed meanwhile.
const LOOKS: usize = 4;

/// Everything that looking at a session needs.
pub(crate) struct Context {
    pub(crate) sessions: Store<LabSession>,
    pub(crate) pods: Arc<Views<PodView>>,
    pub(crate) services: Arc<Views<PartView>>,
    pub(crate) policies: Policies,
    pub(crate) claims: Arc<Views<PartView>>,
    /// Followed only where the installation has a public address.
    pub(crate) routes: Arc<Views<PartView>>,
    pub(crate) memory: Memory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Traces,
    pub(crate) writes: Writes,
    pub(crate) installation: Installation,
    pub(crate) rules: Rules,
    pub(crate) sync_period: Duration,
}

/// Looking at a session failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the session's keys cannot be made: {0}")]
    Keys(#[from] dozlab_keys::KeyPairError),
    #[error("it took longer than {} s", DEADLINE.as_secs())]
    TooLong,
}

impl ReconcileError {
    /// One word for it, for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Write(error) => error.reason(),
            Self::Keys(_) => "keys",
            Self::TooLong => "timeout",
        }
    }
}

/// Looks at a session and does what is due. When to look again if nothing happens before.
pub(crate) async fn reconcile(session: Arc<LabSession>, context: Arc<Context>) -> Duration {
    let started = Instant::now();
    let mut trace = context.traces.look_at(&session);
    let belongs_to = trace.context();
    let looking = tokio::time::timeout(DEADLINE, look(Arc::clone(&session), &context, &mut trace));
    let looked = within(belongs_to, looking).await.unwrap_or(Err(ReconcileError::TooLong));
    trace.ended(&looked);
    context.metrics.reconciled(started.elapsed().as_secs_f64());
    match looked {
        Ok(wait) => {
            context.memory.succeeded(&session);
            wait
        }
        Err(error) => after_an_error(&session, &error, &context),
    }
}

/// When to try again what failed.
fn after_an_error(session: &LabSession, error: &ReconcileError, context: &Context) -> Duration {
    context.metrics.reconcile_failed(error.reason());
    if let ReconcileError::Write(WriteError::Conflict { .. }) = error {
        // The watch is about to tell what changed.
        debug!(session = session.name_any(), %error, "a session is looked at again");
        return Duration::from_millis(100);
    }
    let wait = context.memory.failed(session);
    let (name, namespace) = (session.name_any(), session.namespace());
    warn!(session = name, namespace, %error, "a session could not be dealt with");
    wait
}

async fn look(
    session: Arc<LabSession>,
    context: &Context,
    trace: &mut Look,
) -> Result<Duration, ReconcileError> {
    let lab = Lab::of(&session, &context.installation);
    let wanted = lab.as_ref().map(Lab::wanted).map_err(String::as_str);
    let mut session = session;
    let mut pod_is_gone = false;
    for _ in 0..LOOKS {
        session = context.memory.freshest(session);
        let last_used_ms = context.last_used(&session, wanted.as_ref().ok()).await;
        let seen = Seen::gather(context, &session, lab.as_ref().ok());
        let observed = seen.observed(
            context,
            &session,
            wanted.as_ref().map_err(|error| *error),
            pod_is_gone,
            last_used_ms,
        );
        let decision = decide::decide(&observed, &context.rules);
        trace.decided(&decision);
        if decision.steps.contains(&Step::LookForPod) {
            pod_is_gone = context.look_for_pod(&session, &observed).await?;
            continue;
        }
        match context.carry_out(&session, lab.as_ref().ok(), &observed, &decision).await {
            Ok(Outcome::Done) => return Ok(context.again(&session, &decision)),
            Ok(Outcome::Changed) => {}
            Err(error) => {
                context.tell_the_owner(&session, &observed, &error).await;
                return Err(error);
            }
        }
    }
    Ok(Duration::from_secs(1))
}

/// What the caches know of a session's parts.
struct Seen {
    pod: Option<Arc<PodView>>,
    service: Option<Arc<PartView>>,
    missing: Vec<Part>,
    leftovers: Vec<Part>,
    endpoints: Option<Endpoints>,
    has_service: bool,
}

impl Seen {
    fn gather(context: &Context, session: &LabSession, lab: Option<&Lab>) -> Self {
        let id = session.spec.session_id.as_str();
        let key = |name: String| Key::new(session.namespace().as_deref().unwrap_or_default(), &name);
        let pod_name = key(format!("lab-session-{id}"));
        let service = context.services.get(&key(format!("lab-service-{id}")));
        let has_service = lab.is_some_and(Lab::has_service);
        let mut missing = Vec::new();
        if lab.is_some_and(|lab| !context.policies.is_in_force(&key(lab.policy_name()))) {
            missing.push(Part::NetworkPolicy);
        }
        if let Some(lab) = lab.filter(|lab| lab.keeps_disks()) {
            let claims = lab.manifests(session, None).claims;
            if claims.iter().any(|claim| !context.claims.contains(&key(claim.name_any()))) {
                missing.push(Part::Claims);
            }
        }
        if has_service && service.is_none() {
            missing.push(Part::Service);
        }
        let entrance = context.installation.entrance();
        let route = entrance.and_then(|entrance| context.routes.get(&key(entrance.object_name(id))));
        if lab.is_some_and(Lab::has_route) && route.is_none() {
            missing.push(Part::Route);
        }
        let ours = |part: &Option<Arc<PartView>>| {
            part.as_ref().is_some_and(|part| !part.deleting && is_owned(part.owner.as_ref(), session))
        };
        let mut leftovers = Vec::new();
        if ours(&service) {
            leftovers.push(Part::Service);
        }
        if ours(&route) {
            leftovers.push(Part::Route);
        }
        Self {
            pod: context.pods.get(&pod_name),
            service,
            missing,
            leftovers,
            endpoints: lab.and_then(|lab| lab.endpoints(session)),
            has_service,
        }
    }

    fn observed<'a>(
        &'a self,
        context: &Context,
        session: &'a LabSession,
        wanted: Result<&'a Wanted, &'a str>,
        pod_is_gone: bool,
        last_used_ms: Option<u64>,
    ) -> Observed<'a> {
        let service = match &self.service {
            Some(service) if service.pending => Service::Pending,
            None if self.has_service => Service::Missing,
            _ => Service::Ready,
        };
        Observed {
            now_ms: now_ms(),
            session: Session {
                generation: session.metadata.generation.unwrap_or(0),
                created_ms: session.metadata.creation_timestamp.as_ref().map_or(0, millis),
                deleting: session.metadata.deletion_timestamp.is_some(),
                has_finalizer: session.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
                status: session.status.as_ref().unwrap_or(&NO_STATUS),
            },
            wanted,
            pod: match &self.pod {
                None if pod_is_gone => Pod::Gone,
                None => Pod::Unseen,
                Some(pod) if is_owned(pod.owner.as_ref(), session) => Pod::Ours(pod),
                Some(pod) => Pod::Foreign { pod, owner_lives: context.lives(session, pod.owner.as_ref()) },
            },
            service,
            missing: self.missing.clone(),
            leftovers: self.leftovers.clone(),
            endpoints: self.endpoints.clone(),
            last_used_ms,
            status_written_ms: context.memory.status_written_ms(session),
        }
    }
}

/// The status of an object that nobody has looked at.
static NO_STATUS: LazyLock<LabSessionStatus> = LazyLock::new(LabSessionStatus::default);

fn is_owned(owner: Option<&Owner>, session: &LabSession) -> bool {
    owner.is_some_and(|owner| Some(&owner.uid) == session.metadata.uid.as_ref())
}

impl Context {
    /// Whether the session that owns a pod is there. A pod of nobody's is somebody's own affair: it counts as
    /// living.
    fn lives(&self, beside: &LabSession, owner: Option<&Owner>) -> bool {
        let Some(owner) = owner else { return true };
        let namespace = beside.namespace().unwrap_or_default();
        let reference = ObjectRef::new(&owner.name).within(&namespace);
        let found = self.sessions.get(&reference);
        found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid))
    }

    /// Asks the API server for the pod. Whether it is gone; if not, the cache knows it now.
    async fn look_for_pod(
        &self,
        session: &LabSession,
        observed: &Observed<'_>,
    ) -> Result<bool, ReconcileError> {
        let Ok(wanted) = observed.wanted else { return Ok(false) };
        let key = Key::new(session.namespace().as_deref().unwrap_or_default(), &wanted.pod_name);
        match self.writes.look_for_pod(session, &wanted.pod_name).await? {
            Some(pod) => {
                self.pods.replace(key, PodView::of(&pod));
                Ok(false)
            }
            None => {
                self.pods.gone(&key);
                Ok(true)
            }
        }
    }

    /// When the session was last used, where that decides whether it is idle; `None` if its terminal does not
    /// say.
    async fn last_used(&self, session: &LabSession, wanted: Option<&Wanted>) -> Option<u64> {
        let idle_stop_ms = wanted?.deadlines.idle_stop?.as_millis();
        let status = session.status.as_ref().filter(|status| status.phase == Phase::Running)?;
        let known_ms = self.memory.last_used_ms(session);
        let not_before_ms = known_ms.or_else(|| status.start_time.as_ref().map(millis)).unwrap_or(0);
        let due_ms = not_before_ms.saturating_add(idle_stop_ms);
        if known_ms.is_some() && now_ms() < due_ms {
            return known_ms;
        }
        let address: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
        match terminal::idle_for(address, TERMINAL_PORT).await {
            Ok(idle) => {
                let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
                let last_used_ms = Some(now_ms().saturating_sub(idle_ms));
                self.memory.used(session, last_used_ms);
                last_used_ms
            }
            Err(error) => {
                debug!(session = session.name_any(), %error, "whether a session is idle is not known");
                None
            }
        }
    }

    fn again(&self, session: &LabSession, decision: &Decision) -> Duration {
        if decision.status.phase == Phase::Terminated
            && let Some(uid) = &session.metadata.uid
        {
            self.memory.forget(uid);
        }
        let wait = decision.again_ms.map_or(self.sync_period, Duration::from_millis);
        // A clock and a timer differ by a little: a deadline is looked at after it, not just before.
        wait.min(self.sync_period) + Duration::from_millis(5)
    }

    /// A part that the API server refuses is said in the session's status: its owner cannot read our log.
    async fn tell_the_owner(
        &self,
        session: &Arc<LabSession>,
        observed: &Observed<'_>,
        error: &ReconcileError,
    ) {
        let ReconcileError::Write(error) = error else { return };
        let Some((reason, message)) = error.for_the_owner() else { return };
        let decision = decide::refused(observed, &self.rules, reason, &message);
        // Earlier steps may have been taken, and have made another version of it.
        let session = &self.memory.freshest(Arc::clone(session));
        if let Err(error) = self.carry_out(session, None, observed, &decision).await {
            info!(session = session.name_any(), %error, "the session's status could not be written either");
        }
    }
}

/// The time, in milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
