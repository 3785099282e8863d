//! Labs as objects: asked for, found, watched, extended, ended and removed.

use std::pin::pin;
use std::time::Duration;

use dozlab_pod::{LabSession, LabSessionSpec};
use dozlab_session::defaults;
use dozlab_session::duration::{SessionDuration, TimeLimit};
use dozlab_session::phase::Phase;
use futures_util::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::connect::Cluster;
use crate::error::ClusterError;

/// How long an end may take: the machine's time to power off, the pod's, and some for a busy controller.
const END_PATIENCE: Duration = Duration::from_secs(180);

/// How often a change is tried that somebody else's change came before.
const ATTEMPTS: u32 = 5;

/// How a lab is, in the words of labs on one machine.
#[must_use]
pub fn state(session: &LabSession) -> &'static str {
    match phase(session) {
        Phase::Pending | Phase::Creating => "starting",
        Phase::Running => "running",
        Phase::Failed => "failed",
        Phase::Terminating => "stopping",
        Phase::Terminated => "stopped",
    }
}

/// The phase that a lab is in.
#[must_use]
pub fn phase(session: &LabSession) -> Phase {
    session.status.as_ref().map_or(Phase::Pending, |status| status.phase)
}

impl Cluster {
    /// Asks for a lab.
    ///
    /// # Errors
    /// [`ClusterError::Exists`], [`ClusterError::Refused`] with what the API server finds wrong, and those of any
    /// request: [`ClusterError::NotInstalled`], [`ClusterError::Forbidden`], [`ClusterError::Unreachable`] and so on.
    pub async fn create(&self, name: &str, spec: LabSessionSpec) -> Result<LabSession, ClusterError> {
        let session = LabSession::new(name, spec);
        match self.sessions().create(&PostParams::default(), &session).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = self.get(name).await?;
                let (name, namespace) = (name.to_owned(), self.namespace().to_owned());
                Err(ClusterError::Exists { name, namespace, state: state(&there) })
            }
            other => other.map_err(self.failed(&format!("make the LabSession {name}"))),
        }
    }

    /// All labs of the namespace, by name.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn list(&self) -> Result<Vec<LabSession>, ClusterError> {
        let sessions = self.sessions().list(&ListParams::default()).await;
        let mut sessions = sessions.map_err(self.failed("list LabSessions"))?.items;
        sessions.sort_by_key(|session| session.name_any());
        Ok(sessions)
    }

    /// The lab of this name.
    ///
    /// # Errors
    /// [`ClusterError::NotFound`], and those of any request.
    pub async fn get(&self, name: &str) -> Result<LabSession, ClusterError> {
        match self.sessions().get(name).await {
            Err(kube::Error::Api(status)) if status.reason == "NotFound" => Err(self.not_found(name).await?),
            other => other.map_err(self.failed(&format!("read the LabSession {name}"))),
        }
    }

    /// The lab of this name or session id; without a name the only one there is.
    ///
    /// # Errors
    /// [`ClusterError::NotFound`], [`ClusterError::Ambiguous`], and those of any request.
    pub async fn find(&self, name: Option<&str>) -> Result<LabSession, ClusterError> {
        let mut sessions = self.list().await?;
        let names = || sessions.iter().map(|session| session.name_any()).collect::<Vec<_>>();
        let index = match name {
            Some(name) => {
                let by_name = sessions.iter().position(|session| session.name_any() == name);
                by_name.or_else(|| sessions.iter().position(|session| session.spec.session_id == name))
            }
            None if sessions.len() > 1 => return Err(ClusterError::Ambiguous(names())),
            None => sessions.len().checked_sub(1),
        };
        let not_found = || ClusterError::NotFound {
            name: name.unwrap_or_default().to_owned(),
            namespace: self.namespace().to_owned(),
            names: names(),
        };
        let index = index.ok_or_else(not_found)?;
        Ok(sessions.swap_remove(index))
    }

    async fn not_found(&self, name: &str) -> Result<ClusterError, ClusterError> {
        let names = self.list().await?.iter().map(|session| session.name_any()).collect();
        Ok(ClusterError::NotFound { name: name.to_owned(), namespace: self.namespace().to_owned(), names })
    }

    /// Shows each state of a lab to `look` until that finds what it looks for. A lab that is not there, or no more, is
    /// `None`. A connection that breaks is made again.
    ///
    /// # Errors
    /// Those of any request, where trying again would change nothing.
    pub async fn follow<T>(
        &self,
        name: &str,
        mut look: impl FnMut(Option<&LabSession>) -> Option<T>,
    ) -> Result<T, ClusterError> {
        let doing = format!("watch the LabSession {name}");
        let mut states = pin!(watch_object(self.sessions(), name).default_backoff());
        loop {
            match states.next().await {
                Some(Ok(session)) => {
                    if let Some(found) = look(session.as_ref()) {
                        return Ok(found);
                    }
                }
                Some(Err(
                    watcher::Error::InitialListFailed(error @ kube::Error::Api(_))
                    | watcher::Error::WatchStartFailed(error @ kube::Error::Api(_)),
                )) if is_final(&error) => return Err(self.failed(&doing)(error)),
                Some(Err(error)) => tracing::debug!(%error, "the watch is begun again"),
                None => {
                    let why = "the watch has ended".to_owned();
                    return Err(ClusterError::Other { doing, why });
                }
            }
        }
    }

    /// Moves a lab's end: its timeout is so much longer, or there is none any more. The lab as it is then.
    ///
    /// # Errors
    /// [`ClusterError::Ended`], [`ClusterError::Endless`], [`ClusterError::NotFound`], and those of any request.
    pub async fn extend(&self, name: &str, by: TimeLimit) -> Result<LabSession, ClusterError> {
        let doing = format!("extend the LabSession {name}");
        let mut attempt = 1;
        loop {
            let session = self.get(name).await?;
            if matches!(phase(&session), Phase::Terminating | Phase::Terminated) {
                return Err(ClusterError::Ended { name: name.to_owned(), why: reason(&session) });
            }
            let timeout = match by {
                TimeLimit::None => TimeLimit::None,
                TimeLimit::After(more) => {
                    let TimeLimit::After(now) = time_limit(&session) else {
                        return Err(ClusterError::Endless(name.to_owned()));
                    };
                    let millis = now.as_millis().saturating_add(more.as_millis());
                    TimeLimit::After(SessionDuration::from_millis(millis))
                }
            };
            let change = json!({
                // So that of two people who extend a lab at once each adds their time.
                "metadata": { "resourceVersion": session.metadata.resource_version },
                "spec": { "timeout": timeout },
            });
            match self.change(name, change).await {
                Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                other => return other.map_err(self.failed(&doing)),
            }
        }
    }

    /// Ends a lab in order and returns when it has ended: its time is over from now on. Its object stays, and disks
    /// that are kept.
    ///
    /// # Errors
    /// [`ClusterError::Stuck`], [`ClusterError::NotFound`], and those of any request.
    pub async fn stop(&self, name: &str) -> Result<(), ClusterError> {
        let session = self.get(name).await?;
        match phase(&session) {
            Phase::Failed | Phase::Terminated => return Ok(()),
            Phase::Terminating => {}
            Phase::Pending | Phase::Creating | Phase::Running => {
                // A timeout of nothing is none that a session can have, and one that ends idle must end sooner.
                let over = json!({ "spec": { "timeout": "1s", "idleStop": null } });
                self.change(name, over).await.map_err(self.failed(&format!("stop the LabSession {name}")))?;
            }
        }
        self.ended(name, |session| {
            session.is_none_or(|session| matches!(phase(session), Phase::Terminated | Phase::Failed))
        })
        .await
    }

    /// Removes a lab with everything but disks that are kept, and returns when it is gone.
    ///
    /// # Errors
    /// [`ClusterError::Stuck`], [`ClusterError::NotFound`], and those of any request.
    pub async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        match self.sessions().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.reason == "NotFound" => {
                return Err(self.not_found(name).await?);
            }
            other => drop(other.map_err(self.failed(&format!("delete the LabSession {name}")))?),
        }
        self.ended(name, |session| session.is_none()).await
    }

    async fn change(&self, name: &str, change: Value) -> Result<LabSession, kube::Error> {
        self.sessions().patch(name, &PatchParams::default(), &Patch::Merge(change)).await
    }

    async fn ended(
        &self,
        name: &str,
        is_over: impl Fn(Option<&LabSession>) -> bool,
    ) -> Result<(), ClusterError> {
        let mut last = "there";
        let over = self.follow(name, |session| {
            last = session.map_or(last, state);
            is_over(session).then_some(())
        });
        match timeout(END_PATIENCE, over).await {
            Ok(over) => over,
            Err(_) => {
                let seconds = END_PATIENCE.as_secs();
                Err(ClusterError::Stuck { name: name.to_owned(), state: last, seconds })
            }
        }
    }
}

