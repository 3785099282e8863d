//! Temporary folders that outlive their owner by no more than the next sweep.
//!
//! The owner holds an exclusive lock on the folder itself, which the kernel drops with the process, however it ends. So
//! a folder whose lock can be had belongs to nobody any more.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A temporary folder, mode 0700, removed with all it holds when dropped.
#[derive(Debug)]
pub struct Workspace {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Workspace {
    /// Makes a folder in `parent` whose name begins with `prefix`.
    ///
    /// # Errors
    /// The system's refusal to make it or to lock it.
    pub fn create(parent: &Path, prefix: &str) -> io::Result<Self> {
        loop {
            let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
            // A sweep that saw the folder before it was locked may have removed it, or be about to.
            let lock = match File::open(folder.path()) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if folder.path().exists() => return Ok(Self { folder, _lock: lock }),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Removes this user's folders in `parent` whose names begin with `prefix` and whose owners are gone; returns them.
    /// What cannot be removed is left to the next sweep: a program that was just killed may still be writing there.
    ///
    /// # Errors
    /// The system's refusal to list `parent`; that it is not there is none.
    pub fn sweep(parent: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut removed = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(prefix) && remove_abandoned(&entry.path()) {
                removed.push(entry.path());
            }
        }
        Ok(removed)
    }
}

/// Removes a folder that is this user's and nobody's workspace; whether it did.
fn remove_abandoned(path: &Path) -> bool {
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|entry| entry.is_dir() && entry.uid() == rustix::process::geteuid().as_raw());
    if !is_ours {
        return false;
    }
    // One that is gone meanwhile was removed by its owner.
    let Ok(lock) = File::open(path) else { return false };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    match fs::remove_dir_all(path) {
        Ok(()) => {
            tracing::info!(folder = %path.display(), "removed what an interrupted program left");
            true
        }
        Err(error) => {
            tracing::warn!(folder = %path.display(), %error, "cannot remove what a program left");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_what_is_nobodys_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let owned = Workspace::create(parent.path(), "work-").unwrap();
        fs::create_dir(parent.path().join("work-left")).unwrap();
        fs::write(parent.path().join("work-left/file"), "half").unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        std::os::unix::fs::symlink(parent.path().join("other"), parent.path().join("work-link")).unwrap();

        let removed = Workspace::sweep(parent.path(), "work-").unwrap();

        assert_eq!(removed, [parent.path().join("work-left")]);
        assert!(owned.path().exists());
        assert!(parent.path().join("other").exists() && parent.path().join("work-link").exists());
    }

    #[test]
    fn a_workspace_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let workspace = Workspace::create(parent.path(), "work-").unwrap();
        fs::write(workspace.join("file"), "").unwrap();
        drop(workspace);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        assert!(Workspace::sweep(&parent.path().join("nowhere"), "").unwrap().is_empty());
    }

    #[test]
    fn making_and_sweeping_at_once_loses_no_workspace() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                for _ in 0..300 {
                    Workspace::sweep(parent.path(), "work-").unwrap();
                }
            });
            while !sweeper.is_finished() {
                let workspace = Workspace::create(parent.path(), "work-").unwrap();
                fs::write(workspace.join("file"), "").unwrap();
                assert!(workspace.join("file").exists());
            }
        });
    }
}
