//! The volumes between the containers, each with a limit. Kubernetes evicts a pod that grows past one, so the limits
//! are the plan's, which has checked that the disk fits.

use std::collections::BTreeMap;

use dozlab_session::defaults;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, Volume, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Lab;
use crate::options::DiskPolicy;

/// The VM's disk.
pub(super) const VM_KERNELS: &str = "vm-kernels";
/// Where it is mounted.
pub(super) const VM_KERNELS_PATH: &str = "/srv/vm/kernels";
/// The disk that is laid over an image of the node's cache.
pub(super) const OVERLAY_PATH: &str = "/srv/vm/kernels/overlay.ext4";
/// The node's cache of images.
pub(super) const IMAGE_CACHE: &str = "image-cache";
/// Where it is mounted.
pub(super) const IMAGE_CACHE_PATH: &str = "/var/cache/dozlab/images";
/// The working directory that the containers share.
pub(super) const VM_DATA: &str = "vm-data";
/// The editor's home.
pub(super) const VSCODE_DATA: &str = "vscode-data";
/// The editor's temporary files, in a pod whose root file systems are read-only.
pub(super) const VSCODE_TMP: &str = "vscode-tmp";
/// The network-config file.
pub(super) const SHARED_CONFIG: &str = "shared-config";
/// Where it is mounted.
pub(super) const SHARED: &str = "/shared";
/// What the VM's container tells the terminal.
pub(super) const VM_STATUS: &str = "vm-status";
/// Where it is mounted.
pub(super) const VM_STATUS_PATH: &str = "/run/dozlab-status";
/// The file in it.
pub(super) const VM_STATUS_FILE: &str = "/run/dozlab-status/vm-status.json";
/// The VM's sockets, its initramfs (which holds its host key) and its console's log: in memory.
pub(super) const VM_RUN: &str = "vm-run";
/// Where it is mounted.
pub(super) const VM_RUN_PATH: &str = "/run/dozlab";

/// The initramfs has less than 8 MiB, the console's log is turned over at 1 MiB, once.
const VM_RUN_LIMIT: ByteSize = ByteSize::from_mib(24);
/// One small file.
const VM_STATUS_LIMIT: ByteSize = ByteSize::from_mib(1);
/// Room for an extension while it is unpacked.
const VSCODE_TMP_LIMIT: ByteSize = ByteSize::from_mib(256);

pub(super) fn volumes(lab: Lab<'_>) -> Vec<Volume> {
    let Lab { plan, options } = lab;
    let limits = plan.volumes;
    let mut volumes = vec![
        kept(lab, VM_KERNELS, limits.vm_kernels),
        kept(lab, VM_DATA, limits.vm_data),
        empty(SHARED_CONFIG, limits.shared_config, None),
        empty(VM_STATUS, VM_STATUS_LIMIT, None),
        empty(VM_RUN, VM_RUN_LIMIT, Some("Memory")),
    ];
    if let Some(cache) = &options.image_cache {
        // Who made it said who may write there; the kubelet would make one that only root can write to.
        let source =
            HostPathVolumeSource { path: cache.path().to_owned(), type_: Some("Directory".to_owned()) };
        volumes.push(Volume { name: IMAGE_CACHE.to_owned(), host_path: Some(source), ..Volume::default() });
    }
    if options.parts.editor {
        volumes.push(kept(lab, VSCODE_DATA, limits.vscode_data));
        if lab.is_hardened() {
            volumes.push(empty(VSCODE_TMP, VSCODE_TMP_LIMIT, None));
        }
    }
    volumes
}

/// A volume that outlives the pod where disks are kept.
fn kept(lab: Lab<'_>, name: &str, limit: ByteSize) -> Volume {
    if lab.options.disk_policy == DiskPolicy::Delete {
        return empty(name, limit, None);
    }
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name(lab, name), read_only: None };
    Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }
}

fn empty(name: &str, limit: ByteSize, medium: Option<&str>) -> Volume {
    let source = EmptyDirVolumeSource {
        medium: medium.map(str::to_owned),
        size_limit: Some(Quantity(limit.to_string())),
    };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

fn claim_name(lab: Lab<'_>, volume: &str) -> String {
    format!("{volume}-{}", lab.plan.session_id)
}

/// The disk that the VM's container asks its node for: what the disk can grow to, with the files beside it; nothing
/// where the disk is on a volume of its own.
pub(super) fn disk_storage(lab: Lab<'_>) -> ByteSize {
    match lab.options.disk_policy {
        DiskPolicy::Keep => ByteSize::ZERO,
        DiskPolicy::Delete => lab.plan.disk.checked_add(defaults::VM_KERNELS_SLACK).unwrap_or(lab.plan.disk),
    }
}

/// The claims of a session whose disks are kept.
pub(crate) fn claims(lab: Lab<'_>) -> Vec<PersistentVolumeClaim> {
    let Lab { plan, options } = lab;
    if options.disk_policy == DiskPolicy::Delete {
        return Vec::new();
    }
    let mut sizes = vec![(VM_KERNELS, plan.volumes.vm_kernels), (VM_DATA, plan.volumes.vm_data)];
    if options.parts.editor {
        sizes.push((VSCODE_DATA, plan.volumes.vscode_data));
    }
    sizes.into_iter().map(|(name, size)| claim(lab, name, size)).collect()
}

fn claim(lab: Lab<'_>, volume: &str, size: ByteSize) -> PersistentVolumeClaim {
    let storage = BTreeMap::from([("storage".to_owned(), Quantity(size.to_string()))]);
    PersistentVolumeClaim {
        metadata: lab.metadata(claim_name(lab, volume)),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: lab.options.storage_class.clone(),
            resources: Some(VolumeResourceRequirements { requests: Some(storage), limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
