//! When a session was last used: the session's own terminal says so, on the page that its probes ask for.
//!
//! The controller asks it over the pod's network, and only when a session might be idle; no verb on pods is
//! needed for it, and no secret. What answers is a learner's pod, so little is believed of it: few bytes, a
//! short time, one number.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a terminal may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 4096;

/// The part of the terminal's health page that counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    idle_seconds: u64,
}

/// The terminal did not say how long it was not used.
#[derive(Debug, thiserror::Error)]
#[error("the terminal at {address} does not say when it was used: {reason}")]
pub(crate) struct TerminalError {
    address: SocketAddr,
    reason: String,
}

/// For how long a session has not been used.
pub(crate) async fn idle_for(address: IpAddr, port: u16) -> Result<Duration, TerminalError> {
    let address = SocketAddr::new(address, port);
    let failed = |reason: String| TerminalError { address, reason };
    let answer = timeout(DEADLINE, ask(address)).await.map_err(|_| failed("no answer in time".to_owned()))?;
    let health: Health =
        serde_json::from_slice(&answer.map_err(failed)?).map_err(|error| failed(error.to_string()))?;
    Ok(Duration::from_secs(health.idle_seconds))
}

async fn ask(address: SocketAddr) -> Result<Bytes, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get("/health").header(header::HOST, address.to_string());
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
    };
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.to_string()),
    }
}
