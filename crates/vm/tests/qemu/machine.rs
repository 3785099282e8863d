//! Single boots: a machine that is paused, one whose port is taken, one that is ended.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use dozlab_boot::Kernel;
use dozlab_vm::probe::Prober;
use dozlab_vm::{Accelerator, Hypervisor, HypervisorKind, LaunchError, Qemu, RunningVm, VmEnd};

use crate::lab::{ConsoleLines, Lab, kernel};

const TICKING: &str = "while :; do echo tick; sleep 0.1; done\n";

#[tokio::test]
async fn a_paused_machine_stands_still_until_it_is_resumed_and_a_killed_one_is_gone() {
    let lab = Lab::with_init(TICKING).await;
    let mut vm = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap();
    let mut console = ConsoleLines::new(vm.take_console());
    console.until("tick").await;

    vm.pause().await.unwrap();
    // What was said before may still be on its way.
    while console.next(Duration::from_millis(500)).await.is_some() {}
    assert_eq!(console.next(Duration::from_secs(2)).await, None, "a paused guest goes on");
    vm.resume().await.unwrap();
    console.until("tick").await;

    assert_eq!(lab.processes(), [vm.identity().pid]);
    vm.kill(Duration::from_secs(5)).await;
    assert!(matches!(vm.wait().await, VmEnd::Died { .. }));
    assert_eq!(lab.processes(), [0; 0]);
}

#[tokio::test]
async fn a_machine_that_is_dropped_leaves_no_process() {
    let lab = Lab::with_init(TICKING).await;
    let vm = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap();
    let hypervisor = vm.identity();
    drop(vm);
    let gone = async {
        while hypervisor.is_running() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("QEMU outlives its owner");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_starts_nothing() {
    let lab = Lab::with_init(TICKING).await;
    let _taken = TcpListener::bind(lab.ssh).unwrap();
    let error = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap_err();
    let expected = format!("cannot use port {} of 127.0.0.1: Address already in use", lab.ssh.port());
    assert!(error.to_string().starts_with(&expected), "{error}");
    let LaunchError::File { source, .. } = error else { panic!("the port is at fault: {error}") };
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(lab.processes(), [0; 0]);
}

#[tokio::test]
async fn what_qemu_says_of_a_missing_kernel_is_passed_on() {
    let mut lab = Lab::with_init(TICKING).await;
    lab.machine.kernel = "/nowhere/vmlinux".into();
    let error = Qemu::new(Accelerator::Tcg).unwrap().launch(&lab.machine).await.unwrap_err();
    assert!(error.to_string().starts_with("QEMU with TCG ended as soon as it was started: "), "{error}");
    assert!(error.to_string().contains("/nowhere/vmlinux"), "{error}");
    assert_eq!(lab.processes(), [0; 0]);
}

/// As existing lab pods name one: a file, with nothing beside it.
#[tokio::test]
async fn a_kernel_that_nobody_prepared_boots_to_its_first_line() {
    let prepared = kernel().await;
    let folder = tempfile::tempdir().unwrap();
    let vmlinux = folder.path().join("vmlinux.bin");
    fs::copy(prepared.vmlinux(), &vmlinux).unwrap();
    let bare = Kernel::bare(&vmlinux, &folder.path().join("kernel")).unwrap();
    assert_eq!(bare.release, prepared.release);
    let prober = Prober::new(&bare, folder.path(), false);
    let verdict = prober.verdict(HypervisorKind::QemuTcg).await.unwrap();
    assert!(verdict.first_line.is_ok(), "{verdict:?}");
}
