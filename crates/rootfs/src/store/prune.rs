//! Removing what has not been used for longest, until the store is as small as wanted.
//!
//! Grown images go first, for they can be made again; then images, with all their names. What is in use stays, however
//! large the store: an image that a process reads holds a lock, one that a session lies over has a second hard link or a
//! lease. A second link also means that removing the image would free nothing.
//!
//! When something was last used is the modification time of its file: its bytes never change, so nothing else is said
//! by it, and no list of uses has to be kept in step.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::Serialize;

use super::{Digest, Store, StoreError, io_error, is_held, sync_folder};

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// The names of the images that are gone.
    pub images: Vec<String>,
    /// How many grown images are gone.
    pub grown: usize,
    /// Bytes of disk that are free again.
    pub freed: u64,
    /// Bytes of disk that the store takes now.
    pub kept: u64,
    /// The names of images that would have gone, but are in use.
    pub in_use: Vec<String>,
}

struct StoredFile {
    path: PathBuf,
    digest: Digest,
    metadata: Metadata,
}

impl StoredFile {
    fn stored(&self) -> u64 {
        self.metadata.blocks() * 512
    }

    fn last_use(&self) -> (i64, i64) {
        (self.metadata.mtime(), self.metadata.mtime_nsec())
    }
}

impl Store {
    /// Removes images and grown images, those first that were not used for longest, until the store takes at most
    /// `keep` bytes of disk, or all that is left is in use.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::BadRecord`]; the store is whole, and may be smaller.
    pub fn prune(&self, keep: u64) -> Result<Pruned, StoreError> {
        let _lock = self.lock()?;
        let (mut grown, mut images) = (self.stored_grown()?, self.stored_images()?);
        let mut pruned =
            Pruned { kept: grown.iter().chain(&images).map(StoredFile::stored).sum(), ..Pruned::default() };
        grown.sort_by_key(StoredFile::last_use);
        for file in grown {
            if pruned.kept > keep && self.remove_grown(&file.path)? {
                pruned.grown += 1;
                pruned.count(&file);
            }
        }
        images.sort_by_key(StoredFile::last_use);
        for image in images {
            if pruned.kept <= keep {
                break;
            }
            let names = self.names_of(&image.digest)?;
            if self.is_in_use(&image)? {
                pruned.in_use.extend(names);
                continue;
            }
            // The names first: a crash in between leaves an image without a name, which the next opening sweeps.
            for name in &names {
                let record = self.images().join(format!("{name}.json"));
                fs::remove_file(&record).map_err(io_error("remove", &record))?;
            }
            sync_folder(&self.images())?;
            fs::remove_file(&image.path).map_err(io_error("remove", &image.path))?;
            pruned.images.extend(names);
            pruned.count(&image);
        }
        Ok(pruned)
    }

    fn stored_grown(&self) -> Result<Vec<StoredFile>, StoreError> {
        let files = self.grown_files()?.into_iter().map(|grown| (grown.path, grown.digest));
        files.map(|(path, digest)| stored_file(path, digest)).collect()
    }

    fn stored_images(&self) -> Result<Vec<StoredFile>, StoreError> {
        let digests = self.blob_digests()?.into_iter();
        digests.map(|digest| stored_file(self.blob(&digest), digest)).collect()
    }

    fn is_in_use(&self, image: &StoredFile) -> Result<bool, StoreError> {
        if image.metadata.nlink() > 1 || !self.leased_to(&image.digest)?.is_empty() {
            return Ok(true);
        }
        let file = File::open(&image.path).map_err(io_error("open", &image.path))?;
        Ok(is_held(&file))
    }
}

impl Pruned {
    fn count(&mut self, file: &StoredFile) {
        self.freed += file.stored();
        self.kept -= file.stored();
    }
}

fn stored_file(path: PathBuf, digest: Digest) -> Result<StoredFile, StoreError> {
    let metadata = fs::metadata(&path).map_err(io_error("look at", &path))?;
    Ok(StoredFile { path, digest, metadata })
}
