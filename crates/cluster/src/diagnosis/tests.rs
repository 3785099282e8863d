use dozlab_pod::{LabSession, LabSessionSpec};
use serde_json::{Value, json};

use super::*;
use crate::evidence::{Happening, Log};

const MADE: &str = "2026-01-01T00:00:00Z";
const NOW_MS: u64 = 1_767_225_600_000 + 60_000;

/// A lab with this status, a minute old.
fn lab(status: Value) -> Evidence {
    let spec = LabSessionSpec { session_id: "demo".into(), user_id: "u".into(), ..LabSessionSpec::default() };
    let mut session = LabSession::new("demo", spec);
    session.metadata = serde_json::from_value(json!({ "name": "demo", "creationTimestamp": MADE })).unwrap();
    session.status = serde_json::from_value(status).unwrap();
    Evidence { now_ms: NOW_MS, session, ..Evidence::default() }
}

fn creating() -> Evidence {
    lab(json!({ "phase": "Creating" }))
}

/// The same, with a pod of this status.
fn with_pod(evidence: Evidence, status: Value) -> Evidence {
    let pod =
        json!({ "metadata": { "name": "lab-session-demo", "creationTimestamp": MADE }, "status": status });
    Evidence { pod: Some(serde_json::from_value(pod).unwrap()), ..evidence }
}

/// A pod on a node, with a container in this state.
fn container(list: &str, name: &str, state: Value) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "True", "lastTransitionTime": MADE }],
        list: [{ "name": name, "ready": false, "restartCount": 0, "image": "i", "imageID": "i", "state": state }],
    })
}

fn ended(code: i32, reason: &str) -> Value {
    json!({ "terminated": { "exitCode": code, "reason": reason, "finishedAt": MADE } })
}

fn saying(evidence: Evidence, container: &str, lines: &[&str]) -> Evidence {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Evidence { logs: vec![Log { container: container.to_owned(), lines }], ..evidence }
}

#[test]
fn a_lab_that_nobody_notices_has_no_controller() {
    let mut young = lab(Value::Null);
    assert_eq!(diagnose(&young).cause, "NoController");
    young.now_ms -= 55_000;
    assert_eq!(diagnose(&young).verdict, Verdict::Waiting);
}

#[test]
fn nothing_is_said_against_a_lab_that_runs() {
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                        "lastTransitionTime": MADE });
    let diagnosis = diagnose(&lab(json!({ "phase": "Running", "conditions": [ready] })));
    assert_eq!((diagnosis.verdict, diagnosis.remedy), (Verdict::Good, None));
}

#[test]
fn a_disk_that_cannot_be_prepared_is_told_by_its_log() {
    let failed = container("initContainerStatuses", "init-rootfs", ended(1, "Error"));
    for (line, cause) in [
        ("error: cannot fetch https://i.example/k.ext4: the server answered 404 Not Found", "ImageRefused"),
        (
            "error: cannot fetch https://i.example/k.ext4: dns error (4 attempts); see whether",
            "ImageUnreachable",
        ),
        ("error: https://i.example/k.ext4 is not what IMAGE_SHA256 says: its SHA-256 is 00", "ImageDamaged"),
        ("error: a disk of 1Gi (1073741824 bytes) cannot hold the image, which needs 2Gi", "DiskTooSmall"),
        ("error: cannot write what is fetched: No space left on device (os error 28)", "DiskTooSmall"),
        ("error: something new", "DiskFailed"),
    ] {
        let evidence = saying(with_pod(creating(), failed.clone()), "init-rootfs", &["starts", line]);
        let diagnosis = diagnose(&evidence);
        assert_eq!((diagnosis.cause.as_str(), diagnosis.verdict), (cause, Verdict::Bad), "{line}");
        assert!(diagnosis.evidence.contains(&format!("init-rootfs: {line}")), "{:?}", diagnosis.evidence);
        assert!(diagnosis.remedy.is_some());
    }
}

#[test]
fn a_machine_that_does_not_boot_is_told_by_its_log() {
    let crashed = container("containerStatuses", "firecracker-vm", ended(1, "Error"));
    for (line, cause) in [
        ("error: no hypervisor can boot a machine here:", "NoHypervisor"),
        ("ioctl(TUNSETIFF): Operation not permitted", "NotPermitted"),
        ("EXT4-fs error (device vda): ext4_lookup", "DiskDamaged"),
        ("error: something new", "VMCrashed"),
    ] {
        let evidence = saying(with_pod(creating(), crashed.clone()), "firecracker-vm", &[line]);
        assert_eq!(diagnose(&evidence).cause, cause, "{line}");
    }
}

