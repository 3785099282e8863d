//! How long steps tell their caller how far they are.
//!
//! The library counts; whoever shows it (a bar on a terminal, a log line every few seconds) decides how.
//! Updates come from worker threads and may be frequent (each mebibyte, each package), so an implementation
//! should be quick.

use std::fmt;

/// A step that takes long enough to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// An image is fetched from where it lives, in bytes as they are transferred.
    Download,
    /// Packages are fetched from the Debian mirror.
    DownloadPackages,
    /// Packages are unpacked and configured.
    InstallPackages,
    /// A tar or folder is read and its files are laid out.
    Unpack,
    /// An ext4 file system is made of the files.
    MakeFileSystem,
    /// A file system is checked by `e2fsck`.
    Check,
    /// An image is copied, or cloned.
    Copy,
    /// The image's SHA-256 is computed.
    Digest,
    /// A disk is grown to its size by `resize2fs`.
    Grow,
    /// A definition's files are laid over a tree, and its commands run in it.
    Furnish,
    /// Programs of a definition are fetched.
    FetchSources,
    /// An image is compressed.
    Compress,
    /// Data is written through to the device.
    Sync,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Download => "download",
            Self::DownloadPackages => "download packages",
            Self::InstallPackages => "install packages",
            Self::Unpack => "unpack",
            Self::MakeFileSystem => "make file system",
            Self::Check => "check",
            Self::Copy => "copy",
            Self::Digest => "compute digest",
            Self::Grow => "grow",
            Self::Furnish => "lay files and run commands",
            Self::FetchSources => "fetch programs",
            Self::Compress => "compress",
            Self::Sync => "write through",
        })
    }
}

/// What an update counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Debian packages.
    Packages,
    /// The stage as a whole: 0 of 1 when it begins, 1 of 1 when it is done.
    Steps,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// The stage.
    pub stage: Stage,
    /// What is done of it, in `unit`s.
    pub done: u64,
    /// What there is to do, where it is known.
    pub total: Option<u64>,
    /// What `done` and `total` count.
    pub unit: Unit,
    /// What is being worked on: a file, a package. May be empty.
    pub message: &'a str,
}

/// Receives the updates of a long operation.
pub trait Progress: Send + Sync {
    /// Takes one update. Called from several threads, one at a time for each stage.
    fn update(&self, update: Update<'_>);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn update(&self, _: Update<'_>) {}
}

/// Says that a stage that cannot be counted has begun.
pub(crate) fn begin(progress: &dyn Progress, stage: Stage, message: &str) {
    progress.update(Update { stage, done: 0, total: Some(1), unit: Unit::Steps, message });
}

/// Says that a stage that cannot be counted is done.
pub(crate) fn finish(progress: &dyn Progress, stage: Stage) {
    progress.update(Update { stage, done: 1, total: Some(1), unit: Unit::Steps, message: "" });
}
