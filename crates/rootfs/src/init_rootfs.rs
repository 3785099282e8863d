//! `dozlab init-rootfs`: the container that puts a session's disk in place, by environment variables.
//!
//! The disk comes from the first of these that is given, the order that the seed's container has:
//!
//! 1. a complete disk at `IMAGE_PATH`, which is kept as it is;
//! 2. `IMAGE_DOWNLOAD_URL`: an `http://`, `https://`, `s3://`, `gs://` or `file://` URL, an absolute path, an OCI
//!    image (`oci://HOST/NAME:TAG`, `docker://NAME:TAG`), or the name of an image in the store that `IMAGE_STORE_DIR`
//!    names;
//! 3. the image at `LOCAL_DEV_IMAGE_PATH`.
//!
//! With `IMAGE_CACHE_DIR` an image is fetched into the store there, once for all sessions of a machine, and the disk is
//! a clone of it. With `WRITABLE_DISK_PATH` the image itself is put at `IMAGE_PATH`, as it is, and the disk that the
//! guest lays over it is made in its own place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dozlab_fetch::{Expected, Fetcher, Location, Policy};
use dozlab_oci::ImageReference;

use crate::disk::{
    Cloning, FetchDiskError, PrepareError, Prepared, SeedFile, TemporaryStore, prepare, prepare_fetched,
    prepare_file, prepare_overlay, prepare_writable,
};
use crate::import::{ImportError, RemoteImage};
use crate::progress::Progress;
use crate::receive::ReceiveError;
use crate::store::{HeldImage, Store, StoreError};
use crate::superblock::Superblock;

mod seed;
mod settings;

pub use settings::{BadVariable, ImageSource, InitRootfs, WritableDisk};

