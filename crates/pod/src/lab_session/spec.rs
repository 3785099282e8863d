//! What somebody asks for: the `spec` of a `LabSession`.

// The derive macros take several `printcolumn`s, and `KubeSchema` repeats the struct inside a function.
#![allow(clippy::duplicated_attributes, unreachable_pub)]

use std::fmt;

use dozlab_session::defaults;
use dozlab_session::plan::Egress;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::status::LabSessionStatus;
use crate::options::{DiskPolicy, SecurityProfile};

/// An amount that Kubernetes would take: `4Gi`, `500M`, `1e9`.
const QUANTITY: &str = r"^[0-9]+(\.[0-9]+)?([kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$";
/// An amount of CPU: `2`, `0.5`, `1500m`.
const CPU: &str = r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$";
/// `2h`, `1h30m`, `90s`, `7d`, `0`; see `dozlab_session::duration`.
const DURATION: &str = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$";
/// The same, or `none`.
const TIME_LIMIT: &str = r"^(none|0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$";

/// One person's lab: a virtual machine with a web terminal and an editor.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "dozlab.io",
    version = "v1",
    kind = "LabSession",
    plural = "labsessions",
    shortname = "ls",
    namespaced,
    status = "LabSessionStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One person's lab: a virtual machine with a web terminal and an editor.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.userId"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".status.podName"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.sessionId == oldSelf.sessionId").message("sessionId cannot change"),
    validation = Rule::new("self.userId == oldSelf.userId").message("userId cannot change"),
    validation = Rule::new("!(has(self.image) && has(self.rootfsUrl)) || self.image == self.rootfsUrl")
        .message("image and rootfsUrl name different images: give one of them"),
    validation = Rule::new("has(self.disk) == has(oldSelf.disk) && (!has(self.disk) || self.disk == oldSelf.disk)")
        .message("disk cannot change: the session's disk has been made"),
    validation = Rule::new("self.diskPolicy == oldSelf.diskPolicy").message("diskPolicy cannot change")
)]
#[serde(rename_all = "camelCase")]
pub struct LabSessionSpec {
    /// Whose session it is: the value of the label `user-id`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub user_id: String,
    /// The session's id, from which the names of its objects are made.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub session_id: String,
    /// The lab that this is a session of; carried along as the label `lab-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"))]
    pub lab_id: Option<String>,
    /// URL of the VM's root file system. The same as `image`, by the older name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_url: Option<String>,
    /// The VM's root file system: a URL (`https://`, `oci://`, …) or the name of an image that the nodes have. Without
    /// it, the image that `customImages.initImage` carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How many processors the VM has, 1 to 32. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub vcpus: Option<u32>,
    /// The VM's memory, for example `2Gi`. Default 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = QUANTITY))]
    pub memory: Option<String>,
    /// The size of the VM's disk, for example `8Gi`. Default 4Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = QUANTITY))]
    pub disk: Option<String>,
    /// The older way to size the VM; `vcpus`, `memory` and `disk` go before it, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Which parts the lab has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// How long the session lasts, for example `2h` or `1h30m`; `none` for as long as it is left running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = TIME_LIMIT), extend("default" = defaults::TIMEOUT.to_string()))]
    pub timeout: Option<String>,
    /// How long the session may be unused before it is ended. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub idle_stop: Option<String>,
    /// What the VM may reach: the public `internet`, private networks too (`open`), or `none`.
    #[serde(default)]
    #[schemars(schema_with = "egress_policies", default = "default_egress")]
    pub egress: Egress,
    /// What the containers may do to their node.
    #[serde(default)]
    pub security_profile: SecurityProfile,
    /// What becomes of the disks when the session ends.
    #[serde(default)]
    pub disk_policy: DiskPolicy,
    /// The user to be in the VM. Default `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,31}$"))]
    pub login_user: Option<String>,
    /// The VM's host name. Default `lab-` and the session's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$"))]
    pub hostname: Option<String>,
    /// Container images other than the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_images: Option<CustomImages>,
}

/// The older way to size the VM. Its defaults hold where `resources` is given but not the field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// The VM's memory.
    #[schemars(regex(pattern = QUANTITY))]
    pub memory: String,
    /// The VM's processors; a begun one counts in full.
    #[schemars(regex(pattern = CPU))]
    pub cpu: String,
    /// The size of the VM's disk.
    #[schemars(regex(pattern = QUANTITY))]
    pub storage: String,
}

/// The existing resource's defaults.
impl Default for Resources {
    fn default() -> Self {
        Self { memory: "4Gi".into(), cpu: "2".into(), storage: "10Gi".into() }
    }
}

/// Which parts the lab has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// The editor's password. Whoever may read this object can read it: leave it out, and one is made that only the
    /// session's Secret holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vs_code_password: Option<Password>,
    /// Whether there is a web terminal.
    pub enable_terminal: bool,
    /// Whether there is an editor.
    #[serde(rename = "enableVSCode")]
    pub enable_vs_code: bool,
    /// Whether SSH reaches the VM from outside the pod.
    #[serde(rename = "enableSSH")]
    pub enable_ssh: bool,
}

/// Everything.
impl Default for Config {
    fn default() -> Self {
        Self { vs_code_password: None, enable_terminal: true, enable_vs_code: true, enable_ssh: true }
    }
}

/// A password as it stands in the object. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

/// Container images other than the installation's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomImages {
    /// Image of the container `init-rootfs`. It may carry a root file system at `/app/image.ext4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image: Option<String>,
    /// Accepted for older objects, and without effect: each session's initramfs is made by the VM's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_image: Option<String>,
    /// Image of the container `network-setup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_image: Option<String>,
    /// Image of the container `firecracker-vm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_image: Option<String>,
    /// Image of the container `terminal-sidecar`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_image: Option<String>,
    /// Image of the container `code-server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vscode_image: Option<String>,
}

fn default_egress() -> &'static str {
    Egress::default().as_str()
}

fn egress_policies(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": Egress::ALL.map(Egress::as_str) })
}
