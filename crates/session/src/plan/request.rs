//! What somebody asked for, before anything is worked out.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::network::Egress;
use crate::cpu::{MilliCpus, Vcpus};
use crate::duration::{SessionDuration, TimeLimit};
use crate::id::{SessionId, UserId};
use crate::image::{ContainerImage, ImageRef};
use crate::name::{Hostname, LoginUser, TapName};
use crate::secret::Secret;
use crate::size::ByteSize;

/// What somebody asked for, from flags, template variables or a `LabSession` object. Nothing is mandatory
/// here; what is left out, [`Plan::resolve`](super::Plan::resolve) fills in or asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanRequest {
    /// The session's id. A plan needs one.
    pub session_id: Option<SessionId>,
    /// Whose session it is.
    pub user_id: Option<UserId>,
    /// The VM's root file system. A plan needs one.
    pub image: Option<ImageRef>,
    /// Image of the terminal's container.
    pub terminal_image: Option<ContainerImage>,
    /// The editor's password. It never gets into the plan, which is written to disk and shown: whoever
    /// carries the plan out takes it from here and puts it where secrets are kept.
    #[serde(skip)]
    pub vscode_password: Option<Secret>,
    /// How many processors the guest sees.
    pub vcpus: Option<Vcpus>,
    /// The guest's memory.
    pub memory: Option<ByteSize>,
    /// The size of the guest's disk.
    pub disk: Option<ByteSize>,
    /// The user that a learner is in the VM.
    pub login_user: Option<LoginUser>,
    /// The VM's host name.
    pub hostname: Option<Hostname>,
    /// The pod's end of the VM's network.
    pub gateway: Option<Ipv4Addr>,
    /// The VM's address.
    pub vm_address: Option<Ipv4Addr>,
    /// The length of the network prefix of both.
    pub prefix: Option<u8>,
    /// The name of the tap device.
    pub tap: Option<TapName>,
    /// The VM's resolvers.
    pub dns: Option<Vec<Ipv4Addr>>,
    /// What the VM may reach.
    pub egress: Option<Egress>,
    /// How long the session lasts. The local runtime passes [`TimeLimit::None`] where nobody said.
    pub timeout: Option<TimeLimit>,
    /// How long the session may be idle before it is stopped; for ever, where nobody said.
    pub idle_stop: Option<SessionDuration>,
    /// Limit of the volume `vm-kernels`.
    pub vm_kernels_limit: Option<ByteSize>,
    /// Limit of the volume `vm-data`.
    pub vm_data_limit: Option<ByteSize>,
    /// Limit of the volume `vscode-data`.
    pub vscode_data_limit: Option<ByteSize>,
    /// Memory that the VM's container requests.
    pub vm_memory_request: Option<ByteSize>,
    /// Memory that the VM's container is limited to.
    pub vm_memory_limit: Option<ByteSize>,
    /// CPU that the VM's container requests.
    pub vm_cpu_request: Option<MilliCpus>,
    /// CPU that the VM's container is limited to.
    pub vm_cpu_limit: Option<MilliCpus>,
}
