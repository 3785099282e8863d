//! How each component is started: which program, which environment, which log.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use dozlab_process::{BoundChild, Signal, last_lines};
use dozlab_rootfs::disk::{Cloning, Strategy};
use tokio::process::Command;

use super::{SuperviseError, Supervisor};
use crate::component::Component;
use crate::editor;
use crate::keys::remedy;
use crate::launch::Network;

/// How much of a log is read for an error message.
const LOG_TAIL: u64 = 16 * 1024;

impl Supervisor<'_> {
    /// Starts a component that runs for as long as the session.
    pub(super) fn start(&mut self, component: Component) -> Result<(), SuperviseError> {
        let child = self.spawn(component)?;
        self.children.insert(component, child);
        Ok(())
    }

    /// Runs a component that prepares something.
    pub(super) async fn run_to_end(&mut self, component: Component) -> Result<(), SuperviseError> {
        self.start(component)?;
        let child = self.children.get_mut(&component).expect("the component was just started");
        let status = child.wait().await.map_err(|source| SuperviseError::Start { component, source })?;
        self.children.remove(&component);
        if status.success() {
            return Ok(());
        }
        Err(SuperviseError::Failed { component, status, message: self.last_words(component) })
    }

    fn spawn(&self, component: Component) -> Result<BoundChild, SuperviseError> {
        let start = |source| SuperviseError::Start { component, source };
        let mut command = match component {
            Component::CodeServer => self.editor_command().map_err(start)?,
            _ => self.own_command(component),
        };
        let log = self.open_log(component).map_err(start)?;
        let errors = log.try_clone().map_err(start)?;
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log).stderr(errors);
        BoundChild::spawn(&mut command, Signal::TERM).map_err(start)
    }

    fn own_command(&self, component: Component) -> Command {
        let (subcommand, in_namespace) = match component {
            Component::InitRootfs => ("init-rootfs", false),
            Component::NetworkSetup => ("network-setup", true),
            Component::FirecrackerVm => ("vm", true),
            _ => ("terminal", false),
        };
        let mut command = match &self.namespace {
            Some(namespace) if in_namespace => {
                let [ip, arguments @ ..] = namespace.enter();
                let mut command = Command::new(ip);
                command.args(arguments).arg(&self.program);
                command
            }
            _ => Command::new(&self.program),
        };
        command.arg(subcommand).env("SESSION_ID", self.record.name());
        match component {
            Component::InitRootfs => self.describe_disk(&mut command),
            Component::NetworkSetup => self.describe_network(&mut command),
            Component::FirecrackerVm => self.describe_machine(&mut command),
            _ => self.describe_terminal(&mut command),
        }
        command
    }

    fn describe_disk(&self, command: &mut Command) {
        command
            .env("IMAGE_DOWNLOAD_URL", &self.record.image_digest)
            .env("IMAGE_STORE_DIR", self.folders.images())
            .env("IMAGE_SIZE", self.record.plan.disk.to_string());
        match self.record.disk {
            Strategy::Overlay => {
                command
                    .env("IMAGE_PATH", self.folder.base())
                    .env("WRITABLE_DISK_PATH", self.folder.overlay_disk())
                    .env("WRITABLE_DISK_SIZE", self.record.plan.disk.to_string());
            }
            Strategy::Reflink => {
                command.env("IMAGE_PATH", self.folder.disk()).env("DISK_CLONING", Cloning::Reflink.as_str());
            }
            Strategy::Copy => {
                command.env("IMAGE_PATH", self.folder.disk()).env("DISK_CLONING", Cloning::Copy.as_str());
            }
        }
    }

    fn describe_network(&self, command: &mut Command) {
        let network = &self.record.plan.network;
        let mode = match self.record.network {
            Network::User => "user",
            Network::Pod => "pod",
        };
        command
            .env("NETWORK_MODE", mode)
            .env("NETWORK_CONFIG_PATH", self.folder.network_config())
            .env("GATEWAY_IP", network.gateway.to_string())
            .env("VM_IP", network.vm_address.to_string())
            .env("TAP_DEVICE_NAME", network.tap.to_string())
            .env("EGRESS", network.egress.as_str());
        if self.record.network == Network::User {
            command.env("POD_IP", self.record.ssh.ip().to_string());
        }
    }

    fn describe_machine(&self, command: &mut Command) {
        let (plan, means) = (&self.record.plan, &self.record.means);
        command
            .env("KERNEL_PATH", means.kernel.join("vmlinux"))
            .env("GUEST_CONFIG", self.folder.guest_config())
            .env("CPU_COUNT", plan.vcpus.get().to_string())
            .env("MEMORY", plan.memory.as_mib().to_string())
            .env("HYPERVISOR", means.hypervisor.as_str())
            .env("TAP_DEVICE_NAME", plan.network.tap.to_string())
            .env("EGRESS", plan.network.egress.as_str())
            .env("RUN_DIR", self.folder.run())
            .env("CACHE_DIR", &self.folders.cache)
            .env("CONSOLE_LOG", self.folder.log(Component::Console))
            .env("VM_STATUS_PATH", self.folder.vm_status_file());
        match self.record.disk {
            Strategy::Overlay => {
                command
                    .env("ROOTFS_PATH", self.folder.base())
                    .env("WRITABLE_DISK_PATH", self.folder.overlay_disk());
            }
            Strategy::Reflink | Strategy::Copy => {
                command.env("ROOTFS_PATH", self.folder.disk());
            }
        }
        if self.record.network == Network::User {
            command.env("SSH_FORWARD", self.record.ssh.to_string());
        }
    }

    fn describe_terminal(&self, command: &mut Command) {
        command
            .env("HOST", self.record.terminal.ip().to_string())
            .env("PORT", self.record.terminal.port().to_string())
            // The terminal would believe a network-config file first, and the machine has one that knows no forwards.
            .env("NETWORK_CONFIG_PATH", "/dev/null")
            .env("VM_IP", self.record.ssh.ip().to_string())
            .env("VM_SSH_PORT", self.record.ssh.port().to_string())
            .env("SSH_USER", &self.record.user)
            .env("SSH_PRIVATE_KEY_FILE", self.folder.identity_file())
            .env("SSH_HOST_KEY_FILE", self.folder.host_key_file().with_extension("pub"))
            .env("SESSION_TOKEN_FILE", self.folder.token_file())
            .env("VM_STATUS_PATH", self.folder.vm_status_file())
            .env("IDLE_FILE", self.folder.activity());
        if let Some(editor) = self.record.editor {
            command
                .env("EDITOR_URL", format!("http://{editor}"))
                .env("EDITOR_PASSWORD_FILE", self.folder.editor_password_file())
                .env("EDITOR_FAILURE_FILE", self.folder.editor_failure());
        }
        if let Some(expires_ms) = self.record.plan.deadlines.expires_ms(self.record.started_ms) {
            command.env("SESSION_EXPIRES_AT", (expires_ms / 1000).to_string());
        }
    }

    /// The editor, or what installs it.
    fn editor_command(&self) -> io::Result<Command> {
        let (Some(editor), Some(address)) = (&self.record.means.editor, self.record.editor) else {
            let mut command = Command::new(&self.program);
            command.args(["editor", "install"]).env("DOZLAB_DATA_DIR", &self.folders.data);
            return Ok(command);
        };
        editor::command(editor, &self.folder, address, &self.program)
    }

    fn open_log(&self, component: Component) -> io::Result<std::fs::File> {
        let path = self.folder.log(component);
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)
    }

    /// What a component said last: the error with which it ended, where it named one.
    pub(super) fn last_words(&self, component: Component) -> String {
        let path = self.folder.log(component);
        let Ok(tail) = read_tail(&path) else { return format!("see {}", path.display()) };
        // It could not even say so.
        if tail.is_empty() && is_full(self.folder.path()) {
            let full = io::Error::from(rustix::io::Errno::NOSPC);
            return format!("{full} in {}{}", self.folder.path().display(), remedy(&full));
        }
        let text = String::from_utf8_lossy(&tail);
        // Our own programs end with `error: …`.
        match text.rfind("error: ") {
            Some(at) => text[at + "error: ".len()..].trim_end().to_owned(),
            None => last_lines(&tail, 4),
        }
    }
}

/// Whether the folder's file system has no room for a line of a log.
fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < 4096)
}

fn read_tail(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut log = std::fs::File::open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut tail = Vec::new();
    log.take(LOG_TAIL).read_to_end(&mut tail)?;
    Ok(tail)
}
