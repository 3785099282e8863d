//! The machine to run: what every back end must be told.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

/// One microVM, described independently of who runs it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// An uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// The session's initramfs.
    pub initramfs: PathBuf,
    /// The session's disk, or the image that it lies over: the guest's first block device. A probe boots without.
    pub disk: Option<PathBuf>,
    /// What is written instead of `disk`, which is then read-only: the guest's second block device.
    pub writable_disk: Option<PathBuf>,
    /// The kernel's modules, read-only: the guest's last block device.
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

/// A disk of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk<'a> {
    /// Its name for the hypervisor.
    pub(crate) name: &'static str,
    /// Its file.
    pub(crate) path: &'a Path,
    /// Whether the guest may only read it.
    pub(crate) is_read_only: bool,
}

impl Machine {
    /// The disks in the order in which the guest names them: `/dev/vda` first.
    pub(crate) fn disks(&self) -> impl Iterator<Item = Disk<'_>> {
        let disks = [
            ("rootfs", &self.disk, self.writable_disk.is_some()),
            ("overlay", &self.writable_disk, false),
            ("modules", &self.modules_disk, true),
        ];
        disks.into_iter().filter_map(|(name, path, is_read_only)| {
            Some(Disk { name, path: path.as_deref()?, is_read_only })
        })
    }
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