/// The disk is not in place.
#[derive(Debug, thiserror::Error)]
pub enum InitRootfsError {
    /// No image is named, and the usual one is not there.
    #[error(
        "there is no image: {} is not there, IMAGE_DOWNLOAD_URL is empty, and {} is not there either",
        target.display(), fallback.display()
    )]
    NoImage {
        /// `IMAGE_PATH`.
        target: PathBuf,
        /// `LOCAL_DEV_IMAGE_PATH`.
        fallback: PathBuf,
    },
    /// The store has no such image, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The fetcher cannot be made.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The image could not be fetched into the store.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The image could not be fetched into its place.
    #[error(transparent)]
    Fetch(#[from] FetchDiskError),
    /// The disk could not be made of the image.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

impl InitRootfs {
    /// Puts the disk in place.
    ///
    /// # Errors
    /// See [`InitRootfsError`]. A disk is then either absent or what it was before.
    pub async fn run(&self, progress: Arc<dyn Progress>) -> Result<Prepared, InitRootfsError> {
        let prepared = self.prepare(progress).await?;
        let disk = self.writable.as_ref().map_or(&self.target, |writable| &writable.path).display();
        let (size, method) = (prepared.size, prepared.method);
        let steps = prepared.steps.iter().map(|(stage, took)| format!("{stage} {:.3} s", took.as_secs_f64()));
        let steps = steps.collect::<Vec<_>>().join(", ");
        tracing::info!(%disk, size, ?method, %steps, "disk ready");
        Ok(prepared)
    }

    async fn prepare(&self, progress: Arc<dyn Progress>) -> Result<Prepared, InitRootfsError> {
        let image = self.image(&progress).await?;
        let Some(writable) = &self.writable else {
            return self.make_disk(&image, Some(self.size), &self.seed, progress).await;
        };
        let WritableDisk { path, size } = writable;
        if let Image::Held(image) = &image {
            return Ok(prepare_overlay(image, &self.target, path, *size, &self.seed, progress).await?);
        }
        let base = self.make_disk(&image, None, &[], Arc::clone(&progress)).await?;
        let disk = prepare_writable(path, *size, &self.seed, progress).await?;
        let steps = base.steps.into_iter().chain(disk.steps).collect();
        Ok(Prepared { steps, ..disk })
    }

    /// Which image it is, fetched if a store is to keep it.
    async fn image(&self, progress: &Arc<dyn Progress>) -> Result<Image, InitRootfsError> {
        if self.target.exists() {
            return Ok(Image::InPlace);
        }
        let location = match &self.source {
            Some(ImageSource::Stored { store, reference }) => {
                return Ok(Image::Held(Store::open(store)?.hold(reference)?));
            }
            Some(ImageSource::Oci(reference)) => return self.pull(reference, progress).await,
            Some(ImageSource::Location(location)) => location.clone(),
            None if self.fallback.exists() => Location::File(self.fallback.clone()),
            None => {
                let (target, fallback) = (self.target.clone(), self.fallback.clone());
                return Err(InitRootfsError::NoImage { target, fallback });
            }
        };
        match &self.cache {
            Some(cache) => {
                let remote = RemoteImage { location: &location, sha256: self.sha256, name: None };
                let (store, options) = (Store::open(cache)?, self.import.clone());
                Ok(Image::Held(store.fetch(&self.fetcher()?, remote, options, Arc::clone(progress)).await?))
            }
            None => Ok(Image::At(location)),
        }
    }

    /// Pulls an OCI image, into a store that goes afterwards where none is to keep it.
    async fn pull(
        &self,
        reference: &ImageReference,
        progress: &Arc<dyn Progress>,
    ) -> Result<Image, InitRootfsError> {
        let (options, progress) = (self.import.clone(), Arc::clone(progress));
        if let Some(cache) = &self.cache {
            return Ok(Image::Held(Store::open(cache)?.fetch_oci(reference, options, progress).await?));
        }
        let temporary = TemporaryStore::beside(&self.target)?;
        let image = temporary.store().fetch_oci(reference, options, progress).await?;
        Ok(Image::Temporary(image, temporary))
    }

    /// Makes the disk at `IMAGE_PATH`, of so many bytes or of as many as the image has, with the files of `seed`.
    async fn make_disk(
        &self,
        image: &Image,
        size: Option<u64>,
        seed: &[SeedFile],
        progress: Arc<dyn Progress>,
    ) -> Result<Prepared, InitRootfsError> {
        let target = &self.target;
        let location = match image {
            // It is kept, whatever its size.
            Image::InPlace => {
                return Ok(prepare_file(target, target, self.size, Cloning::Auto, &[], progress).await?);
            }
            Image::Temporary(image, _) => {
                let size = size.unwrap_or(image.record().size);
                return Ok(prepare_file(image.path(), target, size, self.cloning, seed, progress).await?);
            }
            Image::Held(image) => {
                let size = size.unwrap_or(image.record().size);
                return Ok(prepare(image, target, size, self.cloning, seed, progress).await?);
            }
            Image::At(location) => location,
        };
        if let Location::File(path) = location
            && self.sha256.is_none()
            && let Some(as_it_is) = ext4_size(path)
        {
            // Cloned where it lies; nothing has to go through memory.
            let size = size.unwrap_or(as_it_is);
            return Ok(prepare_file(path, target, size, Cloning::Auto, seed, progress).await?);
        }
        let expected = Expected { sha256: self.sha256, ..Expected::default() };
        Ok(prepare_fetched(&self.fetcher()?, location, &expected, target, size, seed, progress).await?)
    }

    fn fetcher(&self) -> Result<Fetcher, InitRootfsError> {
        let fetcher = Fetcher::new(self.secrets.clone(), Policy::default());
        Ok(fetcher.map_err(ReceiveError::from)?)
    }
}

/// The image that a session gets.
enum Image {
    /// The disk is there already.
    InPlace,
    /// In a store.
    Held(HeldImage),
    /// In a store that goes with this value.
    Temporary(HeldImage, #[expect(dead_code, reason = "it is held, not read")] TemporaryStore),
    /// To be fetched straight into its place.
    At(Location),
}

/// Bytes of the ext4 file system in a file.
fn ext4_size(path: &Path) -> Option<u64> {
    let file = std::fs::File::open(path).ok()?;
    Superblock::read(&file).ok()?.map(|superblock| superblock.size())
}
