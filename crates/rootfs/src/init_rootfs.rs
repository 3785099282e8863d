//! `dozlab init-rootfs`: the container that puts a session's disk in place, by environment variables.
//!
//! The disk comes from the first of these that is given, the order that the seed's container has:
//!
//! 1. a complete disk at `IMAGE_PATH`, which is kept as it is;
//! 2. `IMAGE_DOWNLOAD_URL`: an absolute path, a `file://` URL, or the name of an image in the store that
//!    `IMAGE_STORE_DIR` names;
//! 3. the image at `LOCAL_DEV_IMAGE_PATH`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dozlab_session::size::{ByteSize, SizeError};

use crate::disk::{Cloning, PrepareError, Prepared, prepare, prepare_file};
use crate::progress::Progress;
use crate::store::{HeldImage, Store, StoreError};

const DEFAULT_IMAGE_PATH: &str = "/srv/vm/kernels/image.ext4";
const DEFAULT_LOCAL_DEV_IMAGE_PATH: &str = "/app/image.ext4";
const DEFAULT_IMAGE_SIZE: &str = "1G";

/// The container's variables, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitRootfs {
    /// `IMAGE_DOWNLOAD_URL`: where the image comes from. Default: none.
    pub source: Option<ImageSource>,
    /// `IMAGE_SIZE`: the disk in bytes, `4G` in the variable. Default: 1 GiB.
    pub size: u64,
    /// `IMAGE_PATH`: the disk. Default: `/srv/vm/kernels/image.ext4`.
    pub target: PathBuf,
    /// `LOCAL_DEV_IMAGE_PATH`: the image to take where no other is named. Default: `/app/image.ext4`.
    pub fallback: PathBuf,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// An ext4 file.
    File(PathBuf),
    /// An image of a local store.
    Stored {
        /// The store's folder, `IMAGE_STORE_DIR`.
        store: PathBuf,
        /// The image's name or digest.
        reference: String,
    },
}

/// The disk is not in place.
#[derive(Debug, thiserror::Error)]
pub enum InitRootfsError {
    /// `IMAGE_SIZE` is no size.
    #[error("IMAGE_SIZE: {0}")]
    Size(#[from] SizeError),
    /// The URL has a scheme that is not supported.
    #[error(
        "IMAGE_DOWNLOAD_URL: `{scheme}://` is not supported; give an absolute path, a `file://` URL, or \
            an image's name"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The `file://` URL is none of this machine's.
    #[error("IMAGE_DOWNLOAD_URL: `{url}` is no file of this machine; write `file:///` and an absolute path")]
    FileUrl {
        /// The URL.
        url: String,
    },
    /// An image's name was given, but no store to look for it.
    #[error(
        "IMAGE_DOWNLOAD_URL names the image `{reference}`, but IMAGE_STORE_DIR does not say where the \
            store is"
    )]
    NoStore {
        /// The name.
        reference: String,
    },
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
    /// The disk could not be made of the image.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

impl InitRootfs {
    /// Reads the variables; one that is empty counts as not set.
    ///
    /// # Errors
    /// [`InitRootfsError::Size`], [`InitRootfsError::Scheme`], [`InitRootfsError::FileUrl`],
    /// [`InitRootfsError::NoStore`].
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, InitRootfsError> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let size = lookup("IMAGE_SIZE").unwrap_or_else(|| DEFAULT_IMAGE_SIZE.to_owned());
        let source = match lookup("IMAGE_DOWNLOAD_URL") {
            None => None,
            Some(url) => Some(ImageSource::parse(&url, lookup("IMAGE_STORE_DIR"))?),
        };
        let path =
            |name: &str, default: &str| PathBuf::from(lookup(name).unwrap_or_else(|| default.to_owned()));
        Ok(Self {
            source,
            size: ByteSize::from_disk_size(&size)?.as_bytes(),
            target: path("IMAGE_PATH", DEFAULT_IMAGE_PATH),
            fallback: path("LOCAL_DEV_IMAGE_PATH", DEFAULT_LOCAL_DEV_IMAGE_PATH),
        })
    }

    /// Puts the disk in place.
    ///
    /// # Errors
    /// [`InitRootfsError::NoImage`], [`InitRootfsError::Store`], [`InitRootfsError::Prepare`]. A disk is
    /// then either absent or what it was before.
    pub async fn run(&self, progress: Arc<dyn Progress>) -> Result<Prepared, InitRootfsError> {
        let image = match &self.source {
            // `prepare` keeps it, and looks at no image.
            _ if self.target.exists() => Image::File(&self.fallback),
            Some(ImageSource::File(path)) => Image::File(path),
            Some(ImageSource::Stored { store, reference }) => {
                Image::Held(Store::open(store)?.hold(reference)?)
            }
            None if self.fallback.exists() => Image::File(&self.fallback),
            None => {
                return Err(InitRootfsError::NoImage {
                    target: self.target.clone(),
                    fallback: self.fallback.clone(),
                });
            }
        };
        let prepared = match image {
            Image::File(path) => prepare_file(path, &self.target, self.size, Cloning::Auto, progress).await?,
            Image::Held(image) => prepare(&image, &self.target, self.size, Cloning::Auto, progress).await?,
        };
        let (disk, size, method) = (self.target.display(), prepared.size, prepared.method);
        tracing::info!(%disk, size, ?method, "disk ready");
        Ok(prepared)
    }
}

