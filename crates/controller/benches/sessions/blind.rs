//! A plain client that sends what the controller sends, and looks at nothing.

use std::time::Instant;

use dozlab_pod::lab_session::FINALIZER;
use dozlab_pod::{Manifests, PodOptions, SecretNames, SessionSecrets};
use dozlab_session::plan::Plan;
use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::AT_ONCE;
use crate::support::Cluster;

/// Asks for so many sessions, and writes all that is to be written of them.
pub(crate) async fn run(cluster: &Cluster, count: usize) -> Instant {
    let started = Instant::now();
    stream::iter(0..count).for_each_concurrent(AT_ONCE, |number| one(cluster, number)).await;
    started
}

async fn one(cluster: &Cluster, number: usize) {
    let name = format!("s{number}");
    let session = cluster.ask_for(&name, json!({})).await;
    let request = session.request(&PodOptions::default()).unwrap();
    let plan = Plan::resolve(&request.plan).unwrap();
    let secret_names = Some(SecretNames::in_one(&plan.session_id));
    let options = PodOptions { secret_names, shared_policy: true, ..request.options };
    let secrets = SessionSecrets::generate(&plan.session_id, None).unwrap();
    let manifests = Manifests::new(&plan, &options, Some(&secrets));
    let (new, apply) = (PostParams::default(), PatchParams::apply("blind").force());
    let sessions = cluster.sessions();
    let object = |field: &str, value: Value| {
        let mut object = json!({ "apiVersion": "dozlab.io/v1", "kind": "LabSession" });
        object[field] = value;
        Patch::Apply(object)
    };
    sessions.patch(&name, &apply, &object("metadata", json!({ "finalizers": [FINALIZER] }))).await.unwrap();
    for secret in &manifests.secrets {
        cluster.api::<Secret>().create(&new, secret).await.unwrap();
    }
    if number == 0 {
        let policies: Api<NetworkPolicy> = cluster.api();
        let policy = manifests.network_policy;
        let policy_name = policy.metadata.name.clone().unwrap();
        policies.patch(&policy_name, &apply, &Patch::Apply(&policy)).await.unwrap();
    }
    cluster.api::<Pod>().create(&new, &manifests.pod).await.unwrap();
    let service = manifests.service.unwrap();
    let services: Api<Service> = cluster.api();
    services.patch(&plan.session_id.service_name(), &apply, &Patch::Apply(&service)).await.unwrap();
    sessions.patch_status(&name, &apply, &object("status", status("Creating", "False"))).await.unwrap();
    sessions.patch_status(&name, &apply, &object("status", status("Running", "True"))).await.unwrap();
}

/// A status of the size that the controller writes.
fn status(phase: &str, ready: &str) -> Value {
    let conditions = ["Ready", "PodReady", "ServiceReady", "VMReady"].map(|kind| {
        json!({ "type": kind, "status": ready, "reason": "Ready", "message": "all containers are ready",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1 })
    });
    json!({
        "phase": phase, "reason": "Ready", "message": "a prompt can be had", "podName": "lab-session-s1",
        "podUID": "4d2bb9f6-4d5e-4c5a-8a77-6a5a5f0c7a11", "serviceName": "lab-service-s1",
        "podIP": "10.1.2.3", "vmIP": "172.16.0.2", "observedGeneration": 1,
        "createdAt": "2026-01-01T00:00:00Z", "startTime": "2026-01-01T00:00:00Z",
        "expiresAt": "2026-01-01T02:00:00Z", "conditions": conditions,
        "endpoints": { "terminal": "http://lab-service-s1.bench.svc:8081/",
                       "vscode": "http://lab-service-s1.bench.svc:8080/", "ssh": "ssh://lab-service-s1.bench.svc:22" },
        "usage": { "running": ready == "True", "cpuRequest": "750m", "memoryRequest": "1152Mi", "storage": "4Gi" },
    })
}
