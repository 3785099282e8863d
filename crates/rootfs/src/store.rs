//! The content-addressed image store: a folder that many processes use at once.
//!
//! ```text
//!   lock                        held, briefly, by whoever changes names or publishes
//!   images/NAME.json            one ImageRecord a name
//!   blobs/sha256/DIGEST.ext4    the images themselves, read-only; several names may share one
//!   grown/DIGEST-SIZE.ext4      images grown to what sessions ask for, made again at any time
//!   leases/DIGEST/              who lies over an image from another file system, see `attach`
//!   sources/                    where images were fetched from, see `sources`
//!   tmp/                        a locked folder for each import under way, see [`Workspace`]
//! ```
//!
//! An image is made in `tmp/`, synced, and renamed into place under the lock, the blob before the record: at
//! every moment the store is whole. A crash leaves a folder in `tmp/`, or at worst a blob without a name; the
//! next [`Store::open`] sweeps both. Whoever reads a blob holds a shared lock on it ([`HeldImage`]), and a
//! blob that is held is not removed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dozlab_process::Workspace;
use rustix::fs::{Access, FlockOperation, flock};

use crate::disk::folder_of;

mod attach;
mod grown;
mod hold;
mod inspect;
mod name;
mod prune;
mod record;
pub(crate) mod sources;

pub(crate) use grown::protect;
pub use hold::HeldImage;
use hold::{is_held, touch};
pub use inspect::{Inspection, Verified, VerifyError};
pub use name::{BadName, ImageName};
pub use prune::Pruned;
pub use record::{Digest, ImageRecord};

/// The fewest digits of a digest by which an image can be named.
const SHORTEST_DIGEST: usize = 4;

/// An image store in a folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// Whether this process may write to it.
    writable: bool,
}

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of the store could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record is not what this program writes.
    #[error(
        "the image record {} is damaged ({reason}): remove that file, then import the image again",
        path.display()
    )]
    BadRecord {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No image has this name, or a digest that begins so.
    #[error("there is no image `{reference}`{}", describe_names(available))]
    NoSuchImage {
        /// What was asked for.
        reference: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// Several images have a digest that begins so.
    #[error("`{reference}` fits several images: {}; give more digits, or a name", names.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// The names that fit.
        names: Vec<String>,
    },
    /// The name cannot be one of an image.
    #[error(transparent)]
    BadName(#[from] BadName),
}

fn describe_names(available: &[String]) -> String {
    if available.is_empty() {
        return ": the store is empty, import or build an image first".to_owned();
    }
    format!(": there are {}", available.join(", "))
}

/// What removing a name did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The record that is gone.
    pub record: ImageRecord,
    /// What became of the image itself.
    pub blob: RemovedBlob,
}

/// What became of an image when one of its names was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedBlob {
    /// It is gone, and so many bytes of disk are free again.
    Freed(u64),
    /// Other names use it.
    StillNamed(Vec<String>),
    /// Somebody is reading it; it goes with the first [`Store::open`] after that.
    InUse,
}

