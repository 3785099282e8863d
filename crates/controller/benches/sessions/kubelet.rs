//! A kubelet that makes every pod ready as soon as it sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::stream::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;

use crate::support::{Cluster, ready};

/// When each session's pod was said to be ready, by the session's name.
pub(crate) type Ready = Arc<Mutex<HashMap<String, Instant>>>;

/// Starts it.
pub(crate) fn start(cluster: &Cluster) -> Ready {
    let pods: Api<Pod> = cluster.api();
    let made_ready = Ready::default();
    let known = Arc::clone(&made_ready);
    tokio::spawn(async move {
        let events = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
        let new = events.filter_map(async |pod| pod.ok().filter(|pod| !is_ready(pod)));
        new.for_each_concurrent(10, |pod| {
            let (pods, known) = (pods.clone(), Arc::clone(&known));
            async move {
                let patch = Patch::Merge(json!({ "status": ready() }));
                let said_at = Instant::now();
                if pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.is_ok() {
                    let session = pod.name_any().trim_start_matches("lab-session-").to_owned();
                    known.lock().unwrap().insert(session, said_at);
                }
            }
        })
        .await;
    });
    made_ready
}

fn is_ready(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}
