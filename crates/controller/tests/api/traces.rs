//! Traces, as a collector gets them: a server of ours that takes OTLP, or one that takes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;

use crate::interruptions::user_without;
use crate::support::{Cluster, Controller, USER, until};

/// Spans are sent as soon as there are some; or not before the controller ends.
const AT_ONCE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");
const AT_THE_END: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "3600000");

/// A collector.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    bodies: Arc<Mutex<Vec<u8>>>,
    headers: Arc<Mutex<HeaderMap>>,
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, format!("--otlp-endpoint=http://{address}"))
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The span that is waited for.
    async fn span(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        until(what, async || self.spans().into_iter().find(&wanted)).await
    }

    async fn children(&self, of: &Span, names: &[&str]) {
        for name in names {
            let is_child = |span: &Span| span.parent_span_id == of.span_id && span.name == *name;
            let child = self.span(name, is_child).await;
            assert_eq!(child.trace_id, of.trace_id);
            assert!(child.end_time_unix_nano >= child.start_time_unix_nano);
        }
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    collector.requests.lock().unwrap().push(ExportTraceServiceRequest::decode(body.clone()).unwrap());
    collector.bodies.lock().unwrap().extend_from_slice(&body);
    *collector.headers.lock().unwrap() = headers;
    StatusCode::OK
}

fn of(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|one| one.key == key)?.value.clone()?.value
}

fn text(span: &Span, key: &str) -> String {
    match of(&span.attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?} in {span:#?}"),
    }
}

fn steps(span: &Span) -> Vec<String> {
    let Some(Value::ArrayValue(steps)) = of(&span.attributes, "dozlab.reconcile.steps") else {
        return Vec::new();
    };
    let words = steps.values.into_iter().filter_map(|step| match step.value {
        Some(Value::StringValue(word)) => Some(word),
        _ => None,
    });
    words.collect()
}

fn makes_pod(span: &Span) -> bool {
    span.name == "reconcile" && steps(span).contains(&"make Pod".to_owned())
}

