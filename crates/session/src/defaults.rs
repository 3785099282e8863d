//! Every number and name that holds where nobody asked for another.
//!
//! They are those of the lab pod as `LAB_POD_ARCHITECTURE.md` describes it (below: "the architecture") and as
//! the static manifest `lab-pod-with-sidecar.yaml` spells it out ("the manifest"), so that a lab made for
//! those runs unchanged. What is ours says so. Values that depend on others (a volume as large as its disk
//! needs) are worked out in [`plan`](crate::plan), from these.

use std::net::Ipv4Addr;

use crate::cpu::{MilliCpus, Vcpus};
use crate::duration::SessionDuration;
use crate::plan::resources::{Amounts, ContainerResources};
use crate::size::ByteSize;

/// The pod's end of the tap device and the VM's gateway: `GATEWAY_IP` of the architecture's network-config.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
/// The VM's address: `VM_IP` of the architecture's network-config.
pub const VM_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
/// Length of the prefix they share: the VM's launcher gives the tap device `GATEWAY_IP/24`.
pub const NETWORK_PREFIX: u8 = 24;
/// The tap device: `TAP_DEVICE` of the architecture's network-config.
pub const TAP_NAME: &str = "tap0";
/// Resolvers of the VM: the ones that the existing images have in their `systemd-networkd` configuration.
pub const DNS: [Ipv4Addr; 2] = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(8, 8, 8, 8)];
/// Where the user-mode network stack of a lab without privileges answers DNS questions, with the host's own resolver.
pub const USER_NETWORK_RESOLVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 3);

/// Port of the editor: the architecture's overview, container 3.
pub const EDITOR_PORT: u16 = 8080;
/// Port of the web terminal: the architecture's overview, container 2.
pub const TERMINAL_PORT: u16 = 8081;
/// Port of the VM's SSH server: the architecture's overview, container 1.
pub const SSH_PORT: u16 = 22;

/// Whom the terminal logs in as, and so who the VM's SSH server lets in: the existing terminal's `SSH_USER`.
pub const SSH_USER: &str = "lab-user";

/// The VM's disk: `${DISK_SIZE:-4G}` in the manifest.
pub const DISK_SIZE: ByteSize = ByteSize::from_gib(4);
/// The VM's processors: `${VM_CPU:-1}` in the manifest.
pub const VCPUS: Vcpus = Vcpus::ONE;
/// The VM's memory: `${VM_MEMORY:-1024}` (MiB) in the manifest.
pub const MEMORY: ByteSize = ByteSize::from_mib(1024);

/// The least memory of a VM: what the existing controller allows. Linux with an initramfs does not start in
/// much less.
pub const MIN_MEMORY: ByteSize = ByteSize::from_mib(128);
/// The most memory of a VM: what the existing controller allows.
pub const MAX_MEMORY: ByteSize = ByteSize::from_gib(16);
/// The least disk. Ours: below it ext4 keeps no journal worth having, and no image is that small.
pub const MIN_DISK_SIZE: ByteSize = ByteSize::from_mib(16);
/// The largest disk. Ours: the disk is a file, and a file on an ext4 with blocks of 4 KiB is a block short of 16
/// TiB at most; this is the last whole GiB before that.
pub const MAX_DISK_SIZE: ByteSize = ByteSize::from_gib(16 * 1024 - 1);

/// What the hypervisor needs beside the guest's memory: what the existing controller adds to a VM's memory to
/// get the memory limit of its container.
pub const HYPERVISOR_MEMORY_OVERHEAD: ByteSize = ByteSize::from_mib(128);
/// What the hypervisor's own threads may use beside the guest's processors: in the manifest a VM with 1
/// processor has a limit of 1500m.
pub const HYPERVISOR_CPU_OVERHEAD: MilliCpus = MilliCpus::new(500);

/// The volume `vm-kernels`, at least: `${KERNEL_SIZE_LIMIT:-2Gi}` in the manifest.
pub const VM_KERNELS_LIMIT: ByteSize = ByteSize::from_gib(2);
/// What the volume `vm-kernels` must hold beside the disk. Ours: an uncompressed kernel (up to 64 MiB), the
/// initramfs and the disk of kernel modules (up to 48 MiB together), and the block maps of these files (up to
/// 16 MiB).
pub const VM_KERNELS_SLACK: ByteSize = ByteSize::from_mib(128);
/// The volume `vm-data`: `${VM_DATA_SIZE_LIMIT:-5Gi}` in the manifest.
pub const VM_DATA_LIMIT: ByteSize = ByteSize::from_gib(5);
/// The volume `vscode-data`: `${VSCODE_DATA_SIZE_LIMIT:-1Gi}` in the manifest.
pub const VSCODE_DATA_LIMIT: ByteSize = ByteSize::from_gib(1);
/// The volume `shared-config`: the architecture, "Volume Size Limits".
pub const SHARED_CONFIG_LIMIT: ByteSize = ByteSize::from_mib(10);

/// The container `init-rootfs`: the architecture, "Init Container 1".
pub const INIT_ROOTFS_RESOURCES: ContainerResources = resources((100, 128), (200, 256));
/// The container `network-setup`: the architecture, "Init Container 2".
pub const NETWORK_SETUP_RESOURCES: ContainerResources = resources((50, 32), (100, 64));
/// The container `firecracker-vm`, at least: `${VM_MEMORY_REQUEST:-1Gi}`, `${VM_CPU_REQUEST:-500m}`,
/// `${VM_MEMORY_LIMIT:-2Gi}` and `${VM_CPU_LIMIT:-1500m}` of the architecture, "Configurable Resource
/// Limits".
pub const VM_RESOURCES: ContainerResources = resources((500, 1024), (1500, 2048));
/// The container `terminal-sidecar`: the architecture, "Container 2".
pub const TERMINAL_RESOURCES: ContainerResources = resources((100, 128), (250, 256));
/// The container `code-server`: the architecture, "Container 3".
pub const EDITOR_RESOURCES: ContainerResources = resources((250, 512), (500, 1024));

/// Image of the terminal's container: `${TERMINAL_IMAGE:-…}` in the manifest.
pub const TERMINAL_IMAGE: &str = "dozman99/dozlab-terminal:latest";

/// The VM's disk in the lab pod: `IMAGE_PATH` of the architecture, "Init Container 1".
pub const ROOTFS_PATH: &str = "/srv/vm/kernels/rootfs.ext4";
/// The file that says what the network is: the architecture, "Init Container 2".
pub const NETWORK_CONFIG_PATH: &str = "/shared/network-config";
/// The VM's working directory as the containers see it: where the manifest mounts the volume `vm-data`.
pub const VM_DATA_PATH: &str = "/vm-data";

/// How long a session lasts on Kubernetes: the default of the field `timeout` of a `LabSession`.
pub const TIMEOUT: SessionDuration = SessionDuration::from_secs(2 * 60 * 60);
/// How long before its end a session says so. Ours: enough to save one's work and fetch it.
pub const WARN_BEFORE: SessionDuration = SessionDuration::from_secs(5 * 60);

/// Requests and limits, each as thousandths of a CPU and MiB.
const fn resources(requests: (u32, u32), limits: (u32, u32)) -> ContainerResources {
    ContainerResources { requests: amounts(requests), limits: amounts(limits) }
}

const fn amounts((millis, mib): (u32, u32)) -> Amounts {
    Amounts { cpu: MilliCpus::new(millis), memory: ByteSize::from_mib(mib) }
}
