//! The installation of the editor, with a stand-in for npm: what it leaves when it is ended, and what a lab says when it
//! fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use dozlab_process::Identity;
use serde_json::Value;

use crate::support::{Place, entries, kill, said, succeeded, wait_for};

/// Puts an `npm` into a folder. It is written by another process: a file that this one has open for writing, as a program
/// that another test starts meanwhile would have it open too, cannot be executed.
fn stand_in_npm(folder: &Path, script: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1/npm\" && chmod 755 \"$1/npm\"";
    let arguments = [b"-c", write.as_bytes(), b"sh", folder.as_os_str().as_bytes(), script.as_bytes()];
    let mut command = Command::new("sh");
    command.args(arguments.map(std::ffi::OsStr::from_bytes));
    succeeded(command.output().unwrap());
}

/// A `PATH` with the stand-in first, and without a code-server.
fn path_with(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap();
    let others = std::env::split_paths(&path).filter(|folder| !folder.join("code-server").exists());
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(others)).unwrap()
}

/// An npm that waits for ever, and a process that it started.
struct EndlessNpm {
    tools: tempfile::TempDir,
}

impl EndlessNpm {
    fn new() -> Self {
        let npm = Self { tools: tempfile::tempdir().unwrap() };
        // What it tells is moved to where it is whole.
        let told = npm.told();
        let script = format!("sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", told.display());
        stand_in_npm(npm.tools.path(), &script);
        npm
    }

    fn path(&self) -> std::ffi::OsString {
        path_with(self.tools.path())
    }

    fn told(&self) -> std::path::PathBuf {
        self.tools.path().join("pids")
    }

    fn started(&self) -> Vec<Identity> {
        let pids = wait_for("npm to run", || std::fs::read_to_string(self.told()).ok());
        let started: Vec<_> =
            pids.split_whitespace().map(|pid| Identity::of(pid.parse().unwrap()).unwrap()).collect();
        assert_eq!(started.len(), 2, "{pids}");
        started
    }
}

fn wait_for_end(started: &[Identity]) {
    wait_for("npm to end", || started.iter().all(|process| !process.is_running()).then_some(()));
}

/// Starts an installation, and ends it by a signal to `dozlab` alone.
fn ended_by(signal: &str) -> Option<i32> {
    let place = Place::new();
    let npm = EndlessNpm::new();
    let mut command = place.command(&["editor", "install"]);
    command.env("PATH", npm.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let started = npm.started();
    kill(child.id().into(), signal);
    let status = wait_for("the command to end", || child.try_wait().unwrap());
    wait_for_end(&started);
    status.code()
}

#[test]
fn an_interrupted_installation_leaves_no_npm_behind() {
    assert_eq!(ended_by("INT"), Some(130));
    assert_eq!(ended_by("TERM"), Some(130));
}

#[test]
fn a_killed_installation_leaves_no_npm_behind() {
    assert_eq!(ended_by("KILL"), None);
}

#[test]
fn ctrl_c_in_a_lab_ends_the_installation_of_its_editor() {
    let place = Place::new();
    let npm = EndlessNpm::new();
    let mut command = place.command(&["up", "tiny", "--memory", "256", "--disk", "192M"]);
    command.env("PATH", npm.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ctrl-C ends the lab")));
    let started = npm.started();
    kill(child.id().into(), "INT");
    lines.for_each(drop);
    assert_eq!(wait_for("the command to end", || child.try_wait().unwrap()).code(), Some(0));
    wait_for_end(&started);
    place.wait_until_quiet();
    assert!(entries(&place.path().join("sessions")).is_empty());
}

#[test]
fn a_lab_whose_editor_cannot_be_installed_says_why_and_goes_on() {
    let place = Place::new();
    let tools = tempfile::tempdir().unwrap();
    stand_in_npm(tools.path(), "echo the registry is on fire; exit 1");
    let mut command = place.command(&["up", "tiny", "--detach", "--output", "json", "--name", "one"]);
    command.args(["--memory", "256", "--disk", "192M"]).env("PATH", path_with(tools.path()));
    let access: Value = serde_json::from_slice(&succeeded(command.output().unwrap()).stdout).unwrap();

    let terminal = access["terminal"].as_str().unwrap().split('#').next().unwrap();
    let authority = terminal.trim_start_matches("http://").trim_end_matches('/');
    let token = access["token"].as_str().unwrap();
    let answer = wait_for("the editor's page to give up", || {
        let mut connection = TcpStream::connect(authority).unwrap();
        write!(
            connection,
            "GET /editor/open HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        (!answer.starts_with("HTTP/1.1 503")).then_some(answer)
    });
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("no editor") && answer.contains("the registry is on fire"), "{answer}");
    assert_eq!(place.exec("one", "uname -n"), "lab-one");
    let log = place.ok(&["logs", "one", "-c", "supervisor"]);
    assert!(log.contains("the registry is on fire"), "{log}");
    assert!(said(&place.run(&["ls"])).contains("running"));
}
