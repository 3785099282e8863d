//! A lab's life: up, used, stopped, up again, removed.

use serde_json::Value;

use crate::support::{Place, wait_for};

#[test]
fn a_lab_in_the_background_is_used_stopped_started_again_and_removed() {
    let place = Place::new();
    let access = place.up("one", &[]);

    for key in ["name", "terminal", "editor", "token", "editorPassword", "ssh", "stages"] {
        assert!(access.get(key).is_some(), "{key} is missing from {access}");
    }
    assert_eq!(access["name"], "one");
    let (token, terminal) = (access["token"].as_str().unwrap(), access["terminal"].as_str().unwrap());
    assert!(terminal.ends_with(&format!("/#token={token}")), "the secret is in the fragment: {terminal}");
    for stage in ["disk", "network", "vm", "guest", "ssh", "terminal"] {
        assert!(access["stages"][stage].is_u64(), "{stage} is missing from {access}");
    }
    assert_eq!(place.state("one"), "running");
    let shown = |arguments: &[&str]| -> Value {
        serde_json::from_str(&place.ok(&[arguments, &["--output", "json"]].concat())).unwrap()
    };
    assert_eq!(shown(&["open", "one"]), access, "the links are shown again");
    assert_eq!(shown(&["get"]), shown(&["ls"])[0], "one lab needs no name");
    assert_eq!(shown(&["doctor", "--session", "one"])["verdict"], "good");
    assert_eq!(place.exec("one", "echo $((6*7)); id -un; uname -n"), "42\nroot\nlab-one");
    let failed = place.run(&["exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (failed.status.code(), failed.stdout, failed.stderr),
        (Some(7), b"out\n".into(), b"err\n".into())
    );

    place.exec("one", "echo kept > /root/file; sync");
    place.ok(&["stop", "one"]);
    assert_eq!(place.state("one"), "stopped");
    place.wait_until_quiet();

    let again = place.up("one", &[]);
    assert_eq!(again["token"], access["token"], "the link stays good");
    assert_eq!(place.exec("one", "cat /root/file"), "kept");

    place.ok(&["rm", "one"]);
    place.assert_nothing_left();
}

#[test]
fn what_an_argument_says_is_what_the_machine_has() {
    let place = Place::new();
    place.up("sized", &["--cpus", "2", "--hostname", "desk"]);
    assert_eq!(place.exec("sized", "nproc; uname -n"), "2\ndesk");
    let kib: u64 = place.exec("sized", "df -k / | awk 'END {print $2}'").parse().unwrap();
    assert!((150_000..=196_608).contains(&kib), "a disk of 192 MiB has {kib} KiB");
    // Words with spaces, quotes and dollars arrive as they are.
    assert_eq!(
        place.ok(&["exec", "sized", "--", "echo", "a  b", "it's $HOME", "\"x\""]),
        "a  b it's $HOME \"x\"\n"
    );
}

#[test]
fn two_labs_run_beside_each_other() {
    let place = Place::new();
    let (one, two) = (place.up("one", &[]), place.up("two", &[]));
    assert_ne!(one["token"], two["token"]);
    assert_ne!(one["ssh"]["host"], two["ssh"]["host"], "browsers keep cookies apart by host");
    place.exec("one", "echo mine > /root/file");
    assert_eq!(place.exec("two", "cat /root/file 2>/dev/null || echo nothing"), "nothing");
    place.ok(&["rm", "one"]);
    assert_eq!(place.exec("two", "uname -n"), "lab-two");
}

#[test]
fn the_machine_restarts_and_ends_as_its_user_says() {
    let place = Place::new();
    place.up("one", &[]);
    place.exec("one", "echo kept > /root/file");
    // The connection breaks with the machine, so the command's own status says nothing.
    place.run(&["exec", "one", "--", "reboot"]);
    wait_for("the second boot", || {
        let status = place.vm_status("one");
        (status["boot"] == 2 && status["state"] == "ready").then_some(())
    });
    assert_eq!(place.exec("one", "cat /root/file"), "kept");

    place.run(&["exec", "one", "--", "poweroff"]);
    wait_for("the lab to stop", || (place.state("one") == "stopped").then_some(()));
    assert_eq!(place.record("one")["reason"], "the guest powered the machine off");

    place.up("one", &[]);
    assert_eq!(place.exec("one", "cat /root/file"), "kept");
    place.run(&["exec", "one", "--", "halt"]);
    wait_for("the lab to stop", || (place.state("one") == "stopped").then_some(()));
    assert_eq!(place.record("one")["reason"], "the guest halted the machine");
    place.wait_until_quiet();
}

/// The general image's init is systemd; its `reboot`, `poweroff` and `halt` are systemd's.
#[test]
fn a_machine_with_systemd_restarts_and_ends_as_its_user_says() {
    let place = Place::with_the_users_images();
    let up = || place.ok(&["up", "vm", "--name", "one", "--detach", "--no-editor"]);
    // A prompt does not wait for systemd; who types these words has mostly done so.
    let has_started = || {
        let asked = place.run(&["exec", "one", "--", "systemctl", "is-active", "basic.target"]);
        asked.status.success().then_some(())
    };
    up();
    wait_for("systemd", has_started);
    place.exec("one", "echo kept > file");
    place.run(&["exec", "one", "--", "sudo", "reboot"]);
    wait_for("the second boot", || {
        let status = place.vm_status("one");
        (status["boot"] == 2 && status["state"] == "ready").then_some(())
    });
    for (verb, reason) in
        [("poweroff", "the guest powered the machine off"), ("halt", "the guest halted the machine")]
    {
        wait_for("systemd", has_started);
        assert_eq!(
            place.exec("one", "cat file; sudo readlink /proc/1/exe"),
            "kept\n/usr/lib/systemd/systemd"
        );
        place.run(&["exec", "one", "--", "sudo", verb]);
        wait_for("the lab to stop", || (place.state("one") == "stopped").then_some(()));
        assert_eq!(place.record("one")["reason"], reason);
        place.wait_until_quiet();
        up();
    }
    assert_eq!(place.exec("one", "cat file"), "kept");
}

#[test]
fn a_lab_ends_when_its_time_is_over_and_keeps_its_disk() {
    let place = Place::new();
    place.up("short", &["--timeout", "8s"]);
    wait_for("the lab to end", || (place.state("short") == "stopped").then_some(()));
    assert_eq!(place.record("short")["reason"], "its time is over");
    let disks = ["rootfs.ext4", "overlay.ext4"].map(|name| place.path().join("sessions/short").join(name));
    assert!(disks.iter().any(|disk| disk.exists()));
    place.wait_until_quiet();
}

#[test]
fn an_idle_lab_takes_little_memory() {
    let place = Place::new();
    place.up("idle", &[]);
    let mut verbs = Vec::new();
    let (mut summed, mut own, mut program) = (0, 0, 0);
    for (pid, command) in place.processes() {
        let Some(arguments) = command.strip_prefix(crate::program::DOZLAB) else { continue };
        verbs.push(arguments.split_ascii_whitespace().next().unwrap_or_default().to_owned());
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = |field: &str| {
            let line = status.lines().find(|line| line.starts_with(field)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        summed += kib("VmRSS:");
        own += kib("RssAnon:") + kib("RssShmem:");
        // All three are one program: its pages are in memory once, whoever has them mapped. How many of them the kernel
        // maps around each that is used depends on the page cache.
        program = program.max(kib("RssFile:"));
    }
    verbs.sort();
    assert_eq!(verbs, ["supervise", "terminal", "vm"]);
    let resident = own + program;
    println!(
        "supervisor, machine's supervisor and terminal together: {resident} KiB, {summed} KiB with the program \
         counted three times"
    );
    assert!(resident < 40 * 1024, "{resident} KiB");
}

#[test]
fn what_is_secret_is_in_no_argument_and_no_readable_file() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let place = Place::new();
    let access = place.up("one", &[]);
    let token = access["token"].as_str().unwrap();
    for (pid, command) in place.processes() {
        assert!(!command.contains(token), "process {pid} shows the token: {command}");
    }
    let folder = place.path().join("sessions/one");
    assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    for secret in [
        "token",
        "editor-password",
        "guest-config.json",
        "ssh/id_ed25519",
        "ssh/host_ed25519",
        "run/initramfs",
    ] {
        let mode = std::fs::metadata(folder.join(secret)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{secret}");
    }
    for log in std::fs::read_dir(folder.join("logs")).unwrap() {
        let text = std::fs::read_to_string(log.unwrap().path()).unwrap();
        assert!(!text.contains(token) && !text.contains("PRIVATE KEY"));
    }
    let record = std::fs::read_to_string(folder.join("session.json")).unwrap();
    assert!(!record.contains(token));
    let command_line = place.exec("one", "cat /proc/cmdline");
    assert!(!command_line.contains("PRIVATE") && !command_line.contains(token), "{command_line}");
}

#[test]
fn logs_and_listings_are_for_programs_too() {
    let place = Place::new();
    place.up("one", &[]);
    assert!(place.ok(&["logs", "one", "--component", "console"]).contains("dozlab-guest"));
    assert!(place.ok(&["logs", "one"]).contains("firecracker-vm   | "));
    let listed: Value = serde_json::from_str(&place.ok(&["ls", "--output", "json"])).unwrap();
    assert_eq!(listed[0]["name"], "one");
    let images: Value = serde_json::from_str(&place.ok(&["image", "ls", "--output", "json"])).unwrap();
    assert!(images.as_array().unwrap().iter().any(|image| image["name"] == "tiny"));
    assert!(place.ok(&["completions", "bash"]).contains("_dozlab"));
}

#[test]
fn a_stopped_lab_starts_as_it_was_and_becomes_nothing_else() {
    let place = Place::new();
    let asked = ["--timeout", "2h", "--idle-stop", "30m", "--kernel", "debian", "--hypervisor", "qemu"];
    place.up("one", &["--hostname", "desk", "--egress", "none"].into_iter().chain(asked).collect::<Vec<_>>());
    let before = place.record("one");
    place.ok(&["stop", "one"]);
    let error = place.fails(&["up", "vm", "--name", "one", "--no-editor"]);
    assert!(error.contains("`one` has the image tiny, not vm"), "{error}");
    let error = place.fails(&["up", "--name", "one", "--disk", "256M", "--no-editor"]);
    assert!(error.contains("a disk of 192Mi, not 256Mi"), "{error}");

    place.ok(&["up", "--name", "one", "--detach"]);
    assert_eq!(place.exec("one", "uname -n"), "desk");
    let record = place.record("one");
    assert_eq!(record["plan"], before["plan"]);
    let asked = serde_json::json!({ "kernel": "debian", "hypervisor": "qemu", "editor": "none" });
    assert_eq!(record["asked"], asked);
    assert_eq!(record.get("editor"), None);
    place.ok(&["stop", "one"]);

    place.ok(&["up", "--name", "one", "--detach", "--timeout", "none", "--idle-stop", "1h"]);
    let deadlines = &place.record("one")["plan"]["deadlines"];
    assert_eq!((deadlines.get("timeout"), &deadlines["idleStop"]), (None, &"1h".into()));
}

#[test]
fn a_lab_is_idle_only_when_nobody_uses_it() {
    let place = Place::new();
    place.up("one", &["--idle-stop", "20s"]);
    // A command that says nothing for longer than that is use all the same.
    assert_eq!(place.exec("one", "sleep 30; echo awake"), "awake");
    wait_for("the lab to stop", || (place.state("one") == "stopped").then_some(()));
    assert!(place.ok(&["ls"]).contains("nobody used it"));
}
