//! The images of the lab pod's containers.

use dozlab_session::image::ContainerImage;

/// The images of the lab pod's containers, where they are not the usual ones. The terminal's is part of the plan,
/// because the seed's template has a variable for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// `init-rootfs`; [`INIT`] by default.
    pub init: Option<ContainerImage>,
    /// `network-setup`; [`NETWORK`] by default, [`COMPAT_NETWORK`] with the profile `compat`.
    pub network: Option<ContainerImage>,
    /// `firecracker-vm`; [`VM`] by default.
    pub vm: Option<ContainerImage>,
    /// `code-server`; [`EDITOR`] by default.
    pub editor: Option<ContainerImage>,
}

/// The image of `init-rootfs`: that of existing lab pods.
pub const INIT: &str = "dozman99/dozlab-init:latest";
/// The image of `network-setup`. Ours: existing lab pods have no image of their own for it.
pub const NETWORK: &str = "dozman99/dozlab-network:latest";
/// The image of `network-setup` in existing lab pods, where it only writes a file.
pub const COMPAT_NETWORK: &str = "busybox:latest";
/// The image of `firecracker-vm`: that of existing lab pods.
pub const VM: &str = "dozman99/dozlab-firecracker:latest";
/// The image of `code-server`: that of existing lab pods.
pub const EDITOR: &str = "codercom/code-server:latest";

/// The name of an image, or of the usual one.
pub(crate) fn name(chosen: Option<&ContainerImage>, usual: &str) -> String {
    chosen.map_or_else(|| usual.to_owned(), ToString::to_string)
}
