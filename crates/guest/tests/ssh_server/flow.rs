//! Much data: whole, in bounded memory, and without anybody waiting for ever.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use russh::{Channel, ChannelMsg, Pty, client};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::harness::{DEADLINE, Server, exec, outcome, read_until};

/// Far more than all queues between a client and a program hold together.
const MUCH: usize = 20 * 1024 * 1024;
/// Long enough for a client to fill every queue that it can fill.
const PAUSE: Duration = Duration::from_secs(1);

/// Numbers, so that a lost, doubled or misplaced piece shows.
fn numbers(size: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + 16);
    let mut number = 1u64;
    while text.len() < size {
        text.extend_from_slice(format!("{number}\n").as_bytes());
        number += 1;
    }
    text.truncate(size);
    text
}

#[tokio::test]
async fn much_output_arrives_whole_at_a_slow_reader() {
    let server = Server::start();
    let config = client::Config { window_size: 128 * 1024, ..client::Config::default() };
    let session = server.login_with(config).await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    let command = format!("seq 1 100000000 | head -c {MUCH}");
    channel.exec(true, command).await.expect("the request is sent");
    let mut received = Vec::with_capacity(MUCH);
    let read = async {
        let mut pauses = 0;
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                received.extend_from_slice(&data);
                if received.len() / (4 * 1024 * 1024) > pauses {
                    pauses += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the output ends in time");
    assert_eq!(received.len(), MUCH);
    assert!(received == numbers(MUCH), "the output is not what was written");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_writer() {
    let server = Server::start();
    let session = server.login().await;
    let mark = server.home().join("written");
    let mut channel = session.channel_open_session().await.expect("a channel");
    // 64 MiB is far more than the window, the pipe and the sockets together hold.
    let command = "dd if=/dev/zero bs=1M count=64 2>/dev/null; touch written";
    channel.exec(true, command).await.expect("the request is sent");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!mark.exists(), "the writer was not stopped");
    let outcome = outcome(&mut channel).await;
    assert_eq!((outcome.stdout.len(), outcome.status), (64 * 1024 * 1024, Some(0)));
    assert!(mark.exists());
}

/// Sends much to a program that sends it back, and starts to read after `pause`.
async fn send_through(channel: Channel<client::Msg>, pause: Duration, end_of_data: bool) {
    let text = numbers(MUCH);
    let (mut reader, writer) = channel.split();
    let sending = async {
        writer.data(&text[..]).await.expect("data are sent");
        if end_of_data {
            writer.eof().await.expect("the end is sent");
        }
    };
    let receiving = async {
        sleep(pause).await;
        let mut received = Vec::with_capacity(MUCH);
        while received.len() < MUCH {
            let message = reader.wait().await.expect("the program still runs");
            if let ChannelMsg::Data { data } = message {
                received.extend_from_slice(&data);
            }
        }
        received
    };
    let both = async { tokio::join!(sending, receiving).1 };
    let received = timeout(DEADLINE, both).await.expect("it ends in time");
    assert!(received == text, "what came back is not what was sent");
}

#[tokio::test]
async fn much_input_and_output_at_once_does_not_stand_still() {
    let server = Server::start();
    let session = server.login().await;
    for pause in [Duration::ZERO, PAUSE] {
        let channel = session.channel_open_session().await.expect("a channel");
        channel.exec(true, "cat").await.expect("the request is sent");
        send_through(channel, pause, true).await;
    }
}

#[tokio::test]
async fn much_input_and_output_of_a_terminal_does_not_stand_still() {
    let server = Server::start();
    let session = server.login().await;
    for pause in [Duration::ZERO, PAUSE] {
        let mut channel = session.channel_open_session().await.expect("a channel");
        channel
            .request_pty(true, "xterm", 80, 24, 0, 0, &[(Pty::ECHO, 0)])
            .await
            .expect("the request is sent");
        channel.exec(true, "stty raw; echo ready; exec cat").await.expect("the request is sent");
        read_until(&mut channel, "ready\n").await;
        send_through(channel, pause, false).await;
    }
}

/// Runs `command` by OpenSSH's client, sends it much, and starts to read what comes back after `pause`.
fn send_through_openssh(server: &Server, options: &[&str], command: &str, pause: Duration) {
    let mut client = Command::new("ssh")
        .args(server.openssh_options())
        .args(options)
        .args([&server.address.ip().to_string(), command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssh-client is installed");
    let mut stdin = client.stdin.take().expect("it was piped");
    let mut stdout = client.stdout.take().expect("it was piped");
    let mut greeting = [0; 6];
    stdout.read_exact(&mut greeting).expect("the command says that it is ready");
    assert_eq!(&greeting, b"ready\n");
    let sending = thread::spawn(move || {
        stdin.write_all(&numbers(MUCH)).expect("the client reads its input");
        // Kept open: a terminal has no end of its input.
        stdin
    });
    thread::sleep(pause);
    let (done, finished) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut received = vec![0; MUCH];
        let read = stdout.read_exact(&mut received);
        done.send(read.map(|()| received))
    });
    let received = finished.recv_timeout(DEADLINE).expect("it ends in time").expect("all of it comes back");
    assert!(received == numbers(MUCH), "what came back is not what was sent");
    drop(sending.join().expect("the input was sent"));
    client.kill().expect("the client can be ended");
    client.wait().expect("the client ends");
}

#[test]
fn much_input_and_output_at_once_does_not_stand_still_with_openssh() {
    let server = Server::start();
    for pause in [Duration::ZERO, PAUSE] {
        send_through_openssh(&server, &["-T"], "echo ready; exec cat", pause);
        // The escape character would be looked for in what is sent.
        send_through_openssh(&server, &["-tt", "-e", "none"], "stty raw -echo; echo ready; exec cat", pause);
    }
}

/// Pushes data into a channel that nobody reads for as long as they are taken, at most for [`PAUSE`] without
/// progress. Returns how many bytes were taken.
async fn fill(channel: &Channel<client::Msg>) -> usize {
    let sent = AtomicUsize::new(0);
    let sending = async {
        loop {
            channel.data(&[b'x'; 32 * 1024][..]).await.expect("data are sent");
            sent.fetch_add(32 * 1024, Ordering::Relaxed);
        }
    };
    let standstill = async {
        let mut before = usize::MAX;
        while sent.load(Ordering::Relaxed) != before {
            before = sent.load(Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = sending => unreachable!("the loop has no end"),
        ended = timeout(DEADLINE, standstill) => ended.expect("there is a limit"),
    }
    sent.into_inner()
}

#[tokio::test]
async fn a_program_that_does_not_read_stops_its_client_and_no_other() {
    let server = Server::start();
    let session = server.login().await;
    let mut stuck = session.channel_open_session().await.expect("a channel");
    stuck.exec(true, "read line; wc -c").await.expect("the request is sent");
    let mut asleep = session.channel_open_session().await.expect("a channel");
    asleep.exec(true, "sleep 100").await.expect("the request is sent");
    let taken = fill(&asleep).await;
    assert!(taken < 4 * 1024 * 1024, "{taken} bytes wait for a program that does not read");
    assert_eq!(exec(&session, "echo hello").await.text(), "hello\n");
    let sending = stuck.data(&b"\n12345"[..]);
    timeout(DEADLINE, sending).await.expect("the connection is read").expect("data are sent");
    stuck.eof().await.expect("the end is sent");
    assert_eq!(outcome(&mut stuck).await.text().trim(), "5");
    asleep.signal(russh::Sig::TERM).await.expect("the request is sent");
    assert_eq!(outcome(&mut asleep).await.signal.as_deref(), Some("TERM"));
}

#[tokio::test]
async fn a_service_that_does_not_read_stops_its_client_and_no_other() {
    let server = Server::start();
    let session = server.login().await;
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = u32::from(service.local_addr().expect("a bound socket has an address").port());
    let channel =
        session.channel_open_direct_tcpip("localhost", port, "127.0.0.1", 1).await.expect("a channel");
    let (_silent, _) = service.accept().await.expect("a client");
    // The sockets on the way have buffers of some megabytes.
    let taken = fill(&channel).await;
    assert!(taken < 16 * 1024 * 1024, "{taken} bytes wait for a service that does not read");
    assert_eq!(exec(&session, "echo hello").await.text(), "hello\n");
}
