//! The settings of the container `firecracker-vm`, from its environment.
//!
//! Names and defaults are those of existing lab pods; what they did not have has a default that leaves them
//! working.

mod guest;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use dozlab_boot::{InitramfsError, Kernel, write_initramfs};
use dozlab_network::EgressFilter;
use dozlab_network::egress::Network;
use dozlab_network::relay::Relay;
use dozlab_session::cpu::Vcpus;
use dozlab_session::defaults;
use dozlab_session::plan::Egress;
use dozlab_session::size::ByteSize;
use rustix::fs::{FlockOperation, flock};

use crate::machine::{Machine, NetworkBackend};
use crate::probe::{Choice, HypervisorKind};
use crate::run_folder;
use crate::socket_folder::SocketFolder;

pub(crate) use guest::HOST_KEY_VARIABLE;
pub use guest::{Guest, GuestVariables};

/// How long the guest may take to power off in order.
const DEFAULT_GRACE: Duration = Duration::from_secs(15);

/// What existing lab pods name files with to save a machine in when they end, and to load it from.
const SNAPSHOT: [&str; 2] = ["SNAPSHOT_PATH", "MEM_FILE_PATH"];

/// Everything that `dozlab vm` is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ROOTFS_PATH`: the session's disk, or the image that it lies over. Required.
    pub disk: PathBuf,
    /// `WRITABLE_DISK_PATH`: the session's disk where that lies over the image at `ROOTFS_PATH`, which is then only
    /// read. Default: none.
    pub writable_disk: Option<PathBuf>,
    /// `KERNEL_PATH`: the `vmlinux` in a folder that `dozlab kernel import` prepared, or any other uncompressed ELF
    /// kernel that has built in what it needs; `/find/vmlinux.bin`.
    pub kernel: PathBuf,
    /// `GUEST_CONFIG`, or the variables that take its place: what the guest is to become.
    pub guest: Guest,
    /// `CPU_COUNT`: virtual CPUs; 1.
    pub vcpus: Vcpus,
    /// `MEMORY`: memory in MiB; 1024.
    pub memory: ByteSize,
    /// `HYPERVISOR`: `auto`, `firecracker`, `qemu`, `qemu-kvm`, `qemu-tcg`.
    pub hypervisor: Choice,
    /// `SSH_FORWARD`: where to listen for connections to the guest's SSH server, with a user-mode network.
    /// Without it the network is the tap device `TAP_DEVICE_NAME`.
    pub ssh_forward: Option<SocketAddrV4>,
    /// `SOCKET_PATH`: where Firecracker listens for calls of its API; `firecracker.sock` in the run folder.
    pub api_socket: Option<PathBuf>,
    /// The variables `SNAPSHOT_PATH` and `MEM_FILE_PATH`, as far as they are set: nothing is done with them.
    pub snapshot: Vec<&'static str>,
    /// `TAP_DEVICE_NAME`: the tap device; `tap0`.
    pub tap: String,
    /// `EGRESS`: how far the guest may reach, with a user-mode network: `internet`, `open`, `none`.
    pub egress: Egress,
    /// `RUN_DIR`: a folder for sockets; `/tmp/dozlab`, which must be ours alone.
    pub run_folder: PathBuf,
    /// `CACHE_DIR`: where verdicts about hypervisors are remembered; the run folder.
    pub cache_folder: PathBuf,
    /// `CONSOLE_LOG`: where the serial console is kept; `console.log` in the run folder.
    pub console_log: PathBuf,
    /// `VM_STATUS_PATH`: where the machine's state is published; `vm-status.json` in the run folder.
    pub status: PathBuf,
    /// `STOP_GRACE_SECONDS`: how long the guest may take to power off; 15.
    pub grace: Duration,
}

/// The environment does not describe a machine, or what it names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable is missing.
    #[error("{variable} is not set: {meaning}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What it should name.
        meaning: &'static str,
    },
    /// A variable's value does not fit.
    #[error("{variable} is `{value}`: {reason}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that a variable names cannot be used.
    #[error("cannot use {path}, which {variable} names: {reason}")]
    File {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The initramfs cannot be written.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
}

