//! Accepts connections and serves HTTP/1.1 on them until the session ends.
//!
//! axum's own server sets no limit on how long a client may take to send its headers, so the connections are
//! driven here, by hyper, with one.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::lab::Lab;
use crate::routes;

/// How long a client may take to send the headers of a request.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// How many connections may be open at once; more wait in the kernel's queue. A page needs a handful.
const MAX_CONNECTIONS: usize = 512;

/// Pause after a connection could not be accepted, because the process has no file descriptor left for
/// instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests and terminals may take to end when the session does.
const FAREWELL: Duration = Duration::from_secs(3);

/// The terminal cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener that was given is of no use.
    #[error("the terminal cannot listen: {0}")]
    Listener(#[source] io::Error),
}

/// Serves the session's terminal on the listener until `shutdown` is cancelled, then tells all clients and
/// returns. No shell is left behind.
///
/// # Errors
/// If the listener does not work at all. What goes wrong afterwards is logged, and answered where there is
/// somebody to answer.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    info!(session = config.session_id, %address, vm = %config.vm_address, "serving the terminal");
    let max_terminals = config.max_terminals;
    // Everything below ends with the session, also when the caller drops this future.
    let session = shutdown.child_token();
    let _end_with_us = session.clone().drop_guard();
    let lab = Lab::start(config, session.clone());
    let router = routes::router(Arc::clone(&lab));
    let mut connections = JoinSet::new();
    while let Some(socket) = session.run_until_cancelled(accept(&listener, &mut connections)).await {
        connections.spawn(serve_connection(socket, router.clone(), session.clone()));
    }
    drop(listener);
    let all_ended = async {
        while connections.join_next().await.is_some() {}
        // A terminal's connection left HTTP behind; its place is free when it is over.
        let _ = lab.places.acquire_many(max_terminals.into()).await;
    };
    if timeout(FAREWELL, all_ended).await.is_err() {
        warn!("some clients did not go when the session ended");
    }
    Ok(())
}

/// Waits for the next connection, as long as there may be one more.
async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>) -> TcpStream {
    loop {
        let may_accept = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            accepted = listener.accept(), if may_accept => match accepted {
                Ok((socket, _)) => return socket,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(socket: TcpStream, router: Router, session: CancellationToken) {
    // Keystrokes and their echoes are small and must not wait for each other.
    let _ = socket.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    let connection =
        builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router)).with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = session.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection failed");
    }
}
