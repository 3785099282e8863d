//! A layout: a folder with `oci-layout`, `index.json` and `blobs/sha256/…`.
//!
//! Layouts are read where they lie, and written by [`archive`](crate::archive) and the registry client. Documents
//! (index, manifest, configuration) are small, limited, and read whole; layers are not.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, ImageIndex, MediaType, OciLayout};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use crate::blob::{self, VerifiedReader};
use crate::image::Image;

/// The most that is read of one document, the limit that registries set on manifests.
pub(crate) const LARGEST_DOCUMENT: u64 = 4 << 20;
const VERSION_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";

/// A layout on disk.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
}

/// A layout, or the image in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of the layout could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the layout could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is something else.
    #[error("{} is no OCI layout: {reason}", folder.display())]
    NotALayout {
        /// The folder.
        folder: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A document is not what it should be.
    #[error("the {what} {} is damaged: {reason}", path.display())]
    BadDocument {
        /// Which document.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The layout lacks the image that was asked for.
    #[error("there is no image `{tag}`{}", describe(available))]
    NoSuchImage {
        /// The tag that was asked for.
        tag: String,
        /// What there is.
        available: Vec<String>,
    },
    /// There are several images, and none was asked for.
    #[error("there are several images, give one as `:TAG` behind the path{}", describe(available))]
    Several {
        /// What there is.
        available: Vec<String>,
    },
    /// The image is made for other machines only.
    #[error("the image is not made for {wanted}, only for: {}", available.join(", "))]
    Platform {
        /// This machine's platform.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// It is an artifact, an encrypted image, or has a form that is not known here.
    #[error("this is no image that can be unpacked: {0}")]
    Unsupported(String),
}

fn describe(available: &[String]) -> String {
    if available.is_empty() {
        return String::new();
    }
    format!(": there are {}", available.join(", "))
}

impl Layout {
    /// Opens the layout in `folder`.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`], [`LayoutError::Read`].
    pub fn open(folder: &Path) -> Result<Self, LayoutError> {
        let not_a_layout = |reason: String| LayoutError::NotALayout { folder: folder.to_owned(), reason };
        let layout = Self { folder: folder.to_owned() };
        let path = folder.join(VERSION_FILE);
        if !path.exists() {
            return Err(not_a_layout(format!("it has no file `{VERSION_FILE}`")));
        }
        let version: OciLayout = layout.read_file(&path, "layout version")?;
        if !version.image_layout_version().starts_with("1.") {
            return Err(not_a_layout(format!("its version {:?} is unknown", version.image_layout_version())));
        }
        Ok(layout)
    }

    /// Whether `folder` looks like a layout rather than a root file system.
    #[must_use]
    pub fn is_one(folder: &Path) -> bool {
        folder.join(VERSION_FILE).is_file() && folder.join(INDEX_FILE).is_file()
    }

    /// Where the layout is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image with this tag (the annotation `org.opencontainers.image.ref.name`), or the only one; of an
    /// image for several platforms, the one for this machine.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn image(&self, tag: Option<&str>) -> Result<Image, LayoutError> {
        let index: ImageIndex = self.read_file(&self.folder.join(INDEX_FILE), "index")?;
        Image::choose(self, &index, tag)
    }

    /// Opens a blob to be read to its end, which is where it is verified.
    ///
    /// # Errors
    /// [`LayoutError::Unsupported`] for a digest that is no SHA-256, [`LayoutError::Read`].
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifiedReader<File>, LayoutError> {
        let path = self.blob(descriptor.digest())?;
        let file = open(&path).map_err(|source| LayoutError::Read { path, source })?;
        Ok(VerifiedReader::new(file, descriptor))
    }

    /// Reads a document that is a blob.
    pub(crate) fn document<T: DeserializeOwned>(
        &self,
        descriptor: &Descriptor,
        what: &'static str,
    ) -> Result<T, LayoutError> {
        let path = self.blob(descriptor.digest())?;
        let mut bytes = Vec::new();
        self.open_blob(descriptor)?
            .take(LARGEST_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| LayoutError::Read { path: path.clone(), source })?;
        parse(&bytes, what, &path)
    }

    fn read_file<T: DeserializeOwned>(&self, path: &Path, what: &'static str) -> Result<T, LayoutError> {
        let mut bytes = Vec::new();
        open(path)
            .and_then(|file| file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes))
            .map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
        parse(&bytes, what, path)
    }

    /// Where a blob lies, or is to lie.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<PathBuf, LayoutError> {
        if !blob::is_sha256(digest) {
            return Err(LayoutError::Unsupported(format!("the digest {digest} is no sha256")));
        }
        Ok(self.folder.join("blobs/sha256").join(digest.digest()))
    }

    /// Makes the folders of a new layout in `folder`, which may exist, for this user alone.
    pub(crate) fn create(folder: &Path) -> Result<Self, LayoutError> {
        let blobs = folder.join("blobs/sha256");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&blobs)
            .map_err(|source| LayoutError::Write { path: blobs, source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes a document as a blob, and says what it is.
    pub(crate) fn write_document(
        &self,
        media_type: MediaType,
        bytes: &[u8],
    ) -> Result<Descriptor, LayoutError> {
        let descriptor = Descriptor::new(media_type, bytes.len() as u64, blob::sha256(bytes));
        let path = self.blob(descriptor.digest())?;
        fs::write(&path, bytes).map_err(|source| LayoutError::Write { path, source })?;
        Ok(descriptor)
    }

    /// Writes `oci-layout` and an index with this one manifest: the layout is complete.
    pub(crate) fn complete(&self, manifest: Descriptor) -> Result<(), LayoutError> {
        let index = ImageIndexFile { schema_version: 2, manifests: [manifest] };
        let index = serde_json::to_vec(&index).expect("an index has only strings and numbers");
        for (name, bytes) in
            [(INDEX_FILE, index.as_slice()), (VERSION_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)]
        {
            let path = self.folder.join(name);
            fs::write(&path, bytes).map_err(|source| LayoutError::Write { path, source })?;
        }
        Ok(())
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageIndexFile {
    schema_version: u32,
    manifests: [Descriptor; 1],
}

pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
    path: &Path,
) -> Result<T, LayoutError> {
    let bad = |reason| LayoutError::BadDocument { what, path: path.to_owned(), reason };
    if bytes.len() as u64 > LARGEST_DOCUMENT {
        return Err(bad(format!("it has more than {LARGEST_DOCUMENT} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))
}

/// Opens a regular file, and neither follows a link to another place nor waits at a FIFO.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}