impl Settings {
    /// Reads the settings. An empty variable counts as unset, as it does to a shell's `${NAME:-default}`.
    ///
    /// # Errors
    /// [`SettingsError::Missing`], [`SettingsError::Invalid`].
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let variable = |name: &'static str| lookup(name).filter(|value| !value.is_empty());
        let required = |name: &'static str, meaning: &'static str| {
            variable(name).ok_or(SettingsError::Missing { variable: name, meaning }).map(PathBuf::from)
        };
        let run_folder = PathBuf::from(variable("RUN_DIR").unwrap_or_else(|| run_folder::DEFAULT.into()));
        let path = |name: &'static str, default: &str| {
            variable(name).map_or_else(|| run_folder.join(default), PathBuf::from)
        };
        let memory = variable("MEMORY")
            .map(|value| ByteSize::from_memory(&value).map_err(|error| invalid("MEMORY", &value, &error)));
        Ok(Self {
            disk: required("ROOTFS_PATH", "it should name the disk that init-rootfs prepared")?,
            writable_disk: variable("WRITABLE_DISK_PATH").map(PathBuf::from),
            kernel: variable("KERNEL_PATH").unwrap_or_else(|| "/find/vmlinux.bin".into()).into(),
            guest: Guest::from_env(variable)?,
            vcpus: parsed("CPU_COUNT", variable("CPU_COUNT"))?.unwrap_or(Vcpus::ONE),
            memory: memory.transpose()?.unwrap_or(defaults::MEMORY),
            hypervisor: parsed("HYPERVISOR", variable("HYPERVISOR"))?.unwrap_or_default(),
            ssh_forward: parsed("SSH_FORWARD", variable("SSH_FORWARD"))?,
            api_socket: variable("SOCKET_PATH").map(PathBuf::from),
            snapshot: SNAPSHOT.into_iter().filter(|name| variable(name).is_some()).collect(),
            tap: variable("TAP_DEVICE_NAME").unwrap_or_else(|| defaults::TAP_NAME.to_owned()),
            egress: parsed("EGRESS", variable("EGRESS"))?.unwrap_or_default(),
            cache_folder: variable("CACHE_DIR").map_or_else(|| run_folder.clone(), PathBuf::from),
            console_log: path("CONSOLE_LOG", "console.log"),
            status: path("VM_STATUS_PATH", "vm-status.json"),
            grace: parsed("STOP_GRACE_SECONDS", variable("STOP_GRACE_SECONDS"))?
                .map_or(DEFAULT_GRACE, Duration::from_secs),
            run_folder,
        })
    }

    /// What was asked for and cannot be had with this hypervisor, a sentence each.
    #[must_use]
    pub fn without_effect(&self, kind: HypervisorKind) -> Vec<String> {
        let mut sentences = Vec::new();
        if !self.snapshot.is_empty() {
            let names = self.snapshot.join(" and ");
            let verb = if self.snapshot.len() == 1 { "has" } else { "have" };
            sentences.push(format!(
                "{names} {verb} no effect: a machine is neither saved nor loaded, it powers off in order and boots \
                 from its disk, which keeps what was written"
            ));
        }
        if self.api_socket.is_some() && kind != HypervisorKind::Firecracker {
            sentences.push(format!("SOCKET_PATH has no effect: {kind} has no API of Firecracker's"));
        }
        sentences
    }

    /// Reads the kernel that the settings name. One that nobody prepared gets what belongs to it in the run folder.
    ///
    /// # Errors
    /// [`SettingsError::File`].
    pub fn read_kernel(&self) -> Result<Kernel, SettingsError> {
        let folder = self.kernel.parent().unwrap_or(Path::new("."));
        let kernel = if folder.join("kernel.json").exists() {
            Kernel::read(folder)
        } else {
            Kernel::bare(&self.kernel, &self.run_folder.join("kernel"))
        };
        kernel.map_err(|error| file("KERNEL_PATH", &self.kernel, &error))
    }

    /// Makes the run folder, which everything else needs.
    ///
    /// # Errors
    /// [`SettingsError::File`], also where it is in a public place and not ours alone.
    pub fn make_run_folder(&self) -> Result<(), SettingsError> {
        let is_public = self.run_folder == Path::new(run_folder::DEFAULT);
        let made = if is_public { run_folder::make_private } else { run_folder::make };
        made(&self.run_folder).map_err(|error| file("RUN_DIR", &self.run_folder, &error))
    }

    /// Puts the machine together in its run folder: writes its initramfs, and serves the egress filter where the network
    /// needs one.
    ///
    /// # Errors
    /// [`SettingsError::File`], [`SettingsError::Initramfs`].
    pub fn prepare(&self, kernel: &Kernel) -> Result<Machine, SettingsError> {
        let run = |error: std::io::Error| file("RUN_DIR", &self.run_folder, &error);
        let disks = [("ROOTFS_PATH", Some(&self.disk)), ("WRITABLE_DISK_PATH", self.writable_disk.as_ref())];
        for (variable, path) in disks {
            if let Some(path) = path.filter(|path| !path.is_file()) {
                let error = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(file(variable, path, &error));
            }
        }
        let mut config = self.guest.config(kernel)?;
        let network = match self.ssh_forward {
            None => NetworkBackend::Tap { name: self.tap.clone() },
            Some(ssh_forward) => {
                let (gateway, vm) = (config.network.gateway, config.network.address);
                let resolver = defaults::USER_NETWORK_RESOLVER;
                self.serve_egress(gateway, vm, resolver).map_err(run)?;
                NetworkBackend::User { gateway, resolver, vm, ssh_forward }
            }
        };
        let modules_disk = kernel.modules_disk().filter(|_| config.modules_device.is_some());
        // Who attaches the disks knows what they are called in the guest.
        let mut devices = ["/dev/vda", "/dev/vdb", "/dev/vdc"].into_iter().map(str::to_owned);
        config.root_device = devices.next().expect("there are three");
        config.overlay_device = self.writable_disk.as_ref().and_then(|_| devices.next());
        config.modules_device = modules_disk.as_ref().and_then(|_| devices.next());
        let initramfs = self.run_folder.join("initramfs");
        write_initramfs(kernel, &config, &initramfs)?;
        let memory_mib = u32::try_from(self.memory.as_mib()).unwrap_or(u32::MAX);
        Ok(Machine {
            kernel: self.kernel.clone(),
            initramfs,
            disk: Some(self.disk.clone()),
            writable_disk: self.writable_disk.clone(),
            modules_disk,
            vcpus: self.vcpus.get(),
            memory_mib,
            network,
            kernel_parameters: Vec::new(),
            run_folder: self.run_folder.clone(),
        })
    }

    /// Holds the image below a writable disk: an image store does not let go of it while the returned file is open.
    /// `None` for a machine whose disk is its own.
    ///
    /// # Errors
    /// [`SettingsError::File`].
    pub fn hold_image(&self) -> Result<Option<File>, SettingsError> {
        if self.writable_disk.is_none() {
            return Ok(None);
        }
        let unusable = |error: std::io::Error| file("ROOTFS_PATH", &self.disk, &error);
        let image = File::open(&self.disk).map_err(unusable)?;
        flock(&image, FlockOperation::LockShared).map_err(|error| unusable(error.into()))?;
        Ok(Some(image))
    }

    fn serve_egress(&self, gateway: Ipv4Addr, guest: Ipv4Addr, resolver: Ipv4Addr) -> std::io::Result<()> {
        let sockets = SocketFolder::open(&self.run_folder)?;
        let (from_guest, to_network) = (NetworkBackend::FROM_GUEST, NetworkBackend::TO_NETWORK);
        let relay = Relay::bind(&sockets.path(from_guest), &sockets.path(to_network))?;
        relay.serve(EgressFilter {
            policy: self.egress,
            guest,
            gateway,
            subnet: Network { address: gateway, prefix: defaults::NETWORK_PREFIX },
            resolver: Some(resolver),
            host: Vec::new(),
        })
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(
    variable: &'static str,
    value: Option<String>,
) -> Result<Option<T>, SettingsError> {
    value.map(|value| value.parse().map_err(|error| invalid(variable, &value, &error))).transpose()
}

fn invalid(variable: &'static str, value: &str, reason: &dyn std::fmt::Display) -> SettingsError {
    SettingsError::Invalid { variable, value: value.to_owned(), reason: reason.to_string() }
}

fn file(variable: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> SettingsError {
    SettingsError::File { variable, path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let needed = [("ROOTFS_PATH", "/d"), ("GUEST_CONFIG", "/c")];
        let all: Vec<_> = variables.iter().chain(&needed).collect();
        Settings::from_env(|name| {
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_seeds_variables_have_the_seeds_defaults() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.vcpus.get(), settings.memory.as_mib()), (1, 1024));
        assert_eq!((settings.tap.as_str(), settings.ssh_forward), ("tap0", None));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        assert!(settings(&[]).unwrap().without_effect(HypervisorKind::QemuTcg).is_empty());
        let all = [("SOCKET_PATH", "/s"), ("SNAPSHOT_PATH", "/a"), ("MEM_FILE_PATH", "/b")];
        let settings = settings(&all).unwrap();
        let [snapshot, socket] = &settings.without_effect(HypervisorKind::QemuKvm)[..] else {
            panic!("two things have no effect");
        };
        assert!(snapshot.starts_with("SNAPSHOT_PATH and MEM_FILE_PATH have no effect: "), "{snapshot}");
        assert_eq!(socket, "SOCKET_PATH has no effect: QEMU with KVM has no API of Firecracker's");
        assert_eq!(settings.without_effect(HypervisorKind::Firecracker), [snapshot.as_str()]);
    }

    #[test]
    fn a_kernel_without_a_description_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (vmlinux, run) = (path("vmlinux.bin"), path("run"));
        let settings = settings(&[("KERNEL_PATH", &vmlinux), ("RUN_DIR", &run)]).unwrap();
        let error = settings.read_kernel().unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot use {vmlinux}, which KERNEL_PATH names: ")), "{error}");
        std::fs::write(&vmlinux, b"\x7fELF Linux version 6.1.155 (me)").unwrap();
        assert_eq!(settings.read_kernel().unwrap().release, "6.1.155");
    }

    #[test]
    fn the_disk_must_be_named() {
        let error = Settings::from_env(|_| None).unwrap_err().to_string();
        assert_eq!(error, "ROOTFS_PATH is not set: it should name the disk that init-rootfs prepared");
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable() {
        let error = settings(&[("CPU_COUNT", "33")]).unwrap_err().to_string();
        assert!(error.starts_with("CPU_COUNT is `33`: "), "{error}");
        let error = settings(&[("HYPERVISOR", "xen")]).unwrap_err().to_string();
        assert!(error.contains("qemu-tcg"), "{error}");
    }
}
