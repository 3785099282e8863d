//! A machine over its whole life: reboots, crashes, ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dozlab_session::guest_config::GuestStage;
use dozlab_session::vm_status::VmState;
use dozlab_vm::supervisor::Request;
use dozlab_vm::{Firecracker, Outcome, Supervisor};

use crate::lab::{Lab, read_status};

const GRACE: Duration = Duration::from_secs(10);

fn failure(outcome: Outcome) -> String {
    let Outcome::Failed { reason } = outcome else { panic!("{outcome:?}") };
    reason
}

fn stop(outcome: Outcome) -> String {
    let Outcome::Stopped { reason } = outcome else { panic!("{outcome:?}") };
    reason
}

#[tokio::test]
async fn a_reboot_boots_again_at_once_and_a_stop_ends_it_in_order() {
    let lab = Lab::new("start root ssh exit=0\nstart ssh");
    let mut machine = lab.supervise(GRACE);
    let status = machine.is_ready(2).await;
    assert_eq!(status.hypervisor, "Firecracker");
    let stages: Vec<_> = status.stages.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, [GuestStage::Start, GuestStage::Ssh]);
    assert!(status.started_ms <= status.reached(GuestStage::Ssh).unwrap());
    assert_eq!(status.reason, None);

    machine.ask(Request::Stop);
    let (outcome, status) = machine.ends().await;

    assert_eq!(stop(outcome.unwrap()), "it was asked to");
    assert_eq!((status.state, status.boot), (VmState::Stopped, 2));
    assert!(lab.read("requests").trim_end().ends_with(r#"{"action_type":"SendCtrlAltDel"}"#));
    assert!(lab.read("console.log").contains("reboot: Restarting system"));
    assert_eq!(lab.boots().len(), 2);
    lab.assert_nothing_runs();
}

/// Read by a thread of its own, as fast as it can: it sees the file between any two system calls of the supervisor.
#[tokio::test]
async fn a_status_is_whole_at_every_moment() {
    let lab = Lab::new("start root network ssh exit=0");
    let mut machine = lab.supervise(GRACE);
    machine.reaches(|_| true).await;
    let over = Arc::new(AtomicBool::new(false));
    let (path, is_over) = (lab.path("status.json"), Arc::clone(&over));
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        while !is_over.load(Ordering::Relaxed) {
            read_status(&path).expect("once there, the file is always there");
            read += 1;
        }
        read
    });
    machine.reaches(|status| status.boot >= 30).await;
    over.store(true, Ordering::Relaxed);
    let read = reader.join().unwrap();
    assert!(read > 1000, "it was read {read} times only");
}

#[tokio::test]
async fn a_crash_is_told_with_the_consoles_last_lines_and_followed_by_a_restart_after_a_pause() {
    let lab = Lab::new("start ssh exit=1\nstart exit=1\nstart ssh");
    let started = Instant::now();
    let mut machine = lab.supervise(GRACE);
    for (boot, since) in [(1, 0), (2, 1)] {
        let status =
            machine.reaches(|status| status.state == VmState::Restarting && status.boot == boot).await;
        let reason = status.reason.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(since), "boot {boot} began too early");
        assert!(reason.starts_with("the hypervisor ended (exit status: 1): Vmm error: KVM_RUN"), "{reason}");
        assert!(
            reason.contains("its console said last:\n  dozlab-guest 1.234 start: as planned"),
            "{reason}"
        );
    }
    // One second after the first crash, two after the second.
    machine.is_ready(3).await;
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    machine.ask(Request::Kill);
    machine.ends().await.0.unwrap();
    lab.assert_nothing_runs();
}

#[tokio::test]
async fn a_machine_that_fails_before_or_right_after_its_prompt_is_given_up() {
    for (plan, what) in [
        ("start exit=0", "it restarts before it has a prompt"),
        ("start ssh exit=1", "the hypervisor ended (exit status: 1): Vmm error: KVM_RUN"),
    ] {
        let lab = Lab::new(plan);
        let (outcome, status) = lab.supervise(GRACE).ends().await;
        let reason = failure(outcome.unwrap());
        assert!(reason.starts_with(&format!("the machine failed 5 times in a row: {what}")), "{reason}");
        assert!(
            reason.contains("its console said last:\n  dozlab-guest 1.234 start: as planned"),
            "{reason}"
        );
        assert_eq!((status.state, status.boot, status.reason), (VmState::Failed, 5, Some(reason)));
        assert_eq!(lab.boots().len(), 5);
    }
}

#[tokio::test]
async fn a_guest_that_says_why_it_cannot_start_is_not_tried_again() {
    let lab = Lab::new("start failed exit=0");
    let (outcome, status) = lab.supervise(GRACE).ends().await;
    let reason = failure(outcome.unwrap());
    assert_eq!(reason, "the guest could not start: /dev/vda holds no file system");
    assert_eq!((status.state, status.reason), (VmState::Failed, Some(reason)));
    assert_eq!(lab.boots().len(), 1);
}

