//! Which hypervisor can run Linux here? Asked by booting our own kernel to the guest's first line.
//!
//! `/dev/kvm` can exist, open, create a machine and run a toy guest, and still never boot Linux: hosts that
//! are virtual machines themselves do that. So each candidate boots the real kernel with the real guest
//! program, within a deadline. The verdict is remembered for this host, kernel and hypervisor; anything that
//! changes one of them asks again.

mod kind;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dozlab_boot::{Kernel, write_probe_initramfs};
use dozlab_process::Workspace;
use dozlab_session::guest_config::PROBE_PARAMETER;
use serde::{Deserialize, Serialize};

use crate::console::{Console, ConsoleEvent};
use crate::firecracker::Firecracker;
use crate::hypervisor::{Hypervisor, RunningVm};
use crate::machine::{Machine, NetworkBackend};
use crate::qemu::Qemu;

pub use kind::{Accelerator, Choice, HypervisorKind, UnknownHypervisor};

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

/// How the folders begin in which probes are put together.
const FOLDER_PREFIX: &str = "dozlab-probe-";

/// Removes the folders that probes left when they were killed; returns them.
///
/// # Errors
/// The system's refusal to list the temporary folder.
pub fn sweep() -> io::Result<Vec<PathBuf>> {
    Workspace::sweep(&std::env::temp_dir(), FOLDER_PREFIX)
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
        let temporary = std::env::temp_dir();
        let folder = Workspace::create(&temporary, FOLDER_PREFIX);
        let folder = folder.map_err(|error| self.prepare_error(&temporary, &error))?;
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
    /// kernel and what is in its initramfs.
    fn key(&self, kind: HypervisorKind, program: &Path) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let Kernel { release, .. } = self.kernel;
        format!(
            "{} {} {} kernel {release} {} initramfs {} host {}",
            kind.as_str(),
            program.display(),
            file_identity(program),
            file_identity(&self.kernel.vmlinux()),
            self.kernel.initramfs_checksum(),
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

/// What another version of a file has another of. Its content would do too, and take as long to hash as a probe boots.
fn file_identity(path: &Path) -> String {
    let found = fs::metadata(path).map(|file| (file.len(), file.mtime(), file.mtime_nsec(), file.ino()));
    let (length, seconds, nanoseconds, inode) = found.unwrap_or_default();
    format!("{length} {seconds}.{nanoseconds} {inode}")
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
