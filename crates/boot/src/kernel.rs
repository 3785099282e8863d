//! A kernel that is ready to boot: a folder with everything that belongs to it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dozlab_process::ToolError;
use serde::{Deserialize, Serialize};

use crate::PayloadError;
use crate::build::BuildError;
use crate::initramfs::InitramfsError;

/// Whose configuration a kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KernelKind {
    /// Anybody's, a file without modules; never in a store.
    Bare,
    /// Debian's, with its modules on a disk of their own.
    #[default]
    Debian,
    /// Ours, with everything built in: it starts faster, so it comes first.
    Slim,
}

impl fmt::Display for KernelKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bare => "bare",
            Self::Debian => "debian",
            Self::Slim => "slim",
        })
    }
}

/// A kernel that is ready to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// What `uname -r` says in the guest.
    pub release: String,
    /// Where the kernel came from, for a person: the package file's name.
    pub source: String,
    /// Whose configuration it has.
    #[serde(default)]
    pub kind: KernelKind,
    /// The hash of what a kernel of our own was built from; `None` for an imported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The folder that holds the kernel's files.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Kernel {
    /// Reads the description of a kernel that was prepared in this folder.
    ///
    /// # Errors
    /// [`KernelError::File`]: there is none, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self, KernelError> {
        let path = folder.join("kernel.json");
        let text = fs::read(&path).map_err(file("read", &path))?;
        let kernel: Self =
            serde_json::from_slice(&text).map_err(|error| file("read", &path)(error.into()))?;
        Ok(Self { folder: folder.to_owned(), ..kernel })
    }

    /// The kernel in a few words, for a person: `6.1.0-56-cloud-amd64 (debian)`.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} ({})", self.release, self.kind)
    }

    /// The kernel itself, an uncompressed ELF file with a PVH entry point.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// All modules, as a file system to be mounted on `/lib/modules/RELEASE`. `None` for a kernel without modules.
    #[must_use]
    pub fn modules_disk(&self) -> Option<PathBuf> {
        Some(self.folder.join("modules.ext4")).filter(|path| path.exists())
    }

    /// The modules that the initramfs holds.
    pub(crate) fn early_modules(&self) -> PathBuf {
        self.folder.join("early")
    }
}

/// A kernel could not be found or prepared.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is none yet.
    #[error("there is no kernel in {folder} yet: run `dozlab kernel import`")]
    None {
        /// The kernels' folder.
        folder: PathBuf,
    },
    /// There are some, but not the one that was asked for.
    #[error("there is no kernel `{wanted}`: `dozlab kernel ls` lists what there is")]
    NoSuchKernel {
        /// A release or a kind.
        wanted: String,
    },
    /// One of our own could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// apt could not download one.
    #[error(
        "cannot download Debian's kernel: {source}; a package file from elsewhere can be given to `dozlab kernel import FILE`"
    )]
    Download {
        /// What apt said.
        source: ToolError,
    },
    /// The package has no kernel in it.
    #[error("{package} is no kernel package: it has no {missing}")]
    NotAKernelPackage {
        /// The package file.
        package: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// The kernel in it cannot be unpacked.
    #[error("cannot unpack the kernel of {package}: {source}")]
    Payload {
        /// The package file.
        package: PathBuf,
        /// Why.
        source: PayloadError,
    },
    /// A tool is missing or failed.
    #[error("cannot prepare the kernel: {0}")]
    Tool(#[from] ToolError),
    /// The initramfs could not be written.
    #[error("cannot prepare the kernel: {0}")]
    Initramfs(#[from] InitramfsError),
    /// The file is no kernel that can be booted as it is.
    #[error(
        "{path} is no uncompressed ELF kernel: name a vmlinux, or one that `dozlab kernel import` prepared"
    )]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> KernelError + 'a {
    move |source| KernelError::File { action, path: path.to_owned(), source }
}
