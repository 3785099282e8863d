//! Asks the terminal whether a prompt can be had.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long the terminal may take to answer. It answers at once, or not yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether `GET /ready` answers 200: the VM's SSH server was reached, proved who it is, and let us in.
pub(super) async fn terminal_is_ready(address: SocketAddrV4) -> bool {
    tokio::time::timeout(PATIENCE, ask(address)).await.ok().flatten() == Some(StatusCode::OK)
}

async fn ask(address: SocketAddrV4) -> Option<StatusCode> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request =
        Request::get("/ready").header(HOST, address.to_string()).body(Empty::<Bytes>::new()).ok()?;
    tokio::select! {
        response = sender.send_request(request) => Some(response.ok()?.status()),
        _ = connection => None,
    }
}
