//! One machine from its launch to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use dozlab_session::guest_config::GuestStage;
use dozlab_vm::console::{Console, ConsoleEvent};
use dozlab_vm::{Hypervisor, LaunchError, NetworkBackend, RunningVm, VmEnd};
use tokio::process::ChildStdout;

use crate::lab::{Lab, stand_in};

const GRACE: Duration = Duration::from_secs(5);

async fn next_stage(console: &mut Console<ChildStdout>) -> GuestStage {
    let event = tokio::time::timeout(Duration::from_secs(20), console.next()).await.unwrap();
    let Some(ConsoleEvent::Guest(line)) = event else { panic!("{event:?}") };
    line.stage
}

#[tokio::test]
async fn a_machine_boots_speaks_on_its_console_and_restarts_when_told() {
    let lab = Lab::new("start ssh");
    let mut vm = stand_in().launch(&lab.machine).await.unwrap();
    let mut console = Console::new(vm.take_console(), None).unwrap();
    assert_eq!(next_stage(&mut console).await, GuestStage::Start);
    assert_eq!(next_stage(&mut console).await, GuestStage::Ssh);
    assert!(vm.identity().is_running());

    vm.pause().await.unwrap();
    vm.resume().await.unwrap();
    vm.flush_metrics().await.unwrap();
    vm.power_down().await.unwrap();

    assert_eq!(vm.wait().await, VmEnd::Reset);
    assert_eq!(console.next().await, Some(ConsoleEvent::Restarting));
    assert_eq!(console.next().await, None);
    let requests = lab.read("requests");
    let last: Vec<&str> = requests.lines().rev().take(5).collect();
    let expected = [
        r#"PUT /actions {"action_type":"SendCtrlAltDel"}"#,
        r#"PUT /actions {"action_type":"FlushMetrics"}"#,
        r#"PATCH /vm {"state":"Resumed"}"#,
        r#"PATCH /vm {"state":"Paused"}"#,
        r#"PUT /actions {"action_type":"InstanceStart"}"#,
    ];
    assert_eq!(last, expected);
    lab.assert_nothing_runs();
}

#[tokio::test]
async fn a_crash_is_reported_with_its_code_and_last_words() {
    let lab = Lab::new("start exit=1");
    let mut vm = stand_in().launch(&lab.machine).await.unwrap();
    let VmEnd::Died { status, message } = vm.wait().await else { panic!("it died") };
    assert_eq!(status.unwrap().code(), Some(1));
    assert_eq!(message, "Vmm error: KVM_RUN: Bad address (os error 14)");
}

#[tokio::test]
async fn what_an_earlier_process_left_is_removed_before_the_start() {
    let lab = Lab::new("start");
    for left in ["firecracker.sock", "vsock.sock"] {
        drop(UnixListener::bind(lab.path(left)).unwrap());
    }
    for _ in 0..2 {
        let mut vm = stand_in().launch(&lab.machine).await.unwrap();
        vm.kill(GRACE).await;
        assert!(lab.path("firecracker.sock").exists(), "like Firecracker, the stand-in leaves its socket");
    }
    let log = fs::metadata(lab.path("firecracker.log")).unwrap();
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
    lab.assert_nothing_runs();
}

#[tokio::test]
async fn the_api_listens_where_it_is_told_to_and_takes_no_other_file_away() {
    let lab = Lab::new("start");
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("api");
    let hypervisor = stand_in().with_api_socket(Some(socket.clone()));
    for _ in 0..2 {
        let mut vm = hypervisor.launch(&lab.machine).await.unwrap();
        vm.pause().await.unwrap();
        assert!(socket.exists() && !lab.path("firecracker.sock").exists());
        vm.kill(GRACE).await;
    }
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "somebody's").unwrap();
    let error = hypervisor.launch(&lab.machine).await.unwrap_err().to_string();
    assert_eq!(error, format!("cannot use {}: it is there, and no socket", socket.display()));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "somebody's");
}

/// The control of the test of what is left: left-over sockets do end the process, in the recorded words.
#[tokio::test]
async fn a_socket_that_exists_ends_the_process() {
    let lab = Lab::new("start");
    drop(UnixListener::bind(lab.path("firecracker.sock")).unwrap());
    let mut command = tokio::process::Command::new(stand_in().program());
    command.args(["--api-sock", "firecracker.sock", "--id", "lab"]).current_dir(&lab.machine.run_folder);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Check that it is not already used."));
}

#[tokio::test]
async fn killing_or_dropping_a_machine_leaves_no_process() {
    let lab = Lab::new("start deaf");
    let mut vm = stand_in().launch(&lab.machine).await.unwrap();
    let identity = vm.identity();
    vm.power_down().await.unwrap();
    vm.kill(GRACE).await;
    assert!(!identity.is_running());
    assert!(matches!(vm.wait().await, VmEnd::Died { .. }));

    let vm = stand_in().launch(&lab.machine).await.unwrap();
    let identity = vm.identity();
    assert!(identity.is_running());
    drop(vm);
    let deadline = Instant::now() + GRACE;
    while identity.is_running() {
        assert!(Instant::now() < deadline, "a machine that was dropped still runs");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_refusal_during_configuration_ends_the_process_and_is_passed_on() {
    let mut lab = Lab::new("start");
    lab.machine.disk = Some("/there/is/no/such/disk".into());
    let error = stand_in().launch(&lab.machine).await.unwrap_err();
    assert!(matches!(error, LaunchError::Control(_)), "{error:?}");
    assert!(error.to_string().contains("refused PUT /drives/rootfs: Drive config error"), "{error}");
    assert!(error.to_string().ends_with("/there/is/no/such/disk"), "{error}");
    let deadline = Instant::now() + GRACE;
    while lab.boots().iter().any(|pid| dozlab_process::Identity::of(*pid).is_some()) {
        assert!(Instant::now() < deadline, "the process is left");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_process_that_ends_at_once_is_reported_with_its_last_words() {
    let lab = Lab::new("end=1");
    let error = stand_in().launch(&lab.machine).await.unwrap_err().to_string();
    assert_eq!(error, "Firecracker ended as soon as it was started: RunWithApiError error: it was planned");
}

#[tokio::test]
async fn a_process_that_never_opens_its_socket_is_given_up() {
    let lab = Lab::new("mute");
    let error = stand_in().launch(&lab.machine).await.unwrap_err().to_string();
    assert_eq!(error, "Firecracker did not answer GET / within 5 s");
}

#[tokio::test]
async fn a_user_mode_network_is_not_to_be_had() {
    let mut lab = Lab::new("start");
    lab.machine.network = NetworkBackend::User {
        gateway: [172, 16, 0, 1].into(),
        resolver: [172, 16, 0, 3].into(),
        vm: [172, 16, 0, 2].into(),
        ssh_forward: "127.0.0.1:0".parse().unwrap(),
    };
    let error = stand_in().launch(&lab.machine).await.unwrap_err().to_string();
    assert!(error.contains("no user-mode network") && error.contains("--hypervisor qemu"), "{error}");
    assert_eq!(lab.boots(), [] as [u32; 0]);
}
