//! Commands: their streams, their environment and their end.

use std::time::{Duration, Instant};

use russh::{ChannelMsg, Sig};

use crate::harness::{Server, eventually, exec, outcome};

#[tokio::test]
async fn a_command_has_a_status_and_two_streams() {
    let server = Server::start();
    let session = server.login().await;
    let outcome = exec(&session, "echo out; echo err >&2; exit 7").await;
    assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((outcome.status, outcome.signal), (Some(7), None));
    assert!(outcome.in_order);
}

#[tokio::test]
async fn a_command_that_is_killed_says_by_what() {
    let server = Server::start();
    let session = server.login().await;
    let outcome = exec(&session, "echo before; kill -TERM $$").await;
    assert_eq!((outcome.text().as_str(), outcome.status), ("before\n", None));
    assert_eq!(outcome.signal.as_deref(), Some("TERM"));
    assert!(outcome.in_order);
    assert_eq!(exec(&session, "kill -USR2 $$").await.signal.as_deref(), Some("Custom(\"USR2\")"));
}

#[tokio::test]
async fn input_reaches_the_command_and_ends() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, "cat; echo done").await.expect("the request is sent");
    channel.data(&b"hello\n"[..]).await.expect("data are sent");
    channel.eof().await.expect("the end is sent");
    assert_eq!(outcome(&mut channel).await.text(), "hello\ndone\n");
}

#[tokio::test]
async fn the_environment_is_the_users_and_only_the_language_is_the_clients() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    for (name, value) in [("LC_ALL", "C"), ("LD_PRELOAD", "/evil.so"), ("BASH_ENV", "/evil")] {
        channel.set_env(false, name, value).await.expect("the request is sent");
    }
    channel.exec(true, "env; pwd").await.expect("the request is sent");
    let text = outcome(&mut channel).await.text();
    let home = server.home().display();
    for line in
        [format!("HOME={home}"), format!("USER={}", server.user), "LC_ALL=C".into(), "LANG=C.UTF-8".into()]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("evil"), "{text}");
    assert_eq!(text.lines().last(), Some(home.to_string().as_str()));
    assert!(!text.contains("CARGO"), "the server's own environment shows:\n{text}");
}

#[tokio::test]
async fn many_small_writes_become_few_packets() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    // The shell writes each line by itself.
    channel
        .exec(true, "i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i + 1)); done")
        .await
        .expect("it is sent");
    let (mut packets, mut received) = (0, Vec::new());
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Data { data } = message {
            packets += 1;
            received.extend_from_slice(&data);
        }
    }
    let expected: String = (0..5000).map(|number| format!("{number}\n")).collect();
    assert!(received == expected.as_bytes(), "the output is not what was written");
    assert!(packets < 500, "{packets} packets");
}

#[tokio::test]
async fn a_background_job_does_not_hold_the_channel() {
    let server = Server::start();
    let session = server.login().await;
    let start = Instant::now();
    let outcome = exec(&session, "sleep 50 & echo started").await;
    assert_eq!((outcome.text().as_str(), outcome.status), ("started\n", Some(0)));
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

#[tokio::test]
async fn output_of_a_filter_that_outlives_the_command_arrives() {
    let server = Server::start();
    let session = server.login().await;
    let outcome = exec(&session, "(sleep 0.2; echo late) & echo early").await;
    assert_eq!(outcome.text(), "early\nlate\n");
}

#[tokio::test]
async fn a_signal_reaches_the_commands_group() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, "echo ready; sleep 100 & wait").await.expect("the request is sent");
    crate::harness::read_until(&mut channel, "ready").await;
    channel.signal(Sig::TERM).await.expect("the request is sent");
    assert_eq!(outcome(&mut channel).await.signal.as_deref(), Some("TERM"));
}

#[tokio::test]
async fn a_lost_connection_ends_what_ran_on_it() {
    let server = Server::start();
    let session = server.login().await;
    let mark = server.home().join("hung-up");
    let mut channel = session.channel_open_session().await.expect("a channel");
    let command =
        "trap 'touch hung-up; exit' HUP; echo ready; exec >/dev/null 2>&1; while :; do sleep 0.1; done";
    channel.exec(true, command).await.expect("the request is sent");
    crate::harness::read_until(&mut channel, "ready").await;
    drop(channel);
    drop(session);
    eventually("the command is hung up", || mark.exists()).await;
}

#[tokio::test]
async fn many_commands_share_a_connection() {
    let server = Server::start();
    let session = server.login().await;
    let commands: Vec<String> =
        (0..20).map(|number| format!("sleep 0.1; echo {number}; exit {number}")).collect();
    let outcomes =
        futures_util::future::join_all(commands.iter().map(|command| exec(&session, command))).await;
    for (number, outcome) in (0u32..).zip(&outcomes) {
        assert_eq!((outcome.text(), outcome.status), (format!("{number}\n"), Some(number)));
    }
}

#[tokio::test]
async fn a_command_with_a_terminal_has_one_stream() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.request_pty(true, "vt100", 80, 24, 0, 0, &[]).await.expect("the request is sent");
    channel.exec(true, "test -t 0 && test -t 2 && echo $TERM; exit 3").await.expect("the request is sent");
    let outcome = outcome(&mut channel).await;
    assert_eq!((outcome.text().as_str(), outcome.status), ("vt100\r\n", Some(3)));
    assert!(outcome.stderr.is_empty() && outcome.in_order);
}
