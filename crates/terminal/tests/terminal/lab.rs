//! A lab under test: the terminal's server, and a client for its HTTP interface.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use dozlab_terminal::{Config, ServeError, serve};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use russh::keys::PublicKey;
use russh::keys::ssh_key::LineEnding;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::vm::Vm;

pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

/// Longest that anything in these tests may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

impl Lab {
    /// A lab in front of this VM.
    pub(crate) async fn start(vm: &Vm) -> Self {
        Self::start_with(vm, &[]).await
    }

    /// A lab in front of this VM, with these variables besides or instead of the usual ones.
    pub(crate) async fn start_with(vm: &Vm, variables: &[(&str, &str)]) -> Self {
        Self::start_trusting(vm, vm.host_key.public_key(), variables).await
    }

    /// A lab in front of this VM, which expects another host key perhaps.
    pub(crate) async fn start_trusting(vm: &Vm, host_key: &PublicKey, variables: &[(&str, &str)]) -> Self {
        let usual = [
            ("SESSION_ID", "test".to_owned()),
            ("SESSION_TOKEN", TOKEN.to_owned()),
            ("SSH_USER", "root".to_owned()),
            ("VM_IP", vm.address.ip().to_string()),
            ("VM_SSH_PORT", vm.address.port().to_string()),
            ("SSH_PRIVATE_KEY", vm.client_key.to_openssh(LineEnding::LF).unwrap().to_string()),
            ("SSH_HOST_KEY", host_key.to_openssh().unwrap()),
        ];
        let mut environment = HashMap::from(usual);
        environment.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let config = Config::from_env(|name| environment.get(name).cloned()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(config, listener, shutdown.clone()));
        Self { address, shutdown, server }
    }

    /// Ends the session, and waits until the server is done.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.server).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get_with_token(&self, path: &str) -> Answer {
        let request = Request::get(path).header("authorization", format!("Bearer {TOKEN}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn log_in(&self, token: &str) -> Answer {
        let body = serde_json::json!({ "token": token }).to_string();
        let request = Request::post("/session").header("content-type", "application/json");
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Sends a request, with the `Host` header that a browser would send.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let host = self.address.to_string().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        let exchange = async {
            let socket = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
            tokio::spawn(connection);
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer {
                status: head.status,
                headers: head.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            }
        };
        timeout(DEADLINE, exchange).await.unwrap()
    }

    /// Waits until `/ready` answers with this word.
    pub(crate) async fn until_ready_is(&self, word: &str) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.get("/ready").await;
            if answer.json()["status"] == word {
                return answer;
            }
            assert!(start.elapsed() < DEADLINE, "/ready still says {}", answer.body);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
