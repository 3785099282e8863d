//! What goes wrong in a session: a pod that failed is made again for a while, and then the session has failed.

use dozlab_pod::lab_session::{ConditionType, PodRetry};
use dozlab_session::phase::Phase;

use super::draft::{Draft, time};
use super::ending::{self, Cause};
use super::running::keep_expiry;
use super::{Pod, Step};
use crate::pod_view::{Failure, PodView, Retry, Stage, Waiting, millis};

/// A pod of the session has failed.
pub(super) fn pod_failed(draft: &mut Draft<'_>, failure: &Failure, pod: &PodView) {
    match failure.retry {
        Retry::Later => try_again(draft, failure, &pod.uid),
        Retry::Never => give_up(draft, failure, Some(pod)),
    }
    if draft.status.phase == Phase::Failed {
        return;
    }
    if pod.deleted_by_ms.is_none() {
        draft.step(Step::DeletePod { uid: pod.uid.clone() });
    }
}

/// Counts a pod as lost, in the status, and says when the next is made.
pub(super) fn try_again(draft: &mut Draft<'_>, failure: &Failure, uid: &str) {
    let ran_steadily = draft.status.condition(ConditionType::Ready).is_some_and(|ready| {
        let since_ms = millis(&ready.last_transition_time);
        ready.status == "True" && draft.observed.now_ms.saturating_sub(since_ms) >= draft.rules.steady_ms
    });
    let before = draft.status.retry.as_ref().map_or(0, |retry| retry.attempt);
    let attempt = if ran_steadily { 1 } else { before + 1 };
    if attempt > draft.rules.retries {
        let pods = draft.rules.retries + 1;
        let message = format!("{pods} pods in a row have failed; the last: {}", failure.message);
        let ours = match draft.observed.pod {
            Pod::Ours(pod) => Some(pod),
            _ => None,
        };
        let last = Failure { message, retry: Retry::Never, ..failure.clone() };
        return give_up(draft, &last, ours);
    }
    let doublings = (attempt - 1).min(16);
    let wait_ms = (draft.rules.retry_ms << doublings).min(draft.rules.longest_retry_ms);
    let after_ms = draft.observed.now_ms.saturating_add(wait_ms);
    draft.status.retry = Some(PodRetry { pod_uid: uid.to_owned(), attempt, after: time(after_ms) });
    draft.status.restarts = Some(draft.status.restarts.unwrap_or(0) + 1);
    draft.status.pod_uid = None;
    draft.phase(Phase::Creating, failure.reason, &failure.message);
    draft.nothing_is_ready(failure.reason, &failure.message);
    draft.note(true, failure.reason, &failure.message);
    draft.write_status();
    draft.again_in(wait_ms);
}

/// The session has failed. A pod that still holds resources goes; one that has ended stays, for its logs.
pub(super) fn give_up(draft: &mut Draft<'_>, failure: &Failure, pod: Option<&PodView>) {
    draft.phase(Phase::Failed, failure.reason, &failure.message);
    draft.nothing_is_ready(failure.reason, &failure.message);
    draft.note(true, "Failed", &failure.message);
    draft.write_status();
    if let Some(pod) = pod
        && pod.deleted_by_ms.is_none()
        && !pod.is_finished()
    {
        draft.step(Step::DeletePod { uid: pod.uid.clone() });
    }
    if let Some(expires_at) = &draft.status.expires_at {
        let expires_ms = millis(expires_at);
        draft.again_at(expires_ms);
    }
}

/// A session that has failed and has not been changed: it is kept for whoever looks at it, until its time is
/// over.
pub(super) fn stay_failed(draft: &mut Draft<'_>) {
    if let Ok(wanted) = draft.observed.wanted {
        keep_expiry(draft, wanted);
        if let Some(expires_at) = &draft.status.expires_at {
            let expires_ms = millis(expires_at);
            if draft.observed.now_ms >= expires_ms {
                return ending::begin(draft, Cause::Expired);
            }
            draft.again_at(expires_ms);
        }
    }
    // The pod may have outlived the process that gave it up.
    if let Pod::Ours(pod) = draft.observed.pod
        && pod.deleted_by_ms.is_none()
        && !pod.is_finished()
    {
        draft.step(Step::DeletePod { uid: pod.uid.clone() });
    }
}

/// A failed session whose object was changed is tried again, as if it were new.
pub(super) fn begin_again_after_a_change(draft: &mut Draft<'_>) {
    if draft.status.phase == Phase::Failed {
        draft.status.retry = match draft.observed.pod {
            Pod::Ours(pod) => Some(PodRetry { pod_uid: pod.uid.clone(), attempt: 0, after: draft.now() }),
            _ => None,
        };
        draft.status.pod_uid = None;
        draft.status.restarts = None;
        draft.status.start_time = None;
        draft.phase(Phase::Creating, "Changed", "the session was changed and is tried again");
    }
}

/// What to call a pod that has made no progress.
pub(super) fn stuck(stage: Stage, deadline_ms: u64, waiting: Option<&Waiting>) -> Failure {
    let seconds = deadline_ms / 1000;
    let why = waiting.map_or_else(|| stage.message().to_owned(), |waiting| waiting.message.clone());
    let message = format!("no progress for {seconds} s: {why}");
    let reason = match (stage, waiting.map(|waiting| waiting.reason.as_str())) {
        (_, Some("ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable")) => "ImagePullFailed",
        (_, Some("CreateContainerConfigError" | "CreateContainerError")) => "ContainerConfigFailed",
        (Stage::Scheduling, _) => "Unschedulable",
        (Stage::BootingVm, _) => "VMNotReady",
        _ => "NoProgress",
    };
    let retry = if reason == "Unschedulable" { Retry::Never } else { Retry::Later };
    failure(reason, message, retry)
}

pub(super) fn failure(reason: &'static str, message: String, retry: Retry) -> Failure {
    Failure { reason, message, retry, pod_is_finished: false }
}
