//! The resources of Firecracker's API that a lab uses. Its server refuses fields that it does not know, so
//! these hold exactly what is sent.

use serde::Serialize;

/// `PUT /boot-source`.
#[derive(Debug, Serialize)]
pub struct BootSource<'a> {
    /// An uncompressed ELF kernel.
    pub kernel_image_path: &'a str,
    /// The initramfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<&'a str>,
    /// The kernel's command line.
    pub boot_args: &'a str,
}

/// `PUT /drives/{drive_id}`.
#[derive(Debug, Serialize)]
pub struct Drive<'a> {
    /// Letters, digits and `_`; the same as in the path.
    pub drive_id: &'a str,
    /// The disk's file.
    pub path_on_host: &'a str,
    /// Whether the kernel is told to mount it as its root. Ours never is: the initramfs mounts it.
    pub is_root_device: bool,
    /// Whether the guest may only read it.
    pub is_read_only: bool,
}

/// `PUT /machine-config`.
#[derive(Debug, Serialize)]
pub struct MachineConfig {
    /// Virtual CPUs, 1 to 32.
    pub vcpu_count: u8,
    /// Memory in MiB.
    pub mem_size_mib: u32,
    /// Simultaneous multithreading; off, as in existing lab pods.
    pub smt: bool,
}

/// `PUT /network-interfaces/{iface_id}`.
#[derive(Debug, Serialize)]
pub struct NetworkInterface<'a> {
    /// Letters, digits and `_`; the same as in the path.
    pub iface_id: &'a str,
    /// The tap device.
    pub host_dev_name: &'a str,
    /// The guest's hardware address.
    pub guest_mac: &'a str,
}

/// `PUT /vsock`.
#[derive(Debug, Serialize)]
pub struct Vsock<'a> {
    /// The guest's context id; 0 to 2 are taken.
    pub guest_cid: u32,
    /// The socket on the host, which must not exist yet.
    pub uds_path: &'a str,
}

/// `PUT /entropy`: a virtio random number generator, without a limit.
#[derive(Debug, Serialize)]
pub struct Entropy {}

/// `PUT /logger`.
#[derive(Debug, Serialize)]
pub struct Logger<'a> {
    /// The log's file, which must exist.
    pub log_path: &'a str,
    /// `Error`, `Warning`, `Info`, `Debug`.
    pub level: &'a str,
    /// Whether each line says its level.
    pub show_level: bool,
}

/// `PUT /metrics`.
#[derive(Debug, Serialize)]
pub struct Metrics<'a> {
    /// The metrics' file, which must exist; a JSON object a line.
    pub metrics_path: &'a str,
}

/// `PUT /actions`.
#[derive(Debug, Serialize)]
pub struct Action {
    /// What to do.
    pub action_type: ActionType,
}

/// The actions.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum ActionType {
    /// Start the machine.
    InstanceStart,
    /// Press Ctrl-Alt-Del on the guest's keyboard.
    SendCtrlAltDel,
    /// Write the metrics now.
    FlushMetrics,
}

/// `PATCH /vm`.
#[derive(Debug, Serialize)]
pub struct VmPatch {
    /// The state to go to.
    pub state: VmPatchState,
}

/// The states of a started machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum VmPatchState {
    /// The virtual CPUs stand still.
    Paused,
    /// They run.
    Resumed,
}
