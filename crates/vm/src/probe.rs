//! Which hypervisor can run Linux here? Asked by booting our own kernel to the guest's first line.
//!
//! `/dev/kvm` can exist, open, create a machine and run a toy guest, and still never boot Linux: hosts that
//! are virtual machines themselves do that. So each candidate boots the real kernel with the real guest
//! program, within a deadline. The verdict is remembered for this host, kernel and hypervisor; anything that
//! changes one of them asks again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use dozlab_boot::{Kernel, write_probe_initramfs};
use dozlab_session::guest_config::PROBE_PARAMETER;
use serde::{Deserialize, Serialize};

use crate::console::{Console, ConsoleEvent};
use crate::firecracker::Firecracker;
use crate::hypervisor::{Hypervisor, RunningVm};
use crate::machine::{Machine, NetworkBackend};
use crate::qemu::{QEMU, Qemu};

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
    fn patience(self) -> Duration {
        match self {
            Self::Firecracker | Self::QemuKvm => Duration::from_secs(8),
            Self::QemuTcg => Duration::from_secs(90),
        }
    }

    /// The program that it would run.
    fn program(self) -> Result<PathBuf, String> {
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
    fn candidates(self) -> Vec<HypervisorKind> {
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

/// What became of one candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Milliseconds to the guest's first line, or why there was none.
    pub first_line: Result<u64, String>,
    /// Whether a probe was booted for it; what is merely missing is looked for each time and not remembered.
    pub probed: bool,
}

/// No hypervisor can be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// None of the candidates boots.
    #[error("no hypervisor can boot a machine here:\n{}", listed(.0))]
    None(Vec<(HypervisorKind, String)>),
    /// The one asked for has no network of the kind asked for.
    #[error("{0} needs a tap device: use `--network pod` as root, or `--hypervisor qemu`")]
    NoUserNetwork(HypervisorKind),
    /// A file could not be used.
    #[error("cannot prepare a probe in {path}: {message}")]
    Prepare {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

fn listed(reasons: &[(HypervisorKind, String)]) -> String {
    reasons.iter().map(|(kind, reason)| format!("  {kind}: {reason}")).collect::<Vec<_>>().join("\n")
}

/// Asks hypervisors whether they can boot, and remembers what they said.
#[derive(Debug)]
pub struct Prober<'a> {
    kernel: &'a Kernel,
    cache: PathBuf,
    fresh: bool,
}

/// Remembered verdicts, by everything that a verdict is about.
type Cache = BTreeMap<String, Verdict>;

impl<'a> Prober<'a> {
    /// A prober that boots this kernel and remembers verdicts in `cache_folder`. A fresh one asks again
    /// whatever is remembered.
    #[must_use]
    pub fn new(kernel: &'a Kernel, cache_folder: &Path, fresh: bool) -> Self {
        Self { kernel, cache: cache_folder.join("hypervisors.json"), fresh }
    }

    /// The first hypervisor of the choice that can boot.
    ///
    /// # Errors
    /// [`ProbeError`], with the reason for each that cannot.
    pub async fn choose(&self, choice: Choice, user_network: bool) -> Result<HypervisorKind, ProbeError> {
        let mut candidates = choice.candidates();
        if user_network {
            if let Choice::Only(kind) = choice
                && !kind.has_user_network()
            {
                return Err(ProbeError::NoUserNetwork(kind));
            }
            candidates.retain(|kind| kind.has_user_network());
        }
        let mut reasons = Vec::new();
        for kind in candidates {
            match self.verdict(kind).await?.first_line {
                Ok(milliseconds) => {
                    tracing::debug!(%kind, milliseconds, "chosen");
                    return Ok(kind);
                }
                Err(reason) => reasons.push((kind, reason)),
            }
        }
        Err(ProbeError::None(reasons))
    }

    /// Whether one hypervisor can boot.
    ///
    /// # Errors
    /// [`ProbeError::Prepare`] when the question could not even be asked.
    pub async fn verdict(&self, kind: HypervisorKind) -> Result<Verdict, ProbeError> {
        let missing = |reason| Ok(Verdict { first_line: Err(reason), probed: false });
        let program = match kind.program() {
            Ok(program) => program,
            Err(reason) => return missing(reason),
        };
        if kind != HypervisorKind::QemuTcg
            && let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm")
        {
            return missing(why_no_kvm(&error));
        }
        let key = self.key(kind, &program);
        if !self.fresh
            && let Some(verdict) = self.remembered().remove(&key)
        {
            return Ok(verdict);
        }
        let first_line = self.boot(kind).await?;
        let verdict = Verdict { first_line, probed: true };
        self.remember(key, &verdict);
        Ok(verdict)
    }

    async fn boot(&self, kind: HypervisorKind) -> Result<Result<u64, String>, ProbeError> {
        let folder = tempfile::Builder::new().prefix("dozlab-probe-").tempdir();
        let folder = folder.map_err(|error| self.prepare_error(&std::env::temp_dir(), &error))?;
        let initramfs = folder.path().join("initramfs");
        write_probe_initramfs(self.kernel, &initramfs)
            .map_err(|error| self.prepare_error(&initramfs, &error))?;
        let machine = Machine {
            kernel: self.kernel.vmlinux(),
            initramfs,
            disk: None,
            writable_disk: None,
            modules_disk: None,
            vcpus: 1,
            memory_mib: 256,
            network: NetworkBackend::None,
            kernel_parameters: vec![PROBE_PARAMETER.to_owned()],
            run_folder: folder.path().to_owned(),
        };
        tracing::info!(%kind, "booting a probe");
        Ok(match kind {
            HypervisorKind::Firecracker => match Firecracker::new() {
                Ok(hypervisor) => first_line(&hypervisor, &machine, kind.patience()).await,
                Err(error) => Err(error.to_string()),
            },
            HypervisorKind::QemuKvm => boot_qemu(Accelerator::Kvm, &machine, kind.patience()).await,
            HypervisorKind::QemuTcg => boot_qemu(Accelerator::Tcg, &machine, kind.patience()).await,
        })
    }

    fn prepare_error(&self, path: &Path, error: &dyn std::error::Error) -> ProbeError {
        ProbeError::Prepare { path: path.to_owned(), message: error.to_string() }
    }

    /// Everything that a verdict depends on: this boot of the host, its kernel, the hypervisor's binary, our
    /// kernel.
    fn key(&self, kind: HypervisorKind, program: &Path) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let binary = fs::metadata(program).map(|binary| (binary.len(), binary.mtime(), binary.ino()));
        let (length, modified, inode) = binary.unwrap_or_default();
        let (kind, kernel) = (kind.as_str(), &self.kernel.release);
        format!(
            "{kind} {} {length} {modified} {inode} kernel {kernel} host {}",
            program.display(),
            host.trim()
        )
    }

    fn remembered(&self) -> Cache {
        fs::read(&self.cache).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// A verdict that cannot be remembered is only asked for again.
    fn remember(&self, key: String, verdict: &Verdict) {
        let mut cache = self.remembered();
        // Verdicts about another boot of the host are of no use any more.
        let host = key.rsplit(' ').next().unwrap_or_default().to_owned();
        cache.retain(|known, _| known.ends_with(&host));
        cache.insert(key, verdict.clone());
        let written = serde_json::to_vec_pretty(&cache).map_err(io::Error::from).and_then(|text| {
            fs::create_dir_all(self.cache.parent().unwrap_or(Path::new(".")))?;
            let partial = self.cache.with_extension("partial");
            fs::write(&partial, text)?;
            fs::rename(&partial, &self.cache)
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.cache.display(), "cannot remember the verdict");
        }
    }
}

async fn boot_qemu(accelerator: Accelerator, machine: &Machine, patience: Duration) -> Result<u64, String> {
    match Qemu::new(accelerator) {
        Ok(hypervisor) => first_line(&hypervisor, machine, patience).await,
        Err(error) => Err(error.to_string()),
    }
}

/// Milliseconds from the hypervisor's start to the guest's first line.
async fn first_line<H: Hypervisor>(
    hypervisor: &H,
    machine: &Machine,
    patience: Duration,
) -> Result<u64, String> {
    let started = Instant::now();
    let boot = async {
        let mut vm = hypervisor.launch(machine).await.map_err(|error| error.to_string())?;
        let mut console = Console::new(vm.take_console(), None).map_err(|error| error.to_string())?;
        while let Some(event) = console.next().await {
            if let ConsoleEvent::Guest(_) = event {
                vm.kill(Duration::from_millis(200)).await;
                return Ok(());
            }
        }
        let last = console.last_lines().pop().unwrap_or_else(|| "nothing".into());
        Err(format!("it ended before Linux reached our first program; its console said last: {last}"))
    };
    match tokio::time::timeout(patience, boot).await {
        Ok(Ok(())) => Ok(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err(format!("Linux did not reach our first program within {} s", patience.as_secs())),
    }
}

fn why_no_kvm(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no /dev/kvm: switch on virtualisation in the firmware, or nesting where this is \
             a virtual machine"
                .into()
        }
        io::ErrorKind::PermissionDenied => {
            "/dev/kvm may not be opened: add yourself to the group `kvm` (`sudo usermod -aG kvm $USER`) and \
             log in anew"
                .into()
        }
        _ => format!("/dev/kvm does not open: {error}"),
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
