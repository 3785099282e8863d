//! All that the controller writes to the API server, each write counted and, where there is a collector, traced.
//!
//! What exists once and never changes (pod, secrets) is created: a name that is taken is an answer, and
//! nothing of somebody else's is changed by mistake. What may drift (service, network policy, route, status)
//! is applied, and only where it is missing or different.

use std::fmt::Debug;
use std::sync::Arc;

use dozlab_pod::lab_session::FINALIZER;
use dozlab_pod::{LabSession, LabSessionStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::decide::Note;
use crate::metrics::Metrics;
use crate::traces::{Request, Traces};
use crate::world::is_of_no_kind;

/// Who applies, in `managedFields`.
const MANAGER: &str = "dozlab-controller";
/// Who applies the finalizer. An apply takes away what its manager does not mention, so the finalizer has a
/// manager to itself.
const FINALIZER_MANAGER: &str = "dozlab-controller-finalizer";

/// Writes, counted.
#[derive(Clone)]
pub(crate) struct Writes {
    client: Client,
    metrics: Arc<Metrics>,
    traces: Traces,
    reporter: String,
}

impl Writes {
    /// `reporter` is this process, in events.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>, traces: Traces, reporter: String) -> Self {
        Self { client, metrics, traces, reporter }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Puts the finalizer on a session.
    pub(crate) async fn add_finalizer(&self, session: &LabSession) -> Result<LabSession, WriteError> {
        let attempt = self.attempt("patch", "labsessions");
        let mut patch = self.identity(session);
        patch["metadata"]["finalizers"] = json!([FINALIZER]);
        let parameters = PatchParams::apply(FINALIZER_MANAGER).force();
        let api = self.api::<LabSession>(session);
        attempt.answered(api.patch(&session.name_any(), &parameters, &Patch::Apply(patch)).await)
    }

    /// Takes the finalizer off a session, whoever put it there.
    pub(crate) async fn remove_finalizer(&self, session: &LabSession) -> Result<(), WriteError> {
        let position = session.finalizers().iter().position(|finalizer| finalizer == FINALIZER);
        let Some(position) = position else { return Ok(()) };
        let attempt = self.attempt("patch", "labsessions");
        let path = format!("/metadata/finalizers/{position}");
        let patch = json!([
            { "op": "test", "path": path, "value": FINALIZER },
            { "op": "remove", "path": path },
        ]);
        let patch = serde_json::from_value(patch).expect("the patch above has the form of a JSON patch");
        let api = self.api::<LabSession>(session);
        let answer = api.patch(&session.name_any(), &PatchParams::default(), &Patch::<()>::Json(patch)).await;
        attempt.answered(not_there_is_fine(answer)).map(drop)
    }

    /// Writes a session's status, if nobody has changed the session meanwhile.
    pub(crate) async fn write_status(
        &self,
        session: &LabSession,
        status: &LabSessionStatus,
    ) -> Result<LabSession, WriteError> {
        let attempt = self.attempt("patch", "labsessions/status");
        let mut patch = self.identity(session);
        patch["metadata"]["resourceVersion"] = json!(session.resource_version());
        patch["status"] = serde_json::to_value(status).expect("a status has only texts as keys");
        let parameters = PatchParams::apply(MANAGER).force();
        let api = self.api::<LabSession>(session);
        attempt.answered(api.patch_status(&session.name_any(), &parameters, &Patch::Apply(patch)).await)
    }

    /// Creates an object; nothing, if there is one of its name.
    pub(crate) async fn create<K>(&self, session: &LabSession, object: &K) -> Result<Option<K>, WriteError>
    where
        K: Part,
    {
        let attempt = self.attempt("create", K::RESOURCE);
        match self.api::<K>(session).create(&PostParams::default(), object).await {
            Ok(created) => Ok(Some(created)),
            Err(Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(source) => Err(attempt.failed(source)),
        }
    }

    /// Makes an object be as it is given.
    pub(crate) async fn apply<K>(&self, session: &LabSession, object: &K) -> Result<K, WriteError>
    where
        K: Part,
    {
        let attempt = self.attempt("patch", K::RESOURCE);
        let parameters = PatchParams::apply(MANAGER).force();
        let api = self.api::<K>(session);
        attempt.answered(api.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await)
    }

    /// Deletes an object by name. One that is not there is fine.
    pub(crate) async fn delete<K: Part>(&self, session: &LabSession, name: &str) -> Result<(), WriteError> {
        let attempt = self.attempt("delete", K::RESOURCE);
        let answer = self.api::<K>(session).delete(name, &DeleteParams::default()).await;
        attempt.answered(not_there_is_fine(answer)).map(drop)
    }

    /// Deletes this very object, and no other of its name. Nothing, if it is not there any more.
    pub(crate) async fn delete_exactly<K: Part>(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<K>, WriteError> {
        let attempt = self.attempt("delete", K::RESOURCE);
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api: Api<K> = Api::namespaced(self.client(), namespace);
        match api.delete(name, &parameters).await {
            Ok(answer) => Ok(answer.left()),
            Err(Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(None),
            Err(source) => Err(attempt.failed(source)),
        }
    }

    /// The pod of this name, from the API server itself.
    pub(crate) async fn look_for_pod(
        &self,
        session: &LabSession,
        name: &str,
    ) -> Result<Option<Pod>, WriteError> {
        let attempt = Attempt { verb: "get", resource: "pods", trace: self.traces.request("get", "pods") };
        attempt.answered(self.api::<Pod>(session).get_opt(name).await)
    }

    /// Records an event of a session.
    pub(crate) async fn record(&self, session: &LabSession, note: &Note) -> Result<(), WriteError> {
        let attempt = self.attempt("create", "events");
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", session.name_any(), now.as_nanosecond())),
                namespace: session.namespace(),
                ..ObjectMeta::default()
            },
            action: Some(note.reason.clone()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(&note.message)),
            reason: Some(note.reason.clone()),
            regarding: Some(session.object_ref(&())),
            reporting_controller: Some(format!("{}/{MANAGER}", dozlab_pod::lab_session::GROUP)),
            reporting_instance: Some(self.reporter.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        attempt.answered(self.api::<Event>(session).create(&PostParams::default(), &event).await).map(drop)
    }

    fn api<K>(&self, session: &LabSession) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), session.namespace().as_deref().unwrap_or("default"))
    }

    /// What names this very object, and no later one of its name: an apply would make one that is gone.
    fn identity(&self, session: &LabSession) -> serde_json::Value {
        json!({
            "apiVersion": LabSession::api_version(&()),
            "kind": LabSession::kind(&()),
            "metadata": { "name": session.name_any(), "uid": session.uid() },
        })
    }

    /// Counts a write that is about to be made.
    fn attempt(&self, verb: &'static str, resource: &'static str) -> Attempt {
        #[cfg(debug_assertions)]
        crate::failpoint::before_write();
        self.metrics.write(verb, resource);
        Attempt { verb, resource, trace: self.traces.request(verb, resource) }
    }
}

/// A request that is being made, in the words of a role.
struct Attempt {
    verb: &'static str,
    resource: &'static str,
    trace: Request,
}

impl Attempt {
    fn answered<T>(self, answer: Result<T, Error>) -> Result<T, WriteError> {
        answer.map_err(|source| self.failed(source))
    }

    fn failed(mut self, source: Error) -> WriteError {
        let error = self.meaning(Box::new(source));
        self.trace.failed(&error);
        error
    }

    fn meaning(&self, source: Box<Error>) -> WriteError {
        match source.as_ref() {
            // A quota or an admission plugin forbids too, and says so in other words.
            Error::Api(status) if status.is_forbidden() && status.message.contains("cannot ") => {
                WriteError::NotAllowed { verb: self.verb, resource: self.resource, source }
            }
            Error::Api(status) if status.is_forbidden() || status.is_invalid() => {
                WriteError::Refused { verb: self.verb, resource: self.resource, source }
            }
            Error::Api(status) if is_of_no_kind(status) => WriteError::NoSuchKind { resource: self.resource },
            Error::Api(status) if status.is_conflict() => WriteError::Conflict { resource: self.resource },
            _ => WriteError::Failed { verb: self.verb, resource: self.resource, source },
        }
    }
}

/// The API server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the controller's role lacks the verb {verb} on {resource}: {source}")]
    NotAllowed { verb: &'static str, resource: &'static str, source: Box<Error> },
    #[error("the API server refuses to {verb} {resource}: {source}")]
    Refused { verb: &'static str, resource: &'static str, source: Box<Error> },
    #[error("somebody else has changed the {resource} meanwhile")]
    Conflict { resource: &'static str },
    #[error("the API server knows no {resource}: their definition is not installed, or not in this version")]
    NoSuchKind { resource: &'static str },
    #[error("{verb} {resource} failed: {source}")]
    Failed { verb: &'static str, resource: &'static str, source: Box<Error> },
}

impl WriteError {
    /// One word for it, for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "forbidden",
            Self::Refused { .. } => "refused",
            Self::Conflict { .. } => "conflict",
            Self::NoSuchKind { .. } => "no-such-kind",
            Self::Failed { .. } => "unreachable",
        }
    }

    /// What a session's owner should know of it: what will not go away by trying again at once.
    pub(crate) fn for_the_owner(&self) -> Option<(&'static str, String)> {
        match self {
            Self::NotAllowed { .. } => Some(("ControllerNotAllowed", self.to_string())),
            Self::Refused { .. } => Some(("Refused", self.to_string())),
            Self::NoSuchKind { .. } => Some(("KindNotInstalled", self.to_string())),
            Self::Conflict { .. } | Self::Failed { .. } => None,
        }
    }
}

