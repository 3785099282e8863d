//! The kubelet's device plugin for what a lab's VM needs of its node: `/dev/kvm` and `/dev/net/tun`.
//!
//! A container without privileges gets a device of its node from the kubelet alone, and the kubelet from a plugin:
//!
//! ```text
//!   health: opens? boots? ──→ condition ──→ service: ListAndWatch, Allocate ←── kubelet
//!                                           kubelet: Register, and again after its restart
//! ```
//!
//! `dozlab.io/kvm` is offered where a hypervisor really boots the guest's kernel with it, and nowhere else: a pod that
//! asks for it stays Pending on other nodes instead of failing there. One gRPC server a device, since the kubelet
//! knows plugins by their socket.
//!
//! The kubelet must be of Kubernetes 1.26 or newer: older ones name their socket's path as HTTP/2 authority, which
//! servers not written in Go refuse (kubernetes/kubernetes#112597).

#![forbid(unsafe_code)]

pub mod api;
pub mod device;
pub mod health;
pub mod kubelet;
mod service;
pub mod settings;

pub use device::SharedDevice;
pub use health::{Check, Condition};
pub use kubelet::{KubeletError, serve};
pub use settings::{Settings, SettingsError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Offers both devices until the token is cancelled.
///
/// # Errors
/// [`KubeletError`]: one of the two cannot be offered any more; the other ends with it.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), KubeletError> {
    let kvm = SharedDevice::kvm(settings.count);
    let tun = SharedDevice::tun(settings.count);
    let boots = Check::Boots { kernel: settings.kernel, cache_folder: settings.cache_folder };
    let opens = Check::Opens { path: tun.path.clone() };
    let ended = shutdown.child_token();
    let outcome = tokio::try_join!(
        offer(kvm, boots, &settings.folder, ended.clone()),
        offer(tun, opens, &settings.folder, ended.clone()),
    );
    ended.cancel();
    outcome.map(drop)
}

/// Offers one device, for as long as its check says yes.
async fn offer(
    device: SharedDevice,
    check: Check,
    folder: &std::path::Path,
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    let (sender, condition) = watch::channel(Err("not looked at yet".to_owned()));
    let ended = shutdown.child_token();
    let watching = check.watch(sender, ended.clone());
    let reporting = report(device.resource, condition.clone(), ended.clone());
    let serving = async {
        let served = serve(device, folder, condition, ended.clone()).await;
        ended.cancel();
        served
    };
    let (served, (), ()) = tokio::join!(serving, watching, reporting);
    served
}

/// Says each change in the log: a pod that stays Pending is explained there.
async fn report(resource: &str, mut condition: watch::Receiver<Condition>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = condition.changed() => if changed.is_err() { return },
        }
        match &*condition.borrow_and_update() {
            Ok(()) => tracing::info!(resource, "offered"),
            Err(reason) => tracing::warn!(resource, reason, "not offered: pods that ask for it stay Pending"),
        }
    }
}