enum Image<'a> {
    File(&'a Path),
    Held(HeldImage),
}

impl ImageSource {
    fn parse(url: &str, store: Option<String>) -> Result<Self, InitRootfsError> {
        if url.starts_with('/') {
            return Ok(Self::File(url.into()));
        }
        if let Some((scheme, rest)) = url.split_once("://") {
            if !scheme.eq_ignore_ascii_case("file") {
                return Err(InitRootfsError::Scheme { scheme: scheme.to_owned() });
            }
            // The host may be named, if it is this one (RFC 8089).
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            let decoded = path.starts_with('/').then(|| decode_percent(path)).flatten();
            return decoded.map(Self::File).ok_or_else(|| InitRootfsError::FileUrl { url: url.to_owned() });
        }
        let store = store.ok_or_else(|| InitRootfsError::NoStore { reference: url.to_owned() })?;
        Ok(Self::Stored { store: store.into(), reference: url.to_owned() })
    }
}

/// Decodes `%20` and the like; `None` where the digits are wrong or stand for NUL.
fn decode_percent(text: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = u8::try_from(digit()? * 16 + digit()?).ok().filter(|value| *value != 0)?;
        decoded.push(value);
    }
    Some(std::ffi::OsString::from_vec(decoded).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<InitRootfs, InitRootfsError> {
        InitRootfs::from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_seeds_defaults() {
        let expected = InitRootfs {
            source: None,
            size: 1 << 30,
            target: "/srv/vm/kernels/image.ext4".into(),
            fallback: "/app/image.ext4".into(),
        };
        assert_eq!(read(&[]).unwrap(), expected);
        assert_eq!(read(&[("IMAGE_DOWNLOAD_URL", ""), ("IMAGE_SIZE", "")]).unwrap(), expected);
    }

    #[test]
    fn a_source_is_a_path_a_file_url_or_a_name() {
        let source = |url: &str| {
            read(&[("IMAGE_DOWNLOAD_URL", url), ("IMAGE_STORE_DIR", "/s")]).map(|init| init.source)
        };
        let file = |path: &str| Some(ImageSource::File(path.into()));
        assert_eq!(source("/a b").unwrap(), file("/a b"));
        assert_eq!(source("file:///a%20b").unwrap(), file("/a b"));
        assert_eq!(source("FILE://localhost/a").unwrap(), file("/a"));
        let stored = ImageSource::Stored { store: "/s".into(), reference: "vm".into() };
        assert_eq!(source("vm").unwrap(), Some(stored));
        for bad in ["file://server/share", "file:///a%0", "file:///a%00", "file://a"] {
            assert!(matches!(source(bad), Err(InitRootfsError::FileUrl { .. })), "{bad} was taken");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let error = read(&[("IMAGE_DOWNLOAD_URL", "s3://bucket/key")]).unwrap_err().to_string();
        assert!(error.contains("`s3://` is not supported") && error.contains("`file://`"), "{error}");
        let error = read(&[("IMAGE_DOWNLOAD_URL", "vm")]).unwrap_err().to_string();
        assert!(error.contains("IMAGE_STORE_DIR"), "{error}");
        assert!(read(&[("IMAGE_SIZE", "big")]).unwrap_err().to_string().starts_with("IMAGE_SIZE: "));
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(read(&[("IMAGE_SIZE", "1536M")]).unwrap().size, 1536 << 20);
    }
}
