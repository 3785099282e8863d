//! A session's start and its life.

use dozlab_pod::lab_session::ConditionType;
use dozlab_session::deadline::{Activity, Due};
use dozlab_session::phase::Phase;

use super::draft::{Draft, time};
use super::ending::{self, Cause};
use super::failing::{begin_again_after_a_change, failure, give_up, pod_failed, stuck, try_again};
use super::{Part, Pod, Service, Step, Wanted};
use crate::pod_view::{PodState, PodView, Retry, Stage, Waiting, millis};

/// How soon a container that misses its secret is looked at again.
const SECRET_CHECK_MS: u64 = 10_000;

/// A session that is to run.
pub(super) fn run(draft: &mut Draft<'_>) {
    let wanted = match draft.observed.wanted {
        Ok(wanted) => wanted,
        Err(problems) => return with_invalid_spec(draft, problems),
    };
    if !draft.observed.session.has_finalizer {
        draft.step(Step::AddFinalizer);
    }
    begin_again_after_a_change(draft);
    keep_expiry(draft, wanted);
    if let Some(cause) = is_over(draft, wanted) {
        return ending::begin(draft, cause);
    }
    match draft.observed.pod {
        Pod::Unseen | Pod::Gone => without_pod(draft, wanted),
        Pod::Foreign { pod, owner_lives } => with_foreign_pod(draft, wanted, pod, owner_lives),
        Pod::Ours(pod) => with_pod(draft, wanted, pod),
    }
}

/// An object that cannot be read, or contradicts itself. A lab that is there already is not ended by a slip
/// of the pen: it goes on as it was, to the end that was set before.
fn with_invalid_spec(draft: &mut Draft<'_>, problems: &str) {
    if !matches!(draft.status.phase, Phase::Creating | Phase::Running) {
        return give_up(draft, &failure("InvalidSpec", problems.to_owned(), Retry::Never), None);
    }
    if let Some(expires_ms) = draft.status.expires_at.as_ref().map(millis) {
        if draft.observed.now_ms >= expires_ms {
            return ending::begin(draft, Cause::Expired);
        }
        draft.again_at(expires_ms);
    }
    if draft.status.message.as_deref() != Some(problems) {
        draft.status.message = Some(problems.to_owned());
        draft.note(true, "InvalidSpec", problems);
    }
}

/// The end follows the start and the timeout, whenever either changes.
pub(super) fn keep_expiry(draft: &mut Draft<'_>, wanted: &Wanted) {
    if draft.status.start_time.is_none() && draft.status.phase != Phase::Failed {
        draft.status.start_time = Some(draft.now());
    }
    draft.status.expires_at = wanted.deadlines.expires_ms(draft.started_ms()).map(time);
}

/// Whether the session's time is over, or nobody uses it.
fn is_over(draft: &mut Draft<'_>, wanted: &Wanted) -> Option<Cause> {
    let started_ms = draft.started_ms();
    let running = draft.status.phase == Phase::Running;
    let mut deadlines = wanted.deadlines;
    let idle_stop = deadlines.idle_stop.take().filter(|_| running);
    if let Some(idle_stop) = idle_stop {
        let last_used_ms = last_used(draft, started_ms, idle_stop.as_millis());
        // Only what the terminal has just said ends a session; what an earlier look found does not.
        let idle_ends_ms = last_used_ms.saturating_add(idle_stop.as_millis());
        match draft.observed.last_used_ms {
            Some(_) if draft.observed.now_ms >= idle_ends_ms => return Some(Cause::Idle),
            Some(_) => draft.again_at(idle_ends_ms),
            None => draft.again_in(30_000),
        }
    }
    let activity = Activity { started_ms, last_active_ms: started_ms };
    match deadlines.due(activity, draft.observed.now_ms) {
        Due::Expired => Some(Cause::Expired),
        Due::Idle => Some(Cause::Idle),
        Due::Warn { ends_ms, .. } => {
            draft.again_at(ends_ms);
            None
        }
        Due::Nothing { next_check_ms: Some(next_ms) } => {
            draft.again_at(next_ms);
            None
        }
        Due::Nothing { next_check_ms: None } => None,
    }
}

