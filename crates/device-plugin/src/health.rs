//! Whether a device can be used on this node, asked again and again.
//!
//! For `/dev/kvm` that means more than opening it: a kernel must boot with it (see `dozlab_vm::probe`). A verdict is
//! kept while the device still opens; where there is none to keep, the probe is booted anew after some minutes, since
//! somebody may have switched on nesting, or installed the hypervisor.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dozlab_boot::Kernel;
use dozlab_vm::probe::{HypervisorKind, Prober};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether a device can be used, or why not.
pub type Condition = Result<(), String>;

/// How often a device is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How long a refusal of the probe stands.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// The question that decides whether a device can be used.
#[derive(Clone, Debug)]
pub enum Check {
    /// It opens for reading and writing.
    Opens {
        /// The device.
        path: PathBuf,
    },
    /// A hypervisor boots the guest's kernel with hardware virtualisation.
    Boots {
        /// The kernel to boot.
        kernel: Kernel,
        /// Where verdicts are remembered.
        cache_folder: PathBuf,
    },
}

impl Check {
    /// Asks; `fresh` also where a verdict is remembered.
    pub async fn ask(&self, fresh: bool) -> Condition {
        match self {
            Self::Opens { path } => opens(path),
            Self::Boots { kernel, cache_folder } => boots(kernel, cache_folder, fresh).await,
        }
    }

    /// Asks until the token is cancelled, and publishes each change.
    pub async fn watch(self, condition: watch::Sender<Condition>, shutdown: CancellationToken) {
        let mut asked_at = Instant::now();
        let mut fresh = false;
        loop {
            let now = self.ask(fresh).await;
            fresh = false;
            condition.send_if_modified(|known| {
                let changed = *known != now;
                known.clone_from(&now);
                changed
            });
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if now.is_err() && asked_at.elapsed() >= ASK_AGAIN {
                fresh = true;
                asked_at = Instant::now();
            }
        }
    }
}

fn opens(path: &Path) -> Condition {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(drop).map_err(|error| format!("cannot open {}: {error}", path.display()))
}

async fn boots(kernel: &Kernel, cache_folder: &Path, fresh: bool) -> Condition {
    let prober = Prober::new(kernel, cache_folder, fresh);
    let mut reasons = Vec::new();
    for kind in [HypervisorKind::Firecracker, HypervisorKind::QemuKvm] {
        match prober.verdict(kind).await {
            Ok(verdict) => match verdict.first_line {
                Ok(_) => return Ok(()),
                Err(reason) => reasons.push(format!("{kind}: {reason}")),
            },
            Err(error) => reasons.push(format!("{kind}: {error}")),
        }
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_device_that_is_not_there_says_so() {
        let check = Check::Opens { path: "/dev/no-such-device".into() };
        let reason = check.ask(false).await.unwrap_err();
        assert!(reason.contains("/dev/no-such-device") && reason.contains("No such file"), "{reason}");
        assert_eq!(Check::Opens { path: "/dev/null".into() }.ask(false).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_found_out_is_published_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        let (sender, mut condition) = watch::channel(Err("not looked at yet".to_owned()));
        let shutdown = CancellationToken::new();
        std::fs::write(&path, "").unwrap();
        let watching = tokio::spawn(Check::Opens { path }.watch(sender, shutdown.clone()));
        condition.changed().await.unwrap();
        assert_eq!(*condition.borrow_and_update(), Ok(()));
        shutdown.cancel();
        watching.await.unwrap();
    }
}
