//! The container `firecracker-vm`: runs the VM.
//!
//! Port 22 needs no privilege of it: whatever arrives at the pod's address for a port that is not the lab's own is sent
//! on to the VM by the rules of `network-setup`, so that what the probes and a learner's `ssh` reach is the guest's SSH
//! server.

use dozlab_session::defaults;
use dozlab_session::plan::ContainerResources;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::container::{
    Question, Rhythm, STARTUP, env, env_from_secret, mount, mount_read_only, port, probe, resources,
};
use super::security;
use super::volumes::{
    IMAGE_CACHE, IMAGE_CACHE_PATH, OVERLAY_PATH, SHARED, SHARED_CONFIG, VM_DATA, VM_KERNELS, VM_KERNELS_PATH,
    VM_RUN, VM_RUN_PATH, VM_STATUS, VM_STATUS_FILE, VM_STATUS_PATH, disk_storage,
};
use super::{Lab, VM};
use crate::images;
use crate::options::SecurityProfile;
use crate::secrets::SecretKey;

/// The port of the VM's SSH server.
pub(super) const PORT: (&str, u16) = ("vm-ssh", defaults::SSH_PORT);

/// The device resource for `/dev/kvm`.
pub(super) const KVM: &str = "dozlab.io/kvm";
/// The device resource for `/dev/net/tun`.
pub(super) const TUN: &str = "dozlab.io/tun";

/// Where the kernel is in the container's image: existing VM images have theirs there.
const KERNEL: &str = "/find/vmlinux.bin";

/// What an emulator needs beside the guest's memory: 407 MiB were measured, 256 of them translated code.
const EMULATOR_MEMORY: ByteSize = ByteSize::from_mib(512);

/// What the container writes beside the disk: its log.
const EPHEMERAL_STORAGE: ByteSize = ByteSize::from_mib(32);

pub(super) fn container(lab: Lab<'_>) -> Container {
    let options = lab.options;
    let devices: &[&str] = if options.emulated { &[TUN] } else { &[KVM, TUN] };
    let storage = disk_storage(lab).checked_add(EPHEMERAL_STORAGE).unwrap_or(EPHEMERAL_STORAGE);
    let mut mounts = vec![
        mount(VM_KERNELS, VM_KERNELS_PATH),
        mount(VM_DATA, defaults::VM_DATA_PATH),
        mount_read_only(SHARED_CONFIG, SHARED),
        mount(VM_STATUS, VM_STATUS_PATH),
        mount(VM_RUN, VM_RUN_PATH),
    ];
    if options.is_overlaid() {
        mounts.push(mount_read_only(IMAGE_CACHE, IMAGE_CACHE_PATH));
    }
    let mut container = Container {
        name: VM.to_owned(),
        image: Some(images::name(options.images.vm.as_ref(), images::VM)),
        env: Some(variables(lab)),
        ports: Some(vec![port(PORT)]),
        resources: Some(resources(amounts(lab), storage, devices)),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    let question = Question::Tcp(defaults::SSH_PORT);
    let liveness = Rhythm::new(30, 10).timeout(5).failures(3);
    container.liveness_probe = Some(probe(question, liveness));
    match options.profile {
        SecurityProfile::Hardened => {
            container.security_context = Some(security::unprivileged(security::VM_USER));
            container.startup_probe = Some(probe(question, STARTUP));
            container.readiness_probe = Some(probe(question, Rhythm::new(0, 10)));
        }
        SecurityProfile::Compat => {
            container.security_context = Some(security::existing_vm());
            container.readiness_probe = Some(probe(question, Rhythm::new(20, 5).failures(3)));
        }
    }
    container
}

/// The plan's amounts. An emulator needs more beside the guest's memory than the plan allows for: it keeps translated
/// code.
fn amounts(lab: Lab<'_>) -> ContainerResources {
    let Lab { plan, options } = lab;
    let mut amounts = plan.resources.vm;
    if options.emulated {
        let needed = plan.memory.checked_add(EMULATOR_MEMORY).unwrap_or(plan.memory);
        amounts.limits.memory = amounts.limits.memory.max(needed);
    }
    amounts
}

fn variables(lab: Lab<'_>) -> Vec<EnvVar> {
    let Lab { plan, options } = lab;
    let network = &plan.network;
    let dns: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
    let names = options.secret_names(&plan.session_id);
    let mut variables = vec![
        env("SESSION_ID", &plan.session_id),
        env("ROOTFS_PATH", defaults::ROOTFS_PATH),
        env("KERNEL_PATH", KERNEL),
        env("CPU_COUNT", plan.vcpus),
        env("MEMORY", plan.memory.as_mib()),
        env("GATEWAY_IP", network.gateway),
        env("VM_IP", network.vm_address),
        env("TAP_DEVICE_NAME", &network.tap),
        env("DNS", dns.join(" ")),
        env("VM_HOSTNAME", &plan.hostname),
        env("SSH_USER", login_user(plan)),
        env_from_secret("SSH_AUTHORIZED_KEY", &names.ssh, SecretKey::PublicKey),
        env_from_secret("SSH_HOST_PRIVATE_KEY", &names.ssh, SecretKey::HostKey),
        env("RUN_DIR", VM_RUN_PATH),
        // What a probe of the hypervisor writes; the root file system is read-only.
        env("TMPDIR", VM_RUN_PATH),
        env("VM_STATUS_PATH", VM_STATUS_FILE),
    ];
    if options.is_overlaid() {
        variables.push(env("WRITABLE_DISK_PATH", OVERLAY_PATH));
    }
    if !lab.is_hardened() {
        // Nobody has made the network before: it is this container's to make, with its capabilities.
        variables.push(env("NETWORK_MODE", "pod"));
        variables.push(env("EGRESS", network.egress));
    }
    variables
}

/// Whom to be in the VM. The existing controller's default is `root`, which every image has.
pub(super) fn login_user(plan: &dozlab_session::plan::Plan) -> &str {
    plan.login_user.as_ref().map_or("root", |user| user.as_str())
}
