//! Unix sockets in a folder whose path may be longer than a socket's may be.
//!
//! A socket's path has at most 107 bytes, and a session's folder deep in somebody's home can be longer. An
//! open folder is reachable as `/proc/self/fd/N`, which is short.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// An open folder for sockets.
#[derive(Debug)]
pub(crate) struct SocketFolder(OwnedFd);

impl SocketFolder {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(folder, flags, Mode::empty())?))
    }

    /// A short path for a name in the folder, valid in this process while the folder is open.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }
}
