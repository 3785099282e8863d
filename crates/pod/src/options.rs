//! What only a pod has, beside the plan: its security profile, which of its parts there are, what becomes of its disks.

use std::fmt;
use std::str::FromStr;

use dozlab_session::id::SessionId;
use dozlab_session::plan::PlanRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::images::Images;
use crate::public_route::PublicRoute;
use crate::secrets::SecretNames;

/// A session as somebody asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabRequest {
    /// The session's own numbers.
    pub plan: PlanRequest,
    /// What only a pod has.
    pub options: PodOptions,
}

/// What only a pod has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodOptions {
    /// What the containers may do.
    pub profile: SecurityProfile,
    /// Which parts of the lab there are.
    pub parts: Parts,
    /// What becomes of the disks when the session ends.
    pub disk_policy: DiskPolicy,
    /// The containers' images, but for the terminal's, which the plan has.
    pub images: Images,
    /// The lab that this is a session of: the label `lab-id`.
    pub lab_id: Option<String>,
    /// Class of the volumes of disks that are kept; the cluster's default class where there is none.
    pub storage_class: Option<String>,
    /// The namespace of the objects; whoever applies them says it where there is none.
    pub namespace: Option<String>,
    /// Secrets to refer to, where they do not have [the usual names](SecretNames::of).
    pub secret_names: Option<SecretNames>,
    /// How the session's pages are reached from outside the cluster; not at all where there is none.
    pub route: Option<PublicRoute>,
    /// Whether sessions of one namespace that may reach the same, and be reached the same, share a NetworkPolicy. Without
    /// it each has one of its own, which can be applied and deleted with the session's other objects.
    pub shared_policy: bool,
    /// A folder of the node where images are kept for all its sessions; each is fetched by each pod where there is none.
    pub image_cache: Option<ImageCache>,
    /// Whether the VM is emulated: no `dozlab.io/kvm` is asked for.
    pub emulated: bool,
    /// Where the browser reaches the editor, where that is not the terminal's host at the editor's port.
    pub editor_public_url: Option<String>,
    /// When the session ends, in seconds since the epoch: the terminal's page says so.
    pub expires_at: Option<u64>,
}

/// A folder of the node with an image store that its sessions share: the first session of an image fetches it, and the
/// others lay their own disk over it.
///
/// It has to be there, writable for the user whom `init-rootfs` runs as: uid 1100 in a hardened pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCache(String);

/// The text is no folder of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no folder of a node: it must be an absolute path without `..`, and not the root")]
pub struct NoNodeFolder(String);

impl ImageCache {
    /// The folder's path on the node.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageCache {
    type Err = NoNodeFolder;

    fn from_str(text: &str) -> Result<Self, NoNodeFolder> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let is_usable = text.starts_with('/') && !parts.is_empty() && !parts.contains(&"..");
        if is_usable { Ok(Self(text.to_owned())) } else { Err(NoNodeFolder(text.to_owned())) }
    }
}

impl PodOptions {
    /// Whether the session's disk lies over an image of the node's cache. A disk that is kept does not: it may be
    /// found again on another node.
    #[must_use]
    pub fn is_overlaid(&self) -> bool {
        self.image_cache.is_some() && self.disk_policy == DiskPolicy::Delete
    }

    /// The names of the Secrets that the pod refers to.
    #[must_use]
    pub fn secret_names(&self, id: &SessionId) -> SecretNames {
        self.secret_names.clone().unwrap_or_else(|| SecretNames::of(id))
    }
}

/// What the lab pod's containers may do to their node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecurityProfile {
    /// Nothing that they do not need: only `network-setup` runs as root, with `NET_ADMIN`, and ends before the
    /// others start.
    #[default]
    Hardened,
    /// What the first lab pods had: the VM's container runs as root with `NET_ADMIN`, `SYS_ADMIN` and
    /// `SYS_RESOURCE`. For container images made for those.
    Compat,
}

impl SecurityProfile {
    /// All profiles.
    pub const ALL: [Self; 2] = [Self::Hardened, Self::Compat];

    /// The word for it in flags and in a `LabSession`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hardened => "hardened",
            Self::Compat => "compat",
        }
    }
}

impl fmt::Display for SecurityProfile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The word names no security profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a security profile: it must be hardened or compat")]
pub struct UnknownProfile(String);

impl FromStr for SecurityProfile {
    type Err = UnknownProfile;

    fn from_str(word: &str) -> Result<Self, UnknownProfile> {
        let known = Self::ALL.into_iter().find(|profile| profile.as_str() == word);
        known.ok_or_else(|| UnknownProfile(word.to_owned()))
    }
}

/// What becomes of a session's disks when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DiskPolicy {
    /// They go with the pod.
    #[default]
    Delete,
    /// They are persistent volume claims, which outlive the pod: a later session of the same id finds them again.
    Keep,
}

impl DiskPolicy {
    /// The word for it in flags and in a `LabSession`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Keep => "Keep",
        }
    }
}

/// Which parts of a lab there are. The machine always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The web terminal.
    pub terminal: bool,
    /// The editor.
    pub editor: bool,
    /// SSH from outside the pod. The VM's own SSH server runs in any case: the terminal uses it.
    pub ssh: bool,
}

/// All of them.
impl Default for Parts {
    fn default() -> Self {
        Self { terminal: true, editor: true, ssh: true }
    }
}
