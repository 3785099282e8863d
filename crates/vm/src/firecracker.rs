//! Firecracker, the hypervisor for production: needs KVM that works, and a tap device for the network.
//!
//! A machine is configured call by call over its [API](api) and then started. Firecracker opens files when it
//! is told of them, so a missing one is refused at once, with the reason; it never removes its sockets, so
//! ours are removed before each start.

pub mod api;
pub mod resources;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use api::{Api, PROGRAM};
use dozlab_process::{BoundChild, Identity, Signal, Tool};
use resources::{
    Action, ActionType, BootSource, Drive, Entropy, Logger, MachineConfig, Metrics, NetworkInterface,
    VmPatch, VmPatchState, Vsock,
};
use tokio::process::{ChildStdout, Command};

use crate::command_line;
use crate::hypervisor::{ControlError, Hypervisor, LaunchError, RunningVm, VmEnd};
use crate::machine::{Disk, GUEST_MAC, Machine, NetworkBackend};
use crate::settings::HOST_KEY_VARIABLE;
use crate::socket_folder::SocketFolder;

/// The program's name on the `PATH`.
const FIRECRACKER: Tool = Tool { program: "firecracker", package: "firecracker" };

/// Names one binary instead of the one on the `PATH`.
pub const BINARY_VARIABLE: &str = "FIRECRACKER_BIN";

const API_SOCKET: &str = "firecracker.sock";
const VSOCK_SOCKET: &str = "vsock.sock";
const LOG: &str = "firecracker.log";
const METRICS: &str = "firecracker-metrics.json";

/// The guest's vsock context id. Each VM has a socket of its own on the host, so one id serves all.
const GUEST_CID: u32 = 3;

/// What the back end needs on the kernel's command line: `reboot=k` resets through the keyboard controller,
/// which is how Firecracker notices, and there is no PCI.
const KERNEL_PARAMETERS: [&str; 2] = ["reboot=k", "pci=off"];

const START_PATIENCE: Duration = Duration::from_secs(5);

/// Firecracker as found on this machine.
#[derive(Clone, Debug)]
pub struct Firecracker {
    program: PathBuf,
    api_socket: Option<PathBuf>,
}

impl Firecracker {
    /// The binary that `FIRECRACKER_BIN` names, or the one on the `PATH`.
    ///
    /// # Errors
    /// [`LaunchError::Missing`].
    pub fn new() -> Result<Self, LaunchError> {
        let named = std::env::var_os(BINARY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let program = named.or_else(|| FIRECRACKER.find()).ok_or_else(|| LaunchError::Missing {
            program: FIRECRACKER.program.into(),
            remedy: "put its release binary on the PATH, or name it in FIRECRACKER_BIN",
        })?;
        Ok(Self::at(program))
    }

    /// A given binary.
    #[must_use]
    pub fn at(program: PathBuf) -> Self {
        Self { program, api_socket: None }
    }

    /// The same, with its API on this socket instead of one in the machine's run folder.
    #[must_use]
    pub fn with_api_socket(self, path: Option<PathBuf>) -> Self {
        Self { api_socket: path, ..self }
    }

    /// The binary's path.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Hypervisor for Firecracker {
    type Vm = FirecrackerVm;

    fn describe(&self) -> String {
        PROGRAM.into()
    }

    async fn launch(&self, machine: &Machine) -> Result<FirecrackerVm, LaunchError> {
        if let NetworkBackend::User { .. } = machine.network {
            return Err(LaunchError::Network {
                program: PROGRAM,
                network: "user-mode",
                remedy: "use `--network pod` as root, or `--hypervisor qemu`",
            });
        }
        let folder = machine.run_folder.as_path();
        prepare(folder).map_err(|source| LaunchError::File { path: folder.to_owned(), source })?;
        let sockets = SocketFolder::open(folder)
            .map_err(|source| LaunchError::File { path: folder.to_owned(), source })?;
        let api_socket = match &self.api_socket {
            Some(path) => {
                remove_socket(path).map_err(|source| LaunchError::File { path: path.clone(), source })?;
                path.clone()
            }
            None => sockets.path(API_SOCKET),
        };
        let mut command = Command::new(&self.program);
        let listen = self.api_socket.as_deref().unwrap_or(Path::new(API_SOCKET));
        command.arg("--api-sock").arg(listen).args(["--id", "lab"]).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove(HOST_KEY_VARIABLE);
        let mut child =
            BoundChild::spawn(&mut command, Signal::KILL).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => LaunchError::Missing {
                    program: self.program.display().to_string(),
                    remedy: "put the release binary there, or correct FIRECRACKER_BIN",
                },
                _ => LaunchError::Start { program: self.program.display().to_string(), source },
            })?;
        let api = Api::new(api_socket);
        if !answers(&api, &mut child).await? {
            return Err(LaunchError::Ended { program: PROGRAM.into(), message: child.last_words().await });
        }
        configure(&api, machine).await?;
        api.put("/actions", &Action { action_type: ActionType::InstanceStart }).await?;
        let console = child.inner().stdout.take();
        Ok(FirecrackerVm { child, api, console, _sockets: sockets })
    }
}

