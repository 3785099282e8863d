//! The init container `network-setup`: says what the VM's network is, and in a hardened pod makes it.

use dozlab_session::defaults;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::Container;

use super::container::{env, mount, resources};
use super::security::{self, VM_USER};
use super::vm::TUN;
use super::volumes::{SHARED, SHARED_CONFIG};
use super::{Lab, NETWORK_SETUP};
use crate::images;

/// What it writes beside the network-config file: its log.
const EPHEMERAL_STORAGE: ByteSize = ByteSize::from_mib(16);

pub(super) fn container(lab: Lab<'_>) -> Container {
    let common = Container {
        name: NETWORK_SETUP.to_owned(),
        volume_mounts: Some(vec![mount(SHARED_CONFIG, SHARED)]),
        ..Container::default()
    };
    if lab.is_hardened() { hardened(lab, common) } else { compat(lab, common) }
}

/// Makes a tap device that the VM's user owns, NAT and the guest's firewall. They outlive the container: the network
/// namespace is the pod's.
fn hardened(lab: Lab<'_>, common: Container) -> Container {
    let Lab { plan, options } = lab;
    let network = &plan.network;
    Container {
        image: Some(images::name(options.images.network.as_ref(), images::NETWORK)),
        env: Some(vec![
            env("NETWORK_MODE", "pod"),
            env("NETWORK_CONFIG_PATH", defaults::NETWORK_CONFIG_PATH),
            env("GATEWAY_IP", network.gateway),
            env("VM_IP", network.vm_address),
            env("TAP_DEVICE_NAME", &network.tap),
            env("TAP_OWNER", VM_USER),
            env("EGRESS", network.egress),
            env("POD_LOCAL_PORTS", format!("{} {}", defaults::EDITOR_PORT, defaults::TERMINAL_PORT)),
        ]),
        resources: Some(resources(plan.resources.network_setup, EPHEMERAL_STORAGE, &[TUN])),
        security_context: Some(security::network_administrator()),
        ..common
    }
}

/// Writes the file only, as existing lab pods do: the VM's container makes the network.
fn compat(lab: Lab<'_>, common: Container) -> Container {
    let Lab { plan, options } = lab;
    let network = &plan.network;
    let script = format!(
        "printf '%s\\n' GATEWAY_IP={gateway} VM_IP={vm} \"POD_IP=$(hostname -i)\" TAP_DEVICE={tap} > {path}",
        gateway = network.gateway,
        vm = network.vm_address,
        tap = network.tap,
        path = defaults::NETWORK_CONFIG_PATH,
    );
    Container {
        image: Some(images::name(options.images.network.as_ref(), images::COMPAT_NETWORK)),
        command: Some(["sh", "-c", &script].map(str::to_owned).into()),
        resources: Some(resources(plan.resources.network_setup, EPHEMERAL_STORAGE, &[])),
        ..common
    }
}
