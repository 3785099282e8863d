//! Labs whose processes are killed.

use serde_json::Value;

use crate::support::{Place, kill, wait_for};

fn pid(record: &Value, component: &str) -> u64 {
    record["processes"][component]["pid"].as_u64().unwrap_or_else(|| panic!("no {component} in {record}"))
}

fn qemu(place: &Place) -> u64 {
    let found = place.processes().into_iter().find(|(_, command)| command.contains("qemu-system"));
    found.expect("the machine runs").0.into()
}

#[test]
fn a_killed_hypervisor_is_started_again_on_the_same_disk() {
    let place = Place::new();
    place.up("one", &[]);
    place.exec("one", "echo kept > /root/file; sync");
    kill(qemu(&place), "KILL");
    wait_for("the second boot", || {
        let status = place.vm_status("one");
        (status["boot"] == 2 && status["state"] == "ready").then_some(())
    });
    assert_eq!(place.exec("one", "cat /root/file"), "kept");
    let log = place.ok(&["logs", "one", "--component", "vm"]);
    assert!(log.contains("the machine died") && log.contains("its console said last"), "{log}");
}

#[test]
fn a_killed_terminal_comes_back_at_the_same_address() {
    let place = Place::new();
    place.up("one", &[]);
    let before = pid(&place.record("one"), "terminal-sidecar");
    kill(before, "KILL");
    let after = wait_for("a new terminal", || {
        let after = pid(&place.record("one"), "terminal-sidecar");
        (after != before).then_some(after)
    });
    assert!(place.processes().iter().any(|(process, _)| u64::from(*process) == after));
    assert_eq!(place.state("one"), "running");
}

#[test]
fn a_killed_supervisor_takes_its_lab_along_and_the_lab_can_be_started_again() {
    let place = Place::new();
    let access = place.up("one", &[]);
    place.exec("one", "echo kept > /root/file; sync");
    kill(pid(&place.record("one"), "supervisor"), "KILL");
    wait_for("the lab to be seen as failed", || (place.state("one") == "failed").then_some(()));

    let report: Value = serde_json::from_str(&place.ok(&["gc", "--output", "json"])).unwrap();
    assert_eq!(report["sessions"][0], "one");
    place.wait_until_quiet();
    assert_eq!(place.ok(&["gc"]), "nothing to clean up\n");

    assert_eq!(place.up("one", &[])["token"], access["token"]);
    assert_eq!(place.exec("one", "cat /root/file"), "kept");
}

#[test]
fn a_lab_whose_supervisor_was_killed_can_be_stopped_and_removed() {
    let place = Place::new();
    place.up("one", &[]);
    place.up("two", &[]);
    for name in ["one", "two"] {
        kill(pid(&place.record(name), "supervisor"), "KILL");
    }
    place.ok(&["stop", "one"]);
    place.ok(&["rm", "two"]);
    place.wait_until_quiet();
    assert_eq!((place.state("one").as_str(), place.state("two").as_str()), ("failed", "gone"));
}
