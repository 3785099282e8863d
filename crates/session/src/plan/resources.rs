//! What each container of the lab pod asks of its node, and what it may use at most.
//!
//! As JSON these are the `resources` of a Kubernetes container, field by field.

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::request::PlanRequest;
use crate::cpu::{MilliCpus, Vcpus};
use crate::defaults;
use crate::size::ByteSize;

/// CPU and memory of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// CPU time.
    pub cpu: MilliCpus,
    /// Memory.
    pub memory: ByteSize,
}

/// What a container is promised, and where it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResources {
    /// What the node sets aside.
    pub requests: Amounts,
    /// What the container can have at most: beyond it is throttled (CPU) or killed (memory).
    pub limits: Amounts,
}

/// The resources of the five containers of the lab pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodResources {
    /// `init-rootfs`.
    pub init_rootfs: ContainerResources,
    /// `network-setup`.
    pub network_setup: ContainerResources,
    /// `firecracker-vm`.
    pub vm: ContainerResources,
    /// `terminal-sidecar`.
    pub terminal: ContainerResources,
    /// `code-server`.
    pub editor: ContainerResources,
}

impl PodResources {
    /// Only the VM's container depends on what was asked for.
    pub(super) fn resolve(
        request: &PlanRequest,
        vcpus: Vcpus,
        memory: ByteSize,
        problems: &mut Vec<Problem>,
    ) -> Self {
        Self {
            init_rootfs: defaults::INIT_ROOTFS_RESOURCES,
            network_setup: defaults::NETWORK_SETUP_RESOURCES,
            vm: vm_resources(request, vcpus, memory, problems),
            terminal: defaults::TERMINAL_RESOURCES,
            editor: defaults::EDITOR_RESOURCES,
        }
    }
}

/// Limits that were not given grow from the defaults with the VM and with what was requested. Requests that
/// were not given are the defaults, the memory grown with the VM because a guest does end up touching all of
/// it, and never more than the limit: nobody is told off for a number that they did not write.
fn vm_resources(
    request: &PlanRequest,
    vcpus: Vcpus,
    memory: ByteSize,
    problems: &mut Vec<Problem>,
) -> ContainerResources {
    let least = defaults::VM_RESOURCES;
    // The plan's memory is at most 16 GiB by now, or a problem; the sum is only out of reach for the latter.
    let needed = memory.checked_add(defaults::HYPERVISOR_MEMORY_OVERHEAD).unwrap_or(memory);
    let busy =
        MilliCpus::new(vcpus.as_milli_cpus().as_millis() + defaults::HYPERVISOR_CPU_OVERHEAD.as_millis());

    let memory_limit = request.vm_memory_limit.unwrap_or_else(|| {
        least.limits.memory.max(needed).max(request.vm_memory_request.unwrap_or(ByteSize::ZERO))
    });
    let cpu_limit = request.vm_cpu_limit.unwrap_or_else(|| {
        least.limits.cpu.max(busy).max(request.vm_cpu_request.unwrap_or(MilliCpus::new(0)))
    });
    let memory_request =
        request.vm_memory_request.unwrap_or_else(|| least.requests.memory.max(memory).min(memory_limit));
    let cpu_request = request.vm_cpu_request.unwrap_or_else(|| least.requests.cpu.min(cpu_limit));

    if memory_limit < needed {
        problems.push(Problem::MemoryLimitTooSmall { memory, limit: memory_limit, needed });
    }
    if memory_request > memory_limit {
        problems.push(Problem::MemoryRequestAboveLimit { request: memory_request, limit: memory_limit });
    }
    if cpu_limit == MilliCpus::new(0) {
        problems.push(Problem::CpuLimitZero);
    }
    if cpu_request > cpu_limit {
        problems.push(Problem::CpuRequestAboveLimit { request: cpu_request, limit: cpu_limit });
    }
    ContainerResources {
        requests: Amounts { cpu: cpu_request, memory: memory_request },
        limits: Amounts { cpu: cpu_limit, memory: memory_limit },
    }
}
