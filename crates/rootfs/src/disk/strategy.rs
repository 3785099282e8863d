//! How a session gets its own disk of an image that many share.
//!
//! | strategy | needs | a session's start costs | a session's disk takes |
//! |---|---|---|---|
//! | reflink | a file system that clones files (xfs, btrfs, bcachefs) | nothing | what it writes |
//! | overlay | an image that stays for as long as the session; overlayfs in the guest's kernel | nothing | what it writes |
//! | copy | nothing | the image's data is copied | the image's data, and what it writes |
//!
//! A reflink is the best of them: the guest sees one plain ext4. So it is taken where it can be had, the
//! overlay where it cannot, the copy where somebody asks for it or the other two are out of the question.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::ioctl_ficlone;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::store::Store;

/// How a session's disk comes from its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// A clone that shares its blocks with the image until it writes them (`FICLONE`).
    Reflink,
    /// The image itself, read-only, under a writable disk of the session's own; the guest mounts the two as one.
    Overlay,
    /// A copy of the image's data, without its holes.
    Copy,
}

impl Strategy {
    /// The word for it: `reflink`, `overlay`, `copy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Overlay => "overlay",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The word was none of the strategies'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way to make a disk: use auto, reflink, overlay or copy")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(word: &str) -> Result<Self, UnknownStrategy> {
        [Self::Reflink, Self::Overlay, Self::Copy]
            .into_iter()
            .find(|strategy| strategy.as_str() == word)
            .ok_or_else(|| UnknownStrategy(word.to_owned()))
    }
}

/// How a disk that is one file is cloned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloning {
    /// By reflink where the file system has it, else by copy.
    #[default]
    Auto,
    /// By reflink, or not at all.
    Reflink,
    /// By copy, although a reflink might do.
    Copy,
}

impl Cloning {
    /// The word for it: `auto`, `reflink`, `copy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }
}

/// The word was none of the ways to clone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way to clone a disk: use auto, reflink or copy")]
pub struct UnknownCloning(String);

impl FromStr for Cloning {
    type Err = UnknownCloning;

    fn from_str(word: &str) -> Result<Self, UnknownCloning> {
        [Self::Auto, Self::Reflink, Self::Copy]
            .into_iter()
            .find(|cloning| cloning.as_str() == word)
            .ok_or_else(|| UnknownCloning(word.to_owned()))
    }
}

/// The strategy that suits a folder, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suited {
    /// The strategy.
    pub strategy: Strategy,
    /// The reason, for a person.
    pub reason: String,
}

/// The strategy for sessions whose disks are in `folder` and whose images are in `store`: a clone is tried. The
/// folder must be there.
#[must_use]
pub fn suited(store: &Store, folder: &Path) -> Suited {
    let overlay = |reason: String| Suited { strategy: Strategy::Overlay, reason };
    match try_reflink(store, folder) {
        Ok(()) => Suited { strategy: Strategy::Reflink, reason: "the file system clones files".to_owned() },
        Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
            overlay("images and sessions are on different file systems, so none can be cloned".to_owned())
        }
        Err(error) => overlay(format!("the file system does not clone files ({error})")),
    }
}

/// Whether a file of the store can be cloned into the folder. The store's lock is the file: its being empty
/// changes nothing about the answer.
fn try_reflink(store: &Store, folder: &Path) -> io::Result<()> {
    let source = File::open(store.lock_path())?;
    let target = tempfile::tempfile_in(folder)?;
    Ok(ioctl_ficlone(&target, &source)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_reads_back_and_other_words_are_refused() {
        for strategy in [Strategy::Reflink, Strategy::Overlay, Strategy::Copy] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        let error = "zfs".parse::<Strategy>().unwrap_err().to_string();
        assert!(error.contains("reflink, overlay or copy"), "{error}");
    }
}
