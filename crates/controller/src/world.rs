//! What the controller sees of the cluster: the sessions, and of their pods, services and other parts as
//! little as it needs.
//!
//! Each kind is listed and then watched. A watch that breaks is begun again with a back-off of its own, which
//! is short: a server that comes back has thousands of sessions waiting. After a list, every session is
//! looked at, because a list does not say what was deleted while nobody watched.

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dozlab_pod::LabSession;
use futures_util::{Stream, StreamExt, future};
use kube::api::Api;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::pod_view::Owner;

/// The longest wait before a broken watch is begun again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// The first of those waits.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Sessions to be looked at.
pub(crate) type Requests = Vec<ObjectRef<LabSession>>;

/// Small views of the objects of one kind, by namespace and name.
pub(crate) struct Views<V> {
    known: RwLock<HashMap<Key, Arc<V>>>,
    filled: watch::Sender<bool>,
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl<V> Views<V> {
    pub(crate) fn new() -> Self {
        Self { known: RwLock::default(), filled: watch::Sender::new(false) }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// An object that this process has just made, before its watch tells of it. What the watch has told
    /// already is newer.
    pub(crate) fn made(&self, key: Key, view: V) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(key).or_insert_with(|| Arc::new(view));
    }

    /// An object that this process has just seen or made otherwise.
    pub(crate) fn replace(&self, key: Key, view: V) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(view));
    }

    /// An object that the API server has just said not to have.
    pub(crate) fn gone(&self, key: &Key) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    pub(crate) fn all(&self) -> Vec<(Key, Arc<V>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, view)| (key.clone(), Arc::clone(view))).collect()
    }

    /// Waits until the first list is there.
    pub(crate) async fn filled(&self) {
        // The sender lives as long as `self`.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    fn fill(&self, listed: HashMap<Key, Arc<V>>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = listed;
        self.filled.send_replace(true);
    }
}

/// Watches the sessions into `writer` and tells which are to be looked at.
pub(crate) fn watch_sessions(
    api: Api<LabSession>,
    config: watcher::Config,
    mut writer: Writer<LabSession>,
) -> impl Stream<Item = Requests> + Send {
    let sessions = writer.as_reader();
    persistent(api, config, "labsessions").map(move |event| {
        let event = event.modify(trim);
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(session) => vec![ObjectRef::from_obj(session)],
            Event::InitDone => all(&sessions),
            Event::Delete(_) | Event::Init | Event::InitApply(_) => Vec::new(),
        }
    })
}

/// All sessions there are.
fn all(sessions: &Store<LabSession>) -> Requests {
    sessions.state().iter().map(|session| ObjectRef::from_obj(session.as_ref())).collect()
}

/// What nobody here reads, and what takes most of an object's memory.
fn trim(session: &mut LabSession) {
    session.metadata.managed_fields = None;
    session.metadata.annotations = None;
}

/// Watches objects of one kind into `views` and tells which sessions are to be looked at for them: those that
/// it `concerns`, if it has changed in what counts.
pub(crate) fn watch_parts<K, V>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static str,
    views: Arc<Views<V>>,
    sessions: Store<LabSession>,
    view: fn(&K) -> V,
    concerns: fn(&K, &Store<LabSession>) -> Requests,
) -> impl Stream<Item = Requests> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    let mut listed = HashMap::new();
    persistent(api, config, kind).map(move |event| match event {
        Event::Apply(object) => {
            let new = Arc::new(view(&object));
            let key = Key::of(&object);
            let mut known = views.known.write().unwrap_or_else(PoisonError::into_inner);
            // Most changes of an object change nothing that counts here.
            match known.insert(key, Arc::clone(&new)) {
                Some(old) if old == new => Vec::new(),
                _ => concerns(&object, &sessions),
            }
        }
        Event::Delete(object) => {
            views.gone(&Key::of(&object));
            concerns(&object, &sessions)
        }
        Event::Init => {
            listed.clear();
            Vec::new()
        }
        Event::InitApply(object) => {
            listed.insert(Key::of(&object), Arc::new(view(&object)));
            Vec::new()
        }
        Event::InitDone => {
            views.fill(std::mem::take(&mut listed));
            all(&sessions)
        }
    })
}

/// The session that an object belongs to.
pub(crate) fn owner<K: Resource<DynamicType = ()>>(object: &K, _: &Store<LabSession>) -> Requests {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    Owner::of(object).map(|owner| ObjectRef::new(&owner.name).within(namespace)).into_iter().collect()
}

/// All sessions of an object's namespace.
pub(crate) fn neighbours<K: Resource<DynamicType = ()>>(
    object: &K,
    sessions: &Store<LabSession>,
) -> Requests {
    let namespace = object.meta().namespace.as_ref();
    let sessions = sessions.state();
    let neighbours = sessions.iter().filter(|session| session.metadata.namespace.as_ref() == namespace);
    neighbours.map(|session| ObjectRef::from_obj(session.as_ref())).collect()
}

/// A watch that is begun again however often it breaks.
fn persistent<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static str,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    use kube::runtime::WatchStreamExt as _;

    let mut complained = None;
    let events = watcher(api, config).backoff(ShortBackoff::default());
    events.filter_map(move |event| {
        future::ready(match event {
            Ok(event) => {
                if matches!(event, Event::InitDone) {
                    complained = None;
                }
                Some(event)
            }
            Err(error) => {
                // A server that is down is no news twice.
                let complaint = error.to_string();
                if complained.as_ref() != Some(&complaint) {
                    complain(kind, &error);
                    complained = Some(complaint);
                }
                None
            }
        })
    })
}

fn complain(kind: &str, error: &watcher::Error) {
    let refusal = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    };
    match refusal {
        Some(status) if status.is_forbidden() => {
            error!("the controller's role lacks list or watch on {kind}: {}", status.message);
        }
        Some(status) if is_of_no_kind(status) => {
            error!(
                "the API server knows no {kind}: their definition is not installed, or not in this version"
            );
        }
        _ => warn!(kind, %error, "a watch broke and is begun again"),
    }
}

/// Whether the API server answers so because it does not serve the kind at all. It answers with a page then, not with a
/// status of its own as where an object is not there.
pub(crate) fn is_of_no_kind(status: &kube::core::Status) -> bool {
    status.code == 404 && !status.is_not_found()
}

/// Doubles from [`FIRST_BACKOFF`] to [`LONGEST_BACKOFF`].
struct ShortBackoff(Duration);

impl Default for ShortBackoff {
    fn default() -> Self {
        Self(FIRST_BACKOFF)
    }
}

impl Iterator for ShortBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_BACKOFF);
        Some(wait)
    }
}

impl Backoff for ShortBackoff {
    fn reset(&mut self) {
        self.0 = FIRST_BACKOFF;
    }
}

/// Follows a watch for as long as the process lives, and passes on which sessions are to be looked at. It
/// does not wait for whoever looks: caches stay current while the looking is slow.
pub(crate) fn follow(
    requests: impl Stream<Item = Requests> + Send + 'static,
    queue: UnboundedSender<ObjectRef<LabSession>>,
) {
    tokio::spawn(async move {
        let mut requests = pin!(requests);
        while let Some(sessions) = requests.next().await {
            for session in sessions {
                // Nobody listens any more: the process is about to end.
                if queue.send(session).is_err() {
                    return;
                }
            }
        }
    });
}