impl Store {
    /// Opens the store in `folder`, makes it (mode 0700) where it is not there, and sweeps what a crash has
    /// left. A store in a folder that may only be read can be read.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the folder cannot be made or read; [`StoreError::BadRecord`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let mut store = Self { folder: folder.to_owned(), writable: true };
        if folder.is_dir() && rustix::fs::access(folder, Access::WRITE_OK).is_err() {
            store.writable = false;
            return Ok(store);
        }
        let parts = [store.images(), store.blobs(), store.grown_folder(), store.sources(), store.temporary()];
        for part in std::iter::once(folder.to_owned()).chain(parts) {
            DirBuilder::new().recursive(true).mode(0o700).create(&part).map_err(io_error("make", &part))?;
        }
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_error("protect", folder))?;
        let _lock = store.lock()?;
        Workspace::sweep(&store.temporary(), "").map_err(io_error("sweep", &store.temporary()))?;
        store.sweep_nameless_blobs()?;
        store.sweep_grown()?;
        Ok(store)
    }

    /// Where the store is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All images, by name.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::BadRecord`].
    pub fn list(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let folder = self.images();
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let path = entry.map_err(io_error("read", &folder))?.path();
            let is_record = path.extension().is_some_and(|extension| extension == "json");
            if !is_record {
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => records.push(ImageRecord::parse(&bytes, &path)?),
                // Another process has removed the image meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("read", &path)(error)),
            }
        }
        records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(records)
    }

    /// The image with this name, or with a digest that begins so (at least four digits, `sha256:` may lead).
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`] and [`StoreError::Ambiguous`]; those of [`list`](Self::list).
    pub fn get(&self, reference: &str) -> Result<ImageRecord, StoreError> {
        let records = self.list()?;
        if let Some(record) = records.iter().find(|record| record.name.as_str() == reference) {
            return Ok(record.clone());
        }
        let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
        let fitting: Vec<&ImageRecord> = records
            .iter()
            .filter(|record| digits.len() >= SHORTEST_DIGEST && record.digest.digits().starts_with(digits))
            .collect();
        let Some(first) = fitting.first() else {
            let available = records.iter().map(|record| record.name.to_string()).collect();
            return Err(StoreError::NoSuchImage { reference: reference.to_owned(), available });
        };
        if fitting.iter().any(|record| record.digest != first.digest) {
            let names = fitting.iter().map(|record| record.name.to_string()).collect();
            return Err(StoreError::Ambiguous { reference: reference.to_owned(), names });
        }
        Ok((*first).clone())
    }

    /// Removes a name, and the image with its last name, unless somebody holds it.
    ///
    /// # Errors
    /// Those of [`get`](Self::get); [`StoreError::Io`].
    pub fn remove(&self, name: &str) -> Result<Removed, StoreError> {
        let _lock = self.lock()?;
        let record = self.get(name)?;
        let path = self.record_path(&record.name);
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        sync_folder(&self.images())?;
        let blob = self.remove_blob_without_name(&record.digest)?;
        Ok(Removed { record, blob })
    }

    /// A temporary folder of this store, for one import.
    pub(crate) fn workspace(&self) -> Result<Workspace, StoreError> {
        let _lock = self.lock()?;
        let folder = self.temporary();
        Workspace::create(&folder, "import-").map_err(io_error("make a folder in", &folder))
    }

    /// Moves a finished, synced image into the store under the record's name, which it takes from the image
    /// that had it before.
    pub(crate) fn publish(&self, image: &Path, record: &ImageRecord) -> Result<(), StoreError> {
        let blob = self.blob(&record.digest);
        let _lock = self.lock()?;
        if !blob.exists() {
            fs::set_permissions(image, Permissions::from_mode(0o400)).map_err(io_error("protect", image))?;
            fs::rename(image, &blob).map_err(io_error("move the image to", &blob))?;
            sync_folder(&self.blobs())?;
        }
        let path = self.record_path(&record.name);
        let former = fs::read(&path).ok().and_then(|bytes| ImageRecord::parse(&bytes, &path).ok());
        self.write_record(&path, record)?;
        if let Some(former) = former.filter(|former| former.digest != record.digest) {
            self.remove_blob_without_name(&former.digest)?;
        }
        Ok(())
    }

    fn write_record(&self, path: &Path, record: &ImageRecord) -> Result<(), StoreError> {
        self.replace(path, &record.to_json())
    }

    /// Writes a whole file in one step. The store's lock must be held.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        // The lock is held: nobody else writes this temporary name.
        let temporary = path.with_extension("json.partial");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(io_error("write", &temporary))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, path).map_err(io_error("write", path))?;
        sync_folder(folder_of(path))
    }

    /// The store's lock must be held.
    fn remove_blob_without_name(&self, digest: &Digest) -> Result<RemovedBlob, StoreError> {
        let names = self.names_of(digest)?;
        if !names.is_empty() {
            return Ok(RemovedBlob::StillNamed(names));
        }
        let path = self.blob(digest);
        let blob = match File::open(&path) {
            Ok(blob) => blob,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RemovedBlob::Freed(0)),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        if is_held(&blob) || !self.leased_to(digest)?.is_empty() {
            return Ok(RemovedBlob::InUse);
        }
        let stored = blob.metadata().map_err(io_error("read", &path))?;
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        sync_folder(&self.blobs())?;
        Ok(RemovedBlob::Freed(std::os::unix::fs::MetadataExt::blocks(&stored) * 512))
    }

    /// The store's lock must be held.
    fn sweep_nameless_blobs(&self) -> Result<(), StoreError> {
        self.blob_digests()?.iter().try_for_each(|digest| self.remove_blob_without_name(digest).map(drop))
    }

    /// The digests of all images, with or without a name.
    fn blob_digests(&self) -> Result<Vec<Digest>, StoreError> {
        let folder = self.blobs();
        let mut digests = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let name = entry.map_err(io_error("read", &folder))?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".ext4"));
            digests.extend(digits.and_then(Digest::from_digits));
        }
        Ok(digests)
    }

    /// The names of the image with this digest.
    fn names_of(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let records = self.list()?.into_iter().filter(|record| record.digest == *digest);
        Ok(records.map(|record| record.name.to_string()).collect())
    }

    /// Waits for the store's lock, which goes with the returned file. It can be taken without writing.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.lock_path();
        let mut options = OpenOptions::new();
        if self.writable {
            options.write(true).create(true).truncate(false).mode(0o600);
        } else {
            options.read(true);
        }
        let file = options.open(&path).map_err(io_error("open", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| io_error("lock", &path)(error.into()))?;
        Ok(file)
    }

    /// The file whose lock is the store's.
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn images(&self) -> PathBuf {
        self.folder.join("images")
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("sources")
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{}.ext4", digest.digits()))
    }

    fn record_path(&self, name: &ImageName) -> PathBuf {
        self.images().join(format!("{name}.json"))
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}
