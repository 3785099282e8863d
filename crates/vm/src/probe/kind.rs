//! The hypervisors that there are, and the words for them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::firecracker::Firecracker;
use crate::qemu::QEMU;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// Emulation.
    Tcg,
}

/// A hypervisor with its accelerator, in the order in which they are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HypervisorKind {
    /// Firecracker, which needs KVM.
    Firecracker,
    /// QEMU with KVM.
    QemuKvm,
    /// QEMU with TCG.
    QemuTcg,
}

impl HypervisorKind {
    /// All kinds, the preferred first.
    pub const ALL: [Self; 3] = [Self::Firecracker, Self::QemuKvm, Self::QemuTcg];

    /// The word for it on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::QemuKvm => "qemu-kvm",
            Self::QemuTcg => "qemu-tcg",
        }
    }

    /// How long it may take to the guest's first line. With KVM that is a fraction of a second; emulation
    /// takes 2 s on an idle machine.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Firecracker | Self::QemuKvm => Duration::from_secs(8),
            Self::QemuTcg => Duration::from_secs(90),
        }
    }

    /// The program that it would run.
    pub(super) fn program(self) -> Result<PathBuf, String> {
        match self {
            Self::Firecracker => {
                Firecracker::new().map(|found| found.program().to_owned()).map_err(|e| e.to_string())
            }
            Self::QemuKvm | Self::QemuTcg => QEMU.find().ok_or_else(|| {
                format!("{} is not installed: run `apt-get install {}`", QEMU.program, QEMU.package)
            }),
        }
    }

    /// Whether a user-mode network can be had with it, which needs no privilege.
    #[must_use]
    pub fn has_user_network(self) -> bool {
        self != Self::Firecracker
    }
}

impl fmt::Display for HypervisorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Firecracker => "Firecracker",
            Self::QemuKvm => "QEMU with KVM",
            Self::QemuTcg => "QEMU with TCG",
        })
    }
}

/// What was asked for: one kind, or the best that works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The first of [`HypervisorKind::ALL`] that boots.
    #[default]
    Auto,
    /// QEMU, with KVM where that boots.
    Qemu,
    /// This one.
    #[serde(untagged)]
    Only(HypervisorKind),
}

impl Choice {
    /// The kinds to try, in order.
    pub(super) fn candidates(self) -> Vec<HypervisorKind> {
        match self {
            Self::Auto => HypervisorKind::ALL.to_vec(),
            Self::Qemu => vec![HypervisorKind::QemuKvm, HypervisorKind::QemuTcg],
            Self::Only(kind) => vec![kind],
        }
    }
}

/// The word names no hypervisor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no hypervisor: use auto, firecracker, qemu, qemu-kvm or qemu-tcg")]
pub struct UnknownHypervisor(String);

impl FromStr for Choice {
    type Err = UnknownHypervisor;

    fn from_str(word: &str) -> Result<Self, UnknownHypervisor> {
        match word {
            "auto" => Ok(Self::Auto),
            "qemu" => Ok(Self::Qemu),
            other => {
                let kind = HypervisorKind::ALL.into_iter().find(|kind| kind.as_str() == other);
                kind.map(Self::Only).ok_or_else(|| UnknownHypervisor(other.to_owned()))
            }
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Qemu => "qemu",
            Self::Only(kind) => kind.as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_a_choice_read_back() {
        for word in ["auto", "qemu", "firecracker", "qemu-kvm", "qemu-tcg"] {
            let choice: Choice = word.parse().unwrap();
            assert_eq!(choice.to_string(), word);
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(json, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<Choice>(&json).unwrap(), choice);
        }
        assert!("xen".parse::<Choice>().unwrap_err().to_string().contains("qemu-tcg"));
    }

    #[test]
    fn the_best_is_tried_first() {
        assert_eq!(Choice::Auto.candidates(), HypervisorKind::ALL);
        assert_eq!(Choice::Qemu.candidates(), [HypervisorKind::QemuKvm, HypervisorKind::QemuTcg]);
    }
}
