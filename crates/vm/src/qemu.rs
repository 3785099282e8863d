//! QEMU's `microvm`, with KVM where it works and by emulation (TCG) everywhere else.

mod arguments;
mod qmp;
mod tsc;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dozlab_process::{BoundChild, Identity, Signal, Tool};
use tokio::process::{ChildStdout, Command};

use crate::hypervisor::{ControlError, Hypervisor, LaunchError, RunningVm, VmEnd};
use crate::machine::{Machine, NetworkBackend};
use crate::probe::Accelerator;
use crate::settings::HOST_KEY_VARIABLE;
use crate::socket_folder::SocketFolder;
use crate::{command_line, qemu::qmp::Qmp};

/// QEMU for x86-64, from Debian's package.
pub const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };

/// How long QEMU may take to open its control socket.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// QEMU with one accelerator.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    accelerator: Accelerator,
}

impl Qemu {
    /// QEMU as found on this machine.
    ///
    /// # Errors
    /// [`LaunchError::Missing`].
    pub fn new(accelerator: Accelerator) -> Result<Self, LaunchError> {
        let program = QEMU.find().ok_or_else(|| LaunchError::Missing {
            program: QEMU.program.into(),
            remedy: "run `apt-get install qemu-system-x86`",
        })?;
        Ok(Self { program, accelerator })
    }

    fn command_line(&self, machine: &Machine) -> String {
        // A triple fault is the one reset that `microvm` always has.
        let mut backend = vec!["reboot=t".to_owned()];
        if self.accelerator == Accelerator::Tcg {
            // `microvm` has no timer to measure the processor's clock with: 4 of 5 boots hung trying.
            backend.push(format!("tsc_early_khz={}", tsc::frequency_khz()));
            // The kernel checks this clock against timer ticks, which come late on a loaded host, and then counts the
            // ticks instead: seconds of each minute were lost.
            backend.push("tsc=reliable".to_owned());
            // On one processor Linux takes the lock prefixes out of its code, which QEMU has to translate anew then:
            // 0.16 s of processor time until the slim kernel's init runs, of 0.92.
            backend.push("noreplace-smp".to_owned());
        }
        command_line::compose(&backend, &machine.kernel_parameters)
    }
}

impl Hypervisor for Qemu {
    type Vm = QemuVm;

    fn describe(&self) -> String {
        match self.accelerator {
            Accelerator::Kvm => "QEMU with KVM".into(),
            Accelerator::Tcg => "QEMU with TCG".into(),
        }
    }

    async fn launch(&self, machine: &Machine) -> Result<QemuVm, LaunchError> {
        let folder = machine.run_folder.as_path();
        let in_folder = |source| LaunchError::File { path: folder.to_owned(), source };
        let sockets = SocketFolder::open(folder).map_err(in_folder)?;
        let socket = sockets.path(arguments::QMP_SOCKET);
        match std::fs::remove_file(&socket) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(in_folder(source)),
            _ => {}
        }
        if let NetworkBackend::User { ssh_forward, .. } = machine.network {
            // QEMU's own message for a port that is taken does not name the port's user or the remedy.
            drop(std::net::TcpListener::bind(ssh_forward).map_err(|source| LaunchError::File {
                path: format!("port {} of {}", ssh_forward.port(), ssh_forward.ip()).into(),
                source,
            })?);
        }
        let mut command = Command::new(&self.program);
        command.args(arguments::arguments(machine, self.accelerator, &self.command_line(machine)));
        command.current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove(HOST_KEY_VARIABLE);
        let mut child = BoundChild::spawn(&mut command, Signal::KILL)
            .map_err(|source| LaunchError::Start { program: self.describe(), source })?;
        let qmp = match connect(&mut child, &socket).await {
            Ok(qmp) => qmp,
            // A QEMU that ends breaks the connection a moment before it is gone.
            Err(error) => match tokio::time::timeout(Duration::from_secs(1), child.wait()).await {
                Ok(_) => {
                    let message = child.last_words().await;
                    return Err(LaunchError::Ended { program: self.describe(), message });
                }
                Err(_) => return Err(error.into()),
            },
        };
        let console = child.inner().stdout.take();
        Ok(QemuVm { child, qmp, console })
    }
}

/// Connects to the control socket as soon as it is there.
async fn connect(child: &mut BoundChild, socket: &Path) -> Result<Qmp, ControlError> {
    let no_answer = |seconds| ControlError::NoAnswer { program: "QEMU", request: "connect".into(), seconds };
    let appears = async {
        loop {
            match Qmp::connect(socket).await {
                Err(ControlError::Socket { ref source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
    };
    tokio::select! {
        _ = child.wait() => Err(no_answer(0)),
        connected = tokio::time::timeout(START_PATIENCE, appears) => {
            connected.unwrap_or_else(|_| Err(no_answer(START_PATIENCE.as_secs())))
        }
    }
}

/// A machine that QEMU runs.
#[derive(Debug)]
pub struct QemuVm {
    child: BoundChild,
    qmp: Qmp,
    console: Option<ChildStdout>,
}

impl QemuVm {
    async fn ended(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }
}

impl RunningVm for QemuVm {
    fn identity(&self) -> Identity {
        self.child.identity()
    }

    fn take_console(&mut self) -> ChildStdout {
        self.console.take().expect("the console is taken once")
    }

    async fn wait(&mut self) -> VmEnd {
        let reason = self.qmp.shutdown_reason().await;
        let status = self.ended().await;
        match reason.as_deref() {
            Some("guest-reset") => VmEnd::Reset,
            Some("guest-shutdown") => VmEnd::PoweredOff,
            _ => VmEnd::Died { status, message: self.child.last_words().await },
        }
    }

    async fn power_down(&mut self) -> Result<(), ControlError> {
        self.qmp.execute("system_powerdown").await
    }

    async fn pause(&mut self) -> Result<(), ControlError> {
        self.qmp.execute("stop").await
    }

    async fn resume(&mut self) -> Result<(), ControlError> {
        self.qmp.execute("cont").await
    }

    async fn kill(&mut self, grace: Duration) {
        // On SIGTERM QEMU flushes the disk and ends.
        if let Err(error) = self.child.end(grace).await {
            tracing::warn!(%error, "cannot end QEMU");
        }
    }
}
