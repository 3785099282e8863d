//! `ssh -L`: a client's channel to a TCP port of the VM's own loopback.
//!
//! Only the loopback is open. A forward to anywhere else would let the client use the VM as a gateway into
//! the network it is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::BytesMut;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::PIECE;
use super::input::Input;
use super::throttle::Throttle;

/// The addresses of the loopback that a client means, in the order in which to try them; empty where it means
/// another host.
fn loopback_addresses(host: &str) -> Vec<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback).into_iter().collect()
}

/// Connects the channel to a port of the loopback and carries bytes both ways until both sides have ended, or
/// either breaks off.
pub(super) async fn run(
    channel: Channel<Msg>,
    host: String,
    port: u32,
    reply: ChannelOpenHandle,
    throttle: Arc<Throttle>,
) {
    let addresses = loopback_addresses(&host);
    if addresses.is_empty() {
        return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    }
    let Some(stream) = connect(&addresses, port).await else {
        return reply.reject(ChannelOpenFailure::ConnectFailed).await;
    };
    reply.accept().await;
    let (reader, writer) = channel.split();
    carry(reader, &writer, stream, throttle).await;
    // That the client is gone is no error.
    let _ = writer.close().await;
}

async fn carry(
    mut reader: ChannelReadHalf,
    writer: &ChannelWriteHalf<Msg>,
    stream: TcpStream,
    throttle: Arc<Throttle>,
) {
    let (from_service, to_service) = stream.into_split();
    let mut input = Input::waiting(throttle);
    input.connect(Box::new(to_service), true);
    let answering = answer(from_service, writer);
    tokio::pin!(answering);
    let mut answered = false;
    while !(answered && input.is_closed()) {
        tokio::select! {
            result = &mut answering, if !answered => match result {
                Ok(()) => answered = true,
                Err(_) => return,
            },
            message = reader.wait() => match message {
                Some(ChannelMsg::Data { data }) => input.push(data),
                Some(ChannelMsg::Eof) => input.end(),
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            },
            () = input.drain() => {}
        }
    }
}

/// Sends what the service says to the client.
async fn answer(mut from_service: OwnedReadHalf, writer: &ChannelWriteHalf<Msg>) -> Result<(), russh::Error> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match from_service.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => writer.data_bytes(buffer.split().freeze()).await?,
            _ => return writer.eof().await,
        }
    }
}

async fn connect(addresses: &[IpAddr], port: u32) -> Option<TcpStream> {
    let port = u16::try_from(port).ok()?;
    for address in addresses {
        if let Ok(stream) = TcpStream::connect((*address, port)).await {
            // The client's packets are as small as it made them; a refusal only makes them slower.
            let _ = stream.set_nodelay(true);
            return Some(stream);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_is_reached() {
        assert_eq!(loopback_addresses("localhost").len(), 2);
        assert_eq!(loopback_addresses("LocalHost").len(), 2);
        assert_eq!(loopback_addresses("127.0.0.53").len(), 1);
        assert_eq!(loopback_addresses("::1").len(), 1);
        for host in
            ["172.16.0.1", "0.0.0.0", "::", "example.org", "localhost.example.org", "::ffff:10.0.0.1", ""]
        {
            assert_eq!(loopback_addresses(host), Vec::<IpAddr>::new(), "{host}");
        }
    }
}
