//! The end of a session: its time is over, nobody uses it, its machine was powered off, or its object is
//! deleted.
//!
//! The end is noted in the status first, so that whoever is interrupted afterwards goes on with it. The pod
//! goes before the rest: a learner's machine gets its time to power off while its name still leads to it.

use dozlab_session::phase::Phase;

use super::draft::Draft;
use super::{Part, Pod, Step};
use crate::pod_view::PodView;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Expired,
    Idle,
    PoweredOff,
    Deleted,
}

impl Cause {
    fn reason(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::Idle => "Idle",
            Self::PoweredOff => "PoweredOff",
            Self::Deleted => "Deleted",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Expired => "the session's time is over",
            Self::Idle => "nobody has used the session",
            Self::PoweredOff => "the machine was powered off",
            Self::Deleted => "the session was deleted",
        }
    }
}

/// Begins the end of a session. The rest of its parts is taken down once that is in the status, and the pod
/// gone.
pub(super) fn begin(draft: &mut Draft<'_>, cause: Cause) {
    note_the_end(draft, cause);
    if pod_is_gone(draft) {
        draft.again_in(0);
    }
}

fn note_the_end(draft: &mut Draft<'_>, cause: Cause) {
    if matches!(draft.status.phase, Phase::Terminating | Phase::Terminated) {
        return;
    }
    draft.phase(Phase::Terminating, cause.reason(), cause.message());
    draft.nothing_is_ready(cause.reason(), cause.message());
    draft.status.retry = None;
    draft.note(false, "Terminating", cause.message());
    draft.write_status();
}

/// Takes the parts of a session down that ends, and says when nothing is left.
pub(super) fn take_down(draft: &mut Draft<'_>) {
    if !pod_is_gone(draft) {
        return;
    }
    delete_parts(draft);
    let message = draft.status.message.clone().unwrap_or_default();
    let reason = draft.status.reason.clone().unwrap_or_default();
    draft.phase(Phase::Terminated, &reason, &message);
    draft.status.pod_uid = None;
    if draft.rules.all_events {
        draft.note(false, "Terminated", &message);
    }
}

/// An object is being deleted: its parts are taken down, and then it may go.
pub(super) fn see_out(draft: &mut Draft<'_>) {
    if !draft.observed.session.has_finalizer {
        // Somebody else's finalizer keeps it; ours did its work.
        draft.status = draft.observed.session.status.clone();
        return;
    }
    note_the_end(draft, Cause::Deleted);
    if pod_is_gone(draft) || node_is_lost(draft) {
        delete_parts(draft);
        draft.step(Step::RemoveFinalizer);
        draft.write_no_more();
    }
}

/// Removes what is left of a session that has ended, whoever left it there.
pub(super) fn sweep(draft: &mut Draft<'_>) {
    if pod_is_gone(draft) {
        for part in draft.observed.leftovers.clone() {
            draft.step(Step::Delete(part));
        }
    }
}

fn delete_parts(draft: &mut Draft<'_>) {
    // Secrets cannot be seen and are deleted by name, which is only the session's if it ever had the pod of
    // that name.
    if draft.observed.session.status.pod_name.is_some() {
        draft.step(Step::Delete(Part::Secrets));
    }
    for part in draft.observed.leftovers.clone() {
        draft.step(Step::Delete(part));
    }
}

/// Whether the session has no pod any more; one that it has is deleted.
fn pod_is_gone(draft: &mut Draft<'_>) -> bool {
    let Pod::Ours(pod) = draft.observed.pod else { return true };
    if pod.deleted_by_ms.is_none() {
        draft.step(Step::DeletePod { uid: pod.uid.clone() });
    }
    draft.again_in(10_000);
    false
}

/// Whether the pod's node has not confirmed its end for so long that nobody waits for it.
fn node_is_lost(draft: &Draft<'_>) -> bool {
    let Pod::Ours(PodView { deleted_by_ms: Some(deleted_by_ms), .. }) = draft.observed.pod else {
        return false;
    };
    draft.observed.now_ms > deleted_by_ms.saturating_add(draft.rules.lost_node_ms)
}
