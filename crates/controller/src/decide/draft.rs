//! A decision that is being made: the status that it comes to, and the steps to it.

use dozlab_pod::LabSessionStatus;
use dozlab_pod::lab_session::ConditionType;
use dozlab_session::phase::Phase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Decision, Note, Observed, Rules, Step};
use crate::pod_view::millis;

/// A decision that is being made.
pub(super) struct Draft<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) rules: &'a Rules,
    pub(super) status: LabSessionStatus,
    steps: Vec<Step>,
    events: Vec<Note>,
    again_ms: Option<u64>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(observed: &'a Observed<'a>, rules: &'a Rules) -> Self {
        let mut status = observed.session.status.clone();
        status.created_at.get_or_insert_with(|| time(observed.session.created_ms));
        status.observed_generation = Some(observed.session.generation);
        Self { observed, rules, status, steps: Vec::new(), events: Vec::new(), again_ms: None }
    }

    pub(super) fn now(&self) -> Time {
        time(self.observed.now_ms)
    }

    pub(super) fn step(&mut self, step: Step) {
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    pub(super) fn has_step(&self, step: &Step) -> bool {
        self.steps.contains(step)
    }

    /// The status is written here, among the steps, if it differs from what stands there.
    pub(super) fn write_status(&mut self) {
        if self.status != *self.observed.session.status {
            self.step(Step::WriteStatus);
        }
    }

    /// The object is gone after these steps: a status that is not written by now has nowhere to stand.
    pub(super) fn write_no_more(&mut self) {
        if !self.steps.contains(&Step::WriteStatus) {
            self.status = self.observed.session.status.clone();
        }
    }

    pub(super) fn note(&mut self, warning: bool, reason: &str, message: &str) {
        self.events.push(Note { warning, reason: reason.to_owned(), message: message.to_owned() });
    }

    /// Looks again after so many milliseconds at the latest.
    pub(super) fn again_in(&mut self, wait_ms: u64) {
        self.again_ms = Some(self.again_ms.map_or(wait_ms, |earlier| earlier.min(wait_ms)));
    }

    /// Looks again at this time at the latest.
    pub(super) fn again_at(&mut self, at_ms: u64) {
        self.again_in(at_ms.saturating_sub(self.observed.now_ms));
    }

    /// The session is in this phase, for this reason. A new phase gets its time.
    pub(super) fn phase(&mut self, phase: Phase, reason: &str, message: &str) {
        debug_assert!(self.status.phase == phase || self.status.phase.can_become(phase));
        if self.status.phase != phase {
            self.status.phase = phase;
            self.status.last_transition_time = Some(self.now());
        }
        self.status.reason = Some(reason.to_owned());
        self.status.message = Some(message.to_owned());
    }

    /// A condition has this value, for this reason. A new value gets its time.
    pub(super) fn condition(&mut self, kind: ConditionType, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let known = self.status.condition(kind);
        let since =
            known.filter(|known| known.status == status).map(|known| known.last_transition_time.clone());
        let condition = Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since.unwrap_or_else(|| self.now()),
            observed_generation: Some(self.observed.session.generation),
        };
        match self.status.conditions.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) => *known = condition,
            None => self.status.conditions.push(condition),
        }
    }

    /// All conditions are false for one reason.
    pub(super) fn nothing_is_ready(&mut self, reason: &str, message: &str) {
        for kind in ConditionType::ALL {
            self.condition(kind, false, reason, message);
        }
        self.status.stage = None;
        self.status.endpoints = None;
        self.status.pod_ip = None;
        if let Some(usage) = &mut self.status.usage {
            usage.running = false;
        }
    }

    /// When the session began, or was asked for if it never did, in milliseconds since the epoch.
    pub(super) fn started_ms(&self) -> u64 {
        self.status.start_time.as_ref().map_or(self.observed.session.created_ms, millis)
    }

    pub(super) fn finish(mut self) -> Decision {
        self.write_status();
        if self.is_only_a_stage() {
            let waited = self.observed.status_written_ms.map(|at| self.observed.now_ms.saturating_sub(at));
            if let Some(waited) = waited.filter(|waited| *waited < self.rules.stage_interval_ms) {
                self.steps.retain(|step| *step != Step::WriteStatus);
                self.again_in(self.rules.stage_interval_ms - waited);
            }
        }
        Decision { steps: self.steps, status: self.status, events: self.events, again_ms: self.again_ms }
    }

    /// Whether the new status differs from the old one in nothing but how far the start is.
    fn is_only_a_stage(&self) -> bool {
        let without_stage = |status: &LabSessionStatus| {
            let mut status = status.clone();
            (status.stage, status.reason, status.message) = (None, None, None);
            (status.pod_ip, status.pod_uid) = (None, None);
            for condition in &mut status.conditions {
                condition.reason.clear();
                condition.message.clear();
            }
            status
        };
        self.events.is_empty() && without_stage(&self.status) == without_stage(self.observed.session.status)
    }
}

/// A time of the API, in whole seconds as the API has it.
pub(super) fn time(ms: u64) -> Time {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}
