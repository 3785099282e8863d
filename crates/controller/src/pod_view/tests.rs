use serde_json::{Value, json};

use super::*;

const SECOND: u64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn view(status: Value) -> PodView {
    let pod =
        json!({ "metadata": { "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z" }, "status": status });
    PodView::of(&serde_json::from_value(pod).unwrap())
}

fn at(second: u32) -> String {
    format!("2026-01-01T00:00:{second:02}Z")
}

fn container(name: &str, state: Value) -> Value {
    json!({ "name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state })
}

fn ended(from: u32, to: u32) -> Value {
    json!({ "terminated": { "exitCode": 0, "startedAt": at(from), "finishedAt": at(to) } })
}

fn scheduled(second: u32) -> Value {
    json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": at(second) })
}

fn stage(status: Value) -> (Stage, u64) {
    match view(status).state {
        PodState::Starting { stage, since_ms, .. } => (stage, (since_ms - SECOND) / 1000),
        other => panic!("{other:?}"),
    }
}

fn failure_of(status: Value) -> (&'static str, Retry) {
    match view(status).state {
        PodState::Broken(failure) => (failure.reason, failure.retry),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_stage_is_known_by_the_pods_own_times() {
    let waits = || json!({ "waiting": { "reason": "PodInitializing" } });
    assert_eq!(stage(json!({})), (Stage::Scheduling, 0));
    assert_eq!(stage(json!({ "conditions": [scheduled(1)] })), (Stage::Preparing, 1));
    let with = |init: Value, containers: Value| json!({ "conditions": [scheduled(1)], "initContainerStatuses": init, "containerStatuses": containers });
    let running = |second| json!({ "running": { "startedAt": at(second) } });
    let rootfs =
        with(json!([container(INIT_ROOTFS, running(2)), container(NETWORK_SETUP, waits())]), json!([]));
    assert_eq!(stage(rootfs), (Stage::InitRootfs, 2));
    let network =
        with(json!([container(INIT_ROOTFS, ended(2, 9)), container(NETWORK_SETUP, waits())]), json!([]));
    assert_eq!(stage(network), (Stage::NetworkSetup, 9));
    let prepared = || json!([container(INIT_ROOTFS, ended(2, 9)), container(NETWORK_SETUP, ended(10, 11))]);
    assert_eq!(stage(with(prepared(), json!([container(VM, waits())]))), (Stage::StartingContainers, 11));
    assert_eq!(stage(with(prepared(), json!([container(VM, running(13))]))), (Stage::BootingVm, 13));
    let mut ready = with(prepared(), json!([container(VM, running(13))]));
    let is_ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": at(17) });
    ready["conditions"].as_array_mut().unwrap().push(is_ready);
    let ready = view(ready);
    assert_eq!(ready.state, PodState::Ready);
    let seconds: Vec<u64> = ready.stages.iter().map(|(_, ms)| ms / 1000).collect();
    assert_eq!(seconds, [1, 1, 7, 2, 2, 4], "the stages add up to the whole");
}

#[test]
fn failures_are_told_apart() {
    let bad = |name, reason| container(name, json!({ "terminated": { "exitCode": 1, "reason": reason } }));
    let of = |container: Value| json!({ "phase": "Failed", "containerStatuses": [container] });
    let evicted = |message: &str| json!({ "phase": "Failed", "reason": "Evicted", "message": message });
    for (status, reason, retry) in [
        (of(bad(VM, "Error")), "VMCrashed", Retry::Later),
        (of(bad(VM, "OOMKilled")), "OOMKilled", Retry::Later),
        (of(bad("code-server", "Error")), "ContainerFailed", Retry::Later),
        (json!({ "initContainerStatuses": [bad(INIT_ROOTFS, "Error")] }), "DiskFailed", Retry::Later),
        (json!({ "initContainerStatuses": [bad(NETWORK_SETUP, "Error")] }), "NetworkFailed", Retry::Later),
        (evicted("The node was low on resource: memory."), "Evicted", Retry::Later),
        (
            evicted("Usage of EmptyDir volume \"vm-data\" exceeds the limit \"5Gi\"."),
            "DiskLimitExceeded",
            Retry::Never,
        ),
        (json!({ "phase": "Unknown" }), "NodeLost", Retry::Later),
        (json!({ "phase": "Failed", "reason": "UnexpectedAdmissionError" }), "NodeRefusedPod", Retry::Later),
        (json!({ "phase": "Failed" }), "PodFailed", Retry::Later),
    ] {
        assert_eq!(failure_of(status.clone()), (reason, retry), "{status}");
    }
}

#[test]
fn a_secret_that_is_missing_is_a_failure_only_if_its_keys_are_in_use() {
    let waits = |message: &str| {
        let waiting = json!({ "reason": "CreateContainerConfigError", "message": message });
        container("terminal-sidecar", json!({ "waiting": waiting }))
    };
    let machine = |state: Value| container(VM, state);
    let running = || machine(json!({ "running": { "startedAt": at(5) } }));
    let of = |first: Value, second: Value| json!({ "conditions": [scheduled(1)], "containerStatuses": [first, second] });
    for missing in [
        "secret \"lab-session-a-ssh\" not found",
        "couldn't find key id_ed25519 in Secret labs/lab-session-a-ssh",
    ] {
        assert_eq!(failure_of(of(running(), waits(missing))), ("SecretLost", Retry::Later));
        let none_has_started = machine(json!({ "waiting": { "reason": "CreateContainerConfigError" } }));
        assert!(matches!(view(of(none_has_started, waits(missing))).state, PodState::Starting { .. }));
    }
    for other in
        ["failed to sync secret cache: timed out", "container has runAsNonRoot and image will run as root"]
    {
        assert!(matches!(view(of(running(), waits(other))).state, PodState::Starting { .. }), "{other}");
    }
}

#[test]
fn what_a_pod_waits_for_is_what_the_kubelet_says() {
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } });
    let status =
        json!({ "conditions": [scheduled(1)], "initContainerStatuses": [container(INIT_ROOTFS, waiting)] });
    let PodState::Starting { waiting_for: Some(waiting), .. } = view(status).state else {
        panic!("it starts")
    };
    assert_eq!(waiting.reason, "ImagePullBackOff");
    assert_eq!(waiting.message, "container init-rootfs: ImagePullBackOff: Back-off pulling image");
}

#[test]
fn a_machine_that_was_powered_off_is_no_failure() {
    let status = json!({ "phase": "Running", "containerStatuses": [container(VM, ended(1, 2))] });
    assert_eq!(view(status).state, PodState::PoweredOff);
}
