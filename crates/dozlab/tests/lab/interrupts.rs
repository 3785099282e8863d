//! Ctrl-C at each stage of a start, and afterwards, leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::network::{host_network, pod_network};
use crate::support::{Place, entries, kill, wait_for};

/// Starts a lab in the foreground, interrupts it as soon as it has said `mark`, and returns its exit code.
fn interrupted_at(place: &Place, mark: &str) -> Option<i32> {
    interrupted_with(place, mark, &[])
}

fn interrupted_with(place: &Place, mark: &str, more: &[&str]) -> Option<i32> {
    let arguments = ["up", "tiny", "--name", "one", "--memory", "256", "--disk", "192M", "--no-editor"];
    let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
    let mut child = place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.by_ref().map_while(Result::ok).any(|line| line.contains(mark));
    assert!(found, "`up` never said `{mark}`");
    kill(child.id().into(), "INT");
    for line in lines.map_while(Result::ok) {
        println!("{line}");
    }
    exit_code(&mut child)
}

fn exit_code(child: &mut Child) -> Option<i32> {
    wait_for("the command to end", || child.try_wait().unwrap()).code()
}

#[test]
fn ctrl_c_leaves_nothing_at_any_stage() {
    let place = Place::new();
    for mark in ["kernel ready", "image ready", "hypervisor chosen", "disk ready", "network ready"] {
        assert_eq!(interrupted_at(&place, mark), Some(130), "at `{mark}`");
        place.assert_nothing_left();
    }
}

#[test]
fn ctrl_c_leaves_nothing_while_the_machine_boots() {
    let place = Place::new();
    for mark in ["hypervisor started", "guest started"] {
        assert_eq!(interrupted_at(&place, mark), Some(130), "at `{mark}`");
        place.assert_nothing_left();
    }
    // From here the prompt is so near that it may be there before the interrupt is.
    let code = interrupted_at(&place, "SSH ready");
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    place.assert_nothing_left();
}

#[test]
fn ctrl_c_leaves_nothing_while_hypervisors_are_asked() {
    let place = Place::new();
    let mut command = place.command(&["up", "tiny", "--memory", "256", "--disk", "192M", "--no-editor"]);
    // Without a verdict from before, each hypervisor boots once.
    command.env("DOZLAB_CACHE_DIR", place.path().join("cache"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    place.wait_for_process("qemu-system");
    kill(child.id().into(), "INT");
    assert_eq!(exit_code(&mut child), Some(130));
    place.assert_nothing_left();
}

#[test]
fn ctrl_c_leaves_nothing_while_an_image_is_built() {
    let place = Place::with_images_of_its_own();
    let before = entries(&place.path().join("images/images"));
    let mut command = place.command(&["up", "minimal", "--memory", "256", "--disk", "192M", "--no-editor"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    place.wait_for_process("mmdebstrap");
    kill(child.id().into(), "INT");
    assert_eq!(exit_code(&mut child), Some(130));
    place.assert_nothing_left();
    assert_eq!(entries(&place.path().join("images/tmp")), [""; 0]);
    assert_eq!(entries(&place.path().join("images/images")), before);
}

#[test]
fn ctrl_c_leaves_nothing_of_a_lab_that_starts_in_the_background() {
    let place = Place::new();
    // What the supervisor has written is told of when the machine starts, some seconds before its prompt.
    assert_eq!(interrupted_with(&place, "disk ready", &["--detach"]), Some(130));
    place.assert_nothing_left();
}

#[test]
fn ctrl_c_leaves_no_network_behind() {
    let place = Place::new();
    let Some(_alone) = pod_network(&place) else { return };
    let before = host_network();
    // The network is made right after the disk, so the first interrupt comes in the middle of it.
    for mark in ["disk ready", "network ready", "guest started"] {
        assert_eq!(interrupted_with(&place, mark, &["--network", "pod"]), Some(130), "at `{mark}`");
        place.assert_nothing_left();
        assert_eq!(host_network(), before, "at `{mark}`");
    }
}

#[test]
fn ctrl_c_ends_a_running_lab_as_one_ends_it() {
    let place = Place::new();
    assert_eq!(interrupted_at(&place, "Ctrl-C ends the lab"), Some(0));
    place.assert_nothing_left();
}

#[test]
fn ctrl_c_while_the_kernel_is_prepared_leaves_no_half_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new();
    let mut command = place.command(&["kernel", "import"]);
    command.env("DOZLAB_DATA_DIR", folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("reading Debian's package lists")));
    kill(child.id().into(), "INT");
    lines.for_each(drop);
    assert_eq!(exit_code(&mut child), Some(130));
    let left = std::fs::read_dir(folder.path().join("kernels")).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0);
}

#[test]
fn keep_stops_a_lab_in_order_and_keeps_its_disk() {
    let place = Place::new();
    let arguments =
        ["up", "tiny", "--keep", "--name", "one", "--memory", "256", "--disk", "192M", "--no-editor"];
    let mut child = place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("keeps its disk")));
    place.exec("one", "echo kept > /root/file");
    kill(child.id().into(), "INT");
    lines.for_each(drop);
    assert_eq!(exit_code(&mut child), Some(0));
    assert_eq!(place.state("one"), "stopped");
    place.wait_until_quiet();
    place.up("one", &[]);
    assert_eq!(place.exec("one", "cat /root/file"), "kept");
}
