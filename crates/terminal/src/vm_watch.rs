//! Follows the file in which the VM's supervisor says how the VM is.
//!
//! The file is replaced atomically, so a reader sees a whole one. It is looked at often while a learner may
//! be waiting for the VM, so that the SSH dial starts at the moment at which the guest listens, and seldom
//! while the VM runs. A look is one `stat`; the file is read only when it is another one. Both are so short,
//! and the file so small, that they are done in place instead of on a thread of their own.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dozlab_session::vm_status::{VmState, VmStatus};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often to look while the VM is not ready.
const WAITING_INTERVAL: Duration = Duration::from_millis(25);

/// How often to look while the VM is ready: it says itself, by closing its connections, when it goes down.
const READY_INTERVAL: Duration = Duration::from_millis(250);

/// What is known of the VM without talking to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VmView {
    /// There is no supervisor to ask: whether the VM is ready shows only when it answers.
    Unknown,
    /// The supervisor has not written anything yet.
    Unwritten,
    /// What the supervisor says.
    Known {
        /// Where the VM is in its life.
        state: VmState,
        /// The number of this boot.
        boot: u32,
        /// Why, for a person.
        reason: Option<String>,
    },
}

impl VmView {
    /// The boot to which a connection that is made now belongs; `None` when none should be made.
    pub(crate) fn dialable_boot(&self) -> Option<u32> {
        match self {
            Self::Unknown => Some(0),
            Self::Known { state: VmState::Ready, boot, .. } => Some(*boot),
            Self::Unwritten | Self::Known { .. } => None,
        }
    }
}

/// Starts following the file; without one, the view is [`VmView::Unknown`] for good.
pub(crate) fn follow(path: Option<PathBuf>, shutdown: CancellationToken) -> watch::Receiver<VmView> {
    let Some(path) = path else { return watch::Sender::new(VmView::Unknown).subscribe() };
    let (sender, receiver) = watch::channel(VmView::Unwritten);
    tokio::spawn(async move {
        shutdown.run_until_cancelled(look_again_and_again(&path, &sender)).await;
    });
    receiver
}

async fn look_again_and_again(path: &Path, view: &watch::Sender<VmView>) {
    let mut last_seen = None;
    loop {
        if let Some(latest) = look(path, &mut last_seen) {
            view.send_if_modified(|current| {
                let changed = *current != latest;
                *current = latest;
                changed
            });
        }
        let ready = view.borrow().dialable_boot().is_some();
        sleep(if ready { READY_INTERVAL } else { WAITING_INTERVAL }).await;
    }
}

/// Distinguishes one version of the file from the next: inode, size and time of change.
type Version = (u64, u64, i64, i64);

/// Reads the file if it changed since it was last seen. A file that cannot be read or understood changes
/// nothing.
fn look(path: &Path, last_seen: &mut Option<Version>) -> Option<VmView> {
    let version = fs::metadata(path).ok().as_ref().map(version)?;
    if *last_seen == Some(version) {
        return None;
    }
    *last_seen = Some(version);
    let text = fs::read(path)
        .inspect_err(|error| warn!(path = %path.display(), %error, "cannot read the VM's status"));
    let status = serde_json::from_slice::<VmStatus>(&text.ok()?)
        .inspect_err(|error| warn!(path = %path.display(), %error, "the VM's status makes no sense"))
        .ok()?;
    debug!(state = ?status.state, boot = status.boot, "the VM's status changed");
    Some(VmView::Known { state: status.state, boot: status.boot, reason: status.reason })
}

fn version(metadata: &Metadata) -> Version {
    (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: VmState, boot: u32) -> VmStatus {
        VmStatus { state, boot, hypervisor: "test".into(), started_ms: 0, stages: vec![], reason: None }
    }

    fn replace(path: &Path, status: &VmStatus) {
        let partial = path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec(status).unwrap()).unwrap();
        fs::rename(&partial, path).unwrap();
    }

    #[tokio::test]
    async fn the_view_follows_the_file_from_before_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm-status.json");
        let shutdown = CancellationToken::new();
        let mut view = follow(Some(path.clone()), shutdown.clone());
        assert_eq!(*view.borrow_and_update(), VmView::Unwritten);
        for (state, boot) in
            [(VmState::Booting, 1), (VmState::Ready, 1), (VmState::Restarting, 1), (VmState::Ready, 2)]
        {
            replace(&path, &status(state, boot));
            let expected = VmView::Known { state, boot, reason: None };
            let wait = view.wait_for(|view| *view == expected);
            tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
        }
        shutdown.cancel();
    }

    #[test]
    fn a_file_that_makes_no_sense_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm-status.json");
        fs::write(&path, "{").unwrap();
        assert_eq!(look(&path, &mut None), None);
    }

    #[test]
    fn only_a_ready_vm_is_dialled() {
        let known = |state| VmView::Known { state, boot: 3, reason: None };
        assert_eq!(known(VmState::Ready).dialable_boot(), Some(3));
        assert_eq!(VmView::Unknown.dialable_boot(), Some(0));
        for state in [VmState::Booting, VmState::Restarting, VmState::Stopped, VmState::Failed] {
            assert_eq!(known(state).dialable_boot(), None);
        }
    }
}
