//! Building, with a stand-in for `mmdebstrap`: the real one needs a mirror.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::{Entry, Lab, is_root, program, run_program, tar, write};

/// The program with a `mmdebstrap` that is this script.
fn with_stand_in(lab: &Lab, script: &str) -> Command {
    let folder = lab.path("bin");
    fs::create_dir_all(&folder).unwrap();
    for stand_in in ["mmdebstrap", "newuidmap"] {
        write(&folder.join(stand_in), format!("#!/bin/sh\n{script}\n").as_bytes());
        fs::set_permissions(folder.join(stand_in), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(program());
    command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
    command.env("TAR", lab.path("tree.tar")).env("TMPDIR", lab.folder.path());
    command.arg("build").arg(lab.path("store")).arg("vm");
    command
}

/// An ordinary user without subordinate ids is told so before anything runs; these tests then have nothing to
/// run.
fn may_build() -> bool {
    is_root() || fs::read_to_string("/etc/subuid").is_ok_and(|ids| !ids.is_empty())
}

fn assert_no_scratch(lab: &Lab) {
    let left = fs::read_dir(lab.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.starts_with("dozlab-build-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_tar_that_is_built_becomes_the_image() {
    let lab = Lab::new();
    write(
        &lab.path("tree.tar"),
        &tar(&[
            Entry::file("usr/lib/os-release", b"PRETTY_NAME=Stand-in\n"),
            Entry::symlink("etc/os-release", "/usr/lib/os-release"),
            Entry::file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nlab:x:7:7::/:/bin/sh\n"),
        ]),
    );
    // The stand-in sees what the real one would: the definition, where its hooks can read it.
    let script = "case $* in *--version*) echo mmdebstrap 0; exit;; esac\n\
                  for each; do case $each in --customize-hook=*) hook=$each;; esac; done\n\
                  script=$(echo \"$hook\" | cut -d\"'\" -f2)\n\
                  scratch=$(dirname \"$script\")\n\
                  test -x \"$script\" && tar -tf \"$scratch/overlay.tar\" | grep -q etc/motd || exit 9\n\
                  case \"$*\" in *--include=bash,*) ;; *) exit 8;; esac\n\
                  echo 00  ./mirror_dists_suite_InRelease >\"$scratch/found/indices\"\n\
                  : >\"$scratch/found/packages\"\n\
                  cat \"$TAR\"";
    let (output, said) = run_program(&mut with_stand_in(&lab, script));
    if !may_build() {
        assert!(said.contains("no subordinate ids"), "{said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    let record = lab.store.get("vm").unwrap();
    assert_eq!((record.os_name.as_deref(), record.source.as_str()), (Some("Stand-in"), "Debian bookworm"));
    assert_eq!(record.user, "lab", "the definition's user, whatever its number");
    assert_no_scratch(&lab);
}

#[test]
fn a_failed_build_says_mmdebstrap_s_last_words() {
    let lab = Lab::new();
    let (output, said) = run_program(&mut with_stand_in(&lab, "echo E: the mirror is asleep >&2; exit 25"));
    assert!(!output.status.success());
    let expected = if may_build() { "the mirror is asleep" } else { "no subordinate ids" };
    assert!(said.contains(expected), "{said}");
    lab.assert_store_is_empty();
    assert_no_scratch(&lab);
}

#[test]
fn a_missing_program_names_its_package() {
    // Only where the system has none in the folders that are always searched.
    let lab = Lab::new();
    let mut command = Command::new(program());
    command.arg("build").arg(lab.path("store")).arg("vm").env("PATH", "/nonexistent");
    let (_, said) = run_program(&mut command);
    assert!(said.contains("`bwrap` is not installed: run `apt-get install bubblewrap`"), "{said}");
}

#[test]
fn an_interrupted_build_ends_mmdebstrap_in_order_with_all_it_started() {
    let lab = Lab::new();
    let marks = lab.path("marks");
    fs::create_dir(&marks).unwrap();
    // Found again by its path: in a process namespace it does not know its own number.
    let sleeper = lab.path("sleeper");
    std::os::unix::fs::symlink("/bin/sleep", &sleeper).unwrap();
    let script = format!(
        "trap ': >{0}/cleaned; exit 1' TERM\n{1} 300 &\n: >{0}/running\nwait",
        marks.display(),
        sleeper.display()
    );
    let mut child = with_stand_in(&lab, &script).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !marks.join("running").exists() {
        if child.try_wait().unwrap().is_some() {
            assert!(!may_build(), "it ended before it ran anything");
            return;
        }
        assert!(Instant::now() < deadline, "mmdebstrap was never started");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(marks.join("cleaned").exists(), "it was killed before it could clean up");
    while is_running(&sleeper) {
        assert!(Instant::now() < deadline, "what it started still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    lab.assert_store_is_empty();
    assert_no_scratch(&lab);
}

/// Whether any process was started by this path.
fn is_running(program: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap();
    processes.filter_map(|process| fs::read(process.ok()?.path().join("cmdline")).ok()).any(|command| {
        command.split(|byte| *byte == 0).next() == Some(program.as_os_str().as_encoded_bytes())
    })
}
