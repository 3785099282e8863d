//! Writes what a build has made into a folder, to be carried elsewhere:
//!
//! ```text
//!   NAME.ext4.zst           the image, compressed
//!   NAME.ext4.zst.sha256    its digest, as `sha256sum --check` reads it
//!   NAME.provenance.json    what it was built from
//!   NAME.spdx.json          what is in it
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Built;
use super::provenance::Subject;
use crate::cancel::{CancelFlag, run_blocking};
use crate::progress::{Progress, Stage, Unit, Update};
use crate::space::{self, NoSpace};
use crate::store::{Digest, Store, StoreError};

/// zstd's level. For the `vm` image, 3 takes 2 s and 12 % more bytes; 19 takes minutes for 7 % fewer.
const LEVEL: i32 = 12;

/// The image's files could not be written; none of them is there half.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store no longer has the image.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk was full.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PublishError {
    fn write(path: &Path, source: io::Error) -> Self {
        let folder = path.parent().unwrap_or(path);
        match space::ran_out(&source, folder, 0) {
            Some(no_space) => Self::NoSpace(no_space),
            None => Self::Write { path: path.to_owned(), source },
        }
    }
}

/// The files that were written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// The compressed image.
    pub image: PathBuf,
    /// The SHA-256 of that file.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The file with the digest.
    pub digest_file: PathBuf,
    /// What the image was built from.
    pub provenance: PathBuf,
    /// What is in it.
    pub software: PathBuf,
}

impl Built {
    /// Writes the image and its documents into `folder`, which is made where it is not there. Files that are
    /// there give way, each when the new one is complete.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(
        &self,
        store: &Store,
        folder: &Path,
        progress: Arc<dyn Progress>,
    ) -> Result<Published, PublishError> {
        let held = store.hold(&self.record.digest.to_string())?;
        let (built, folder) = (self.clone(), folder.to_owned());
        run_blocking(move |cancel| {
            fs::create_dir_all(&folder).map_err(|error| PublishError::write(&folder, error))?;
            let image_name = format!("{}.ext4.zst", built.record.name);
            let image = folder.join(&image_name);
            let (digest, size) = replace(&image, |file| compress(held.path(), file, &*progress, &cancel))?;
            let compressed = Subject { name: &image_name, sha256: digest.digits() };
            let plain_name = format!("{}.ext4", built.record.name);
            let plain = Subject { name: &plain_name, sha256: built.record.digest.digits() };

            let beside = |ending: &str| folder.join(format!("{}.{ending}", built.record.name));
            let published = Published {
                digest_file: beside("ext4.zst.sha256"),
                provenance: beside("provenance.json"),
                software: beside("spdx.json"),
                image,
                digest: digest.clone(),
                size,
            };
            let software = built.provenance.software(&plain);
            write_json(&published.software, &software)?;
            write_json(&published.provenance, &built.provenance.statement(&[compressed, plain]))?;
            replace(&published.digest_file, |file| {
                file.write_all(format!("{}  {image_name}\n", digest.digits()).as_bytes())
            })?;
            Ok(published)
        })
        .await
    }
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), PublishError> {
    replace(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

/// Writes a file beside `path`, syncs it, and moves it there.
fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> Result<T, PublishError> {
    let failure = |error| PublishError::write(path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut partial = tempfile::Builder::new()
        .prefix(".dozlab-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failure)?;
    let written = write(partial.as_file_mut()).map_err(failure)?;
    partial.as_file().sync_all().map_err(failure)?;
    partial.persist(path).map_err(|error| failure(error.error))?;
    Ok(written)
}

/// Compresses `image` into `file`; returns the digest and length of what was written.
fn compress(
    image: &Path,
    file: &mut File,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> io::Result<(Digest, u64)> {
    let mut source = File::open(image)?;
    let total = source.metadata()?.len();
    let mut encoder = zstd::Encoder::new(Hashed { file, hasher: Sha256::new(), written: 0 }, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(total))?;
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        cancel.check()?;
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        encoder.write_all(&buffer[..count])?;
        done += count as u64;
        let unit = Unit::Bytes;
        progress.update(Update { stage: Stage::Compress, done, total: Some(total), unit, message: "" });
    }
    let hashed = encoder.finish()?;
    Ok((Digest::from_bytes(&hashed.hasher.finalize().into()), hashed.written))
}

struct Hashed<'a> {
    file: &'a mut File,
    hasher: Sha256,
    written: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
