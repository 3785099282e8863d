//! Traces, where the installation has a collector for them: what was done for a session, and how long it took.
//!
//! ```text
//!  reconcile ─┬─ create pods               start ─┬─ scheduling
//!             ├─ patch services                   ├─ init-rootfs
//!             └─ patch labsessions/status         └─ booting-vm …
//! ```
//!
//! Each look at a session is a trace, with a child for each request that writes. A session that has become ready
//! is one more: the stages of its start, when the pod's own timestamps say that they were, linked to the look that
//! found it ready. What a write belongs to is not handed down: OpenTelemetry's context goes with the future that is
//! polled. Without a collector there is no tracer, and nothing is made or remembered.
//!
//! What is said of a session is its name, its uid, its phase, what was done and why that failed: nothing of its
//! spec, and nothing secret.

mod collector;
mod export;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dozlab_pod::LabSession;
use kube::ResourceExt as _;
use opentelemetry::trace::{
    FutureExt as _, Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span};

pub use collector::{Collector, CollectorError};
pub(crate) use export::Export;
pub use export::ExportError;

use crate::decide::{Decision, Step};
use crate::pod_view::PodView;
use crate::reconcile::ReconcileError;
use crate::writes::WriteError;

/// Makes spans, where there is a collector.
#[derive(Clone, Default)]
pub(crate) struct Traces(Option<SdkTracer>);

impl Traces {
    /// A session is about to be looked at.
    pub(crate) fn look_at(&self, session: &LabSession) -> Look {
        let Some(tracer) = &self.0 else { return Look(None) };
        let builder = SpanBuilder::from_name("reconcile").with_attributes(names(session));
        let span = tracer.build_with_context(builder, &Context::new());
        Look(Some(Open { context: Context::new().with_span(span), phase: None, steps: Vec::new() }))
    }

    /// A request is about to be made, in the words of a role.
    pub(crate) fn request(&self, verb: &str, resource: &str) -> Request {
        let span = self.0.as_ref().map(|tracer| {
            SpanBuilder::from_name(format!("{verb} {resource}")).with_kind(SpanKind::Client).start(tracer)
        });
        Request(span)
    }

    /// A session has become ready for the first time.
    pub(crate) fn started(&self, session: &LabSession, created_ms: u64, ready_ms: u64, pod: &PodView) {
        let Some(tracer) = &self.0 else { return };
        let found_by = Link::with_context(Context::current().span().span_context().clone());
        let builder = SpanBuilder::from_name("start").with_attributes(names(session));
        let builder = builder.with_links(vec![found_by]).with_start_time(time(created_ms));
        let start = Context::new().with_span(tracer.build_with_context(builder, &Context::new()));
        let mut from_ms = pod.created_ms;
        for (stage, took_ms) in &pod.stages {
            let builder = SpanBuilder::from_name(stage.as_str()).with_start_time(time(from_ms));
            from_ms += took_ms;
            builder.start_with_context(tracer, &start).end_with_timestamp(time(from_ms));
        }
        start.span().end_with_timestamp(time(ready_ms));
    }
}

/// Does work as part of a span, if there is one.
pub(crate) async fn within<T>(context: Option<Context>, work: impl Future<Output = T>) -> T {
    match context {
        Some(context) => work.with_context(context).await,
        None => work.await,
    }
}

/// A session is being looked at.
pub(crate) struct Look(Option<Open>);

struct Open {
    context: Context,
    phase: Option<&'static str>,
    steps: Vec<StringValue>,
}

impl Look {
    /// What the requests of this look belong to.
    pub(crate) fn context(&self) -> Option<Context> {
        self.0.as_ref().map(|open| open.context.clone())
    }

    /// It was decided what to do.
    pub(crate) fn decided(&mut self, decision: &Decision) {
        let Some(open) = &mut self.0 else { return };
        open.phase = Some(decision.status.phase.as_str());
        open.steps.extend(decision.steps.iter().map(|step| StringValue::from(words(step))));
    }

    /// It is over.
    pub(crate) fn ended<T>(self, looked: &Result<T, ReconcileError>) {
        let Some(Open { context, phase, steps }) = self.0 else { return };
        let span = context.span();
        let outcome = match looked {
            Ok(_) if steps.is_empty() => "nothing-due",
            Ok(_) => "done",
            Err(ReconcileError::Write(WriteError::Conflict { .. })) => "conflict",
            Err(error) => {
                span.set_attribute(KeyValue::new("error.type", error.reason()));
                span.set_status(Status::error(error.to_string()));
                "failed"
            }
        };
        span.set_attribute(KeyValue::new("dozlab.reconcile.outcome", outcome));
        span.set_attribute(KeyValue::new("dozlab.reconcile.steps", Value::Array(Array::String(steps))));
        if let Some(phase) = phase {
            span.set_attribute(KeyValue::new("dozlab.session.phase", phase));
        }
        span.end();
    }
}

/// A request is being made; it is over when this is dropped.
pub(crate) struct Request(Option<Span>);

impl Request {
    pub(crate) fn failed(&mut self, error: &WriteError) {
        let Some(span) = &mut self.0 else { return };
        span.set_attribute(KeyValue::new("error.type", error.reason()));
        span.set_status(Status::error(error.to_string()));
    }
}

fn names(session: &LabSession) -> [KeyValue; 3] {
    [
        KeyValue::new("k8s.namespace.name", session.namespace().unwrap_or_default()),
        KeyValue::new("dozlab.session.name", session.name_any()),
        KeyValue::new("dozlab.session.uid", session.uid().unwrap_or_default()),
    ]
}

fn words(step: &Step) -> String {
    match step {
        Step::AddFinalizer => "add finalizer".to_owned(),
        Step::Make(part) => format!("make {part:?}"),
        Step::MakePod => "make Pod".to_owned(),
        Step::DeletePod { .. } => "delete Pod".to_owned(),
        Step::Delete(part) => format!("delete {part:?}"),
        Step::WriteStatus => "write status".to_owned(),
        Step::RemoveFinalizer => "remove finalizer".to_owned(),
        Step::LookForPod => "look for Pod".to_owned(),
    }
}

fn time(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
