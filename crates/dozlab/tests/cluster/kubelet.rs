//! A kubelet of one node, as far as an API server asks it for logs and ports, and for pods that are to go.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path as UrlPath, Query};
use axum::response::Response;
use axum::routing::get;
use axum::serve::Listener;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const NODE: &str = "node";

/// Starts it, for the pods of a namespace.
pub(crate) async fn start(client: kube::Client, pods: Api<Pod>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let listener = Tls { tcp, acceptor: acceptor(folder.path()) };
    let routes = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs))
        .route("/portForward/{namespace}/{pod}", get(forward));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let node: Node = serde_json::from_value(json!({
        "metadata": { "name": NODE },
        "status": { "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
                    "daemonEndpoints": { "kubeletEndpoint": { "Port": port } } },
    }))
    .unwrap();
    Api::all(client).create(&PostParams::default(), &node).await.unwrap();
    tokio::spawn(let_go(pods));
}

/// Puts a pod on the node.
pub(crate) async fn take(pods: &Api<Pod>, pod: &str) {
    let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
                          "target": { "apiVersion": "v1", "kind": "Node", "name": NODE } });
    let _: serde_json::Value =
        pods.create_subresource("binding", pod, &PostParams::default(), &binding).await.unwrap();
}

/// What is being deleted has ended at once.
async fn let_go(pods: Api<Pod>) {
    loop {
        for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            if pod.metadata.deletion_timestamp.is_some() {
                let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                let _ = pods.delete(&pod.name_any(), &at_once).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn logs(UrlPath((_, _, container)): UrlPath<(String, String, String)>) -> String {
    format!("{container} has begun\n{container} says \u{7}more\n")
}

#[derive(serde::Deserialize)]
struct Ports {
    port: u16,
}

async fn forward(Query(Ports { port }): Query<Ports>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["v4.channel.k8s.io"]).on_upgrade(move |socket| echo(socket, port))
}

/// What comes in at a port is sent back, with the port's number before it. Channel 0 has the bytes, channel 1 errors;
/// each begins with the port's number.
async fn echo(mut socket: WebSocket, port: u16) {
    let [low, high] = port.to_le_bytes();
    for channel in [0, 1] {
        let _ = socket.send(Message::Binary(Bytes::from(vec![channel, low, high]))).await;
    }
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Binary(frame) = message else { continue };
        let answer = [&[0], format!("{port}: ").as_bytes(), &frame[1..]].concat();
        let _ = socket.send(Message::Binary(answer.into())).await;
    }
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (connection, address) = self.tcp.accept().await.unwrap();
            if let Ok(encrypted) = self.acceptor.accept(connection).await {
                return (encrypted, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// With a certificate of nobody's: API servers do not ask for one unless they are told to.
fn acceptor(folder: &Path) -> TlsAcceptor {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=node"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}
