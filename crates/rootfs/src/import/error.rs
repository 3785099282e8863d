//! Why an import made no image.

use std::io;
use std::path::{Path, PathBuf};

use dozlab_oci::archive::ArchiveError;
use dozlab_oci::registry::PullError;
use dozlab_oci::{LayoutError, ReferenceError};
use dozlab_process::ToolError;

use crate::disk::PrepareError;
use crate::e2fsprogs::{CheckError, FsckFailure};
use crate::receive::ReceiveError;
use crate::space::{self, Bytes, NoSpace};
use crate::store::{BadName, StoreError};

/// No image was made, and the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The name cannot be one of an image.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The source, or a file in the folder, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source is none of what can be imported.
    #[error("{} {found}: give an ext4 file, a folder, or a tar (plain, .gz, .zst, .xz) of a root file \
        system", path.display())]
    NotAFileSystem {
        /// The source.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// The ext4 file is shorter than its superblock says.
    #[error(
        "{} is cut short: its file system has {} ({expected} bytes), the file only {actual} bytes; copy \
            or download it again",
        path.display(), Bytes(*expected)
    )]
    CutShort {
        /// The source.
        path: PathBuf,
        /// Bytes of the file system.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// The file system in the source has errors.
    #[error(transparent)]
    Damaged(#[from] FsckFailure),
    /// The archive is not one, or ends early.
    #[error("the archive {} cannot be read to its end: {source}", path.display())]
    BadArchive {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The image reference has the wrong form.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The archive of an OCI image cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The OCI image cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The OCI image cannot be had from its registry.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A layer of the OCI image is damaged.
    #[error("the layer {digest} cannot be unpacked: {source}")]
    BadLayer {
        /// The digest of the blob.
        digest: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// An entry of the archive or folder cannot be part of an image.
    #[error("the entry `{}` is refused: {reason}", entry.escape_debug())]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why it is refused.
        reason: String,
    },
    /// The tree is larger than the options allow.
    #[error("it is larger than allowed: more than {limit}; raise the limit if that is meant to be")]
    TooLarge {
        /// The limit that was passed.
        limit: String,
    },
    /// The size that was asked for does not hold the files.
    #[error("the files need a file system of {}, more than the size of {}", Bytes(*least), Bytes(*size))]
    TooSmall {
        /// The size that was asked for.
        size: u64,
        /// The least that would do.
        least: u64,
    },
    /// The user who is to log in is not in the image.
    #[error("the image has no user `{user}` with a shell in its /etc/passwd")]
    NoSuchUser {
        /// The user.
        user: String,
    },
    /// There is too little room in the store's file system.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// A temporary file of the import cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program is missing or failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The store refused the image.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image could not be fetched.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The source could not be locked in the store.
    #[error(transparent)]
    Lock(#[from] PrepareError),
}

impl From<CheckError> for ImportError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Tool(error) => Self::Tool(error),
            CheckError::Damaged(error) => Self::Damaged(error),
        }
    }
}

impl ImportError {
    /// Whether a server was not there, or not able to answer: it says nothing about the image.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Receive(ReceiveError::Fetch(error)) if error.is_unreachable())
    }

    /// A failed write: the disk was full, or something else.
    pub(super) fn write(path: &Path, needed: u64, source: io::Error) -> Self {
        let folder = path.parent().unwrap_or(path);
        match space::ran_out(&source, folder, needed) {
            Some(no_space) => Self::NoSpace(no_space),
            None => Self::Write { path: path.to_owned(), source },
        }
    }
}
