//! How much each volume of the lab pod may hold.
//!
//! Kubernetes evicts the whole pod, and the learner's work with it, when an `emptyDir` grows past its limit.
//! So the limit of the volume with the VM's disk must allow the disk to fill up: a learner who does that is
//! told by the guest that the disk is full, and keeps the lab.

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::request::PlanRequest;
use crate::defaults;
use crate::size::ByteSize;

/// `sizeLimit` of the lab pod's volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeLimits {
    /// `vm-kernels`: the kernel and the VM's disk.
    pub vm_kernels: ByteSize,
    /// `vm-data`: the VM's working directory.
    pub vm_data: ByteSize,
    /// `vscode-data`: the editor's settings and extensions.
    pub vscode_data: ByteSize,
    /// `shared-config`: the network's configuration.
    pub shared_config: ByteSize,
}

impl VolumeLimits {
    pub(super) fn resolve(request: &PlanRequest, disk: ByteSize, problems: &mut Vec<Problem>) -> Self {
        let volumes = Self {
            vm_kernels: vm_kernels_limit(request, disk, problems),
            vm_data: request.vm_data_limit.unwrap_or(defaults::VM_DATA_LIMIT),
            vscode_data: request.vscode_data_limit.unwrap_or(defaults::VSCODE_DATA_LIMIT),
            shared_config: defaults::SHARED_CONFIG_LIMIT,
        };
        for (volume, variable, limit) in [
            ("vm-data", "VM_DATA_SIZE_LIMIT", volumes.vm_data),
            ("vscode-data", "VSCODE_DATA_SIZE_LIMIT", volumes.vscode_data),
        ] {
            if limit == ByteSize::ZERO {
                problems.push(Problem::VolumeLimitZero { volume, variable });
            }
        }
        volumes
    }
}

/// Twice the disk where nothing was asked for, as the existing controller does: it leaves room for a disk
/// that is being downloaded beside one that is there. Never below the default, nor below what the disk needs.
fn vm_kernels_limit(request: &PlanRequest, disk: ByteSize, problems: &mut Vec<Problem>) -> ByteSize {
    // Only a disk that is a problem already, for being larger than `MAX_DISK_SIZE`, is out of reach of the
    // sums.
    let needed = disk.checked_add(defaults::VM_KERNELS_SLACK).unwrap_or(disk);
    let Some(limit) = request.vm_kernels_limit else {
        let twice_the_disk = disk.checked_mul(2).unwrap_or(disk);
        return defaults::VM_KERNELS_LIMIT.max(twice_the_disk).max(needed);
    };
    if limit < needed {
        problems.push(Problem::DiskDoesNotFitVolume { disk, limit, needed });
    }
    limit
}
