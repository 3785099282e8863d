//! What the controller needs to know of a session's pod: a few fields, worked out once when the pod changes.
//!
//! A pod as the API server sends it takes some 20 KB of memory; thousands of them are kept, so what is kept
//! is this. The start of a lab pod is a fixed row of stages, and each stage's beginning is read off the pod's
//! own timestamps: a controller that starts anew knows as much as one that has watched all along.

mod failure;
#[cfg(test)]
mod tests;

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt as _};

pub use failure::{Failure, Retry};

/// Name of the container that prepares the disk.
pub const INIT_ROOTFS: &str = "init-rootfs";
/// Name of the container that makes the network.
pub const NETWORK_SETUP: &str = "network-setup";
/// Name of the VM's container.
pub const VM: &str = "firecracker-vm";

/// A session's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// The pod's uid: a pod made again under the same name has another.
    pub uid: String,
    /// The `LabSession` that the pod belongs to.
    pub owner: Option<Owner>,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// When it is gone at the latest if its node does its work, in milliseconds since the epoch; set when it
    /// is being deleted.
    pub deleted_by_ms: Option<u64>,
    /// Its address.
    pub ip: Option<String>,
    /// Whether the VM's SSH server answers.
    pub vm_ready: bool,
    /// How it is.
    pub state: PodState,
    /// When it became ready, in milliseconds since the epoch; set while it is.
    pub ready_ms: Option<u64>,
    /// How long each stage of the start took, in milliseconds, once all are through.
    pub stages: Vec<(Stage, u64)>,
}

/// How a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// On its way; or it was ready, and is not any more.
    Starting {
        /// The stage it is in.
        stage: Stage,
        /// Since when, in milliseconds since the epoch.
        since_ms: u64,
        /// What it waits for, where the kubelet or scheduler says so.
        waiting_for: Option<Waiting>,
    },
    /// A prompt can be had.
    Ready,
    /// The learner powered the machine off.
    PoweredOff,
    /// It will not become ready any more.
    Broken(Failure),
}

/// What a pod waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// One word, of the kubelet or the scheduler: `ImagePullBackOff`, `Unschedulable`.
    pub reason: String,
    /// The whole of it, for a person.
    pub message: String,
}

/// The steps of a pod's start, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A node is looked for.
    Scheduling,
    /// The node makes the pod's sandbox and volumes.
    Preparing,
    /// The VM's disk is made.
    InitRootfs,
    /// The network is made.
    NetworkSetup,
    /// Containers are started.
    StartingContainers,
    /// The VM boots.
    BootingVm,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 6] = [
        Self::Scheduling,
        Self::Preparing,
        Self::InitRootfs,
        Self::NetworkSetup,
        Self::StartingContainers,
        Self::BootingVm,
    ];

    /// The word for it in a status and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduling => "scheduling",
            Self::Preparing => "preparing",
            Self::InitRootfs => INIT_ROOTFS,
            Self::NetworkSetup => NETWORK_SETUP,
            Self::StartingContainers => "starting-containers",
            Self::BootingVm => "booting-vm",
        }
    }

    /// The reason of a condition that is false because of it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Scheduling => "Scheduling",
            Self::Preparing => "PreparingPod",
            Self::InitRootfs => "PreparingDisk",
            Self::NetworkSetup => "SettingUpNetwork",
            Self::StartingContainers => "StartingContainers",
            Self::BootingVm => "BootingVM",
        }
    }

    /// What is going on, for a person.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Scheduling => "looking for a node",
            Self::Preparing => "the node prepares the pod",
            Self::InitRootfs => "the disk is being prepared",
            Self::NetworkSetup => "the network is being set up",
            Self::StartingContainers => "the containers are being started",
            Self::BootingVm => "the machine boots",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl PodView {
    /// What a pod comes to.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let none = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&none);
        let metadata = &pod.metadata;
        let created_ms = metadata.creation_timestamp.as_ref().map_or(0, millis);
        let facts = Facts { status, created_ms };
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: Owner::of(pod),
            created_ms,
            deleted_by_ms: metadata.deletion_timestamp.as_ref().map(millis),
            ip: status.pod_ip.clone().filter(|ip| !ip.is_empty()),
            vm_ready: facts.container(VM).is_some_and(|container| container.ready),
            state: facts.state(),
            ready_ms: facts.condition_since("Ready"),
            stages: facts.stages(),
        }
    }

    /// Whether it has come to its end by itself and holds no resources of its node any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(&self.state, PodState::Broken(failure) if failure.pod_is_finished)
    }
}

/// The `LabSession` that an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name; it is in the object's namespace.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// The owner of an object, if it is a `LabSession`.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Option<Self> {
        let owner = object.owner_references().iter().find(|owner| owner.kind == "LabSession")?;
        Some(Self { name: owner.name.clone(), uid: owner.uid.clone() })
    }
}

/// A time of the API in milliseconds since the epoch.
pub(crate) fn millis(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or(0)
}

/// A pod's status, and questions to it.
struct Facts<'a> {
    status: &'a PodStatus,
    created_ms: u64,
}

impl<'a> Facts<'a> {
    fn state(&self) -> PodState {
        if let Some(failure) = failure::find(self.status) {
            return PodState::Broken(failure);
        }
        if self.powered_off() {
            return PodState::PoweredOff;
        }
        if self.condition_since("Ready").is_some() {
            return PodState::Ready;
        }
        let (stage, since_ms) = self.stage();
        PodState::Starting { stage, since_ms, waiting_for: self.waiting_for(stage) }
    }

