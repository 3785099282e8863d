//! What the terminal counts, in the Prometheus text format.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::ssh::DialError;

/// Bounds of the histogram, in seconds: from a VM that was resumed to an emulated one on a busy machine.
const READY_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// All counters of the process.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    /// Terminals that are open.
    pub(crate) open: Gauge,
    /// Terminals that were opened.
    pub(crate) connects: Counter,
    /// Requests that were refused for want of the secret.
    pub(crate) auth_failures: Counter,
    dial_failures: Family<ReasonLabel, Counter>,
    bytes: Family<DirectionLabel, Counter>,
    ssh_ready: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

impl Metrics {
    /// Counters at zero.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("dozlab_terminal")),
            open: Gauge::default(),
            connects: Counter::default(),
            auth_failures: Counter::default(),
            dial_failures: Family::default(),
            bytes: Family::default(),
            ssh_ready: Histogram::new(READY_BUCKETS),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("open", "Terminals that are open", self.open.clone());
        registry.register("connects", "Terminals that were opened", self.connects.clone());
        registry.register(
            "auth_failures",
            "Requests refused because the session's secret was missing or wrong",
            self.auth_failures.clone(),
        );
        registry.register(
            "ssh_dial_failures",
            "Attempts to log in to the VM that failed, by reason",
            self.dial_failures.clone(),
        );
        registry.register_with_unit(
            "transferred",
            "What terminals carried: in is what learners typed, out what their shells wrote",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "ssh_ready",
            "How long there was no way to log in to the VM, from the start or its loss until there was one",
            Unit::Seconds,
            self.ssh_ready.clone(),
        );
    }

    /// Bytes that a learner typed.
    pub(crate) fn typed(&self, count: usize) {
        self.bytes.get_or_create(&DirectionLabel { direction: "in" }).inc_by(count as u64);
    }

    /// Bytes that a shell wrote.
    pub(crate) fn shown(&self, count: usize) {
        self.bytes.get_or_create(&DirectionLabel { direction: "out" }).inc_by(count as u64);
    }

    /// An attempt to log in to the VM failed.
    pub(crate) fn dial_failed(&self, error: &DialError) {
        self.dial_failures.get_or_create(&ReasonLabel { reason: error.reason() }).inc();
    }

    /// There is a way to log in to the VM again, after this long.
    pub(crate) fn ssh_ready(&self, waited: Duration) {
        self.ssh_ready.observe(waited.as_secs_f64());
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String does not fail");
        text
    }
}
