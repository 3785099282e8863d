//! What the host tells the guest, and what the guest says back on its serial console.
//!
//! The configuration is one JSON file, [`CONFIG_PATH`], in a small cpio archive that the host appends to the initramfs
//! for this session alone. It carries the VM's SSH host key, so it never travels on the kernel command line. What
//! changes with each boot of the same session (the time) does: see [`TIME_PARAMETER`].

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the guest finds its configuration, inside the initramfs.
pub const CONFIG_PATH: &str = "/dozlab/config.json";

/// Kernel command line parameter: the host's clock when the VM was launched, in seconds since the epoch with a decimal
/// fraction (`dozlab.time=1764000000.250`). MicroVMs have no real-time clock.
pub const TIME_PARAMETER: &str = "dozlab.time";

/// Kernel command line parameter without a value: say the first line, then power off. The host boots this to learn
/// whether a hypervisor can run Linux at all.
pub const PROBE_PARAMETER: &str = "dozlab.probe";

/// Everything the guest needs to become this session's machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestConfig {
    /// The session's id, shown to the learner and in logs.
    pub session_id: String,
    /// Host name of the VM.
    pub hostname: String,
    /// The user that SSH logs in as. Must exist in the image's `/etc/passwd`; `root` always does.
    pub user: String,
    /// The session's public key, one OpenSSH `authorized_keys` line.
    pub authorized_key: String,
    /// The VM's SSH host key, an OpenSSH private key in PEM. The host pins its public half.
    pub host_key: String,
    /// `/etc/machine-id`: 32 lower-case hexadecimal digits, stable for the session's life.
    pub machine_id: String,
    /// Seed for the guest's random number generator, hexadecimal, at least 32 bytes.
    pub entropy: String,
    /// Address, route and resolvers of the VM's one interface.
    pub network: GuestNetwork,
    /// The block device that holds the root file system, for example `/dev/vda`.
    pub root_device: String,
    /// A writable ext4 device with the folders `upper/` and `work/`, for example `/dev/vdb`. The root device is then only
    /// read, and the root is the two, one laid over the other. Without it the root device itself is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_device: Option<String>,
    /// A read-only ext4 device with the kernel's modules, mounted on `/lib/modules/RELEASE`, for example `/dev/vdb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules_device: Option<String>,
}

/// Shows everything but the host key and the entropy.
impl fmt::Debug for GuestConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GuestConfig")
            .field("session_id", &self.session_id)
            .field("hostname", &self.hostname)
            .field("user", &self.user)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// The VM's one interface, configured statically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestNetwork {
    /// The VM's address; `172.16.0.2` in every lab pod.
    pub address: Ipv4Addr,
    /// Length of the network prefix, `24` in every lab pod.
    pub prefix: u8,
    /// Default gateway; `172.16.0.1` in every lab pod.
    pub gateway: Ipv4Addr,
    /// Resolvers for `/etc/resolv.conf`, in order of preference.
    pub dns: Vec<Ipv4Addr>,
}

/// A step of the guest's start, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestStage {
    /// The guest program runs: the first line it prints.
    Start,
    /// The kernel's modules that stand between us and the disk are loaded.
    Modules,
    /// The root file system is mounted.
    Root,
    /// The interface has its address and route.
    Network,
    /// The SSH server listens: a prompt can be had.
    Ssh,
    /// The image's init takes over as process 1, or the guest program stays that.
    Init,
    /// The start failed; the detail says why. The VM powers off after it.
    Failed,
}

impl GuestStage {
    /// All stages in order.
    pub const ALL: [GuestStage; 7] =
        [Self::Start, Self::Modules, Self::Root, Self::Network, Self::Ssh, Self::Init, Self::Failed];

    /// The word on the serial console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Modules => "modules",
            Self::Root => "root",
            Self::Network => "network",
            Self::Ssh => "ssh",
            Self::Init => "init",
            Self::Failed => "failed",
        }
    }
}

/// The word was none of the stages'.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a stage of the guest's start")]
pub struct UnknownStage(String);

impl FromStr for GuestStage {
    type Err = UnknownStage;

    fn from_str(word: &str) -> Result<Self, UnknownStage> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str() == word)
            .ok_or_else(|| UnknownStage(word.to_owned()))
    }
}

/// One line of the guest program on the serial console: `dozlab-guest 1.234 ssh: listening on port 22`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLine {
    /// Milliseconds since the guest's kernel started, by its own clock.
    pub uptime_ms: u64,
    /// The stage that was reached.
    pub stage: GuestStage,
    /// What was done, for a person.
    pub detail: String,
}

impl fmt::Display for GuestLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.uptime_ms / 1000, self.uptime_ms % 1000);
        write!(formatter, "dozlab-guest {seconds}.{millis:03} {}: {}", self.stage.as_str(), self.detail)
    }
}

impl GuestLine {
    /// Reads a line of the serial console; `None` where the line is somebody else's. Text before the marker is passed
    /// over, because the kernel or a firmware may have left an unfinished line on the console.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("dozlab-guest ")?;
        let (uptime, rest) = rest.split_once(' ')?;
        let (stage, detail) = rest.split_once(": ")?;
        let (seconds, millis) = uptime.split_once('.')?;
        if millis.len() != 3 {
            return None;
        }
        let uptime_ms = seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(millis.parse().ok()?)?;
        Some(Self { uptime_ms, stage: stage.parse().ok()?, detail: detail.trim_end().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_survives_the_console() {
        let line =
            GuestLine { uptime_ms: 4_205, stage: GuestStage::Ssh, detail: "listening on port 22".into() };
        assert_eq!(line.to_string(), "dozlab-guest 4.205 ssh: listening on port 22");
        assert_eq!(GuestLine::parse(&format!("\u{1b}[0m{line}\r\n")), Some(line));
    }

    #[test]
    fn other_lines_are_not_ours() {
        for line in ["", "login:", "dozlab-guest", "dozlab-guest 1.2 ssh: x", "dozlab-guest 1.234 lunch: x"] {
            assert_eq!(GuestLine::parse(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in ".*") {
            let _ = GuestLine::parse(&line);
        }

        #[test]
        fn every_line_reads_back(uptime_ms in 0u64..u64::MAX / 2000, stage in 0usize..7, detail in "[ -~]{0,60}") {
            let line = GuestLine { uptime_ms, stage: GuestStage::ALL[stage], detail: detail.trim_end().to_owned() };
            prop_assert_eq!(GuestLine::parse(&line.to_string()), Some(line));
        }
    }
}