/// When the session was last used. The status keeps it roughly: a write for each key pressed would be too
/// many.
fn last_used(draft: &mut Draft<'_>, started_ms: u64, idle_stop_ms: u64) -> u64 {
    let known_ms = draft.status.last_activity_time.as_ref().map_or(started_ms, millis);
    let last_used_ms = draft.observed.last_used_ms.unwrap_or(0).max(known_ms);
    if last_used_ms.saturating_sub(known_ms) >= (idle_stop_ms / 4).max(60_000) {
        draft.status.last_activity_time = Some(time(last_used_ms));
    }
    last_used_ms
}

fn without_pod(draft: &mut Draft<'_>, wanted: &Wanted) {
    let given_up = draft.status.retry.as_ref().map(|retry| retry.pod_uid.clone());
    if let Some(uid) = draft.status.pod_uid.clone().filter(|uid| given_up.as_ref() != Some(uid)) {
        // A pod was there, and nobody here gave it up.
        if !matches!(draft.observed.pod, Pod::Gone) {
            return draft.step(Step::LookForPod);
        }
        let message = "the pod is gone: somebody deleted it, or its node was removed".to_owned();
        return try_again(draft, &failure("PodLost", message, Retry::Later), &uid);
    }
    if let Some(after_ms) = draft.status.retry.as_ref().map(|retry| millis(&retry.after))
        && draft.observed.now_ms < after_ms
    {
        return draft.again_at(after_ms);
    }
    start(draft, wanted);
}

/// Makes everything of a session. The pod comes after what it mounts, the service after the pod: who has the
/// pod has the session's names.
fn start(draft: &mut Draft<'_>, wanted: &Wanted) {
    draft.step(Step::Make(Part::Secrets));
    for part in draft.observed.missing.clone() {
        if part.comes_before_the_pod() {
            draft.step(Step::Make(part));
        }
    }
    draft.step(Step::MakePod);
    make_missing(draft);
    let first = draft.status.phase == Phase::Pending;
    starting(draft, Stage::Scheduling, None);
    describe(draft, wanted);
    if first && draft.rules.all_events {
        draft.note(false, "Creating", "the session's pod is made");
    }
}

fn make_missing(draft: &mut Draft<'_>) {
    for part in draft.observed.missing.clone() {
        draft.step(Step::Make(part));
    }
}

fn with_foreign_pod(draft: &mut Draft<'_>, wanted: &Wanted, pod: &PodView, owner_lives: bool) {
    if owner_lives {
        let message = format!("the pod {} belongs to another session of the same id", wanted.pod_name);
        return give_up(draft, &failure("SessionIdInUse", message, Retry::Never), None);
    }
    if pod.deleted_by_ms.is_none() {
        draft.step(Step::DeletePod { uid: pod.uid.clone() });
    }
    let waiting = Waiting {
        reason: "EarlierPod".to_owned(),
        message: format!("waiting for the pod {} of an earlier session to go", wanted.pod_name),
    };
    starting(draft, Stage::Scheduling, Some(&waiting));
    describe(draft, wanted);
    draft.again_in(10_000);
}

fn with_pod(draft: &mut Draft<'_>, wanted: &Wanted, pod: &PodView) {
    let given_up = draft.status.retry.as_ref().is_some_and(|retry| retry.pod_uid == pod.uid);
    if given_up {
        if pod.deleted_by_ms.is_none() {
            draft.step(Step::DeletePod { uid: pod.uid.clone() });
        }
        return draft.again_in(10_000);
    }
    match &pod.state {
        PodState::Broken(failure) => return pod_failed(draft, failure, pod),
        PodState::PoweredOff => return ending::begin(draft, Cause::PoweredOff),
        PodState::Starting { .. } | PodState::Ready => {}
    }
    if pod.deleted_by_ms.is_some() {
        let message =
            "the pod is being deleted: by somebody, or because its node is drained or lost".to_owned();
        return try_again(draft, &failure("PodDeleted", message, Retry::Later), &pod.uid);
    }
    draft.status.pod_uid = Some(pod.uid.clone());
    draft.status.pod_ip.clone_from(&pod.ip);
    make_missing(draft);
    match &pod.state {
        PodState::Ready => ready(draft, pod),
        PodState::Starting { stage, since_ms, waiting_for } => {
            not_ready(draft, pod, *stage, *since_ms, waiting_for.as_ref());
        }
        PodState::Broken(_) | PodState::PoweredOff => {}
    }
    describe(draft, wanted);
}

