//! Pods that will not become ready any more, and whether another one could.
//!
//! The reasons are the kubelet's own words where it has one that a person knows (`OOMKilled`), and ours
//! elsewhere.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus};

use super::{INIT_ROOTFS, NETWORK_SETUP, VM};

/// Why a pod will not become ready any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One word for a program.
    pub reason: &'static str,
    /// The whole of it, for a person.
    pub message: String,
    /// Whether another pod could do better.
    pub retry: Retry,
    /// Whether the pod holds no resources of its node any more.
    pub pod_is_finished: bool,
}

/// Whether another pod could do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It could: what happened had to do with the time or the node.
    Later,
    /// It would end like this one.
    Never,
}

/// The failure of a pod, if it has failed.
pub(super) fn find(status: &PodStatus) -> Option<Failure> {
    let invalid_image = || waiting(status, &["InvalidImageName"]);
    if let Some((container, message)) = invalid_image() {
        let message = format!("the image of container {container} has no valid name: {message}");
        return Some(Failure {
            reason: "InvalidImageName",
            message,
            retry: Retry::Never,
            pod_is_finished: false,
        });
    }
    if let Some(failure) = of_the_whole_pod(status) {
        return Some(failure);
    }
    if let Some(failure) = secret_lost(status) {
        return Some(failure);
    }
    let pod_is_finished = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    if let Some((container, ended)) = ended_badly(status) {
        return Some(of_container(container, ended, pod_is_finished));
    }
    (status.phase.as_deref() == Some("Failed")).then(|| Failure {
        reason: "PodFailed",
        message: status.message.clone().unwrap_or_else(|| "the pod failed".to_owned()),
        retry: Retry::Later,
        pod_is_finished,
    })
}

/// What the node or the cluster did to the pod.
fn of_the_whole_pod(status: &PodStatus) -> Option<Failure> {
    let message = status.message.clone().unwrap_or_default();
    let failed = status.phase.as_deref() == Some("Failed");
    match status.reason.as_deref() {
        // The pod's own volumes or writable layers grew too big; the next pod's would too.
        Some("Evicted") if message.contains("exceed") => Some(Failure {
            reason: "DiskLimitExceeded",
            message: format!("the pod was evicted: {message}"),
            retry: Retry::Never,
            pod_is_finished: true,
        }),
        Some("Evicted") => Some(Failure {
            reason: "Evicted",
            message: format!("the node was short of something and evicted the pod: {message}"),
            retry: Retry::Later,
            pod_is_finished: true,
        }),
        Some("NodeLost") => Some(node_lost(&message)),
        Some(reason @ ("NodeShutdown" | "Terminated" | "Shutdown" | "Preempting" | "NodeAffinity"))
            if failed =>
        {
            Some(Failure {
                reason: "NodeShutdown",
                message: format!("the node ended the pod ({reason}): {message}"),
                retry: Retry::Later,
                pod_is_finished: true,
            })
        }
        Some(reason @ ("UnexpectedAdmissionError" | "OutOfcpu" | "OutOfmemory" | "OutOfpods")) if failed => {
            Some(Failure {
                reason: "NodeRefusedPod",
                message: format!("the node refused the pod ({reason}): {message}"),
                retry: Retry::Later,
                pod_is_finished: true,
            })
        }
        _ if status.phase.as_deref() == Some("Unknown") => Some(node_lost(&message)),
        _ => None,
    }
}

fn node_lost(message: &str) -> Failure {
    let message = format!("the pod's node does not answer any more: {message}");
    let message = message.trim_end_matches([':', ' ']).to_owned();
    Failure { reason: "NodeLost", message, retry: Retry::Later, pod_is_finished: false }
}

/// A container misses the session's Secret while another runs with what was in it. A new Secret has new keys:
/// it would give this container a key that the machine does not know.
fn secret_lost(status: &PodStatus) -> Option<Failure> {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let runs = |one: &&ContainerStatus| one.state.as_ref().is_some_and(|state| state.running.is_some());
    let with_old_keys = containers.iter().find(runs)?;
    let (missing, message) = waiting(status, &["CreateContainerConfigError"])?;
    if !is_about_a_missing_secret(&message) {
        return None;
    }
    Some(Failure {
        reason: "SecretLost",
        message: format!(
            "container {missing}: {message}; container {} runs with the keys that were in it, so the pod is \
             replaced",
            with_old_keys.name
        ),
        retry: Retry::Later,
        pod_is_finished: false,
    })
}

/// The kubelet's words: `secret "NAME" not found`, `couldn't find key KEY in Secret NAMESPACE/NAME`.
fn is_about_a_missing_secret(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("secret") && (message.contains("not found") || message.contains("couldn't find key"))
}

/// The container that ended first with an error, the VM's before the others.
fn ended_badly(status: &PodStatus) -> Option<(&ContainerStatus, &ContainerStateTerminated)> {
    let init = status.init_container_statuses.as_deref().unwrap_or_default().iter();
    let containers = status.container_statuses.as_deref().unwrap_or_default().iter();
    let mut ended: Vec<_> = init
        .chain(containers)
        .filter_map(|one| Some((one, one.state.as_ref()?.terminated.as_ref()?)))
        .filter(|(_, ended)| ended.exit_code != 0)
        .collect();
    ended.sort_by_key(|(container, ended)| {
        (ended.finished_at.as_ref().map(|time| time.0), container.name != VM)
    });
    ended.first().copied()
}

fn of_container(container: &ContainerStatus, ended: &ContainerStateTerminated, finished: bool) -> Failure {
    let name = container.name.as_str();
    let exit = match ended.signal {
        Some(signal) if signal != 0 => format!("signal {signal}"),
        _ => format!("exit code {}", ended.exit_code),
    };
    let said = ended.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    let said = said.map_or_else(String::new, |message| format!(": {message}"));
    let (reason, what) = match (name, ended.reason.as_deref()) {
        (_, Some("OOMKilled")) => ("OOMKilled", "was out of memory"),
        (INIT_ROOTFS, _) => ("DiskFailed", "could not prepare the disk"),
        (NETWORK_SETUP, _) => ("NetworkFailed", "could not set up the network"),
        (VM, _) => ("VMCrashed", "ended, and the machine with it"),
        _ => ("ContainerFailed", "ended"),
    };
    Failure {
        reason,
        message: format!("container {name} {what} ({exit}){said}"),
        retry: Retry::Later,
        pod_is_finished: finished,
    }
}

/// A container that waits for one of these reasons, and what the kubelet says about it.
fn waiting(status: &PodStatus, reasons: &[&str]) -> Option<(String, String)> {
    let init = status.init_container_statuses.as_deref().unwrap_or_default().iter();
    init.chain(status.container_statuses.as_deref().unwrap_or_default()).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        reasons
            .contains(&reason)
            .then(|| (container.name.clone(), waiting.message.clone().unwrap_or_default()))
    })
}
