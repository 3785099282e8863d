//! The container's variables, read and checked.

use std::path::PathBuf;

use dozlab_fetch::{Location, LocationError, Secrets, SettingsError};
use dozlab_oci::{ImageReference, ReferenceError};
use dozlab_session::size::{ByteSize, SizeError};

use super::seed;
use crate::disk::{Cloning, SeedFile, UnknownCloning};
use crate::import::ImportOptions;

const DEFAULT_IMAGE_PATH: &str = "/srv/vm/kernels/image.ext4";
const DEFAULT_LOCAL_DEV_IMAGE_PATH: &str = "/app/image.ext4";
const DEFAULT_SIZE: &str = "1G";

/// The container's variables, read.
#[derive(Clone, Debug)]
pub struct InitRootfs {
    /// `IMAGE_DOWNLOAD_URL`: where the image comes from. Default: none.
    pub source: Option<ImageSource>,
    /// `IMAGE_SHA256`: the SHA-256 of the image as it is transferred. Default: none, and it is not checked.
    pub sha256: Option<[u8; 32]>,
    /// `IMAGE_SIZE`: the disk in bytes, `4G` in the variable. Default: 1 GiB.
    pub size: u64,
    /// `IMAGE_PATH`: the disk. Default: `/srv/vm/kernels/image.ext4`.
    pub target: PathBuf,
    /// `LOCAL_DEV_IMAGE_PATH`: the image to take where no other is named. Default: `/app/image.ext4`.
    pub fallback: PathBuf,
    /// `IMAGE_CACHE_DIR`: a store that all sessions of this machine share, where images that are fetched are kept.
    /// Default: none, and the image is fetched straight into its place.
    pub cache: Option<PathBuf>,
    /// `DISK_CLONING`: how a disk without `WRITABLE_DISK_PATH` comes from an image of a store: `auto`, `reflink`, `copy`.
    /// Default: `auto`.
    pub cloning: Cloning,
    /// `WRITABLE_DISK_PATH` and `WRITABLE_DISK_SIZE`: the disk that the guest lays over the image, which is then at
    /// `IMAGE_PATH` as it is. Default: none; 1 GiB.
    pub writable: Option<WritableDisk>,
    /// `IMAGE_BEARER_TOKEN_FILE`, `IMAGE_BEARER_TOKEN`, `IMAGE_HEADER_FILE`: what the server gets to see.
    pub secrets: Secrets,
    /// The NoCloud seed, from `SSH_AUTHORIZED_KEY`, `VM_HOSTNAME`, `SESSION_ID` and `USER_DATA`. It goes into the
    /// disk that is made; one that is kept stays as it is.
    pub seed: Vec<SeedFile>,
    /// How OCI images are pulled, from the variables that `ImportOptions` knows.
    pub import: ImportOptions,
}

/// A disk to lay over an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableDisk {
    /// The disk.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file or URL.
    Location(Location),
    /// An OCI image.
    Oci(ImageReference),
    /// An image of a local store.
    Stored {
        /// The store's folder, `IMAGE_STORE_DIR`.
        store: PathBuf,
        /// The image's name or digest.
        reference: String,
    },
}

/// A variable is set to what cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadVariable {
    /// It is no size.
    #[error("{variable}: {source}")]
    Size {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        source: SizeError,
    },
    /// It is no way of cloning.
    #[error("DISK_CLONING: {0}")]
    Cloning(#[from] UnknownCloning),
    /// It is nothing that can be fetched.
    #[error("IMAGE_DOWNLOAD_URL: {0}")]
    Location(#[from] LocationError),
    /// It is no OCI reference.
    #[error("IMAGE_DOWNLOAD_URL: {0}")]
    Reference(#[from] ReferenceError),
    /// An image's name was given, but no store to look for it.
    #[error(
        "IMAGE_DOWNLOAD_URL names the image `{reference}`, but IMAGE_STORE_DIR does not say where the \
            store is"
    )]
    NoStore {
        /// The name.
        reference: String,
    },
    /// It is no digest.
    #[error("IMAGE_SHA256: `{0}` is no SHA-256: write 64 hexadecimal digits")]
    Sha256(String),
    /// The secrets cannot be read.
    #[error(transparent)]
    Secrets(#[from] SettingsError),
}

impl InitRootfs {
    /// Reads the variables; one that is empty counts as not set.
    ///
    /// # Errors
    /// [`BadVariable`].
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, BadVariable> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let source = match lookup("IMAGE_DOWNLOAD_URL") {
            None => None,
            Some(url) => Some(ImageSource::parse(&url, lookup("IMAGE_STORE_DIR"))?),
        };
        let size = |variable: &'static str| {
            let text = lookup(variable).unwrap_or_else(|| DEFAULT_SIZE.to_owned());
            let size = ByteSize::from_disk_size(&text);
            size.map(ByteSize::as_bytes).map_err(|source| BadVariable::Size { variable, source })
        };
        let path =
            |name: &str, default: &str| PathBuf::from(lookup(name).unwrap_or_else(|| default.to_owned()));
        Ok(Self {
            source,
            sha256: lookup("IMAGE_SHA256").map(|digits| parse_sha256(&digits)).transpose()?,
            size: size("IMAGE_SIZE")?,
            target: path("IMAGE_PATH", DEFAULT_IMAGE_PATH),
            fallback: path("LOCAL_DEV_IMAGE_PATH", DEFAULT_LOCAL_DEV_IMAGE_PATH),
            cache: lookup("IMAGE_CACHE_DIR").map(PathBuf::from),
            cloning: lookup("DISK_CLONING").map(|word| word.parse()).transpose()?.unwrap_or_default(),
            writable: match lookup("WRITABLE_DISK_PATH") {
                Some(path) => Some(WritableDisk { path: path.into(), size: size("WRITABLE_DISK_SIZE")? }),
                None => None,
            },
            seed: seed::from_env(lookup),
            import: ImportOptions::from_env(lookup),
            secrets: Secrets::from_env(lookup)?,
        })
    }
}

