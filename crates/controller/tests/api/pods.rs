//! What a kubelet says of lab pods.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

fn time() -> String {
    Timestamp::now().to_string()
}

/// What a kubelet says of a lab pod that is ready.
pub(crate) fn ready() -> Value {
    let init = |name| {
        json!({ "name": name, "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
        "state": { "terminated": { "exitCode": 0, "startedAt": time(), "finishedAt": time() } } })
    };
    let runs = |name| {
        json!({ "name": name, "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
        "state": { "running": { "startedAt": time() } } })
    };
    json!({
        "phase": "Running", "podIP": "10.1.2.3", "reason": null, "message": null,
        "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": time() },
            { "type": "Initialized", "status": "True", "lastTransitionTime": time() },
            { "type": "Ready", "status": "True", "lastTransitionTime": time() },
        ],
        "initContainerStatuses": [init("init-rootfs"), init("network-setup")],
        "containerStatuses": [runs("firecracker-vm"), runs("terminal-sidecar"), runs("code-server")],
    })
}

/// What a kubelet says of a lab pod that is on a node, with one container in this state.
pub(crate) fn with_container(init: bool, name: &str, state: Value) -> Value {
    let list = if init { "initContainerStatuses" } else { "containerStatuses" };
    json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "True", "lastTransitionTime": time() }],
        list: [{ "name": name, "ready": false, "restartCount": 0, "image": "i", "imageID": "i", "state": state }],
    })
}
