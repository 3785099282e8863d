//! All objects of one session.

use dozlab_session::plan::Plan;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use serde_json::Value;

use crate::http_route::{HTTPRoute, http_route};
use crate::ingress::ingress;
use crate::network_policy::network_policy;
use crate::options::PodOptions;
use crate::pod::{Lab, claims, pod};
use crate::secrets::SessionSecrets;
use crate::service::service;

/// All objects of one session, in the order in which they are to be made: what the pod refers to comes before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// The session's secrets; none where they are there already.
    pub secrets: Vec<Secret>,
    /// The volumes that outlive the pod; none where disks are not kept.
    pub claims: Vec<PersistentVolumeClaim>,
    /// What the pod may reach, and who may reach it.
    pub network_policy: NetworkPolicy,
    /// The lab's address; none where no part of it is reached from outside.
    pub service: Option<Service>,
    /// The way in from outside the cluster, where the installation has one and it is an Ingress.
    pub ingress: Option<Ingress>,
    /// The same, where it is a gateway.
    pub http_route: Option<HTTPRoute>,
    /// The pod.
    pub pod: Pod,
}

impl Manifests {
    /// The objects that a plan comes to. Without `secrets` the pod refers to Secrets that somebody else makes.
    #[must_use]
    pub fn new(plan: &Plan, options: &PodOptions, secrets: Option<&SessionSecrets>) -> Self {
        let lab = Lab { plan, options };
        Self {
            secrets: secrets.map(|secrets| secrets.objects(lab)).unwrap_or_default(),
            claims: claims(lab),
            network_policy: network_policy(lab),
            service: service(lab),
            ingress: ingress(lab),
            http_route: http_route(lab),
            pod: pod(lab),
        }
    }

    /// The objects as JSON, each with `apiVersion` and `kind`.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let mut objects: Vec<Value> = self.secrets.iter().map(to_json).collect();
        objects.extend(self.claims.iter().map(to_json));
        objects.push(to_json(&self.network_policy));
        objects.extend(self.service.iter().map(to_json));
        objects.extend(self.ingress.iter().map(to_json));
        objects.extend(self.http_route.iter().map(to_json));
        objects.push(to_json(&self.pod));
        objects
    }
}

fn to_json(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("objects of Kubernetes have only texts as keys")
}
