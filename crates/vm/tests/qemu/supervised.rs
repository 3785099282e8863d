//! A machine under its supervisor: rebooted, killed, powered off, and one that cannot start.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use dozlab_process::{Identity, Signal};
use dozlab_session::guest_config::GuestStage;
use dozlab_session::vm_status::{VmState, VmStatus};
use dozlab_vm::supervisor::Request;
use dozlab_vm::{Accelerator, Outcome, Qemu, Supervisor};
use tokio::sync::watch;

use crate::lab::{Lab, PATIENCE};

/// Counts its starts on the disk: restarts at the first, waits for its end at the second, powers off at the
/// third.
const COUNTING: &str = r#"
read count 2>/dev/null < /count || count=0
count=$((count + 1))
echo $count > /count
sync
echo "start $count of this disk"
case $count in
1) reboot -f ;;
3) poweroff -f ;;
esac
while :; do sleep 1; done
"#;

fn supervisor(lab: &Lab) -> Supervisor<Qemu> {
    Supervisor {
        hypervisor: Qemu::new(Accelerator::Tcg).unwrap(),
        machine: lab.machine.clone(),
        console_log: lab.settings.console_log.clone(),
        status: lab.settings.status.clone(),
        grace: lab.settings.grace,
    }
}

fn status(lab: &Lab) -> Option<VmStatus> {
    Some(serde_json::from_slice(&fs::read(&lab.settings.status).ok()?).unwrap())
}

/// Waits for something, with a deadline.
async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

#[tokio::test]
async fn a_machine_keeps_its_disk_through_a_reboot_and_the_hypervisors_death() {
    let lab = Lab::with_init(COUNTING).await;
    let supervisor = supervisor(&lab);
    let (_requests, asked) = watch::channel(Request::Run);
    let use_it = async {
        wait_for("the second start", || lab.console_log().contains("start 2 of this disk").then_some(()))
            .await;
        let ready = status(&lab).unwrap();
        assert_eq!(
            (ready.state, ready.boot, ready.hypervisor.as_str()),
            (VmState::Ready, 2, "QEMU with TCG")
        );
        let times: Vec<_> = GuestStage::ALL.iter().filter_map(|stage| ready.reached(*stage)).collect();
        assert!(times.len() >= 5 && times.is_sorted() && times[0] >= ready.started_ms, "{ready:?}");
        assert_eq!(&banner(&lab), b"SSH-2.0-", "a prompt can be had through the filter");

        let [qemu] = lab.processes()[..] else { panic!("one hypervisor runs") };
        Identity::of(qemu).unwrap().signal(Signal::KILL).unwrap();
        let restarting = wait_for("the restart", || {
            status(&lab).filter(|status| status.state == VmState::Restarting && status.boot == 2)
        });
        let reason = restarting.await.reason.unwrap();
        assert!(reason.contains("the hypervisor ended (signal: 9 (SIGKILL))"), "{reason}");
        assert!(
            reason.contains("its console said last:") && reason.contains("start 2 of this disk"),
            "{reason}"
        );
    };

    let (outcome, ()) = tokio::join!(supervisor.run(asked), use_it);

    assert_eq!(outcome.unwrap(), Outcome::Stopped { reason: "the guest powered the machine off".into() });
    let last = status(&lab).unwrap();
    assert_eq!((last.state, last.boot), (VmState::Stopped, 3));
    assert!(lab.console_log().contains("start 3 of this disk"));
    assert_eq!(lab.processes(), [0; 0]);
}

fn banner(lab: &Lab) -> [u8; 8] {
    let mut stream = TcpStream::connect(lab.ssh).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).unwrap();
    banner
}

#[tokio::test]
async fn a_disk_without_a_file_system_fails_with_the_guests_reason_and_is_not_tried_again() {
    let lab = Lab::with_disk_content(&vec![0x5a; 8 << 20]).await;
    let (_requests, asked) = watch::channel(Request::Run);
    let outcome = supervisor(&lab).run(asked).await.unwrap();

    let Outcome::Failed { reason } = outcome else { panic!("it cannot start: {outcome:?}") };
    assert!(reason.starts_with("the guest could not start: ") && reason.contains("/dev/vda"), "{reason}");
    let last = status(&lab).unwrap();
    assert_eq!((last.state, last.boot, last.reason), (VmState::Failed, 1, Some(reason)));
    assert_eq!(lab.console_log().matches(" start: version ").count(), 1, "{}", lab.console_log());
    assert_eq!(lab.processes(), [0; 0]);
}