    /// The VM's container ended in order: `poweroff` was typed in the machine.
    fn powered_off(&self) -> bool {
        let vm = self.container(VM).and_then(|vm| vm.state.as_ref()?.terminated.as_ref());
        vm.is_some_and(|ended| ended.exit_code == 0)
    }

    fn stage(&self) -> (Stage, u64) {
        let Some(scheduled_ms) = self.condition_since("PodScheduled") else {
            return (Stage::Scheduling, self.created_ms);
        };
        let mut since_ms = scheduled_ms;
        for (name, stage) in [(INIT_ROOTFS, Stage::InitRootfs), (NETWORK_SETUP, Stage::NetworkSetup)] {
            let Some(state) = self.init_container(name).and_then(|status| status.state.as_ref()) else {
                return (Stage::Preparing, since_ms);
            };
            if let Some(running) = &state.running {
                return (stage, running.started_at.as_ref().map_or(since_ms, millis));
            }
            let Some(ended) = &state.terminated else {
                let preparing = if stage == Stage::InitRootfs { Stage::Preparing } else { stage };
                return (preparing, since_ms);
            };
            since_ms = ended.finished_at.as_ref().map_or(since_ms, millis);
        }
        match self.vm_started_ms() {
            Some(started_ms) => {
                let became_unready_ms = self.condition("Ready", "False").filter(|_| self.all_started());
                (Stage::BootingVm, became_unready_ms.unwrap_or(0).max(started_ms))
            }
            None => (Stage::StartingContainers, since_ms),
        }
    }

    fn waiting_for(&self, stage: Stage) -> Option<Waiting> {
        if stage == Stage::Scheduling {
            let conditions = self.status.conditions.as_deref().unwrap_or_default();
            let unscheduled =
                conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
            return Some(Waiting {
                reason: unscheduled.reason.clone().unwrap_or_default(),
                message: unscheduled.message.clone().unwrap_or_default(),
            });
        }
        self.containers().find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.clone()?;
            // Every container waits so before it is its turn.
            if matches!(reason.as_str(), "PodInitializing" | "ContainerCreating") {
                return None;
            }
            let message = waiting.message.clone().unwrap_or_default();
            let message = format!("container {}: {reason}: {message}", container.name);
            Some(Waiting { message: message.trim_end_matches([':', ' ']).to_owned(), reason })
        })
    }

    /// How long each stage took, of a pod that is ready. The API's timestamps are whole seconds.
    fn stages(&self) -> Vec<(Stage, u64)> {
        let Some(ready_ms) = self.condition_since("Ready") else { return Vec::new() };
        let ended_ms = |name| -> Option<u64> {
            let ended = self.init_container(name)?.state.as_ref()?.terminated.as_ref()?;
            ended.finished_at.as_ref().map(millis)
        };
        let init_started_ms = self
            .init_container(INIT_ROOTFS)
            .and_then(|init| init.state.as_ref()?.terminated.as_ref()?.started_at.as_ref().map(millis));
        let ends = [
            self.condition_since("PodScheduled"),
            init_started_ms,
            ended_ms(INIT_ROOTFS),
            ended_ms(NETWORK_SETUP),
            self.vm_started_ms(),
            Some(ready_ms),
        ];
        let mut from_ms = self.created_ms;
        let mut stages = Vec::new();
        for (stage, end_ms) in Stage::ALL.into_iter().zip(ends) {
            let Some(end_ms) = end_ms else { continue };
            stages.push((stage, end_ms.saturating_sub(from_ms)));
            from_ms = from_ms.max(end_ms);
        }
        stages
    }

    fn vm_started_ms(&self) -> Option<u64> {
        self.container(VM)?.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(millis)
    }

    fn all_started(&self) -> bool {
        let containers = self.status.container_statuses.as_deref().unwrap_or_default();
        let runs = |one: &ContainerStatus| one.state.as_ref().is_some_and(|state| state.running.is_some());
        !containers.is_empty() && containers.iter().all(runs)
    }

    /// Since when a condition is true, in milliseconds since the epoch.
    fn condition_since(&self, condition: &str) -> Option<u64> {
        self.condition(condition, "True")
    }

    fn condition(&self, condition: &str, wanted: &str) -> Option<u64> {
        let conditions = self.status.conditions.as_deref().unwrap_or_default();
        let found = conditions.iter().find(|one| one.type_ == condition && one.status == wanted)?;
        Some(found.last_transition_time.as_ref().map_or(self.created_ms, millis))
    }

    fn container(&self, name: &str) -> Option<&'a ContainerStatus> {
        self.status.container_statuses.as_deref().unwrap_or_default().iter().find(|one| one.name == name)
    }

    fn init_container(&self, name: &str) -> Option<&'a ContainerStatus> {
        self.status.init_container_statuses.as_deref().unwrap_or_default().iter().find(|one| one.name == name)
    }

    fn containers(&self) -> impl Iterator<Item = &'a ContainerStatus> {
        let init = self.status.init_container_statuses.as_deref().unwrap_or_default();
        init.iter().chain(self.status.container_statuses.as_deref().unwrap_or_default())
    }
}