#[tokio::test]
async fn a_kernel_panic_is_a_crash_although_the_process_ends_well() {
    let lab = Lab::new("start ssh panic exit=0\nstart ssh");
    let mut machine = lab.supervise(GRACE);
    let status = machine.reaches(|status| status.state == VmState::Restarting).await;
    let reason = status.reason.unwrap();
    assert!(reason.starts_with("kernel panic: Attempted to kill init! exitcode=0x0000000b"), "{reason}");
    machine.is_ready(2).await;
    machine.ask(Request::Kill);
    machine.ends().await.0.unwrap();
}

/// Firecracker has no way to power off: the process ends with a reset, or not at all. The console tells.
#[tokio::test]
async fn a_guest_that_powers_off_or_halts_has_ended_the_machine() {
    for (plan, reason) in [
        ("start ssh power-down exit=0", "the guest powered the machine off"),
        ("start ssh halt", "the guest halted the machine"),
    ] {
        let lab = Lab::new(plan);
        let (outcome, status) = lab.supervise(GRACE).ends().await;
        assert_eq!(stop(outcome.unwrap()), reason);
        assert_eq!((status.state, lab.boots().len()), (VmState::Stopped, 1));
        lab.assert_nothing_runs();
    }
}

#[tokio::test]
async fn a_guest_that_does_not_obey_is_ended_after_its_grace() {
    let lab = Lab::new("start deaf ssh");
    let mut machine = lab.supervise(Duration::from_secs(1));
    machine.is_ready(1).await;
    let asked = Instant::now();
    machine.ask(Request::Stop);
    let (outcome, status) = machine.ends().await;
    stop(outcome.unwrap());
    assert_eq!(status.state, VmState::Stopped);
    assert!((1..8).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    assert!(lab.read("requests").contains("SendCtrlAltDel"));
    lab.assert_nothing_runs();
}

#[tokio::test]
async fn a_kill_waits_for_nobody() {
    let lab = Lab::new("start deaf ssh");
    let mut machine = lab.supervise(Duration::from_secs(3600));
    machine.is_ready(1).await;
    machine.ask(Request::Kill);
    let (outcome, _) = machine.ends().await;
    stop(outcome.unwrap());
    assert!(!lab.read("requests").contains("SendCtrlAltDel"));
    lab.assert_nothing_runs();
}

#[tokio::test]
async fn a_stop_during_a_boot_or_a_pause_is_obeyed() {
    let lab = Lab::new("start deaf");
    let mut machine = lab.supervise(Duration::from_millis(300));
    machine.reaches(|status| !status.stages.is_empty()).await;
    machine.ask(Request::Stop);
    stop(machine.ends().await.0.unwrap());
    lab.assert_nothing_runs();

    let lab = Lab::new("start exit=1");
    let mut machine = lab.supervise(GRACE);
    machine.reaches(|status| status.boot == 2 && status.state == VmState::Restarting).await;
    machine.ask(Request::Stop);
    stop(machine.ends().await.0.unwrap());
    assert_eq!(lab.boots().len(), 2, "nothing was started after the stop");
}

/// Nothing of what a guest writes may stop the supervisor from seeing its end.
#[tokio::test]
async fn a_guest_that_floods_its_console_is_still_followed() {
    let lab = Lab::new("start flood ssh flood flood exit=0\nstart ssh");
    let mut machine = lab.supervise(GRACE);
    machine.is_ready(2).await;
    machine.ask(Request::Kill);
    machine.ends().await.0.unwrap();
    let kept: u64 = ["console.log", "console.log.1"].map(|name| lab.read(name).len() as u64).iter().sum();
    assert!(kept < 2 * dozlab_vm::console::LOG_LIMIT + 8192, "{kept} bytes are kept");
}

#[tokio::test]
async fn a_first_launch_that_fails_is_an_error_and_published_as_a_failure() {
    let mut lab = Lab::new("start");
    lab.machine.kernel = "/there/is/no/kernel".into();
    let (outcome, status) = lab.supervise(GRACE).ends().await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("The kernel file cannot be opened"), "{error}");
    assert_eq!((status.state, status.reason), (VmState::Failed, Some(error)));
}

#[tokio::test]
async fn a_binary_that_is_not_there_is_named_with_the_remedy() {
    let lab = Lab::new("start");
    let supervisor = Supervisor {
        hypervisor: Firecracker::at("/there/is/no/firecracker".into()),
        machine: lab.machine.clone(),
        console_log: lab.path("console.log"),
        status: lab.path("status.json"),
        grace: GRACE,
    };
    let (_request, requests) = tokio::sync::watch::channel(Request::Run);
    let error = supervisor.run(requests).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "/there/is/no/firecracker is not installed: put the release binary there, or correct FIRECRACKER_BIN"
    );
}
