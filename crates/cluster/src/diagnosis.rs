//! What is wrong with a lab, and what to do about it: a pure function from what is known of it.
//!
//! Whether a pod has failed, and the word for it, is found as the controller finds it
//! ([`dozlab_controller::pod_view`]). Here that word is taken together with events and logs, which the controller does
//! not read, and becomes a cause that a person can act on.

mod cause;
#[cfg(test)]
mod tests;

use dozlab_controller::pod_view::{PodState, PodView, Stage};
use dozlab_pod::lab_session::ConditionType;
use dozlab_pod::pod::VM;
use dozlab_session::phase::Phase;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::evidence::Evidence;
use crate::sessions::{millis, phase, reason, state};
use cause::{Trouble, explain};

/// How long a controller may take to notice a new lab, in milliseconds.
const NOTICE_MS: u64 = 10_000;

/// How many events and lines of a log are shown beside a diagnosis.
const SHOWN: usize = 5;

/// What is wrong with a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// The lab.
    pub name: String,
    /// How it is: starting, running, failed, stopping, stopped.
    pub state: &'static str,
    /// How bad that is.
    pub verdict: Verdict,
    /// The cause, in one word: that of the status or of the pod where they have one.
    pub cause: String,
    /// The cause, for a person.
    pub message: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What it was concluded from: events, lines of the log.
    pub evidence: Vec<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Nothing is wrong.
    Good,
    /// It is on its way, or will come right by itself.
    Waiting,
    /// Somebody must do something.
    Bad,
}

/// Names the cause of what is wrong with a lab, and what to do.
#[must_use]
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let case = Case::of(evidence);
    let shown =
        |happening: &crate::evidence::Happening| format!("{}: {}", happening.reason, happening.message);
    let warnings = evidence.events.iter().filter(|event| event.warning).map(shown);
    let mut heard: Vec<String> = warnings.collect();
    heard.dedup();
    heard.drain(..heard.len().saturating_sub(SHOWN));
    if let Some(log) = case.container.as_deref().and_then(|container| log_of(evidence, container)) {
        let last = &log.lines[log.lines.len().saturating_sub(SHOWN)..];
        heard.extend(last.iter().map(|line| format!("{}: {}", log.container, printable(line))));
    }
    heard.extend(evidence.unread.iter().cloned());
    Diagnosis {
        name: evidence.session.name_any(),
        state: state(&evidence.session),
        verdict: case.verdict,
        cause: case.cause,
        message: case.message,
        remedy: case.remedy,
        evidence: if case.verdict == Verdict::Good { evidence.unread.clone() } else { heard },
    }
}

fn log_of<'a>(evidence: &'a Evidence, container: &str) -> Option<&'a crate::evidence::Log> {
    evidence.logs.iter().find(|log| log.container == container)
}

/// Logs are a stranger's, and a terminal obeys control characters.
fn printable(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).collect()
}

/// A diagnosis without what it was concluded from.
struct Case {
    verdict: Verdict,
    cause: String,
    message: String,
    remedy: Option<String>,
    container: Option<String>,
}

impl Case {
    fn of(evidence: &Evidence) -> Self {
        let session = &evidence.session;
        let Some(status) = &session.status else { return Self::unnoticed(evidence) };
        let view = evidence.pod.as_ref().map(PodView::of);
        match phase(session) {
            Phase::Terminating | Phase::Terminated => Self::over(evidence),
            Phase::Running
                if status.condition(ConditionType::Ready).is_some_and(|ready| ready.status == "True") =>
            {
                Self::good("Ready", "a prompt can be had")
            }
            Phase::Failed => {
                let trouble = view.as_ref().and_then(Trouble::of_pod);
                Self::bad(evidence, trouble.unwrap_or_else(|| Trouble::of_status(status)))
            }
            Phase::Pending | Phase::Creating | Phase::Running => match view {
                Some(view) => Self::with_pod(evidence, &view),
                // A pod was given up, and another one comes; or none could be made at all.
                None => Self::bad(evidence, Trouble::of_status(status)).again(evidence),
            },
        }
    }

    fn good(cause: &str, message: &str) -> Self {
        Self {
            verdict: Verdict::Good,
            cause: cause.to_owned(),
            message: message.to_owned(),
            remedy: None,
            container: None,
        }
    }

    fn unnoticed(evidence: &Evidence) -> Self {
        let made = evidence.session.creation_timestamp().map_or(0, |time| millis(time.0));
        if evidence.now_ms < made.saturating_add(NOTICE_MS) {
            let cause = Self::good("New", "it was just made");
            return Self { verdict: Verdict::Waiting, ..cause };
        }
        Self {
            verdict: Verdict::Bad,
            remedy: Some(
                "see whether it runs, and what it says: `kubectl -n dozlab-system get pods`, `kubectl -n dozlab-system \
                 logs deployment/dozlab-controller`; it may look after other namespaces only (`--namespace`)"
                    .to_owned(),
            ),
            ..Self::good("NoController", "no controller has taken notice of it")
        }
    }

    fn over(evidence: &Evidence) -> Self {
        let name = evidence.session.name_any();
        let again = format!("`dozlab --cluster rm {name}` removes it, and its name can be had again");
        let ended = phase(&evidence.session) == Phase::Terminated;
        Self {
            verdict: if ended { Verdict::Good } else { Verdict::Waiting },
            remedy: ended.then_some(again),
            ..Self::good("Ended", &format!("it ends or has ended: {}", reason(&evidence.session)))
        }
    }

    fn with_pod(evidence: &Evidence, view: &PodView) -> Self {
        if let Some(trouble) = Trouble::of_pod(view).or_else(|| Trouble::of_events(evidence, view)) {
            return Self::bad(evidence, trouble);
        }
        match &view.state {
            PodState::Starting { stage, since_ms, .. } => {
                let seconds = evidence.now_ms.saturating_sub(*since_ms) / 1000;
                let message = format!("{}, for {seconds} s now", stage.message());
                let container = match stage {
                    Stage::InitRootfs | Stage::NetworkSetup => Some(stage.as_str().to_owned()),
                    Stage::BootingVm => Some(VM.to_owned()),
                    _ => None,
                };
                let waiting = Self::good(stage.reason(), &message);
                Self { verdict: Verdict::Waiting, container, ..waiting }
            }
            _ => Self {
                verdict: Verdict::Waiting,
                ..Self::good("PodReady", "the pod is ready; the controller is about to say so")
            },
        }
    }

    fn bad(evidence: &Evidence, trouble: Trouble) -> Self {
        let log = trouble.container.as_deref().and_then(|container| log_of(evidence, container));
        let lines = log.map(|log| log.lines.as_slice()).unwrap_or_default();
        let explained = explain(&trouble, lines);
        Self {
            verdict: if explained.passes { Verdict::Waiting } else { Verdict::Bad },
            cause: explained.cause.unwrap_or(trouble.reason),
            message: trouble.message,
            remedy: Some(explained.remedy),
            container: trouble.container,
        }
    }

    /// Says when another pod is made.
    fn again(self, evidence: &Evidence) -> Self {
        let status = evidence.session.status.as_ref();
        let Some(retry) = status.and_then(|status| status.retry.as_ref()) else { return self };
        let seconds = millis(retry.after.0).saturating_sub(evidence.now_ms) / 1000;
        let message = format!("{}; pod {} is made in {seconds} s", self.message, retry.attempt + 1);
        Self { message, ..self }
    }
}
