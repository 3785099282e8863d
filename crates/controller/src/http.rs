//! `/metrics` for Prometheus, and `/healthz` and `/readyz` for the kubelet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {source}; choose another with {flag}")]
pub struct ListenError {
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
    source: std::io::Error,
}

/// Whether the controller can work: its caches are filled, and it leads or waits to.
#[derive(Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

/// Serves `/metrics` until it is told to stop: as `OpenMetrics` to who asks for it, as Prometheus does.
pub(crate) async fn serve_metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    let text = async |State(metrics): State<Arc<Metrics>>, headers: HeaderMap| {
        let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
        let (format, text) = match accepted.contains("application/openmetrics-text") {
            true => ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.text()),
            false => ("text/plain; version=0.0.4; charset=utf-8", metrics.classic_text()),
        };
        ([(CONTENT_TYPE, format)], text)
    };
    let router = Router::new().route("/metrics", get(text)).with_state(metrics);
    serve(address, router, stop, "metrics", "--metrics-bind-address").await
}

/// Serves the probes until it is told to stop.
pub(crate) async fn serve_probes(
    address: SocketAddr,
    ready: Readiness,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    let readyz = async |State(ready): State<Readiness>| match ready.0.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet"),
    };
    let router =
        Router::new().route("/healthz", get(async || "ok")).route("/readyz", get(readyz)).with_state(ready);
    serve(address, router, stop, "probes", "--health-probe-bind-address").await
}

async fn serve(
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
    what: &'static str,
    flag: &'static str,
) -> Result<(), ListenError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| ListenError { address, what, flag, source })?;
    tokio::spawn(async move {
        // It ends with the process; a listener that breaks is noticed by the probes.
        let _ = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    });
    Ok(())
}
