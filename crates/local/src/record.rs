//! What is known of a session: `session.json` in its folder, replaced atomically with each change.
//!
//! It holds no secrets. The supervisor writes it; every other command reads it.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use dozlab_process::Identity;
use dozlab_rootfs::disk::Strategy;
use dozlab_session::plan::Plan;
use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::launch::{Asked, Means, Network};

/// Where a session is in its life on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionState {
    /// It was made, or is on its way to a prompt.
    Starting,
    /// A prompt can be had.
    Running,
    /// It ended and kept its disk; `dozlab up --name NAME` starts it again.
    Stopped,
    /// It could not be started or kept running; the reason is in the record.
    Failed,
}

impl SessionState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// A step on the way to a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The kernel is there.
    Kernel,
    /// A hypervisor was chosen.
    Hypervisor,
    /// The image is there.
    Image,
    /// The session's disk is ready.
    Disk,
    /// The network is ready.
    Network,
    /// The hypervisor's process runs.
    Vm,
    /// The guest said its first line.
    Guest,
    /// The guest's SSH server listens.
    Ssh,
    /// The terminal has logged in: a prompt can be had.
    Terminal,
    /// The editor answers. Nobody waits for it: the time is from the machine's start, with the installation where the
    /// editor had to be installed.
    Editor,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 10] = [
        Self::Kernel,
        Self::Hypervisor,
        Self::Image,
        Self::Disk,
        Self::Network,
        Self::Vm,
        Self::Guest,
        Self::Ssh,
        Self::Terminal,
        Self::Editor,
    ];

    /// What was achieved, for a person.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Kernel => "kernel ready",
            Self::Image => "image ready",
            Self::Hypervisor => "hypervisor chosen",
            Self::Disk => "disk ready",
            Self::Network => "network ready",
            Self::Vm => "hypervisor started",
            Self::Guest => "guest started",
            Self::Ssh => "SSH ready",
            Self::Terminal => "terminal ready",
            Self::Editor => "editor ready",
        }
    }
}

/// A session as the supervisor last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    /// The plan it was made from.
    pub plan: Plan,
    /// The user that a learner is in the VM.
    pub user: String,
    /// The digest of the image its disk came from.
    pub image_digest: String,
    /// How its disk came from that image.
    #[serde(default = "one_file")]
    pub disk: Strategy,
    /// How its network is made.
    pub network: Network,
    /// Where it is in its life.
    pub state: SessionState,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether there ever was a prompt. A session that never had one holds nothing of a learner's.
    #[serde(default = "yes")]
    pub had_prompt: bool,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// When it was last started, in milliseconds since the epoch.
    pub started_ms: u64,
    /// How long each stage of the last start took, in milliseconds.
    pub stages: BTreeMap<Stage, u64>,
    /// Where the terminal listens.
    pub terminal: SocketAddrV4,
    /// Where the editor listens, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub editor: Option<SocketAddrV4>,
    /// Where the VM's SSH server is reached.
    pub ssh: SocketAddrV4,
    /// The processes, so that they can be found after a crash.
    #[serde(default)]
    pub processes: BTreeMap<Component, Identity>,
    /// The hypervisor in use, for a person.
    pub hypervisor: String,
    /// What it runs with.
    pub means: Means,
    /// What was asked for and is asked for again at the next start.
    #[serde(default)]
    pub asked: Asked,
}

fn yes() -> bool {
    true
}

/// What earlier versions made.
fn one_file() -> Strategy {
    Strategy::Copy
}

impl SessionRecord {
    /// The session's name: its id.
    #[must_use]
    pub fn name(&self) -> &str {
        self.plan.session_id.as_str()
    }
}