impl ImageSource {
    fn parse(url: &str, store: Option<String>) -> Result<Self, BadVariable> {
        if ImageReference::is_one(url) || url.starts_with("oci://") {
            return Ok(Self::Oci(url.parse()?));
        }
        match Location::parse(url) {
            Ok(location) => Ok(Self::Location(location)),
            Err(LocationError::Neither { text: reference }) => match store {
                Some(store) => Ok(Self::Stored { store: store.into(), reference }),
                None => Err(BadVariable::NoStore { reference }),
            },
            Err(error) => Err(error.into()),
        }
    }
}

fn parse_sha256(text: &str) -> Result<[u8; 32], BadVariable> {
    let bad = || BadVariable::Sha256(text.to_owned());
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| bad())?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<InitRootfs, BadVariable> {
        InitRootfs::from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_means_the_seeds_defaults() {
        for variables in [&[][..], &[("IMAGE_DOWNLOAD_URL", ""), ("IMAGE_SIZE", "")]] {
            let init = read(variables).unwrap();
            assert_eq!((init.source, init.sha256, init.size), (None, None, 1 << 30));
            assert_eq!(init.target, PathBuf::from("/srv/vm/kernels/image.ext4"));
            assert_eq!(init.fallback, PathBuf::from("/app/image.ext4"));
        }
    }

    #[test]
    fn a_source_is_a_path_a_url_or_a_name() {
        let source = |url: &str| {
            read(&[("IMAGE_DOWNLOAD_URL", url), ("IMAGE_STORE_DIR", "/s")]).map(|init| init.source)
        };
        let file = |path: &str| Some(ImageSource::Location(Location::File(path.into())));
        assert_eq!(source("/a b").unwrap(), file("/a b"));
        assert_eq!(source("file:///a%20b").unwrap(), file("/a b"));
        let stored = ImageSource::Stored { store: "/s".into(), reference: "vm".into() };
        assert_eq!(source("vm").unwrap(), Some(stored));
        assert!(matches!(source("docker://debian:12").unwrap(), Some(ImageSource::Oci(_))));
        let error = source("ftp://host/file").unwrap_err().to_string();
        assert!(error.starts_with("IMAGE_DOWNLOAD_URL: `ftp://` is not supported"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let error = |name: &str, value: &str| read(&[(name, value)]).unwrap_err().to_string();
        assert!(error("IMAGE_DOWNLOAD_URL", "vm").contains("IMAGE_STORE_DIR"));
        assert!(error("IMAGE_SIZE", "big").starts_with("IMAGE_SIZE: "));
        assert!(error("IMAGE_SHA256", "12ab").starts_with("IMAGE_SHA256: "));
        assert!(error("IMAGE_BEARER_TOKEN_FILE", "/nonexistent").starts_with("IMAGE_BEARER_TOKEN_FILE: "));
    }

    #[test]
    fn digests_may_have_the_name_of_their_kind() {
        let digits = "0123456789abcdef".repeat(4);
        let digest = parse_sha256(&digits).unwrap();
        assert_eq!(digest[..2], [0x01, 0x23]);
        assert_eq!(parse_sha256(&format!("sha256:{}", digits.to_uppercase())).unwrap(), digest);
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(read(&[("IMAGE_SIZE", "1536M")]).unwrap().size, 1536 << 20);
    }
}
