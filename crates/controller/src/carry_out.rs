//! The steps of a decision, one request each.

use std::sync::Arc;

use dozlab_pod::{Entrance, HTTPRoute, LabSession};
use dozlab_session::phase::Phase;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt as _;
use tracing::{info, warn};

use crate::decide::{self, Decision, Observed, Part, Step};
use crate::parts::{Lab, PartView};
use crate::pod_view::{PodView, millis};
use crate::reconcile::{Context, ReconcileError, now_ms};
use crate::world::Key;
use crate::writes;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All steps were taken.
    Done,
    /// Something else is there than the decision was made on: decide again.
    Changed,
}

impl Context {
    /// Takes the steps of a decision.
    pub(crate) async fn carry_out(
        &self,
        session: &Arc<LabSession>,
        lab: Option<&Lab>,
        observed: &Observed<'_>,
        decision: &Decision,
    ) -> Result<Outcome, ReconcileError> {
        let mut session = Arc::clone(session);
        let mut status = decision.status.clone();
        for step in &decision.steps {
            match step {
                Step::AddFinalizer => {
                    let answer = Arc::new(self.writes.add_finalizer(&session).await?);
                    self.memory.wrote(&session, Arc::clone(&answer));
                    session = answer;
                }
                Step::Make(part) => {
                    if let Some(lab) = lab {
                        self.make(&session, lab, *part).await?;
                    }
                }
                Step::MakePod => {
                    let Some(lab) = lab else { continue };
                    let expires_at_ms = status.expires_at.as_ref().map(millis);
                    let Some(pod) = self.make_pod(&session, lab, expires_at_ms).await? else {
                        return Ok(Outcome::Changed);
                    };
                    status.pod_uid = Some(pod.uid);
                }
                Step::DeletePod { uid } => self.delete_pod(&session, uid).await?,
                Step::Delete(part) => self.delete(&session, *part).await?,
                Step::WriteStatus => {
                    let answer = Arc::new(self.writes.write_status(&session, &status).await?);
                    self.memory.wrote(&session, Arc::clone(&answer));
                    self.memory.wrote_status(&session, now_ms());
                    self.count(&session, observed, &status);
                    session = answer;
                    for note in &decision.events {
                        self.record(&session, note).await;
                    }
                }
                Step::RemoveFinalizer => {
                    self.writes.remove_finalizer(&session).await?;
                    if !matches!(observed.session.status.phase, Phase::Terminating | Phase::Terminated) {
                        self.metrics.ended("Deleted");
                    }
                }
                Step::LookForPod => return Ok(Outcome::Changed),
            }
        }
        Ok(Outcome::Done)
    }

    async fn make(&self, session: &LabSession, lab: &Lab, part: Part) -> Result<(), ReconcileError> {
        let namespace = session.namespace().unwrap_or_default();
        let key = |name: String| Key::new(&namespace, &name);
        match part {
            Part::Secrets => {
                for secret in lab.secrets(session)? {
                    self.writes.create(session, &secret).await?;
                }
            }
            Part::NetworkPolicy => {
                let policy = lab.manifests(session, None).network_policy;
                let apply = self.writes.apply(session, &policy);
                self.policies.put_in_force(key(policy.name_any()), apply).await?;
            }
            Part::Claims => {
                for claim in lab.manifests(session, None).claims {
                    self.writes.create(session, &claim).await?;
                    self.claims.made(key(claim.name_any()), PartView::of(&claim));
                }
            }
            Part::Service => {
                if let Some(service) = lab.manifests(session, None).service {
                    let service = self.writes.apply(session, &service).await?;
                    self.services.made(key(service.name_any()), PartView::of_service(&service));
                }
            }
            Part::Route => {
                let manifests = lab.manifests(session, None);
                if let Some(ingress) = manifests.ingress {
                    self.make_route(session, &ingress).await?;
                }
                if let Some(route) = manifests.http_route {
                    self.make_route(session, &route).await?;
                }
            }
        }
        Ok(())
    }

