//! The machine to run: what every back end must be told.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

/// One microVM, described independently of who runs it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// An uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// The session's initramfs.
    pub initramfs: PathBuf,
    /// The session's disk, `/dev/vda` in the guest, read-write. A probe boots without.
    pub disk: Option<PathBuf>,
    /// The kernel's modules, `/dev/vdb` in the guest, read-only.
    pub modules_disk: Option<PathBuf>,
    /// Number of virtual CPUs, 1 to 32.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How the guest's interface is connected.
    pub network: NetworkBackend,
    /// Parameters for the kernel's command line besides those that the back end needs.
    pub kernel_parameters: Vec<String>,
    /// A folder of this machine's own for sockets, private to its user.
    pub run_folder: PathBuf,
}

/// How the guest's one interface is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkBackend {
    /// Not at all.
    None,
    /// A user-mode network stack inside the hypervisor, guarded by our egress filter. Needs no privilege.
    User {
        /// The gateway's address, in a /24 network.
        gateway: Ipv4Addr,
        /// The address at which the stack answers DNS questions.
        resolver: Ipv4Addr,
        /// The VM's address.
        vm: Ipv4Addr,
        /// Where the host listens for connections to the guest's port 22.
        ssh_forward: SocketAddrV4,
    },
    /// A tap device that exists already.
    Tap {
        /// Its name.
        name: String,
    },
}

impl NetworkBackend {
    /// The name of the socket, in the run folder, on which the user-mode stack hands over the guest's frames.
    pub(crate) const FROM_GUEST: &str = "from-guest.sock";
    /// The name of the socket from which it takes those that may pass.
    pub(crate) const TO_NETWORK: &str = "to-network.sock";
}

/// The guest's hardware address. Each VM is alone on its network, so one address serves all; `FE:05` is the
/// prefix that existing lab pods use.
pub(crate) const GUEST_MAC: &str = "fe:05:ac:10:00:02";
