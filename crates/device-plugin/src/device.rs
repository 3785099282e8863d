//! The devices that the lab pod's VM container asks for.
//!
//! Both are character devices that any number of processes may open at once. Kubernetes counts devices, so each is
//! offered many times over: as many as pods could be on the node.

use std::path::{Path, PathBuf};

use crate::api::{ContainerAllocateResponse, Device, DeviceSpec, HEALTHY};

/// How often a device is offered by default: the number of pods that a kubelet takes by default (`maxPods`).
pub const DEFAULT_COUNT: u32 = 110;

/// A device of the node as a resource of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDevice {
    /// The resource's name in a pod's limits.
    pub resource: &'static str,
    /// The node's device file; containers see it in the same place.
    pub path: PathBuf,
    /// How many containers may have it at once.
    pub count: u32,
}

impl SharedDevice {
    /// Hardware virtualisation: `dozlab.io/kvm`.
    #[must_use]
    pub fn kvm(count: u32) -> Self {
        Self { resource: "dozlab.io/kvm", path: "/dev/kvm".into(), count }
    }

    /// Tap devices: `dozlab.io/tun`.
    #[must_use]
    pub fn tun(count: u32) -> Self {
        Self { resource: "dozlab.io/tun", path: "/dev/net/tun".into(), count }
    }

    /// The resource's name without its domain.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.resource.rsplit('/').next().unwrap_or(self.resource)
    }

    /// The name of the plugin's socket for this device.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("dozlab-{}.sock", self.short_name())
    }

    /// What the kubelet is told to be there.
    pub(crate) fn list(&self, usable: bool) -> Vec<Device> {
        let count = if usable { self.count } else { 0 };
        let device =
            |number| Device { id: format!("{}-{number}", self.short_name()), health: HEALTHY.to_owned() };
        (0..count).map(device).collect()
    }

    /// What a container is given, however many of the device it was promised.
    pub(crate) fn allocation(&self) -> ContainerAllocateResponse {
        let path = |path: &Path| path.display().to_string();
        ContainerAllocateResponse {
            devices: vec![DeviceSpec {
                container_path: path(&self.path),
                host_path: path(&self.path),
                permissions: "rw".to_owned(),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_used_is_not_there() {
        assert!(SharedDevice::kvm(3).list(false).is_empty());
        let names: Vec<String> =
            SharedDevice::kvm(3).list(true).into_iter().map(|device| device.id).collect();
        assert_eq!(names, ["kvm-0", "kvm-1", "kvm-2"]);
    }

    #[test]
    fn sockets_are_told_apart_by_their_device() {
        assert_eq!(SharedDevice::kvm(1).endpoint(), "dozlab-kvm.sock");
        assert_eq!(SharedDevice::tun(1).endpoint(), "dozlab-tun.sock");
    }
}
