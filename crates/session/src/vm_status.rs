//! How the VM's supervisor (`dozlab vm`) tells its neighbours how the VM is: one small JSON file, replaced atomically.
//!
//! The terminal reads it to know when to connect and what to tell the learner; the local runtime reads it to show
//! progress and to record how long each stage took.

use serde::{Deserialize, Serialize};

use crate::guest_config::GuestStage;

/// The state of the VM as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmStatus {
    /// Where the VM is in its life.
    pub state: VmState,
    /// How often the VM was started in this session: 1 at first, one more for each `reboot` or crash.
    pub boot: u32,
    /// The hypervisor and accelerator in use, for a person (`QEMU with TCG`).
    pub hypervisor: String,
    /// When the hypervisor process of this boot was started, in milliseconds since the epoch.
    pub started_ms: u64,
    /// When each stage of this boot was seen on the serial console, in milliseconds since the epoch, in order.
    pub stages: Vec<(GuestStage, u64)>,
    /// Why the VM is in this state, where there is something to say; for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the VM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VmState {
    /// The hypervisor runs, the guest's SSH server does not answer yet.
    Booting,
    /// The guest said that its SSH server listens.
    Ready,
    /// The VM went down and will be started again: a reboot, or a crash.
    Restarting,
    /// The guest powered itself off, or was told to; nothing starts it again.
    Stopped,
    /// The VM cannot be run; `reason` says why.
    Failed,
}

impl VmStatus {
    /// When this boot reached a stage, in milliseconds since the epoch.
    #[must_use]
    pub fn reached(&self, stage: GuestStage) -> Option<u64> {
        self.stages.iter().find(|(seen, _)| *seen == stage).map(|(_, when)| *when)
    }
}
