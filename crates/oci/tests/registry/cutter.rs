//! A way to the registry that breaks: each of the first connections ends after so many bytes of answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Cutter {
    /// `cut` connections end after `bytes` bytes, the others do not.
    pub(crate) async fn start(registry: &str, cut: usize, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (registry, counter) = (registry.to_owned(), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let limit = if number < cut { bytes } else { u64::MAX };
                tokio::spawn(pass(client, registry.clone(), limit));
            }
        });
        Self { address, connections }
    }
}

async fn pass(mut client: TcpStream, registry: String, limit: u64) {
    let mut server = TcpStream::connect(registry).await.unwrap();
    let (mut from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let answers = async {
        let _ = tokio::io::copy(&mut from_server.take(limit), &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = answers => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
    }
}
