//! The init container `init-rootfs`: puts the VM's disk in place.

use dozlab_session::defaults;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::Container;

use super::container::{env, env_from_secret, mount, resources};
use super::security::{self, VM_USER};
use super::volumes::{IMAGE_CACHE, IMAGE_CACHE_PATH, OVERLAY_PATH, VM_KERNELS, VM_KERNELS_PATH};
use super::{INIT_ROOTFS, Lab};
use crate::images;
use crate::secrets::SecretKey;

/// What it writes beside the disk, which the VM's container answers for: its log.
const EPHEMERAL_STORAGE: ByteSize = ByteSize::from_mib(16);

pub(super) fn container(lab: Lab<'_>) -> Container {
    let Lab { plan, options } = lab;
    let mut variables = vec![
        env("IMAGE_DOWNLOAD_URL", plan.image.as_str()),
        env("IMAGE_SIZE", disk_size(plan.disk)),
        env("IMAGE_PATH", defaults::ROOTFS_PATH),
        env("SESSION_ID", &plan.session_id),
    ];
    if !lab.is_hardened() {
        // Existing init images put it into the image, whose own SSH server is to let the learner in.
        let names = options.secret_names(&plan.session_id);
        variables.push(env_from_secret("SSH_AUTHORIZED_KEY", &names.ssh, SecretKey::PublicKey));
    }
    let mut mounts = vec![mount(VM_KERNELS, VM_KERNELS_PATH)];
    if options.image_cache.is_some() {
        variables.push(env("IMAGE_CACHE_DIR", IMAGE_CACHE_PATH));
        mounts.push(mount(IMAGE_CACHE, IMAGE_CACHE_PATH));
    }
    if options.is_overlaid() {
        variables.push(env("WRITABLE_DISK_PATH", OVERLAY_PATH));
        variables.push(env("WRITABLE_DISK_SIZE", disk_size(plan.disk)));
    }
    Container {
        name: INIT_ROOTFS.to_owned(),
        image: Some(images::name(options.images.init.as_ref(), images::INIT)),
        env: Some(variables),
        resources: Some(resources(plan.resources.init_rootfs, EPHEMERAL_STORAGE, &[])),
        // The disk is to belong to whoever runs the VM.
        security_context: lab.is_hardened().then(|| security::unprivileged(VM_USER)),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// In the notation of `resize2fs`, which existing init images pass it to: `4G`, `1536M`.
fn disk_size(disk: ByteSize) -> String {
    let mib = disk.as_mib();
    if mib.is_multiple_of(1024) { format!("{}G", mib / 1024) } else { format!("{mib}M") }
}
