//! The pod of a session: two containers that prepare, three that run, and the volumes between them.
//!
//! Names, ports, mounts, probes and amounts are those of existing lab pods. What differs between the two security
//! profiles is said where it differs: [`SecurityProfile::Compat`] is the static manifest to the letter,
//! [`SecurityProfile::Hardened`] takes what the containers do not need away from them, and the probes of the existing
//! controller, which find a VM ready a second after it is.

mod container;
mod editor;
mod init_rootfs;
mod network_setup;
mod security;
mod terminal;
mod vm;
mod volumes;

use std::collections::BTreeMap;

use dozlab_session::plan::Plan;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::core::ObjectMeta;

use crate::network_policy::{POLICY_LABEL, shared_name};
use crate::options::{PodOptions, SecurityProfile};

pub(crate) use volumes::claims;

/// Name of the container that prepares the disk.
pub const INIT_ROOTFS: &str = "init-rootfs";
/// Name of the container that prepares the network.
pub const NETWORK_SETUP: &str = "network-setup";
/// Name of the container that runs the VM.
pub const VM: &str = "firecracker-vm";
/// Name of the container that serves the web terminal.
pub const TERMINAL: &str = "terminal-sidecar";
/// Name of the container that serves the editor.
pub const EDITOR: &str = "code-server";

/// What a container is made from.
#[derive(Clone, Copy)]
pub(crate) struct Lab<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) options: &'a PodOptions,
}

impl Lab<'_> {
    fn is_hardened(&self) -> bool {
        self.options.profile == SecurityProfile::Hardened
    }

    /// Name and labels of one of the session's objects.
    pub(crate) fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.options.namespace.clone(),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert("user-id".to_owned(), self.plan.user_id.to_string());
        if let Some(lab_id) = &self.options.lab_id {
            labels.insert("lab-id".to_owned(), lab_id.clone());
        }
        labels
    }

    /// The labels by which the session's pod is found.
    pub(crate) fn selector(&self) -> BTreeMap<String, String> {
        let labels = [("app", "lab-environment"), ("session-id", self.plan.session_id.as_str())];
        labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The ports that are reached from outside the pod, with their names.
    pub(crate) fn ports(&self) -> Vec<(&'static str, u16)> {
        let parts = self.options.parts;
        let all = [(parts.editor, editor::PORT), (parts.terminal, terminal::PORT), (parts.ssh, vm::PORT)];
        all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, port)| port).collect()
    }
}

/// The session's pod.
pub(crate) fn pod(lab: Lab<'_>) -> Pod {
    let parts = lab.options.parts;
    let mut containers = vec![vm::container(lab)];
    if parts.terminal {
        containers.push(terminal::container(lab));
    }
    if parts.editor {
        containers.push(editor::container(lab));
    }
    let spec = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        security_context: Some(security::pod(lab.options.profile)),
        init_containers: Some(vec![init_rootfs::container(lab), network_setup::container(lab)]),
        containers,
        volumes: Some(volumes::volumes(lab)),
        ..PodSpec::default()
    };
    let mut metadata = lab.metadata(lab.plan.session_id.pod_name());
    if let Some(policy) = shared_name(lab) {
        metadata.labels.get_or_insert_default().insert(POLICY_LABEL.to_owned(), policy);
    }
    Pod { metadata, spec: Some(spec), ..Pod::default() }
}
