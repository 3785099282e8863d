//! The components of a session, by the names of the lab pod's containers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A process of the session, or its machine's console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The session's supervisor.
    Supervisor,
    /// Prepares the disk.
    InitRootfs,
    /// Prepares the network.
    NetworkSetup,
    /// Runs the machine.
    FirecrackerVm,
    /// The web terminal.
    TerminalSidecar,
    /// The editor.
    CodeServer,
    /// The machine's serial console.
    Console,
}

/// All components, in the order in which they start.
pub const COMPONENTS: [Component; 7] = [
    Component::Supervisor,
    Component::InitRootfs,
    Component::NetworkSetup,
    Component::FirecrackerVm,
    Component::TerminalSidecar,
    Component::CodeServer,
    Component::Console,
];

impl Component {
    /// The container's name in the lab pod.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::InitRootfs => "init-rootfs",
            Self::NetworkSetup => "network-setup",
            Self::FirecrackerVm => "firecracker-vm",
            Self::TerminalSidecar => "terminal-sidecar",
            Self::CodeServer => "code-server",
            Self::Console => "console",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The word names no component.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no component: use supervisor, init-rootfs, network-setup, firecracker-vm, terminal-sidecar, \
     code-server or console"
)]
pub struct UnknownComponent(String);

impl FromStr for Component {
    type Err = UnknownComponent;

    fn from_str(word: &str) -> Result<Self, UnknownComponent> {
        // The short forms are what one types.
        let known = match word {
            "vm" => Some(Self::FirecrackerVm),
            "terminal" => Some(Self::TerminalSidecar),
            "editor" => Some(Self::CodeServer),
            other => COMPONENTS.into_iter().find(|component| component.as_str() == other),
        };
        known.ok_or_else(|| UnknownComponent(word.to_owned()))
    }
}
