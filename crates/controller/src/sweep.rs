//! What is done from time to time: objects whose session is gone are removed, and sessions are counted.
//!
//! The cluster's own garbage collector removes what belongs to a deleted object. This is for what it leaves:
//! where it does not run, and where a finalizer was taken off by hand. An object is removed only after the
//! API server itself has said that its session is not there. A network policy, which sessions share, goes when
//! its namespace has no session any more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dozlab_pod::{Entrance, HTTPRoute, LabSession};
use dozlab_session::phase::Phase;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use tokio::time::{interval, sleep};
use tracing::{info, warn};

use crate::pod_view::Owner;
use crate::reconcile::Context;
use crate::world::Key;
use crate::writes::{Part, WriteError};

/// How often sessions are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Counts the sessions again and again.
pub(crate) async fn count(context: Arc<Context>) {
    let mut ticks = interval(COUNT_EVERY);
    loop {
        ticks.tick().await;
        let sessions = context.sessions.state();
        let phase =
            |session: &LabSession| session.status.as_ref().map_or(Phase::Pending, |status| status.phase);
        context.metrics.sessions(|wanted| sessions.iter().filter(|session| phase(session) == wanted).count());
        let uids: HashSet<String> =
            sessions.iter().filter_map(|session| session.metadata.uid.clone()).collect();
        context.memory.keep_only(&uids);
    }
}

/// Removes orphans again and again.
pub(crate) async fn sweep(context: Arc<Context>) {
    loop {
        // The sessions that were made while their parts were listed are known after a while.
        sleep(context.sync_period).await;
        for (key, pod) in context.pods.all() {
            if pod.deleted_by_ms.is_none() {
                remove_orphan::<Pod>(&context, &key, pod.owner.as_ref(), &pod.uid).await;
            }
        }
        for (key, service) in context.services.all() {
            remove_orphan::<Service>(&context, &key, service.owner.as_ref(), &service.uid).await;
        }
        for (key, route) in context.routes.all() {
            let (owner, uid) = (route.owner.as_ref(), &route.uid);
            match context.installation.entrance() {
                Some(Entrance::Ingress { .. }) => remove_orphan::<Ingress>(&context, &key, owner, uid).await,
                Some(Entrance::Gateway(_)) => remove_orphan::<HTTPRoute>(&context, &key, owner, uid).await,
                None => {}
            }
        }
        for (key, policy) in context.policies.seen.all() {
            if policy.is_shared && !has_sessions(&context, &key.namespace) {
                remove::<NetworkPolicy>(&context, &key, &policy.uid).await;
            }
        }
    }
}

fn has_sessions(context: &Context, namespace: &str) -> bool {
    let sessions = context.sessions.state();
    sessions.iter().any(|session| session.metadata.namespace.as_deref() == Some(namespace))
}

async fn remove_orphan<K: Part>(context: &Context, key: &Key, owner: Option<&Owner>, uid: &str) {
    // What belongs to no session was not made here.
    let Some(owner) = owner else { return };
    let reference = ObjectRef::new(&owner.name).within(&key.namespace);
    let lives = |session: &LabSession| session.metadata.uid.as_ref() == Some(&owner.uid);
    if context.sessions.get(&reference).is_some_and(|session| lives(&session)) {
        return;
    }
    let sessions: Api<LabSession> = Api::namespaced(context.writes.client(), &key.namespace);
    match sessions.get_opt(&owner.name).await {
        Ok(found) if found.as_ref().is_some_and(lives) => return,
        Ok(_) => {}
        Err(error) => {
            warn!(session = owner.name, %error, "whether a session is gone cannot be told");
            return;
        }
    }
    remove::<K>(context, key, uid).await;
}

async fn remove<K: Part>(context: &Context, key: &Key, uid: &str) {
    let removed: Result<_, WriteError> =
        context.writes.delete_exactly::<K>(&key.namespace, &key.name, uid).await;
    match removed {
        Ok(_) => {
            context.metrics.orphan_removed();
            info!(kind = K::RESOURCE, name = key.name, namespace = key.namespace, "an orphan was removed");
        }
        Err(error) => warn!(kind = K::RESOURCE, name = key.name, %error, "an orphan was not removed"),
    }
}
