//! What was damaged or left half-made stands in nobody's way.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::network::{host_network, pod_network};
use crate::program::DOZLAB;
use crate::support::{Place, entries, kill, said, succeeded};

#[test]
fn a_damaged_session_and_a_strangers_file_stand_in_no_other_labs_way() {
    let place = Place::new();
    place.up("one", &[]);
    let sessions = place.path().join("sessions");
    fs::create_dir(sessions.join("broken")).unwrap();
    fs::write(sessions.join("broken/session.json"), "{\"plan\":").unwrap();
    fs::write(sessions.join("notes.txt"), "mine").unwrap();

    assert_eq!((place.state("one").as_str(), place.state("broken").as_str()), ("running", "damaged"));
    assert!(place.ok(&["ls"]).contains("dozlab rm broken"));
    // Somebody else's, who need not be let in.
    fs::create_dir_all(sessions.join("folder/session.json")).unwrap();
    assert_eq!(place.state("folder"), "damaged");
    place.ok(&["rm", "folder"]);
    for command in ["stop", "logs"] {
        let error = place.fails(&[command, "broken"]);
        assert!(error.contains("broken/session.json is damaged"), "{error}");
    }
    place.up("two", &[]);
    assert_eq!(place.exec("two", "uname -n"), "lab-two");
    place.ok(&["gc"]);
    assert_eq!(place.state("broken"), "damaged", "what may hold a learner's disk is not garbage");

    place.ok(&["rm", "broken"]);
    assert_eq!(place.state("broken"), "gone");
    place.ok(&["rm", "--all"]);
    assert_eq!(fs::read_to_string(sessions.join("notes.txt")).unwrap(), "mine");
    fs::remove_file(sessions.join("notes.txt")).unwrap();
    place.assert_nothing_left();
}

#[test]
fn labs_that_start_at_once_get_addresses_of_their_own() {
    let place = Place::new();
    let names = ["one", "two", "three"];
    let starting = names.map(|name| {
        let arguments = ["up", "tiny", "--detach", "--output", "json", "--name", name, "--no-editor"];
        let mut command = place.command(&arguments);
        command.args(["--memory", "256", "--disk", "192M"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    // Cleaning up meanwhile takes nothing that is just being made.
    place.ok(&["gc"]);
    let mut addresses: Vec<String> = starting
        .into_iter()
        .map(|child| {
            let output = succeeded(child.wait_with_output().unwrap());
            let access: Value = serde_json::from_slice(&output.stdout).unwrap();
            access["ssh"]["host"].as_str().unwrap().to_owned()
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), names.len(), "{addresses:?}");
    for name in names {
        assert_eq!(place.exec(name, "uname -n"), format!("lab-{name}"));
    }
}

#[test]
fn garbage_is_what_a_killed_import_of_a_kernel_and_a_killed_probe_left() {
    let place = Place::new();
    let data = tempfile::tempdir().unwrap();
    let left = [data.path().join("kernels/.import-left"), place.path().join("tmp/dozlab-probe-left")];
    for folder in &left {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("initramfs"), "half").unwrap();
    }
    let mut command = place.command(&["gc", "--output", "json"]);
    let output = succeeded(command.env("DOZLAB_DATA_DIR", data.path()).output().unwrap());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["folders"], serde_json::json!(left));
    assert!(left.iter().all(|folder| !folder.exists()));
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else_from_it() {
    let place = Place::new();
    for name in ["first", "stuck", "third"] {
        fs::create_dir_all(place.path().join("sessions").join(name).join("run")).unwrap();
    }
    // What is mounted cannot be removed. A user namespace of our own may mount without being root.
    let script = r#"mount -t tmpfs none "$1/sessions/stuck/run" || exit 9; "$2" "$3"; code=$?
        ls "$1/sessions"; exit $code"#;
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(place.path())
        .args([DOZLAB, "gc"]);
    command.env("DOZLAB_DATA_DIR", place.path()).env("TMPDIR", place.path().join("tmp"));
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("sessions/stuck"), "{error}");
    assert_eq!(said(&output).lines().last(), Some("stuck"));

    place.ok(&["gc"]);
    place.assert_nothing_left();
}

#[test]
fn a_probe_that_is_killed_leaves_a_folder_that_is_garbage() {
    let place = Place::new();
    let mut command =
        place.command(&["up", "tiny", "--hypervisor", "qemu-tcg", "--disk", "192M", "--no-editor"]);
    // Without a verdict from before, the hypervisor is asked.
    command.env("DOZLAB_CACHE_DIR", place.path().join("cache")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let probes =
        || entries(&place.path().join("tmp")).into_iter().filter(|name| name.starts_with("dozlab-probe-"));
    let hypervisor = place.wait_for_process("qemu-system");
    // It gets nowhere while it is looked at.
    kill(hypervisor.into(), "STOP");
    // What is at work is nobody's garbage.
    assert_eq!(place.ok(&["gc"]), "nothing to clean up\n");
    kill(child.id().into(), "KILL");
    child.wait().unwrap();
    place.wait_until_quiet();
    assert_eq!(probes().count(), 1);
    assert!(place.ok(&["gc"]).contains("dozlab-probe-"));
    assert_eq!(probes().count(), 0);
}

#[test]
fn a_half_made_namespace_is_replaced() {
    let place = Place::new();
    let Some(_alone) = pod_network(&place) else { return };
    let before = host_network();
    let name = format!("half-{}", std::process::id());
    // Killed before its uplink was made, and before it was even bound to its name.
    let netns = Command::new("ip").args(["netns", "add", &format!("dozlab-{name}")]).output().unwrap();
    succeeded(netns);
    place.up(&name, &["--network", "pod"]);
    place.ok(&["rm", &name]);
    fs::create_dir_all("/run/netns").unwrap();
    fs::write(format!("/run/netns/dozlab-{name}"), "").unwrap();
    place.up(&name, &["--network", "pod"]);
    assert_eq!(place.exec(&name, "uname -n"), format!("lab-{name}"));
    place.ok(&["rm", &name]);
    assert_eq!(host_network(), before);
}