/// Kinds of objects that a session is made of.
pub(crate) trait Part:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
    /// The resource's name in the API, as roles have it.
    const RESOURCE: &'static str;
}

impl Part for Pod {
    const RESOURCE: &'static str = "pods";
}

impl Part for k8s_openapi::api::core::v1::Secret {
    const RESOURCE: &'static str = "secrets";
}

impl Part for k8s_openapi::api::core::v1::Service {
    const RESOURCE: &'static str = "services";
}

impl Part for k8s_openapi::api::core::v1::PersistentVolumeClaim {
    const RESOURCE: &'static str = "persistentvolumeclaims";
}

impl Part for k8s_openapi::api::networking::v1::Ingress {
    const RESOURCE: &'static str = "ingresses";
}

impl Part for dozlab_pod::HTTPRoute {
    const RESOURCE: &'static str = "httproutes";
}

impl Part for k8s_openapi::api::networking::v1::NetworkPolicy {
    const RESOURCE: &'static str = "networkpolicies";
}

fn not_there_is_fine<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The API server takes notes of at most 1024 bytes.
fn shortened(note: &str) -> String {
    const LONGEST: usize = 1024;
    if note.len() <= LONGEST {
        return note.to_owned();
    }
    let end = note.floor_char_boundary(LONGEST - '…'.len_utf8());
    format!("{}…", &note[..end])
}
