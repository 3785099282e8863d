//! Archives of images: what `docker save`, `podman save` and `skopeo copy` write. Each becomes a layout.
//!
//! A docker archive holds `manifest.json`, which names the configuration and the layers by their paths in the
//! archive; layers may be symbolic or hard links to other entries. Its bodies are hashed while they are written, so
//! that they get their names in the layout without being read again. An OCI archive is a layout in a tar.
//!
//! Paths of the archive never become paths on disk: bodies are written under numbers or digests.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, MediaType};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use crate::blob::from_hash;
use crate::layout::{LARGEST_DOCUMENT, Layout, LayoutError};

/// The most entries that an archive may have; an image has a few for each layer.
const MOST_ENTRIES: usize = 20_000;
/// The most links that are followed from the name of a layer to its body.
const MOST_LINKS: usize = 8;
const PIECE: usize = 256 << 10;

/// Which kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// `docker save`.
    Docker,
    /// A layout in a tar.
    Oci,
}

/// The archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no tar, or ends early.
    #[error("the archive cannot be read to its end: {0}")]
    Broken(io::Error),
    /// It lacks something, or something in it is wrong.
    #[error("this is no archive of an image: {0}")]
    NotAnImage(String),
    /// It is larger than allowed.
    #[error("the archive is larger than allowed: more than {limit}")]
    TooLarge {
        /// The limit.
        limit: String,
    },
    /// A file of the layout cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The layout cannot be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Makes a layout in `folder` of an archive that is not compressed (any more). Of a docker archive only the image
/// with `tag` gets into the index, or the only one. Bodies of more than `max_bytes` together are refused.
///
/// # Errors
/// See [`ArchiveError`]. The folder then holds whatever was written before.
pub fn unpack(
    kind: ArchiveKind,
    archive: impl Read,
    folder: &Path,
    tag: Option<&str>,
    max_bytes: u64,
) -> Result<Layout, ArchiveError> {
    let mut unpacker = Unpacker { layout: Layout::create(folder)?, left: max_bytes, max_bytes };
    match kind {
        ArchiveKind::Docker => unpacker.docker(archive, tag),
        ArchiveKind::Oci => unpacker.oci(archive),
    }
}

struct Unpacker {
    layout: Layout,
    left: u64,
    max_bytes: u64,
}

/// What an entry of a docker archive is.
enum Item {
    Body(Box<Descriptor>),
    Link(String),
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Unpacker {
    fn docker(&mut self, archive: impl Read, tag: Option<&str>) -> Result<Layout, ArchiveError> {
        let mut items = HashMap::new();
        for_each_entry(archive, |name, entry| {
            let item = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    Item::Body(Box::new(self.body(entry, items.len())?))
                }
                // A symbolic link is relative to where it lies, a hard link to the archive's root.
                EntryType::Symlink => Item::Link(join(parent(name), &link(entry)?)),
                EntryType::Link => Item::Link(join("", &link(entry)?)),
                _ => return Ok(()),
            };
            items.insert(name.to_owned(), item);
            Ok(())
        })?;
        let list = find(&items, "manifest.json")?;
        let images: Vec<DockerImage> = self.layout.document(list, "list of images")?;
        let image = choose(&images, tag)?;
        let mut layers = Vec::new();
        for name in &image.layers {
            let layer = find(&items, name)?;
            layers.push(Descriptor::new(self.layer_type(layer)?, layer.size(), layer.digest().clone()));
        }
        let config = find(&items, &image.config)?;
        let config = Descriptor::new(MediaType::ImageConfig, config.size(), config.digest().clone());
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest,
            "config": config,
            "layers": layers,
        }))
        .expect("a manifest has only strings and numbers");
        let manifest = self.layout.write_document(MediaType::ImageManifest, &manifest)?;
        self.layout.complete(manifest)?;
        Ok(self.layout.clone())
    }

    fn oci(&mut self, archive: impl Read) -> Result<Layout, ArchiveError> {
        for_each_entry(archive, |name, entry| {
            if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
                return Ok(());
            }
            let path = if matches!(name, "oci-layout" | "index.json") {
                if entry.size() > LARGEST_DOCUMENT {
                    return Err(too_large(LARGEST_DOCUMENT));
                }
                self.layout.folder().join(name)
            } else if let Some(digits) = name.strip_prefix("blobs/sha256/") {
                // A digest is a file's name and nothing else.
                let Ok(digest) = format!("sha256:{digits}").parse::<Digest>() else { return Ok(()) };
                self.layout.blob(&digest)?
            } else {
                return Ok(());
            };
            self.write(entry, &path).map(drop)
        })?;
        Ok(Layout::open(self.layout.folder())?)
    }

    /// Writes a body under a number, then gives it the name of its digest.
    fn body<R: Read>(&mut self, entry: &mut Entry<'_, R>, number: usize) -> Result<Descriptor, ArchiveError> {
        let partial = self.layout.folder().join(format!("{number}.partial"));
        let (digest, size) = self.write(entry, &partial)?;
        let path = self.layout.blob(&digest)?;
        fs::rename(&partial, &path).map_err(|source| ArchiveError::Write { path, source })?;
        Ok(Descriptor::new(MediaType::ImageLayer, size, digest))
    }

    fn write<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &Path,
    ) -> Result<(Digest, u64), ArchiveError> {
        let failed = |source| ArchiveError::Write { path: path.to_owned(), source };
        let mut file = File::create(path).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; PIECE];
        loop {
            let count = entry.read(&mut buffer).map_err(ArchiveError::Broken)?;
            if count == 0 {
                break;
            }
            self.left = self.left.checked_sub(count as u64).ok_or_else(|| too_large(self.max_bytes))?;
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(failed)?;
            size += count as u64;
        }
        Ok((from_hash(&hasher.finalize().into()), size))
    }

    /// Docker archives do not say how a layer is compressed; its first bytes do.
    fn layer_type(&self, layer: &Descriptor) -> Result<MediaType, ArchiveError> {
        let path = self.layout.blob(layer.digest())?;
        let mut start = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(4).read_to_end(&mut start))
            .map_err(|source| LayoutError::Read { path, source })?;
        Ok(match start.as_slice() {
            [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
            [0x28, 0xb5, 0x2f, 0xfd] => MediaType::ImageLayerZstd,
            _ => MediaType::ImageLayer,
        })
    }
}

