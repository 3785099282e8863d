//! What the controller counts, in the text formats of Prometheus.

mod classic;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dozlab_session::phase::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::pod_view::Stage;

/// Bounds of the start's histograms, in seconds: from a prepared VM to an image that is downloaded first.
const START_BUCKETS: [f64; 12] = [0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0, 300.0];
/// Bounds of a reconcile's duration, in seconds.
const RECONCILE_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// All counters of the process.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    sessions: Family<PhaseLabel, Gauge>,
    stage_seconds: Family<StageLabel, Histogram, fn() -> Histogram>,
    start_seconds: Histogram,
    reconciles: Counter,
    reconcile_seconds: Histogram,
    reconcile_errors: Family<ReasonLabel, Counter>,
    writes: Family<WriteLabel, Counter>,
    pods_lost: Family<ReasonLabel, Counter>,
    evictions: Counter,
    ends: Family<CauseLabel, Counter>,
    orphans: Counter,
    leader: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabel {
    verb: &'static str,
    resource: &'static str,
}

impl Metrics {
    /// Counters at zero.
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(START_BUCKETS);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("dozlab_controller")),
            sessions: Family::default(),
            stage_seconds: Family::new_with_constructor(histogram),
            start_seconds: Histogram::new(START_BUCKETS),
            reconciles: Counter::default(),
            reconcile_seconds: Histogram::new(RECONCILE_BUCKETS),
            reconcile_errors: Family::default(),
            writes: Family::default(),
            pods_lost: Family::default(),
            evictions: Counter::default(),
            ends: Family::default(),
            orphans: Counter::default(),
            leader: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("sessions", "Sessions that there are, by phase", self.sessions.clone());
        registry.register_with_unit(
            "start_stage",
            "How long each stage of a session's start took, of those that became ready",
            Unit::Seconds,
            self.stage_seconds.clone(),
        );
        registry.register_with_unit(
            "start",
            "How long a session's start took, from its object to a prompt",
            Unit::Seconds,
            self.start_seconds.clone(),
        );
        registry.register("reconciles", "Sessions looked at", self.reconciles.clone());
        registry.register_with_unit(
            "reconcile",
            "How long it took to look at a session and do what was due",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Sessions for which that failed, by reason",
            self.reconcile_errors.clone(),
        );
        registry.register("api_writes", "Writes to the API server, refused ones too", self.writes.clone());
        registry.register(
            "pods_lost",
            "Pods of sessions that failed or vanished, by reason",
            self.pods_lost.clone(),
        );
        registry.register("evictions", "Pods of sessions that were evicted", self.evictions.clone());
        registry.register("session_ends", "Sessions that ended or failed, by cause", self.ends.clone());
        registry.register("orphans_removed", "Objects removed whose session is gone", self.orphans.clone());
        registry.register("leader", "1 if this process is the one that works", self.leader.clone());
    }

    /// How many sessions there are in each phase.
    pub(crate) fn sessions(&self, count: impl Fn(Phase) -> usize) {
        for phase in Phase::ALL {
            let gauge = self.sessions.get_or_create(&PhaseLabel { phase: phase.as_str() });
            gauge.set(i64::try_from(count(phase)).unwrap_or(i64::MAX));
        }
    }

    /// A session has become ready, so many milliseconds after it was asked for, with so many in each stage.
    pub(crate) fn started(&self, whole_ms: u64, stages: &[(Stage, u64)]) {
        let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
        self.start_seconds.observe(seconds(whole_ms));
        for (stage, ms) in stages {
            self.stage_seconds.get_or_create(&StageLabel { stage: stage.as_str() }).observe(seconds(*ms));
        }
    }

    /// A session was looked at.
    pub(crate) fn reconciled(&self, seconds: f64) {
        self.reconciles.inc();
        self.reconcile_seconds.observe(seconds);
    }

    /// Looking at a session failed.
    pub(crate) fn reconcile_failed(&self, reason: &str) {
        self.reconcile_errors.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// Something is about to be written.
    pub(crate) fn write(&self, verb: &'static str, resource: &'static str) {
        self.writes.get_or_create(&WriteLabel { verb, resource }).inc();
    }

    /// A session's pod was lost.
    pub(crate) fn pod_lost(&self, reason: &str) {
        self.pods_lost.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
        if matches!(reason, "Evicted" | "DiskLimitExceeded") {
            self.evictions.inc();
        }
    }

    /// A session has ended.
    pub(crate) fn ended(&self, cause: &str) {
        self.ends.get_or_create(&CauseLabel { cause: cause.to_owned() }).inc();
    }

    /// An object without a session was removed.
    pub(crate) fn orphan_removed(&self) {
        self.orphans.inc();
    }

    /// Whether this process is the one that works.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The text that Prometheus reads: `OpenMetrics` 1.0.0.
    pub(crate) fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String does not fail");
        text
    }

    /// The same in the text format 0.0.4, which every reader knows.
    pub(crate) fn classic_text(&self) -> String {
        classic::from_open_metrics(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.sessions(|phase| if phase == Phase::Running { 3 } else { 0 });
        metrics.started(4200, &[(Stage::BootingVm, 2500)]);
        metrics.pod_lost("Evicted");
        metrics.ended("Expired");
        metrics.write("create", "pods");
        let text = metrics.text();
        for line in [
            "dozlab_controller_sessions{phase=\"Running\"} 3",
            "dozlab_controller_start_seconds_sum 4.2",
            "dozlab_controller_start_stage_seconds_bucket{le=\"3.0\",stage=\"booting-vm\"} 1",
            "dozlab_controller_evictions_total 1",
            "dozlab_controller_pods_lost_total{reason=\"Evicted\"} 1",
            "dozlab_controller_session_ends_total{cause=\"Expired\"} 1",
            "dozlab_controller_api_writes_total{verb=\"create\",resource=\"pods\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_alerts_and_dashboard_ask_for_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.sessions(|_| 1);
        metrics.started(4200, &[(Stage::BootingVm, 2500)]);
        metrics.reconciled(0.1);
        metrics.reconcile_failed("conflict");
        metrics.write("create", "pods");
        metrics.pod_lost("Evicted");
        metrics.ended("Expired");
        let text = metrics.text();
        let known: HashSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ").unwrap_or(line).split(['{', ' ']).next())
            .collect();
        for file in [
            include_str!("../../../deploy/monitoring/alerts.yaml"),
            include_str!("../../../deploy/monitoring/dashboard.json"),
        ] {
            let words = file.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let asked: Vec<&str> = words.filter(|word| word.starts_with("dozlab_controller_")).collect();
            let unknown: Vec<&&str> = asked.iter().filter(|name| !known.contains(**name)).collect();
            assert!(!asked.is_empty() && unknown.is_empty(), "{unknown:?} is not in\n{text}");
        }
    }
}
