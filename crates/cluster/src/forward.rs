//! Ports of a lab's pod on this machine.
//!
//! The local ports have the pod's own numbers, because the terminal sends browsers on to the editor by its port. So that
//! several labs can be reached at once, and cookies of one do not reach another, each has a loopback address of its own:
//! the first at which all ports are free.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use futures_util::future;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::connect::Cluster;
use crate::error::ClusterError;

/// How many loopback addresses are tried: 127.0.0.1 and those after it.
const ADDRESSES: u8 = 32;

/// How long the node may take to say why a connection has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ports of a pod that are listened for on this machine.
pub struct Forward {
    pods: Api<Pod>,
    pod: String,
    address: Ipv4Addr,
    listeners: Vec<(u16, TcpListener)>,
}

impl Cluster {
    /// Listens on a loopback address for ports of a pod. The pod is asked once, so that whoever may not is told now.
    ///
    /// # Errors
    /// [`ClusterError::Forbidden`], [`ClusterError::Listen`], and whatever else keeps the pod from being reached.
    pub async fn forward(&self, pod: &str, ports: &[u16]) -> Result<Forward, ClusterError> {
        let pods = self.pods();
        if let Some(first) = ports.first() {
            let doing = format!("reach port {first} of the pod {pod}");
            drop(pods.portforward(pod, &[*first]).await.map_err(self.failed(&doing))?);
        }
        let (address, listeners) = listen(ports).await?;
        Ok(Forward { pods, pod: pod.to_owned(), address, listeners })
    }
}

impl Forward {
    /// The loopback address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Carries connections for as long as it is polled. Each is one stream through the API server; one that breaks
    /// harms no other.
    pub async fn run(self) {
        let Self { pods, pod, listeners, .. } = &self;
        future::join_all(listeners.iter().map(|(port, listener)| accept(pods, pod, *port, listener))).await;
    }
}

async fn accept(pods: &Api<Pod>, pod: &str, port: u16, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                let (pods, pod) = (pods.clone(), pod.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = carry(&pods, &pod, port, connection).await {
                        warn!(pod, port, error = &*error, "a connection could not be carried");
                    }
                });
            }
            Err(error) => {
                // Out of files, most likely: others close theirs.
                warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn carry(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
    mut connection: TcpStream,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut forwarder = pods.portforward(pod, &[port]).await?;
    let mut stream = forwarder.take_stream(port).ok_or("the API server opened no stream")?;
    let refused = forwarder.take_error(port);
    // A browser that goes away is no error.
    if let Err(error) = tokio::io::copy_bidirectional(&mut connection, &mut stream).await {
        debug!(%error, port, "a forwarded connection ended");
    }
    drop(stream);
    let said = match refused {
        Some(refused) => timeout(LAST_WORDS, refused).await.ok().flatten(),
        None => None,
    };
    forwarder.abort();
    said.map_or(Ok(()), |message| Err(message.into()))
}

async fn listen(ports: &[u16]) -> Result<(Ipv4Addr, Vec<(u16, TcpListener)>), ClusterError> {
    let mut first_refusal = None;
    for last in 1..=ADDRESSES {
        let address = Ipv4Addr::new(127, 0, 0, last);
        match listen_at(address, ports).await {
            Ok(listeners) => return Ok((address, listeners)),
            Err((address, source)) => {
                first_refusal.get_or_insert(ClusterError::Listen { address: address.to_string(), source });
            }
        }
    }
    Err(first_refusal.expect("at least one address was tried"))
}

async fn listen_at(
    address: Ipv4Addr,
    ports: &[u16],
) -> Result<Vec<(u16, TcpListener)>, (SocketAddrV4, io::Error)> {
    let mut listeners = Vec::new();
    for port in ports {
        let address = SocketAddrV4::new(address, *port);
        listeners.push((*port, TcpListener::bind(address).await.map_err(|error| (address, error))?));
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_lab_gets_the_same_ports_at_another_address() {
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (first, held) = listen(&[port]).await.unwrap();
        let (second, also_held) = listen(&[port]).await.unwrap();
        assert_eq!(first, Ipv4Addr::LOCALHOST);
        assert_eq!(second, Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!((held[0].0, also_held[0].0), (port, port));
    }
}
