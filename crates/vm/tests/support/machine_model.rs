//! A model of the machine behind Firecracker's API: which requests it takes when, and in which words it
//! refuses others. It knows the resources that a lab uses. The recording of a real Firecracker is the measure
//! of its every answer.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::api_server::{Answers, Request, answer};

/// Longer kernel command lines are refused.
const LONGEST_COMMAND_LINE: usize = 2048;

/// What the machine finds outside itself.
#[derive(Clone, Copy)]
pub(crate) struct Host {
    /// Whether a file is there.
    pub(crate) exists: fn(&str) -> bool,
    /// Makes a vsock's socket.
    pub(crate) bind: fn(&str) -> std::io::Result<()>,
}

/// The machine.
pub(crate) struct MachineModel {
    /// Its id, `--id`.
    id: String,
    host: Host,
    /// Whether it was started.
    started: bool,
    paused: bool,
    kernel: bool,
    metrics: bool,
    root_drive: Option<String>,
    hardware_addresses: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct BootSource {
    kernel_image_path: String,
    initrd_path: Option<String>,
    boot_args: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct Drive {
    drive_id: String,
    partuuid: Option<String>,
    is_root_device: bool,
    cache_type: Option<String>,
    is_read_only: Option<bool>,
    path_on_host: Option<String>,
    rate_limiter: Option<serde_json::Value>,
    io_engine: Option<String>,
    socket: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct MachineConfig {
    vcpu_count: u8,
    mem_size_mib: usize,
    #[serde(default)]
    smt: bool,
    cpu_template: Option<String>,
    track_dirty_pages: Option<bool>,
    huge_pages: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct NetworkInterface {
    iface_id: String,
    host_dev_name: String,
    #[serde(default, deserialize_with = "hardware_address")]
    guest_mac: Option<String>,
    mtu: Option<u16>,
    rx_rate_limiter: Option<serde_json::Value>,
    tx_rate_limiter: Option<serde_json::Value>,
}

fn hardware_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let address = String::deserialize(deserializer)?;
    let bytes: Vec<_> = address.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    if bytes.len() != 6 || bytes.iter().any(Result::is_err) {
        return Err(D::Error::custom("The provided MAC address is invalid."));
    }
    Ok(Some(address.to_ascii_lowercase()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct Vsock {
    guest_cid: u32,
    uds_path: String,
    vsock_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct Entropy {
    rate_limiter: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct Logger {
    log_path: Option<String>,
    #[serde(default, deserialize_with = "level")]
    level: Option<String>,
    show_level: Option<bool>,
    show_log_origin: Option<bool>,
    module: Option<String>,
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let level = String::deserialize(deserializer)?;
    if !["Error", "Warning", "Info", "Debug", "Trace", "Off"].contains(&level.as_str()) {
        return Err(D::Error::custom("Invalid LevelFilter"));
    }
    Ok(Some(level))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the fields say what may be sent")]
struct Metrics {
    metrics_path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    action_type: ActionType,
}

#[derive(Clone, Copy, Deserialize)]
enum ActionType {
    FlushMetrics,
    InstanceStart,
    SendCtrlAltDel,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VmPatch {
    state: VmPatchState,
}

#[derive(Clone, Copy, Deserialize)]
enum VmPatchState {
    Paused,
    Resumed,
}

type Judgement = Result<(), String>;

impl MachineModel {
    /// A machine that nobody configured yet.
    pub(crate) fn new(id: &str, host: Host) -> Self {
        Self {
            id: id.to_owned(),
            host,
            started: false,
            paused: false,
            kernel: false,
            metrics: false,
            root_drive: None,
            hardware_addresses: Vec::new(),
        }
    }

    fn judge(&mut self, request: &Request) -> Judgement {
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        if request.body.is_empty() && request.method != "GET" {
            return Err(format!("Empty {} request.", request.method));
        }
        match (request.method.as_str(), parts.as_slice()) {
            ("PUT", ["boot-source"]) => read(request).and_then(|source| self.boot_source(&source)),
            ("PUT", ["drives", id]) => read(request).and_then(|drive| self.drive(id, drive)),
            ("PUT", ["machine-config"]) => read(request).and_then(|config| self.machine_config(&config)),
            ("PUT", ["network-interfaces", id]) => {
                read(request).and_then(|interface| self.network_interface(id, interface))
            }
            ("PUT", ["vsock"]) => read(request).and_then(|vsock| self.vsock(&vsock)),
            ("PUT", ["entropy"]) => read(request).and_then(|_: Entropy| self.before_start()),
            ("PUT", ["logger"]) => read(request).and_then(|logger| self.logger(&logger)),
            ("PUT", ["metrics"]) => read(request).and_then(|_: Metrics| self.metrics()),
            ("PUT", ["actions"]) => read(request).and_then(|action: Action| self.act(action.action_type)),
            ("PATCH", ["vm"]) => read(request).and_then(|patch: VmPatch| {
                self.after_start()?;
                self.paused = matches!(patch.state, VmPatchState::Paused);
                Ok(())
            }),
            (method, [first, ..]) => Err(format!("Invalid request method and/or path: {method} {first}.")),
            (_, []) => unreachable!("a path has parts"),
        }
    }

    fn before_start(&self) -> Judgement {
        let refusal = "The requested operation is not supported after starting the microVM.";
        if self.started { Err(refusal.into()) } else { Ok(()) }
    }

    fn after_start(&self) -> Judgement {
        let refusal = "The requested operation is not supported before starting the microVM.";
        if self.started { Ok(()) } else { Err(refusal.into()) }
    }

    fn boot_source(&mut self, source: &BootSource) -> Judgement {
        self.before_start()?;
        let missing = "No such file or directory (os error 2)";
        if !(self.host.exists)(&source.kernel_image_path) {
            return Err(format!("Boot source error: The kernel file cannot be opened: {missing}"));
        }
        if source.initrd_path.as_ref().is_some_and(|path| !(self.host.exists)(path)) {
            return Err(format!(
                "Boot source error: The initrd file cannot be opened due to invalid path or invalid \
                 permissions. {missing}"
            ));
        }
        if source.boot_args.as_ref().is_some_and(|arguments| arguments.len() > LONGEST_COMMAND_LINE) {
            let reason = "The kernel command line is invalid: Invalid cmdline capacity provided.";
            return Err(format!("Boot source error: {reason}"));
        }
        self.kernel = true;
        Ok(())
    }

    fn drive(&mut self, id: &str, drive: Drive) -> Judgement {
        check_id(id, &drive.drive_id)?;
        self.before_start()?;
        let path = drive.path_on_host.unwrap_or_default();
        if !(self.host.exists)(&path) {
            return Err(format!(
                "Drive config error: Unable to create the virtio block device: Virtio backend error: Error \
                 manipulating the backing file: No such file or directory (os error 2) {path}"
            ));
        }
        if drive.is_root_device && *self.root_drive.get_or_insert_with(|| id.to_owned()) != *id {
            return Err("Drive config error: A root block device already exists!".into());
        }
        Ok(())
    }

    fn machine_config(&mut self, config: &MachineConfig) -> Judgement {
        self.before_start()?;
        let (cpus, memory) = (config.vcpu_count, config.mem_size_mib);
        if !(1..=32).contains(&cpus) || (config.smt && cpus != 1 && cpus % 2 == 1) {
            return Err(
                "Machine config error: The number of vCPUs must be greater than 0, less than 32 and \
                        must be 1 or an even number if SMT is enabled."
                    .into(),
            );
        }
        let page_mib = if config.huge_pages.as_deref() == Some("2M") { 2 } else { 1 };
        if memory == 0 || memory % page_mib != 0 {
            return Err("Machine config error: The memory size (MiB) is either 0, or not a multiple of the \
                        configured page size."
                .into());
        }
        Ok(())
    }

    fn network_interface(&mut self, id: &str, interface: NetworkInterface) -> Judgement {
        check_id(id, &interface.iface_id)?;
        self.before_start()?;
        if let Some(address) = interface.guest_mac {
            if self.hardware_addresses.iter().any(|(user, taken)| user != id && *taken == address) {
                return Err(format!("Network config error: The MAC address is already in use: {address}"));
            }
            self.hardware_addresses.push((id.to_owned(), address));
        }
        if interface.host_dev_name.len() > 15 {
            return Err(
                "Network config error: Could not create the network device: Open tap device failed: Invalid \
                        interface name"
                    .into(),
            );
        }
        Ok(())
    }

    /// The host's side is a socket that must not exist; it is made at once.
    fn vsock(&self, vsock: &Vsock) -> Judgement {
        self.before_start()?;
        let refusal = "Vsock config error: Cannot create backend for vsock device: Error binding to the \
                       host-side Unix socket";
        (self.host.bind)(&vsock.uds_path).map_err(|error| format!("{refusal}: {error}"))
    }

    fn logger(&self, logger: &Logger) -> Judgement {
        if logger.log_path.as_ref().is_some_and(|path| (self.host.exists)(path)) {
            return Ok(());
        }
        Err("Logger error: Failed to open target file: No such file or directory (os error 2)".into())
    }

    fn metrics(&mut self) -> Judgement {
        if self.metrics {
            return Err("Metrics error: Cannot initialize the metrics system due to bad user input: \
                        Reinitialization of metrics not allowed."
                .into());
        }
        self.metrics = true;
        Ok(())
    }

    fn act(&mut self, action: ActionType) -> Judgement {
        match action {
            ActionType::InstanceStart => {
                self.before_start()?;
                if !self.kernel {
                    let reason = "Cannot start microvm without kernel configuration.";
                    return Err(format!("Start microvm error: {reason}"));
                }
                self.started = true;
                Ok(())
            }
            ActionType::FlushMetrics | ActionType::SendCtrlAltDel => self.after_start(),
        }
    }
}

impl Answers for MachineModel {
    fn answer(&mut self, request: &Request) -> String {
        if request.method == "GET" && request.path == "/" {
            let state = match (self.started, self.paused) {
                (false, _) => "Not started",
                (true, false) => "Running",
                (true, true) => "Paused",
            };
            let id = &self.id;
            let body = format!(
                r#"{{"id":"{id}","state":"{state}","vmm_version":"1.16.1","app_name":"Firecracker"}}"#
            );
            return answer(200, &body);
        }
        match self.judge(request) {
            Ok(()) => answer(204, ""),
            Err(fault) => answer(400, &serde_json::json!({ "fault_message": fault }).to_string()),
        }
    }
}

fn read<T: DeserializeOwned>(request: &Request) -> Result<T, String> {
    serde_json::from_str(&request.body)
        .map_err(|error| format!("An error occurred when deserializing the json body of a request: {error}."))
}

fn check_id(in_path: &str, in_body: &str) -> Judgement {
    if !in_path.chars().all(|character| character.is_ascii_alphanumeric() || character == '_') {
        return Err("API Resource IDs can only contain alphanumeric characters and underscores.".into());
    }
    if in_path != in_body {
        return Err("The id from the path does not match the id from the body!".into());
    }
    Ok(())
}