fn ready(draft: &mut Draft<'_>, pod: &PodView) {
    let first = draft.status.phase != Phase::Running;
    if draft.status.phase == Phase::Pending {
        // The start went unnoticed: the object lost its status. The phases are passed in their order all the
        // same.
        draft.phase(Phase::Creating, "Creating", "the session's pod is made");
    }
    draft.phase(Phase::Running, "Ready", "a prompt can be had");
    draft.status.stage = None;
    draft.condition(ConditionType::PodReady, true, "Ready", "all containers are ready");
    draft.condition(ConditionType::VmReady, pod.vm_ready, "Ready", "the machine's SSH server answers");
    ready_with_service(draft, "Ready", "a prompt can be had");
    if first && draft.rules.all_events {
        draft.note(false, "Running", "a prompt can be had");
    }
}

fn not_ready(draft: &mut Draft<'_>, pod: &PodView, stage: Stage, since_ms: u64, waiting: Option<&Waiting>) {
    // A lab that has run is not thrown away because its machine reboots or its terminal is slow.
    if draft.status.phase == Phase::Running {
        draft.condition(ConditionType::PodReady, false, "ContainersNotReady", "not all containers are ready");
        let vm = if pod.vm_ready {
            ("Ready", "the machine answers")
        } else {
            ("NotReady", "the machine does not answer")
        };
        draft.condition(ConditionType::VmReady, pod.vm_ready, vm.0, vm.1);
        draft.condition(ConditionType::Ready, false, "ContainersNotReady", "not all containers are ready");
        return;
    }
    let deadline_ms = match stage {
        Stage::BootingVm => draft.rules.boot_deadline_ms,
        _ => draft.rules.stage_deadline_ms,
    };
    if draft.observed.now_ms >= since_ms.saturating_add(deadline_ms) {
        return pod_failed(draft, &stuck(stage, deadline_ms, waiting), pod);
    }
    draft.again_at(since_ms.saturating_add(deadline_ms));
    if waiting.is_some_and(|waiting| waiting.reason == "CreateContainerConfigError") {
        // Secrets are made and never read, so this is how a deleted one is noticed.
        draft.step(Step::Make(Part::Secrets));
        draft.again_in(SECRET_CHECK_MS);
    }
    starting(draft, stage, waiting);
}

/// The session is in a stage of its start.
fn starting(draft: &mut Draft<'_>, stage: Stage, waiting: Option<&Waiting>) {
    let (reason, message) = match waiting {
        Some(waiting) if !waiting.reason.is_empty() => (waiting.reason.as_str(), waiting.message.as_str()),
        _ => (stage.reason(), stage.message()),
    };
    draft.phase(Phase::Creating, reason, message);
    draft.status.stage = Some(stage.as_str().to_owned());
    draft.condition(ConditionType::PodReady, false, reason, message);
    draft.condition(ConditionType::VmReady, false, reason, message);
    ready_with_service(draft, reason, message);
}

/// The conditions `ServiceReady` and `Ready`, from the others.
fn ready_with_service(draft: &mut Draft<'_>, reason: &str, message: &str) {
    let (service_ready, service_reason, service_message) = match draft.observed.service {
        Service::Ready => (true, "Ready", "the service is there"),
        Service::Pending => (false, "NoAddress", "the service waits for its address"),
        // It is made before the status is written, and has its address then.
        Service::Missing if draft.has_step(&Step::Make(Part::Service)) => {
            (true, "Ready", "the service is there")
        }
        Service::Missing => (false, "Making", "the service is being made"),
    };
    draft.condition(ConditionType::ServiceReady, service_ready, service_reason, service_message);
    let running = draft.status.phase == Phase::Running;
    match running && !service_ready {
        true => draft.condition(ConditionType::Ready, false, service_reason, service_message),
        false => draft.condition(ConditionType::Ready, running, reason, message),
    }
}

/// Names and addresses, which a person looks for.
fn describe(draft: &mut Draft<'_>, wanted: &Wanted) {
    if matches!(draft.status.phase, Phase::Failed | Phase::Terminating) {
        return;
    }
    draft.status.pod_name = Some(wanted.pod_name.clone());
    draft.status.service_name = Some(wanted.service_name.clone());
    draft.status.vm_ip = Some(wanted.vm_ip.clone());
    draft.status.endpoints.clone_from(&draft.observed.endpoints);
    let mut usage = wanted.usage.clone();
    usage.running = draft.status.phase == Phase::Running;
    draft.status.usage = Some(usage);
}