/// Removes what an earlier run left, and makes the files that Firecracker wants to find.
fn prepare(folder: &Path) -> io::Result<()> {
    for left in [API_SOCKET, VSOCK_SOCKET] {
        remove_socket(&folder.join(left))?;
    }
    for needed in [LOG, METRICS] {
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(folder.join(needed))?;
    }
    Ok(())
}

/// Nothing but a socket is removed: the path may be somebody's choice.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, and no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for the API; false when Firecracker ends first.
async fn answers(api: &Api, child: &mut BoundChild) -> Result<bool, ControlError> {
    let asked = async {
        while let Err(ControlError::Socket { .. }) = api.get("/").await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = child.wait() => Ok(false),
        answered = tokio::time::timeout(START_PATIENCE, asked) => match answered {
            Ok(()) => Ok(true),
            Err(_) => Err(ControlError::NoAnswer {
                program: PROGRAM,
                request: "GET /".into(),
                seconds: START_PATIENCE.as_secs(),
            }),
        }
    }
}

/// Tells Firecracker of the whole machine, in the order in which existing lab pods do, with what they did not
/// use added.
///
/// # Errors
/// The first refusal.
pub async fn configure(api: &Api, machine: &Machine) -> Result<(), ControlError> {
    api.put("/logger", &Logger { log_path: LOG, level: "Warning", show_level: true }).await?;
    api.put("/metrics", &Metrics { metrics_path: METRICS }).await?;
    let boot_args = command_line::compose(&KERNEL_PARAMETERS.map(str::to_owned), &machine.kernel_parameters);
    let source = BootSource {
        kernel_image_path: &machine.kernel.to_string_lossy(),
        initrd_path: Some(&machine.initramfs.to_string_lossy()),
        boot_args: &boot_args,
    };
    api.put("/boot-source", &source).await?;
    for Disk { name, path, is_read_only } in machine.disks() {
        let path_on_host = &path.to_string_lossy();
        let drive = Drive { drive_id: name, path_on_host, is_root_device: false, is_read_only };
        api.put(&format!("/drives/{name}"), &drive).await?;
    }
    let config = MachineConfig { vcpu_count: machine.vcpus, mem_size_mib: machine.memory_mib, smt: false };
    api.put("/machine-config", &config).await?;
    if let NetworkBackend::Tap { name } = &machine.network {
        let interface = NetworkInterface { iface_id: "eth0", host_dev_name: name, guest_mac: GUEST_MAC };
        api.put("/network-interfaces/eth0", &interface).await?;
    }
    api.put("/entropy", &Entropy {}).await?;
    api.put("/vsock", &Vsock { guest_cid: GUEST_CID, uds_path: VSOCK_SOCKET }).await
}

/// A machine that Firecracker runs.
#[derive(Debug)]
pub struct FirecrackerVm {
    child: BoundChild,
    api: Api,
    console: Option<ChildStdout>,
    /// The API's path leads through this open folder.
    _sockets: SocketFolder,
}

impl FirecrackerVm {
    /// Writes Firecracker's metrics to its file now.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn flush_metrics(&self) -> Result<(), ControlError> {
        self.api.put("/actions", &Action { action_type: ActionType::FlushMetrics }).await
    }
}

impl RunningVm for FirecrackerVm {
    fn identity(&self) -> Identity {
        self.child.identity()
    }

    fn take_console(&mut self) -> ChildStdout {
        self.console.take().expect("the console is taken once")
    }

    /// Firecracker ends with 0 when the guest resets, and has no other way to power off; whether the guest
    /// meant to power off is on its console.
    async fn wait(&mut self) -> VmEnd {
        match self.child.wait().await {
            Ok(status) if status.success() => VmEnd::Reset,
            status => VmEnd::Died { status: status.ok(), message: self.child.last_words().await },
        }
    }

    /// There is no power button: Ctrl-Alt-Del makes the guest restart in order, and the process ends with it.
    async fn power_down(&mut self) -> Result<(), ControlError> {
        self.api.put("/actions", &Action { action_type: ActionType::SendCtrlAltDel }).await
    }

    async fn pause(&mut self) -> Result<(), ControlError> {
        self.api.patch("/vm", &VmPatch { state: VmPatchState::Paused }).await
    }

    async fn resume(&mut self) -> Result<(), ControlError> {
        self.api.patch("/vm", &VmPatch { state: VmPatchState::Resumed }).await
    }

    async fn kill(&mut self, grace: Duration) {
        if let Err(error) = self.child.end(grace).await {
            tracing::warn!(%error, "cannot end Firecracker");
        }
    }
}