#[tokio::test]
async fn a_look_at_a_session_is_a_trace_of_what_was_done_and_so_is_its_start() {
    let (collector, endpoint) = Collector::start().await;
    let cluster = Cluster::new("traced").await;
    let variables = [
        AT_ONCE,
        ("OTEL_SERVICE_NAME", "labs-of-the-school"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer of-the-collector"),
    ];
    let controller = cluster.controller_as(USER, &[&endpoint], &variables);
    let asked = json!({ "config": { "vsCodePassword": "hush-hush-hush" } });
    let session = cluster.ask_for("demo", asked).await;
    cluster.phase("demo", "Creating").await;

    let birth = collector.span("the look that made the pod", makes_pod).await;
    assert_eq!(text(&birth, "k8s.namespace.name"), "traced");
    assert_eq!(text(&birth, "dozlab.session.name"), "demo");
    assert_eq!(Some(text(&birth, "dozlab.session.uid")), session.metadata.uid);
    assert_eq!(text(&birth, "dozlab.session.phase"), "Creating");
    assert_eq!(text(&birth, "dozlab.reconcile.outcome"), "done");
    let writes =
        ["patch labsessions", "create secrets", "patch networkpolicies", "create pods", "patch services"];
    collector.children(&birth, &writes).await;
    collector.children(&birth, &["patch labsessions/status"]).await;

    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    let start = collector.span("the start", |span| span.name == "start").await;
    assert_eq!(text(&start, "dozlab.session.name"), "demo");
    let created = session.metadata.creation_timestamp.unwrap().0.as_nanosecond();
    assert_eq!(i128::from(start.start_time_unix_nano), created);
    collector.children(&start, &["scheduling", "init-rootfs", "network-setup", "booting-vm"]).await;
    let found_by = &start.links[0].span_id;
    let found = collector.span("the look that found it ready", |span| span.span_id == *found_by).await;
    assert_eq!(
        (found.name.as_str(), text(&found, "dozlab.session.phase").as_str()),
        ("reconcile", "Running")
    );

    let resource = collector.requests.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
    let said = |key: &str| of(&resource.attributes, key);
    assert_eq!(said("service.name"), Some(Value::StringValue("labs-of-the-school".into())));
    assert_eq!(said("service.version"), Some(Value::StringValue(env!("CARGO_PKG_VERSION").into())));
    assert_eq!(said("deployment.environment.name"), Some(Value::StringValue("tests".into())));
    assert_eq!(collector.headers.lock().unwrap()["authorization"], "Bearer of-the-collector");
    let bytes = String::from_utf8_lossy(&collector.bodies.lock().unwrap()).into_owned();
    assert!(!bytes.contains("hush-hush-hush"), "a password is in a span");
    assert!(!controller.log().contains("of-the-collector"), "{}", controller.log());
}

#[tokio::test]
async fn a_look_that_fails_says_why() {
    let (collector, endpoint) = Collector::start().await;
    let cluster = Cluster::new("traced-short").await;
    user_without(&cluster, "traced-short", &["create"], "pods").await;
    let _controller = cluster.controller_as("traced-short", &[&endpoint], &[AT_ONCE]);
    cluster.ask_for("demo", json!({})).await;
    let why = "the controller's role lacks the verb create on pods";
    let failed = |span: &Span| span.status.as_ref().is_some_and(|status| status.message.contains(why));
    let look = collector.span("a look that failed", |span| span.name == "reconcile" && failed(span)).await;
    assert_eq!(text(&look, "dozlab.reconcile.outcome"), "failed");
    assert_eq!(text(&look, "error.type"), "forbidden");
    let refused = |span: &Span| span.parent_span_id == look.span_id && span.name == "create pods";
    let refused = collector.span("the request that failed", refused).await;
    assert!(failed(&refused), "{refused:#?}");
    assert_eq!(text(&refused, "error.type"), "forbidden");
}

#[tokio::test]
async fn the_last_spans_are_sent_when_the_controller_is_told_to_end() {
    let (collector, endpoint) = Collector::start().await;
    let cluster = Cluster::new("traced-end").await;
    let address = endpoint.trim_start_matches("--otlp-endpoint=");
    let variables = [AT_THE_END, ("OTEL_EXPORTER_OTLP_ENDPOINT", address)];
    let mut controller = cluster.controller_as(USER, &["--graceful-shutdown-timeout=5s"], &variables);
    cluster.ask_for("demo", json!({})).await;
    cluster.phase("demo", "Creating").await;
    assert!(collector.spans().is_empty());
    controller.terminate();
    assert_eq!(controller.end().await, Some(0), "{}", controller.log());
    assert!(collector.spans().iter().any(makes_pod), "{:#?}", collector.spans());
}

/// A collector that takes connections and closes them, or keeps them and never answers. How many it had.
async fn useless(answers: bool) -> (Arc<AtomicUsize>, String) {
    let had = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("--otlp-endpoint=http://{}", listener.local_addr().unwrap());
    let counted = Arc::clone(&had);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            if !answers {
                kept.push(connection);
            }
        }
    });
    (had, endpoint)
}

async fn lives_through(cluster: &Cluster, name: &str) {
    cluster.ask_for(name, json!({})).await;
    cluster.phase(name, "Creating").await;
    cluster.make_ready(name).await;
    cluster.phase(name, "Running").await;
}

fn complaints(controller: &Controller) -> usize {
    controller.log().matches("the collector takes no traces").count()
}

#[tokio::test]
async fn a_collector_that_is_away_changes_nothing_and_is_said_once() {
    let cluster = Cluster::new("untraced").await;
    let (tried, endpoint) = useless(true).await;
    let mut controller = cluster.controller_as(USER, &[&endpoint, "--sync-period=1s"], &[AT_ONCE]);
    lives_through(&cluster, "demo").await;
    let writes = cluster.server.writes("untraced").len();
    assert_eq!(writes, 7, "a finalizer, four parts and two statuses");
    // A batch is tried four times.
    until("three batches are lost", async || (tried.load(Ordering::Relaxed) >= 12).then_some(())).await;
    assert_eq!(complaints(&controller), 1, "{}", controller.log());
    controller.terminate();
    assert_eq!(controller.end().await, Some(0), "{}", controller.log());
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_nothing_up() {
    let cluster = Cluster::new("unanswered").await;
    let (tried, endpoint) = useless(false).await;
    let mut controller =
        cluster.controller_as(USER, &[&endpoint], &[AT_ONCE, ("OTEL_BSP_MAX_QUEUE_SIZE", "4")]);
    for name in ["one", "two", "three"] {
        lives_through(&cluster, name).await;
    }
    until("it is asked", async || (tried.load(Ordering::Relaxed) >= 1).then_some(())).await;
    let told = Instant::now();
    controller.terminate();
    assert_eq!(controller.end().await, Some(0), "{}", controller.log());
    assert!(told.elapsed() < Duration::from_secs(15), "it took {:?} to end", told.elapsed());
}
