//! What is to be done about a session: a pure function from what is observed to what is to be written.
//!
//! ```text
//!  LabSession ┐
//!  its pod    ├─▶ decide ─▶ steps in order (what to create, delete, write), events, when to look again
//!  its parts  ┘
//! ```
//!
//! Nothing here talks to anybody, so every situation is a test. And nothing is remembered: whatever must
//! outlive the process is in the session's status before anything is done that follows from it. A pod that is
//! given up is noted there before it is deleted, and a session's end before its parts go. So a controller may
//! be killed between any two steps, and the next one decides on from what it sees.

mod draft;
mod ending;
mod failing;
mod running;
#[cfg(test)]
mod tests;

use dozlab_pod::LabSessionStatus;
use dozlab_pod::lab_session::{Endpoints, Usage};
use dozlab_session::deadline::Deadlines;
use dozlab_session::phase::Phase;

use crate::pod_view::PodView;
use draft::Draft;

/// Everything that a decision is made from.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The time, in milliseconds since the epoch.
    pub now_ms: u64,
    /// The object.
    pub session: Session<'a>,
    /// What the object's plan comes to; or everything that is wrong with it.
    pub wanted: Result<&'a Wanted, &'a str>,
    /// The pod of the session's name.
    pub pod: Pod<'a>,
    /// The service of the session's name.
    pub service: Service,
    /// The parts besides the pod that the session should have and that are not there, as far as can be seen.
    pub missing: Vec<Part>,
    /// What is still there of the session that goes when it ends, besides the pod.
    pub leftovers: Vec<Part>,
    /// Where the session's parts are reached.
    pub endpoints: Option<Endpoints>,
    /// When somebody last used the session, as its terminal has just said, in milliseconds since the epoch.
    pub last_used_ms: Option<u64>,
    /// When this process last wrote the session's status, in milliseconds since the epoch.
    pub status_written_ms: Option<u64>,
}

/// What counts of a `LabSession`.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The version of its spec.
    pub generation: i64,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether our finalizer is on it.
    pub has_finalizer: bool,
    /// Its status.
    pub status: &'a LabSessionStatus,
}

/// What a session's plan comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// When it ends by itself.
    pub deadlines: Deadlines,
    /// Its pod's name.
    pub pod_name: String,
    /// Its service's name.
    pub service_name: String,
    /// The VM's address inside the pod.
    pub vm_ip: String,
    /// What it uses while it runs.
    pub usage: Usage,
}

/// The pod that has the session's name.
#[derive(Clone, Copy, Debug)]
pub enum Pod<'a> {
    /// None that we have heard of.
    Unseen,
    /// None, as the API server has just said.
    Gone,
    /// The session's.
    Ours(&'a PodView),
    /// Another object's.
    Foreign {
        /// The pod.
        pod: &'a PodView,
        /// Whether the `LabSession` that it belongs to is there.
        owner_lives: bool,
    },
}

/// The session's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It is not there.
    Missing,
    /// It waits for the address that its type promises.
    Pending,
    /// It can be used.
    Ready,
}

/// What a session has besides its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The Secret, made once and never read.
    Secrets,
    /// The network policy that it shares with other sessions of its namespace.
    NetworkPolicy,
    /// The claims of volumes that are kept.
    Claims,
    /// The service.
    Service,
    /// The way in from outside the cluster: an Ingress, or a route of a gateway.
    Route,
}

impl Part {
    /// Whether the pod needs it. Who has the pod has the session's names: what bears them comes after it.
    fn comes_before_the_pod(self) -> bool {
        !matches!(self, Self::Service | Self::Route)
    }
}

/// One thing to do. Each may be done twice without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put our finalizer on the object.
    AddFinalizer,
    /// Make a part.
    Make(Part),
    /// Make the pod.
    MakePod,
    /// Delete this pod, and no other of its name.
    DeletePod {
        /// Its uid.
        uid: String,
    },
    /// Delete a part.
    Delete(Part),
    /// Write the decision's status.
    WriteStatus,
    /// Take our finalizer off the object, which lets it go.
    RemoveFinalizer,
    /// Ask the API server itself whether the pod is there, and decide again.
    LookForPod,
}

/// Something for the session's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a warning.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Steps, in this order.
    pub steps: Vec<Step>,
    /// The status that [`Step::WriteStatus`] writes.
    pub status: LabSessionStatus,
    /// Events to record once the status is written.
    pub events: Vec<Note>,
    /// When to look again if nothing happens before, in milliseconds from now.
    pub again_ms: Option<u64>,
}

/// How long things may take. All in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a start may stay in one stage.
    pub stage_deadline_ms: u64,
    /// How long the VM may take to boot.
    pub boot_deadline_ms: u64,
    /// How long after the first failed pod the next is made; it doubles.
    pub retry_ms: u64,
    /// The longest of those waits.
    pub longest_retry_ms: u64,
    /// How many pods are made again in a row.
    pub retries: u32,
    /// How long a session must have run for its next failure to count as the first.
    pub steady_ms: u64,
    /// How long after its time a node is waited for to confirm that a pod is gone.
    pub lost_node_ms: u64,
    /// How often stages are written at most.
    pub stage_interval_ms: u64,
    /// Whether phases that are no surprise are recorded as events too.
    pub all_events: bool,
}

/// What the controller does where nobody says otherwise.
impl Default for Rules {
    fn default() -> Self {
        Self {
            stage_deadline_ms: 10 * 60_000,
            boot_deadline_ms: 5 * 60_000,
            retry_ms: 5_000,
            longest_retry_ms: 5 * 60_000,
            retries: 5,
            steady_ms: 10 * 60_000,
            lost_node_ms: 60_000,
            stage_interval_ms: 5_000,
            all_events: false,
        }
    }
}

/// What to tell a session's owner when the API server refuses to make a part of it. Making it is tried again.
#[must_use]
pub fn refused(observed: &Observed<'_>, rules: &Rules, reason: &str, message: &str) -> Decision {
    let mut draft = Draft::new(observed, rules);
    if matches!(observed.session.status.phase, Phase::Pending | Phase::Creating) {
        draft.phase(Phase::Creating, reason, message);
        draft.nothing_is_ready(reason, message);
        draft.status.start_time.get_or_insert_with(|| draft::time(observed.now_ms));
        if observed.session.status.reason.as_deref() != Some(reason) {
            draft.note(true, reason, message);
        }
    } else {
        draft.status = observed.session.status.clone();
    }
    draft.finish()
}

/// Decides what is to be done about a session.
#[must_use]
pub fn decide(observed: &Observed<'_>, rules: &Rules) -> Decision {
    let mut draft = Draft::new(observed, rules);
    if observed.session.deleting {
        ending::see_out(&mut draft);
        return draft.finish();
    }
    let changed = observed.session.status.observed_generation != Some(observed.session.generation);
    match observed.session.status.phase {
        Phase::Terminated => ending::sweep(&mut draft),
        Phase::Terminating => ending::take_down(&mut draft),
        Phase::Failed if !changed => failing::stay_failed(&mut draft),
        Phase::Pending | Phase::Creating | Phase::Running | Phase::Failed => running::run(&mut draft),
    }
    draft.finish()
}
