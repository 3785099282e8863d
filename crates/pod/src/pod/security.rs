//! Who the containers run as, and what they may do.
//!
//! Each container of a hardened pod has a user of its own, so that what one of them keeps to itself stays with it when
//! another is broken into. They share one group, which Kubernetes gives the volumes to.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext, Sysctl};

use crate::options::SecurityProfile;

/// The user of the editor, as its image has it.
pub(super) const EDITOR_USER: u32 = 1000;
/// The user of the VM's container: owner of the disk and of the tap device.
pub(super) const VM_USER: u32 = 1100;
/// The user of the terminal.
pub(super) const TERMINAL_USER: u32 = 1200;
/// The group of the volumes: `fsGroup` of existing lab pods.
const GROUP: i64 = 1000;

/// For the whole pod.
pub(super) fn pod(profile: SecurityProfile) -> PodSecurityContext {
    let common = PodSecurityContext {
        fs_group: Some(GROUP),
        run_as_non_root: Some(profile == SecurityProfile::Hardened),
        seccomp_profile: Some(runtime_default()),
        ..PodSecurityContext::default()
    };
    match profile {
        // A disk of many gigabytes is not walked through at each start for the group of its one file.
        SecurityProfile::Hardened => PodSecurityContext {
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            run_as_user: Some(VM_USER.into()),
            run_as_group: Some(GROUP),
            ..common
        },
        // The existing VM's launcher switches forwarding on by /proc/sys, which no container may write to.
        SecurityProfile::Compat => {
            let forwarding = Sysctl { name: "net.ipv4.ip_forward".to_owned(), value: "1".to_owned() };
            PodSecurityContext { sysctls: Some(vec![forwarding]), ..common }
        }
    }
}

/// For a container that needs no privilege.
pub(super) fn unprivileged(user: u32) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(capabilities(&[], true)),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(user.into()),
        run_as_group: Some(GROUP),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

/// For the container that makes the network: root, because `NET_ADMIN` is not given to anybody else, and nothing but
/// that capability.
pub(super) fn network_administrator() -> SecurityContext {
    SecurityContext {
        capabilities: Some(capabilities(&["NET_ADMIN"], true)),
        run_as_non_root: Some(false),
        ..unprivileged(0)
    }
}

/// What the VM's container of existing lab pods has.
pub(super) fn existing_vm() -> SecurityContext {
    SecurityContext {
        capabilities: Some(capabilities(&["NET_ADMIN", "SYS_ADMIN", "SYS_RESOURCE"], false)),
        ..SecurityContext::default()
    }
}

/// What the editor's container of existing lab pods has.
pub(super) fn existing_editor() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        run_as_non_root: Some(true),
        run_as_user: Some(EDITOR_USER.into()),
        ..SecurityContext::default()
    }
}

fn capabilities(add: &[&str], drop_all: bool) -> Capabilities {
    let listed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Some(names).filter(|names| !names.is_empty())
    };
    Capabilities { add: listed(add), drop: listed(if drop_all { &["ALL"] } else { &[] }) }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }
}
