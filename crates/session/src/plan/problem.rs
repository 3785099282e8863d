//! What can be wrong with a request, told with the numbers and a remedy.

use std::fmt;
use std::net::Ipv4Addr;

use crate::cpu::MilliCpus;
use crate::defaults::{
    HYPERVISOR_MEMORY_OVERHEAD, MAX_DISK_SIZE, MAX_MEMORY, MIN_DISK_SIZE, MIN_MEMORY, VM_KERNELS_SLACK,
};
use crate::duration::SessionDuration;
use crate::size::ByteSize;
use crate::text::write_lines;

/// A request from which no plan can be made: everything that is wrong with it, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(formatter, &self.problems)
    }
}

impl std::error::Error for PlanError {}

/// One thing that is wrong with a request. The names in capitals are the lab pod's template variables; flags
/// and the fields of a `LabSession` have the same meaning under names of their own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nobody said which session this is.
    #[error("the session has no id: set SESSION_ID")]
    NoSessionId,
    /// Nobody said what to run.
    #[error("the session has no image: set ROOTFS_IMAGE_URL to a URL or the name of an image in the store")]
    NoImage,
    /// The VM's memory is too little or too much.
    #[error("memory of {memory} is out of range: set VM_MEMORY from {MIN_MEMORY} to {MAX_MEMORY}")]
    MemoryOutOfRange {
        /// What was asked for.
        memory: ByteSize,
    },
    /// The VM's disk is too small or too large.
    #[error("a disk of {disk} is out of range: set DISK_SIZE from {MIN_DISK_SIZE} to {MAX_DISK_SIZE}")]
    DiskOutOfRange {
        /// What was asked for.
        disk: ByteSize,
    },
    /// The disk could grow past the volume's limit, and then Kubernetes would evict the pod.
    #[error(
        "a disk of {disk} does not fit the {limit} limit of the volume vm-kernels: raise KERNEL_SIZE_LIMIT \
         to at least {needed} (the disk and {VM_KERNELS_SLACK} for the kernel) or lower DISK_SIZE"
    )]
    DiskDoesNotFitVolume {
        /// The disk.
        disk: ByteSize,
        /// The volume's limit.
        limit: ByteSize,
        /// The least limit that would do.
        needed: ByteSize,
    },
    /// A volume without room.
    #[error("the volume {volume} has a limit of 0: set {variable} to what it shall hold, or leave it out")]
    VolumeLimitZero {
        /// The volume's name.
        volume: &'static str,
        /// The variable that sets its limit.
        variable: &'static str,
    },
    /// The VM's container would be killed for its memory.
    #[error(
        "a VM with {memory} of memory does not fit the {limit} memory limit of its container: raise \
         VM_MEMORY_LIMIT to at least {needed} (the VM's memory and {HYPERVISOR_MEMORY_OVERHEAD} for the \
         hypervisor) or lower VM_MEMORY"
    )]
    MemoryLimitTooSmall {
        /// The VM's memory.
        memory: ByteSize,
        /// The container's limit.
        limit: ByteSize,
        /// The least limit that would do.
        needed: ByteSize,
    },
    /// Kubernetes refuses such a container.
    #[error(
        "the VM's container requests {request} of memory and is limited to {limit}: lower VM_MEMORY_REQUEST \
         or raise VM_MEMORY_LIMIT"
    )]
    MemoryRequestAboveLimit {
        /// What the container requests.
        request: ByteSize,
        /// What it is limited to.
        limit: ByteSize,
    },
    /// Kubernetes takes a limit of zero for no limit at all.
    #[error(
        "the VM's container has a CPU limit of 0, which Kubernetes takes for none: set VM_CPU_LIMIT above 0"
    )]
    CpuLimitZero,
    /// Kubernetes refuses such a container.
    #[error(
        "the VM's container requests {request} CPU and is limited to {limit}: lower VM_CPU_REQUEST or raise \
         VM_CPU_LIMIT"
    )]
    CpuRequestAboveLimit {
        /// What the container requests.
        request: MilliCpus,
        /// What it is limited to.
        limit: MilliCpus,
    },
    /// The prefix leaves no room for two hosts.
    #[error("a network prefix of /{prefix} has no room for a gateway and a VM: choose one from /1 to /30")]
    PrefixOutOfRange {
        /// The length of the prefix.
        prefix: u8,
    },
    /// Both ends of the VM's network are the same.
    #[error(
        "the VM and its gateway both have the address {address}: give GATEWAY_IP and VM_IP different ones"
    )]
    AddressesEqual {
        /// The address.
        address: Ipv4Addr,
    },
    /// The two ends of the VM's network cannot reach each other.
    #[error(
        "the VM's address {vm_address} and its gateway {gateway} are not in the same /{prefix} network: \
         change VM_IP or GATEWAY_IP"
    )]
    AddressesInDifferentNetworks {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The VM's address.
        vm_address: Ipv4Addr,
        /// The length of the prefix.
        prefix: u8,
    },
    /// The address is the network's own, or its broadcast address.
    #[error(
        "{address} is the network or broadcast address of its /{prefix} network and no host's: choose \
         another {variable}"
    )]
    NotAHostAddress {
        /// The variable that sets it.
        variable: &'static str,
        /// The address.
        address: Ipv4Addr,
        /// The length of the prefix.
        prefix: u8,
    },
    /// The session would end as it starts.
    #[error("the session has a timeout of 0s: set a timeout above 0, like 2h, or none")]
    TimeoutZero,
    /// The session would be stopped as it starts.
    #[error("the session is stopped after being idle for 0s: set a time above 0, like 30m, or leave it out")]
    IdleStopZero,
    /// The idle stop can never happen.
    #[error(
        "a session that ends after {timeout} is never idle for {idle_stop}: make the idle stop shorter than \
         the timeout, or leave it out"
    )]
    IdleStopNotBeforeTimeout {
        /// How long the session may be idle.
        idle_stop: SessionDuration,
        /// How long the session lasts.
        timeout: SessionDuration,
    },
}