/// Whether the same request would be answered the same.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404))
}

/// How long a lab lasts.
fn time_limit(session: &LabSession) -> TimeLimit {
    let asked = session.spec.timeout.as_deref().and_then(|text| text.parse().ok());
    asked.unwrap_or(TimeLimit::After(defaults::TIMEOUT))
}

/// When a lab ends by itself, in milliseconds since the epoch, as its timeout says now: the status says the same once
/// the controller has seen a change.
#[must_use]
pub fn ends_ms(session: &LabSession) -> Option<u64> {
    let TimeLimit::After(limit) = time_limit(session) else { return None };
    let status = session.status.as_ref();
    let started = status
        .and_then(|status| status.start_time.as_ref())
        .or(session.metadata.creation_timestamp.as_ref())?;
    Some(millis(started.0).saturating_add(limit.as_millis()))
}

/// Why a lab is as it is: a word and a sentence.
#[must_use]
pub fn reason(session: &LabSession) -> String {
    let Some(status) = &session.status else { return String::new() };
    let parts = [status.reason.as_deref(), status.message.as_deref()];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// A time in milliseconds since the epoch.
#[must_use]
pub fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(timeout: Option<&str>) -> LabSession {
        let spec = LabSessionSpec { timeout: timeout.map(str::to_owned), ..LabSessionSpec::default() };
        let mut session = LabSession::new("demo", spec);
        session.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(1000).unwrap()));
        session
    }

    #[test]
    fn a_lab_without_a_status_counts_from_its_making() {
        assert_eq!(state(&session(None)), "starting");
        assert_eq!(ends_ms(&session(Some("30s"))), Some(1_030_000));
        assert_eq!(ends_ms(&session(None)), Some(1_000_000 + 2 * 3_600_000), "the default");
        assert_eq!(ends_ms(&session(Some("none"))), None);
    }
}
