//! The VM comes and goes; the WebSocket stays.

use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use dozlab_session::vm_status::{VmState, VmStatus};
use serde_json::json;

use crate::lab::Lab;
use crate::vm::{Vm, random_key};
use crate::websocket::Socket;

fn write_status(path: &Path, state: VmState, boot: u32, reason: Option<&str>) {
    let reason = reason.map(str::to_owned);
    let status = VmStatus { state, boot, hypervisor: "test".into(), started_ms: 0, stages: vec![], reason };
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec(&status).unwrap()).unwrap();
    std::fs::rename(&partial, path).unwrap();
}

#[tokio::test]
async fn readiness_follows_the_vm() {
    let mut vm = Vm::off();
    let lab = Lab::start(&vm).await;
    let answer = lab.until_ready_is("waiting").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    vm.boot();
    let answer = lab.until_ready_is("ready").await;
    assert_eq!(answer.status, StatusCode::OK);
    vm.kill();
    lab.until_ready_is("restarting").await;
    vm.boot();
    lab.until_ready_is("ready").await;
    assert_eq!(lab.get("/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_vm_that_restarts_gives_the_same_websocket_a_new_shell() {
    let mut vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws?cols=100&rows=20").await;
    socket.expect("boot 1\r\n$ ").await;
    vm.kill();
    socket.expect_status("restarting").await;
    socket.type_bytes("echo into the void\r").await;
    socket.say(json!({ "type": "resize", "cols": 101, "rows": 21 })).await;
    // What was sent before the VM is back was read before the new shell begins.
    tokio::time::sleep(Duration::from_millis(200)).await;
    vm.boot();
    socket.expect_status("connected").await;
    socket.expect("boot 2\r\n$ ").await;
    socket.type_bytes("size\r").await;
    socket.expect("size 101x21").await;
    assert!(!socket.shown().contains("void"), "what was typed for the lost shell was dropped");
}

#[tokio::test]
async fn an_old_client_gets_the_new_shell_too() {
    let mut vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/terminal").await;
    socket.expect("boot 1\r\n$ ").await;
    vm.kill();
    vm.boot();
    socket.expect("boot 2\r\n$ ").await;
}

#[tokio::test]
async fn the_supervisors_word_decides_when_to_dial_and_what_the_learner_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let status = folder.path().join("vm-status.json");
    let mut vm = Vm::on();
    let lab = Lab::start_with(&vm, &[("VM_STATUS_PATH", status.to_str().unwrap())]).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect_status("booting").await;
    write_status(&status, VmState::Booting, 1, None);
    lab.until_ready_is("booting").await;
    assert_eq!(vm.connections(), 0, "nobody dials a VM that is not ready");

    write_status(&status, VmState::Ready, 1, None);
    socket.expect("boot 1").await;

    // Its connections stay open, as those of a VM that was killed behind a tap do; the supervisor knows.
    write_status(&status, VmState::Restarting, 1, None);
    socket.expect_status("restarting").await;
    vm.kill();
    vm.boot();
    write_status(&status, VmState::Ready, 2, None);
    socket.expect("boot 2").await;

    write_status(&status, VmState::Stopped, 2, Some("the learner switched it off"));
    let stopped = socket.expect_status("stopped").await;
    assert_eq!(stopped["message"], "the machine is switched off: the learner switched it off");
    lab.until_ready_is("stopped").await;
}

/// Why a machine does not run may quote its console, which is for those who have the secret.
#[tokio::test]
async fn without_the_secret_readiness_says_nothing_from_inside_the_vm() {
    let folder = tempfile::tempdir().unwrap();
    let status = folder.path().join("vm-status.json");
    write_status(&status, VmState::Failed, 5, Some("its console said last: password=hunter2"));
    let lab = Lab::start_with(&Vm::off(), &[("VM_STATUS_PATH", status.to_str().unwrap())]).await;
    let answer = lab.until_ready_is("failed").await;
    let expected = json!({ "status": "failed", "message": "the machine cannot be started" });
    assert_eq!(answer.json(), expected);
    let answer = lab.get_with_token("/ready").await;
    let message = "the machine cannot be started: its console said last: password=hunter2";
    assert_eq!(answer.json(), json!({ "status": "failed", "message": message }));
}

#[tokio::test]
async fn a_server_with_another_host_key_gets_no_login_and_gives_no_shell() {
    let vm = Vm::on();
    let lab = Lab::start_trusting(&vm, random_key().public_key(), &[]).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    let error = socket.expect_notice("error", |notice| notice["type"] == "error").await;
    assert!(error["message"].as_str().unwrap().contains("host key"), "{error}");
    assert_eq!(socket.expect_close().await, (4001, "wrong-host-key".to_owned()));
    assert_eq!(socket.shown(), "");
    assert_eq!(vm.shells(), 0);
    let answer = lab.until_ready_is("wrong-host-key").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let metrics = lab.get("/metrics").await.body;
    assert!(metrics.contains("ssh_dial_failures_total{reason=\"wrong-host-key\"}"), "{metrics}");
}

#[tokio::test]
async fn a_server_that_does_not_know_our_key_is_no_reason_to_wait() {
    let vm = Vm::on();
    let lab = Lab::start_with(&vm, &[("SSH_USER", "nobody")]).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    assert_eq!(socket.expect_close().await, (4001, "login-refused".to_owned()));
    lab.until_ready_is("login-refused").await;
}
