//! The parts of which containers are put together.

use std::collections::BTreeMap;

use dozlab_session::plan::resources::ContainerResources;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::{
    ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Probe, ResourceRequirements, SecretKeySelector,
    TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::secrets::SecretKey;

/// A variable with its value.
pub(super) fn env(name: &str, value: impl ToString) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_string()), value_from: None }
}

/// A variable whose value is in a Secret.
pub(super) fn env_from_secret(name: &str, secret: &str, key: SecretKey) -> EnvVar {
    let selector =
        SecretKeySelector { name: secret.to_owned(), key: key.as_str().to_owned(), optional: Some(false) };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// A volume at a path.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// A volume at a path, read-only.
pub(super) fn mount_read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount(volume, path) }
}

/// A named TCP port.
pub(super) fn port((name, number): (&str, u16)) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// How a probe asks.
#[derive(Clone, Copy)]
pub(super) enum Question {
    /// Whether a connection can be opened.
    Tcp(u16),
    /// Whether a path is answered with success.
    Get(&'static str, u16),
}

/// When a probe asks, in seconds; `failures` in a row count.
#[derive(Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) delay: i32,
    pub(super) period: i32,
    pub(super) timeout: Option<i32>,
    pub(super) failures: Option<i32>,
}

impl Rhythm {
    /// A delay and a period, and Kubernetes' own defaults for the rest.
    pub(super) const fn new(delay: i32, period: i32) -> Self {
        Self { delay, period, timeout: None, failures: None }
    }

    pub(super) const fn timeout(self, timeout: i32) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    pub(super) const fn failures(self, failures: i32) -> Self {
        Self { failures: Some(failures), ..self }
    }
}

/// The existing controller's start probe: each second, for two minutes.
pub(super) const STARTUP: Rhythm = Rhythm::new(0, 1).failures(120);

pub(super) fn probe(question: Question, rhythm: Rhythm) -> Probe {
    let number = |port: u16| IntOrString::Int(port.into());
    let (tcp_socket, http_get) = match question {
        Question::Tcp(port) => {
            (Some(TCPSocketAction { port: number(port), ..TCPSocketAction::default() }), None)
        }
        Question::Get(path, port) => {
            let path = Some(path.to_owned());
            (None, Some(HTTPGetAction { path, port: number(port), ..HTTPGetAction::default() }))
        }
    };
    Probe {
        tcp_socket,
        http_get,
        initial_delay_seconds: Some(rhythm.delay).filter(|delay| *delay > 0),
        period_seconds: Some(rhythm.period),
        timeout_seconds: rhythm.timeout,
        failure_threshold: rhythm.failures,
        ..Probe::default()
    }
}

/// What a container uses of its node: the plan's amounts, disk for what it writes, and devices.
pub(super) fn resources(
    amounts: ContainerResources,
    ephemeral_storage: ByteSize,
    devices: &[&str],
) -> ResourceRequirements {
    let quantity = |text: String| Quantity(text);
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), quantity(amounts.requests.cpu.to_string())),
        ("memory".to_owned(), quantity(amounts.requests.memory.to_string())),
        ("ephemeral-storage".to_owned(), quantity(ephemeral_storage.to_string())),
    ]);
    let mut limits = BTreeMap::from([
        ("cpu".to_owned(), quantity(amounts.limits.cpu.to_string())),
        ("memory".to_owned(), quantity(amounts.limits.memory.to_string())),
    ]);
    // Kubernetes takes devices in whole numbers, the same as request and as limit.
    for device in devices {
        requests.insert((*device).to_owned(), quantity("1".to_owned()));
        limits.insert((*device).to_owned(), quantity("1".to_owned()));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}
