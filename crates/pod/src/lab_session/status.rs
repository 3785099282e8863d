//! How a session is: the `status` of a `LabSession`, written by the controller alone.

use dozlab_session::phase::Phase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How a session is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabSessionStatus {
    /// Where the session is in its life.
    #[schemars(schema_with = "phases", default)]
    pub phase: Phase,
    /// The step of the start that the session is in, for example `init-rootfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What there is to say about the phase, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why the session is in this phase, one word for a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The session's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// The uid of that pod.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The session's service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The pod's address.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// The VM's address inside its pod.
    #[serde(rename = "vmIP", skip_serializing_if = "Option::is_none")]
    pub vm_ip: Option<String>,
    /// Where the session's parts are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// When the controller first saw the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When the session ends by itself; nothing where it has no timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the session began to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When somebody last used the session, as the terminal reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<Time>,
    /// When the phase last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// The generation of the object that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How often the session's pod was made again after it was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub restarts: Option<u32>,
    /// The pod that was given up last, and when another one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<PodRetry>,
    /// What the session uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// `Ready`, `PodReady`, `ServiceReady` and `VMReady`, one of each at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where the session's parts are reached; those that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// The editor's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vscode: Option<String>,
    /// The web terminal's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// The VM's SSH server, `ssh://ADDRESS:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
}

/// A pod that was given up, and when another one is made. A controller that is interrupted between the two reads here
/// that the pod has been counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodRetry {
    /// The uid of the pod that was given up.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// How many pods in a row were given up because they failed.
    #[schemars(range(min = 0))]
    pub attempt: u32,
    /// When the next pod is made.
    pub after: Time,
}

/// What the session uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Whether the session's pod runs.
    pub running: bool,
    /// The CPU that the pod requests, all containers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<String>,
    /// The memory that the pod requests, all containers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<String>,
    /// The size of the VM's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

/// The types of a session's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// A prompt can be had: the other three together.
    Ready,
    /// All containers of the pod are ready.
    PodReady,
    /// The service is there, and has the address that its type promises.
    ServiceReady,
    /// The VM's SSH server answers.
    VmReady,
}

impl ConditionType {
    /// All types.
    pub const ALL: [Self; 4] = [Self::Ready, Self::PodReady, Self::ServiceReady, Self::VmReady];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::PodReady => "PodReady",
            Self::ServiceReady => "ServiceReady",
            Self::VmReady => "VMReady",
        }
    }
}

impl LabSessionStatus {
    /// The condition of a type, where it was ever set.
    #[must_use]
    pub fn condition(&self, wanted: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == wanted.as_str())
    }
}

fn phases(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": Phase::ALL.map(Phase::as_str) })
}
