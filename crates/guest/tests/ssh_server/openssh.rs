//! OpenSSH's own programs, which must be installed (`openssh-client`).

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::harness::Server;

/// Runs a program of OpenSSH to its end with text on its standard input.
fn run(program: &str, server: &Server, before_host: &[&str], after_host: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    command
        .args(server.openssh_options())
        .args(before_host)
        .arg(server.address.ip().to_string())
        .args(after_host);
    command.current_dir(server.home()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssh-client is installed");
    let mut stdin = child.stdin.take().expect("it was piped");
    // A program that does not want all of its input closes it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn ssh_runs_a_command() {
    let server = Server::start();
    let output = run("ssh", &server, &["-T"], &["cat; echo err >&2; exit 9"], "hello\n");
    assert_eq!(text(&output.stdout), "hello\n");
    assert_eq!(text(&output.stderr), "err\n");
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn ssh_gets_a_terminal_and_its_exit_status() {
    let server = Server::start();
    let output = run("ssh", &server, &["-tt"], &["test -t 1 && tty; exit 4"], "");
    assert!(text(&output.stdout).starts_with("/dev/pts/"), "{output:?}");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

#[test]
fn ssh_runs_a_shell_without_a_terminal() {
    let server = Server::start();
    let output = run("ssh", &server, &["-T"], &[], "echo $((6 * 7))\nexit 3\n");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("42\n", Some(3)), "{output:?}");
}

#[test]
fn ssh_cannot_forward_an_agent_or_a_display() {
    let server = Server::start();
    let command = "echo agent=$SSH_AUTH_SOCK display=$DISPLAY";
    let output = run("ssh", &server, &["-T", "-A", "-X"], &[command], "");
    assert_eq!(text(&output.stdout), "agent= display=\n");
}

#[test]
fn sftp_puts_gets_and_lists() {
    let server = Server::start();
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number % 253) as u8).collect();
    fs::write(server.home().join("local"), &content).expect("a file");
    let batch = "mkdir sub\nput local sub/remote\nrename sub/remote sub/renamed\nln -s renamed sub/link\n\
                 ls -l sub\nget sub/link fetched\nchmod 600 sub/renamed\ndf\nrm sub/link\nrm sub/renamed\nrmdir sub\n";
    let output = run("sftp", &server, &["-b", "-"], &[], batch);
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let listing = text(&output.stdout);
    assert!(listing.contains("3000000") && listing.contains("renamed"), "{listing}");
    assert!(listing.lines().any(|line| line.starts_with('l') && line.contains("link")), "{listing}");
    assert_eq!(fs::read(server.home().join("fetched")).expect("it was fetched"), content);
    assert!(!server.home().join("sub").exists());
}

#[test]
fn sftp_replaces_a_file_in_a_rename() {
    let server = Server::start();
    fs::write(server.home().join("one"), "1").expect("a file");
    fs::write(server.home().join("two"), "2").expect("a file");
    let output = run("sftp", &server, &["-b", "-"], &[], "rename one two\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read(server.home().join("two")).expect("it is there"), b"1");
}
