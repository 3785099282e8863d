//! Shells on a terminal.

use std::fs;

use russh::{Channel, Pty, Sig, client};

use crate::harness::{Client, Server, outcome, read_until};

/// A shell on a terminal of 80 columns and 24 rows, without echo, so that a command's text is not taken for
/// its output.
async fn shell(session: &client::Handle<Client>) -> Channel<client::Msg> {
    let channel = session.channel_open_session().await.expect("a channel");
    channel
        .request_pty(true, "xterm-256color", 80, 24, 0, 0, &[(Pty::ECHO, 0)])
        .await
        .expect("the request is sent");
    channel.request_shell(true).await.expect("the request is sent");
    channel
}

async fn type_line(channel: &Channel<client::Msg>, line: &str) {
    channel.data(format!("{line}\n").as_bytes()).await.expect("data are sent");
}

#[tokio::test]
async fn the_window_has_its_size_and_changes_it() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    type_line(&channel, "stty size; echo $TERM").await;
    let seen = read_until(&mut channel, "xterm-256color").await;
    assert!(seen.contains("24 80"), "{seen}");
    channel.window_change(132, 50, 0, 0).await.expect("the request is sent");
    type_line(&channel, "stty size; echo is-the-size").await;
    let seen = read_until(&mut channel, "is-the-size").await;
    assert!(seen.contains("50 132"), "{seen}");
}

#[tokio::test]
async fn a_window_change_reaches_the_program_in_front() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    type_line(
        &channel,
        "sh -c 'trap \"stty size; exit\" WINCH; echo rea\"\"dy; while :; do sleep 0.1; done'",
    )
    .await;
    read_until(&mut channel, "ready").await;
    channel.window_change(91, 37, 0, 0).await.expect("the request is sent");
    read_until(&mut channel, "37 91").await;
}

#[tokio::test]
async fn interrupting_ends_the_program_in_front_and_not_the_shell() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    // The program says itself that it is in front, and not at once: an interrupt that meets the shell while it still
    // hands the terminal over makes the shell forget the program that is in front of it, and wait for ever.
    type_line(&channel, "sh -c 'sleep 0.5; echo rea\"\"dy; exec sleep 100'").await;
    read_until(&mut channel, "ready").await;
    channel.data(&b"\x03"[..]).await.expect("data are sent");
    type_line(&channel, "echo still-''here").await;
    read_until(&mut channel, "still-here").await;
}

#[tokio::test]
async fn a_signal_goes_to_the_program_in_front() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    type_line(
        &channel,
        "sh -c 'trap \"echo caught; exit\" USR1; echo rea\"\"dy; while :; do sleep 0.1; done'",
    )
    .await;
    read_until(&mut channel, "ready").await;
    channel.signal(Sig::USR1).await.expect("the request is sent");
    read_until(&mut channel, "caught").await;
    type_line(&channel, "echo still-''here").await;
    read_until(&mut channel, "still-here").await;
}

#[tokio::test]
async fn a_shell_ends_with_its_status_after_all_its_output() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    type_line(&channel, "echo; seq 1 20000; exit 5").await;
    let outcome = outcome(&mut channel).await;
    assert_eq!(outcome.status, Some(5));
    assert!(outcome.in_order);
    let text = outcome.text();
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(numbers.iter().copied().eq(1..=20_000), "{} numbers arrived", numbers.len());
}

#[tokio::test]
async fn a_shell_ends_although_a_job_stays_behind() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    type_line(&channel, "nohup sleep 50 & exit 4").await;
    assert_eq!(outcome(&mut channel).await.status, Some(4));
}

#[tokio::test]
async fn a_shell_is_a_login_shell_and_reads_the_users_profile() {
    let server = Server::start();
    fs::write(server.home().join(".profile"), "echo profile-was-read by $0\n").expect("a file");
    let session = server.login().await;
    let mut channel = shell(&session).await;
    read_until(&mut channel, "profile-was-read by -sh").await;
}

#[tokio::test]
async fn characters_of_many_bytes_arrive_whole() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = shell(&session).await;
    type_line(&channel, "printf '<%s>\\n' 日本語🚀").await;
    read_until(&mut channel, "<日本語🚀>").await;
}