    async fn make_route<K: writes::Part>(
        &self,
        session: &LabSession,
        route: &K,
    ) -> Result<(), ReconcileError> {
        let made = self.writes.apply(session, route).await?;
        self.routes.made(Key::of(&made), PartView::of(&made));
        Ok(())
    }

    /// Makes the pod. `None` where there is one of its name, which the cache knows then.
    async fn make_pod(
        &self,
        session: &LabSession,
        lab: &Lab,
        expires_at_ms: Option<u64>,
    ) -> Result<Option<PodView>, ReconcileError> {
        let pod = lab.manifests(session, expires_at_ms).pod;
        let key = Key::new(&session.namespace().unwrap_or_default(), &pod.name_any());
        if let Some(made) = self.writes.create(session, &pod).await? {
            let view = PodView::of(&made);
            self.pods.made(key, view.clone());
            info!(session = session.name_any(), namespace = session.namespace(), "pod made");
            return Ok(Some(view));
        }
        if let Some(there) = self.writes.look_for_pod(session, &pod.name_any()).await? {
            self.pods.replace(key, PodView::of(&there));
        }
        Ok(None)
    }

    async fn delete_pod(&self, session: &LabSession, uid: &str) -> Result<(), ReconcileError> {
        let namespace = session.namespace().unwrap_or_default();
        let name = format!("lab-session-{}", session.spec.session_id);
        let key = Key::new(&namespace, &name);
        let answer = self.writes.delete_exactly::<Pod>(&namespace, &name, uid).await?;
        // The watch may have told already that it is gone, which is newer than the answer.
        if self.pods.get(&key).is_some_and(|known| known.uid == uid) {
            match answer {
                Some(pod) => self.pods.replace(key, PodView::of(&pod)),
                None => self.pods.gone(&key),
            }
        }
        Ok(())
    }

    async fn delete(&self, session: &LabSession, part: Part) -> Result<(), ReconcileError> {
        let namespace = session.namespace().unwrap_or_default();
        let id = &session.spec.session_id;
        match part {
            Part::Secrets => self.writes.delete::<Secret>(session, &format!("lab-session-{id}-ssh")).await?,
            Part::Service => {
                let name = format!("lab-service-{id}");
                self.writes.delete::<Service>(session, &name).await?;
                self.services.gone(&Key::new(&namespace, &name));
            }
            Part::Route => {
                let Some(entrance) = self.installation.entrance() else { return Ok(()) };
                let name = entrance.object_name(id);
                match entrance {
                    Entrance::Ingress { .. } => self.writes.delete::<Ingress>(session, &name).await?,
                    Entrance::Gateway(_) => self.writes.delete::<HTTPRoute>(session, &name).await?,
                }
                self.routes.gone(&Key::new(&namespace, &name));
            }
            // Volumes that were asked to be kept are kept, and other sessions use the policy.
            Part::Claims | Part::NetworkPolicy => {}
        }
        Ok(())
    }

    async fn record(&self, session: &LabSession, note: &decide::Note) {
        // The status says the same; a lost event harms nobody.
        if let Err(error) = self.writes.record(session, note).await {
            warn!(session = session.name_any(), reason = note.reason, %error, "an event was not recorded");
        }
    }

    /// Counts what a status that was just written says.
    fn count(&self, session: &LabSession, observed: &Observed<'_>, status: &dozlab_pod::LabSessionStatus) {
        let before = observed.session.status;
        let reason = status.reason.as_deref().unwrap_or_default();
        if status.restarts > before.restarts {
            self.metrics.pod_lost(reason);
        }
        if status.phase == before.phase {
            return;
        }
        match status.phase {
            Phase::Running if status.restarts.is_none() => {
                if let decide::Pod::Ours(pod) = observed.pod {
                    let ready_ms = pod.ready_ms.unwrap_or(observed.now_ms);
                    let created_ms = observed.session.created_ms;
                    self.metrics.started(ready_ms.saturating_sub(created_ms), &pod.stages);
                    self.traces.started(session, created_ms, ready_ms, pod);
                }
            }
            Phase::Failed | Phase::Terminating => self.metrics.ended(reason),
            _ => {}
        }
    }
}
