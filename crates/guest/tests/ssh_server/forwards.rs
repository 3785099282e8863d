//! `ssh -L`.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::Server;

/// A service on the loopback that answers one line with the same line and then ends.
async fn echo_service() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut line = Vec::new();
        stream.read_to_end(&mut line).await.expect("the client speaks");
        stream.write_all(&line).await.expect("the client listens");
    });
    port
}

#[tokio::test]
async fn the_loopback_is_reached_and_each_side_can_end_first() {
    let server = Server::start();
    let session = server.login().await;
    let port = u32::from(echo_service().await);
    let channel =
        session.channel_open_direct_tcpip("localhost", port, "127.0.0.1", 1).await.expect("a channel");
    let mut stream = channel.into_stream();
    stream.write_all(b"hello").await.expect("data are sent");
    stream.shutdown().await.expect("the end is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the service answers");
    assert_eq!(answer, "hello");
}

#[tokio::test]
async fn other_hosts_and_closed_ports_are_refused() {
    let server = Server::start();
    let session = server.login().await;
    for (host, port) in
        [("172.16.0.1", 80), ("0.0.0.0", 80), ("example.org", 80), ("127.0.0.1", 1), ("::1", 70_000)]
    {
        let channel = session.channel_open_direct_tcpip(host, port, "127.0.0.1", 1).await;
        assert!(channel.is_err(), "{host}:{port} was reached");
    }
}

#[tokio::test]
async fn the_client_cannot_open_ports_in_the_vm() {
    let server = Server::start();
    let session = server.login().await;
    assert!(session.tcpip_forward("127.0.0.1", 0).await.is_err());
}
