//! `ssh -L`: a client's channel to a TCP port of the VM's own loopback.
//!
//! Only the loopback is open. A forward to anywhere else would let the client use the VM as a gateway into the network
//! it is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The addresses of the loopback that a client means, in the order in which to try them; empty where it means another
/// host.
fn loopback_addresses(host: &str) -> Vec<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback).into_iter().collect()
}

/// Connects the channel to a port of the loopback and carries bytes both ways until both sides have ended, or the
/// client's connection has: then the sender of `alive` is dropped.
pub(super) async fn run(
    channel: Channel<Msg>,
    host: String,
    port: u32,
    reply: ChannelOpenHandle,
    mut alive: watch::Receiver<bool>,
) {
    let addresses = loopback_addresses(&host);
    if addresses.is_empty() {
        return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    }
    let Some(mut stream) = connect(&addresses, port).await else {
        return reply.reject(ChannelOpenFailure::ConnectFailed).await;
    };
    reply.accept().await;
    let mut channel = channel.into_stream();
    tokio::select! {
        // Either side may break off; both are closed then.
        _ = tokio::io::copy_bidirectional(&mut channel, &mut stream) => {}
        () = connection_end(&mut alive) => {}
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

async fn connection_end(alive: &mut watch::Receiver<bool>) {
    while alive.changed().await.is_ok() {}
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