#[test]
fn memory_is_told_apart_by_container() {
    let remedy = |name: &str| {
        let killed = container("containerStatuses", name, ended(137, "OOMKilled"));
        let diagnosis = diagnose(&with_pod(creating(), killed));
        assert_eq!(diagnosis.cause, "OOMKilled");
        diagnosis.remedy.unwrap()
    };
    assert!(remedy("firecracker-vm").contains("VM_MEMORY_LIMIT"));
    assert!(remedy("code-server").contains("extensions"));
}

#[test]
fn a_pod_without_a_node_is_told_what_the_nodes_lack() {
    for (message, expected) in [
        ("0/3 nodes are available: 3 Insufficient dozlab.io/kvm.", "device-plugin"),
        ("0/3 nodes are available: 3 Insufficient memory.", "the nodes are full"),
        ("pod has unbound immediate persistentvolumeclaims", "storage class"),
    ] {
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                "message": message });
        let diagnosis = diagnose(&with_pod(creating(), json!({ "conditions": [condition] })));
        assert_eq!((diagnosis.cause.as_str(), diagnosis.message.as_str()), ("Unschedulable", message));
        assert!(diagnosis.remedy.unwrap().contains(expected), "{message}");
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_named() {
    let waiting =
        json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"vm:9\"" } });
    let evidence = with_pod(creating(), container("containerStatuses", "firecracker-vm", waiting));
    // The pod must be past its init containers for the kubelet to say so; the word is what counts.
    let diagnosis = diagnose(&evidence);
    assert_eq!(diagnosis.cause, "ImagePullBackOff");
    assert!(diagnosis.message.contains("vm:9"), "{}", diagnosis.message);
}

#[test]
fn failing_probes_and_mounts_are_found_in_the_events() {
    let event = |reason: &str, message: &str, container: Option<&str>| Happening {
        warning: true,
        reason: reason.into(),
        message: message.into(),
        container: container.map(str::to_owned),
    };
    let booting =
        container("containerStatuses", "firecracker-vm", json!({ "running": { "startedAt": MADE } }));
    let mut evidence = with_pod(creating(), booting);
    assert_eq!(diagnose(&evidence).verdict, Verdict::Waiting, "it is on its way");
    evidence.events =
        vec![event("Unhealthy", "Startup probe failed: connection refused", Some("firecracker-vm"))];
    let diagnosis = diagnose(&evidence);
    assert_eq!((diagnosis.cause.as_str(), diagnosis.verdict), ("Unhealthy", Verdict::Bad));
    assert_eq!(diagnosis.evidence, ["Unhealthy: Startup probe failed: connection refused"]);
    evidence.events = vec![event("FailedMount", "volume vm-data: timed out", None)];
    assert!(diagnose(&evidence).remedy.unwrap().contains("storage class"));
}

#[test]
fn what_comes_right_by_itself_is_waited_for() {
    let evidence = lab(json!({
        "phase": "Creating", "reason": "Evicted", "message": "the node was short of memory",
        "retry": { "podUID": "p", "attempt": 2, "after": "2026-01-01T00:01:10Z" },
    }));
    let diagnosis = diagnose(&evidence);
    assert_eq!((diagnosis.cause.as_str(), diagnosis.verdict), ("Evicted", Verdict::Waiting));
    assert!(diagnosis.message.ends_with("; pod 3 is made in 10 s"), "{}", diagnosis.message);
}

#[test]
fn a_failed_lab_without_a_pod_is_told_by_its_status() {
    let evidence =
        lab(json!({ "phase": "Failed", "reason": "InvalidSpec", "message": "spec.memory cannot be used" }));
    let diagnosis = diagnose(&evidence);
    assert_eq!(
        (diagnosis.cause.as_str(), diagnosis.verdict, diagnosis.state),
        ("InvalidSpec", Verdict::Bad, "failed")
    );
    let refused = lab(
        json!({ "phase": "Creating", "reason": "ControllerNotAllowed", "message": "cannot create pods" }),
    );
    assert!(diagnose(&refused).remedy.unwrap().contains("rbac.yaml"));
    let message = "the API server knows no httproutes";
    let without_kind = lab(json!({ "phase": "Creating", "reason": "KindNotInstalled", "message": message }));
    assert!(diagnose(&without_kind).remedy.unwrap().contains("Gateway API"));
}

#[test]
fn what_a_strangers_log_says_cannot_move_the_cursor() {
    let crashed = container("containerStatuses", "firecracker-vm", ended(1, "Error"));
    let evidence = saying(with_pod(creating(), crashed), "firecracker-vm", &["\u{1b}[2Jgone"]);
    assert_eq!(diagnose(&evidence).evidence, ["firecracker-vm: [2Jgone"]);
}
