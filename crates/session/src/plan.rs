//! The plan of a session: every number worked out, and checked against the others, once.
//!
//! Whoever wants a session fills in a [`PlanRequest`] with what they care about. [`Plan::resolve`] gives the
//! rest its defaults, works out what depends on something else (a volume must hold its disk, a memory limit
//! its VM), and refuses what could not work with all of its problems at once. Whoever carries a plan out (as
//! objects of Kubernetes, as processes of this machine) computes nothing of the kind any more.

pub mod network;
pub mod problem;
pub mod request;
pub mod resources;
pub mod volumes;

use serde::{Deserialize, Serialize};

use crate::cpu::Vcpus;
use crate::deadline::Deadlines;
use crate::defaults;
use crate::duration::TimeLimit;
use crate::id::{SessionId, UserId};
use crate::image::{ContainerImage, ImageRef};
use crate::name::{Hostname, LoginUser};
use crate::size::ByteSize;

pub use network::{Egress, Network};
pub use problem::{PlanError, Problem};
pub use request::PlanRequest;
pub use resources::{Amounts, ContainerResources, PodResources};
pub use volumes::VolumeLimits;

/// A session as it is going to be. It holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The session's id.
    pub session_id: SessionId,
    /// Whose session it is.
    pub user_id: UserId,
    /// The VM's root file system.
    pub image: ImageRef,
    /// Image of the terminal's container.
    pub terminal_image: ContainerImage,
    /// How many processors the guest sees.
    pub vcpus: Vcpus,
    /// The guest's memory, a whole number of MiB.
    pub memory: ByteSize,
    /// The size of the guest's disk, a whole number of MiB.
    pub disk: ByteSize,
    /// The user that a learner is in the VM; the image says which where the request did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_user: Option<LoginUser>,
    /// The VM's host name.
    pub hostname: Hostname,
    /// The network between the VM and its pod.
    pub network: Network,
    /// When the session ends by itself.
    pub deadlines: Deadlines,
    /// How much the volumes may hold.
    pub volumes: VolumeLimits,
    /// What the containers may use.
    pub resources: PodResources,
}

impl Plan {
    /// Makes the plan for a request. Memory and disk are rounded up to whole MiB, the unit in which
    /// hypervisors take them.
    ///
    /// # Errors
    ///
    /// Something that only the request can say is missing, or its numbers contradict each other or what is
    /// possible; the error has every such problem.
    pub fn resolve(request: &PlanRequest) -> Result<Self, PlanError> {
        let mut problems = Vec::new();
        let vcpus = request.vcpus.unwrap_or(defaults::VCPUS);
        let memory = resolve_memory(request, &mut problems);
        let disk = resolve_disk(request, &mut problems);
        let network = Network::resolve(request, &mut problems);
        let deadlines = resolve_deadlines(request, &mut problems);
        let volumes = VolumeLimits::resolve(request, disk, &mut problems);
        let resources = PodResources::resolve(request, vcpus, memory, &mut problems);
        if request.session_id.is_none() {
            problems.push(Problem::NoSessionId);
        }
        if request.image.is_none() {
            problems.push(Problem::NoImage);
        }
        let (Some(session_id), Some(image), true) =
            (request.session_id.clone(), request.image.clone(), problems.is_empty())
        else {
            return Err(PlanError { problems });
        };
        Ok(Self {
            user_id: request.user_id.clone().unwrap_or_else(UserId::local),
            image,
            terminal_image: request.terminal_image.clone().unwrap_or_else(ContainerImage::default_terminal),
            vcpus,
            memory,
            disk,
            login_user: request.login_user.clone(),
            hostname: request.hostname.clone().unwrap_or_else(|| session_id.hostname()),
            session_id,
            network,
            deadlines,
            volumes,
            resources,
        })
    }
}

fn resolve_memory(request: &PlanRequest, problems: &mut Vec<Problem>) -> ByteSize {
    let memory = request.memory.unwrap_or(defaults::MEMORY);
    if !(defaults::MIN_MEMORY..=defaults::MAX_MEMORY).contains(&memory) {
        problems.push(Problem::MemoryOutOfRange { memory });
    }
    memory.rounded_up_to_mib().unwrap_or(memory)
}

fn resolve_disk(request: &PlanRequest, problems: &mut Vec<Problem>) -> ByteSize {
    let disk = request.disk.unwrap_or(defaults::DISK_SIZE);
    if !(defaults::MIN_DISK_SIZE..=defaults::MAX_DISK_SIZE).contains(&disk) {
        problems.push(Problem::DiskOutOfRange { disk });
    }
    disk.rounded_up_to_mib().unwrap_or(disk)
}

fn resolve_deadlines(request: &PlanRequest, problems: &mut Vec<Problem>) -> Deadlines {
    let timeout = match request.timeout {
        None => Some(defaults::TIMEOUT),
        Some(TimeLimit::None) => None,
        Some(TimeLimit::After(timeout)) => Some(timeout),
    };
    let idle_stop = request.idle_stop;
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        problems.push(Problem::TimeoutZero);
    }
    if idle_stop.is_some_and(|idle_stop| idle_stop.is_zero()) {
        problems.push(Problem::IdleStopZero);
    }
    if let (Some(idle_stop), Some(timeout)) = (idle_stop, timeout)
        && idle_stop >= timeout
        && !timeout.is_zero()
    {
        problems.push(Problem::IdleStopNotBeforeTimeout { idle_stop, timeout });
    }
    Deadlines { timeout, idle_stop, warn_before: defaults::WARN_BEFORE }
}

#[cfg(test)]
mod tests;