fn too_large(bytes: u64) -> ArchiveError {
    ArchiveError::TooLarge { limit: format!("{bytes} bytes") }
}

fn for_each_entry<R: Read>(
    archive: R,
    mut each: impl FnMut(&str, &mut Entry<'_, R>) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(archive);
    for (number, entry) in archive.entries().map_err(ArchiveError::Broken)?.enumerate() {
        let mut entry = entry.map_err(ArchiveError::Broken)?;
        if number >= MOST_ENTRIES {
            return Err(ArchiveError::TooLarge { limit: format!("{MOST_ENTRIES} entries") });
        }
        let name = join("", &String::from_utf8_lossy(&entry.path_bytes()));
        each(&name, &mut entry)?;
    }
    Ok(())
}

fn link<R: Read>(entry: &Entry<'_, R>) -> Result<String, ArchiveError> {
    let target =
        entry.link_name_bytes().ok_or_else(|| ArchiveError::NotAnImage("a link to nothing".into()))?;
    Ok(String::from_utf8_lossy(&target).into_owned())
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// A path below the archive's root, without `.` and `..`; it is only compared with others.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { folder };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn find<'a>(items: &'a HashMap<String, Item>, name: &str) -> Result<&'a Descriptor, ArchiveError> {
    let mut next = join("", name);
    for _ in 0..=MOST_LINKS {
        match items.get(&next) {
            Some(Item::Body(descriptor)) => return Ok(descriptor),
            Some(Item::Link(target)) => next.clone_from(target),
            None => break,
        }
    }
    Err(ArchiveError::NotAnImage(format!("it has no `{}`", name.escape_debug())))
}

fn choose<'a>(images: &'a [DockerImage], tag: Option<&str>) -> Result<&'a DockerImage, ArchiveError> {
    let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
    let available = || images.iter().flat_map(tags).collect::<Vec<_>>();
    let Some(wanted) = tag else {
        return match images {
            [only] => Ok(only),
            [] => Err(ArchiveError::NotAnImage("its list of images is empty".to_owned())),
            _ => Err(LayoutError::Several { available: available() }.into()),
        };
    };
    let fits = |tag: &String| tag == wanted || tag.strip_suffix(":latest") == Some(wanted);
    let missing = || LayoutError::NoSuchImage { tag: wanted.to_owned(), available: available() };
    Ok(images.iter().find(|image| tags(image).iter().any(fits)).ok_or_else(missing)?)
}

#[cfg(test)]
mod tests;
