//! How spans get to the collector: in batches, by a thread that keeps them waiting and drops what does not fit.
//!
//! ```text
//!  spans ──▶ bounded queue ──▶ the SDK's thread: batch, protobuf, retries ──▶ this runtime: HTTP ──▶ collector
//! ```
//!
//! Whoever ends a span waits for nothing. A collector that is away costs the spans that find the queue full, and one
//! line in the log.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{debug, info, warn};
use url::Url;

use super::{Collector, Traces};

/// How long a collector may take to answer: OTLP's own default.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection to it may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long the last spans may take when the controller ends: with its 30 s for begun work this is less than the
/// 40 s that its pod has.
const LAST_SPANS_DEADLINE: Duration = Duration::from_secs(5);
/// By which the protocol is chosen where there is a choice.
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// Traces cannot be exported as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// HTTP is not to be had; for https there may be no certificates of authorities.
    #[error(
        "traces cannot be sent to {url}: {reason}; for https the container needs certificates of authorities, \
         and SSL_CERT_FILE names a file with others"
    )]
    Client {
        /// Where they should go.
        url: Url,
        /// What is missing.
        reason: String,
    },
    /// One of OpenTelemetry's variables has a value that is of no use.
    #[error("traces cannot be sent: {0}; the variables that begin with OTEL_ are read too")]
    Variables(#[from] ExporterBuildError),
}

/// Spans on their way to a collector.
pub(crate) struct Export(SdkTracerProvider);

impl Export {
    /// Begins it, if there is a collector. `identity` is this process among the replicas.
    pub(crate) fn to(collector: &Collector, identity: &str) -> Result<Option<Self>, ExportError> {
        let Some(url) = collector.traces() else { return Ok(None) };
        if let Ok(protocol) = std::env::var(PROTOCOL)
            && !matches!(protocol.as_str(), "" | "http/protobuf")
        {
            warn!(protocol, "{PROTOCOL} has no effect: spans are sent by http/protobuf");
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::of(&url)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url.as_str())
            .with_timeout(ANSWER_DEADLINE)
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(identity))
            .build();
        info!(collector = %url, "traces are sent");
        Ok(Some(Self(provider)))
    }

    /// What makes the spans.
    pub(crate) fn traces(&self) -> Traces {
        Traces(Some(self.0.tracer("dozlab-controller")))
    }

    /// Sends what there is, and ends.
    pub(crate) async fn end(self) {
        // The SDK waits with its thread, and that thread for this runtime.
        let ended =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_SPANS_DEADLINE)).await;
        if !matches!(ended, Ok(Ok(()))) {
            debug!("the last spans were not sent");
        }
    }
}

/// Who sends, as far as OpenTelemetry's variables do not say otherwise.
fn resource(identity: &str) -> Resource {
    let builder = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "dozlab-controller"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", identity.to_owned()),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => builder.with_service_name(name).build(),
        _ => builder.build(),
    }
}

/// Sends requests on the controller's runtime, because the SDK's thread has none, and says what becomes of them.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    collector: Url,
    is_away: AtomicBool,
}

impl Client {
    fn of(url: &Url) -> Result<Self, ExportError> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("dozlab/", env!("CARGO_PKG_VERSION")))
            // The headers may have a password in them, which is for this server.
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE);
        // An error means that somebody has installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Without TLS no authority is asked for, which a small container has none of.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let http = builder
            .build()
            .map_err(|error| ExportError::Client { url: url.clone(), reason: with_causes(&error) })?;
        let is_away = AtomicBool::new(false);
        Ok(Self { http, runtime: Handle::current(), collector: url.clone(), is_away })
    }

    /// Says once that the collector does not take spans.
    fn away(&self, reason: &str) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            let collector = self.collector.as_str();
            warn!(
                collector,
                reason, "the collector takes no traces; those that it misses are lost, and nothing else"
            );
        }
    }

    fn there(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            info!(collector = self.collector.as_str(), "the collector takes traces again");
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { http.send_bytes(request).await }).await;
        let answer = sent.unwrap_or_else(|_| Err("the controller ended before it answered".into()));
        match &answer {
            Ok(answer) if answer.status().is_success() => self.there(),
            Ok(answer) => self.away(&format!("it answers {}", answer.status())),
            Err(error) => self.away(&with_causes(error.as_ref())),
        }
        answer
    }
}

/// An error and what caused it: the first says only that a request failed.
fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
