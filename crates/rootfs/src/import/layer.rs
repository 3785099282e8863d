//! Applies the layers of an OCI image to a staged tree, one on another, as the [specification of
//! layers](https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md) says.
//!
//! * An entry takes the place of what was there, a folder with all it held; a folder on a folder changes its
//!   attributes alone.
//! * `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all that they have in the folder. Neither hides what
//!   the same layer brings, in whichever order the entries come.
//! * Where a parent is a symbolic link in the layers below (`lib` to `usr/lib`), the entry is put where the link leads
//!   inside the image, as container runtimes do. A leading `/` is the image's root. `..` is refused.
//!
//! The blob's digest and, once it is decompressed, the digest that the image's configuration has for the layer are
//! compared at its end.

use std::collections::HashSet;
use std::io::{self, Read};

use dozlab_oci::{Image, Layer};
use sha2::{Digest as _, Sha256};

use super::entry_path::EntryPath;
use super::source::decompress;
use super::staging::{Attributes, Kind, Staging};
use super::tar::{Content, Counted, for_each_entry, refuse};
use super::{Import, ImportError};
use crate::cancel::CancelFlag;
use crate::store::Digest;

/// What begins the name of an entry that hides another.
const WHITEOUT: &[u8] = b".wh.";
/// What begins the names that AUFS keeps for itself.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Lays out all layers of the image, the lowest first.
pub(super) fn apply_all(
    image: &Image,
    staging: &mut Staging,
    import: &Import,
    cancel: &CancelFlag,
) -> Result<(), ImportError> {
    let total = image.layers().iter().map(|layer| layer.descriptor.size()).fold(0, u64::saturating_add);
    let mut done = 0;
    for layer in image.layers() {
        let blob = image.layout().open_blob(&layer.descriptor)?;
        let counted = Counted { inner: blob, done: &mut done, total, progress: &*import.progress, cancel };
        apply(layer, counted, staging)?;
    }
    Ok(())
}

fn apply(layer: &Layer, mut blob: impl Read, staging: &mut Staging) -> Result<(), ImportError> {
    let bad_layer = |source| ImportError::BadLayer { digest: layer.descriptor.digest().to_string(), source };
    let unpacked = {
        let plain = decompress(&mut blob).map_err(bad_layer)?;
        let mut hashed = Hashed { inner: plain, hasher: Sha256::new() };
        apply_tar(&mut hashed, staging, &bad_layer)?;
        // Behind the last entry there may be padding, which belongs to the digests.
        io::copy(&mut hashed, &mut io::sink()).map_err(bad_layer)?;
        Digest::from_bytes(&hashed.hasher.finalize().into()).to_string()
    };
    io::copy(&mut blob, &mut io::sink()).map_err(bad_layer)?;
    if unpacked != layer.diff_id.as_ref() {
        let reason = format!("it unpacks to {unpacked}, and should to {}", layer.diff_id);
        return Err(bad_layer(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(())
}

/// Applies one layer that is not compressed.
pub(super) fn apply_tar(
    layer: impl Read,
    staging: &mut Staging,
    bad_layer: &dyn Fn(io::Error) -> ImportError,
) -> Result<(), ImportError> {
    let mut added = HashSet::new();
    for_each_entry(layer, bad_layer, |name, attributes, content, body| {
        let (parent, last) = split(name)?;
        if last.starts_with(WHITEOUT) {
            return hide(name, &parent, &last, &added, staging);
        }
        let path = place(name, &parent, &last, staging)?;
        add(&path, attributes, content, body, staging, bad_layer)?;
        let mut next = Some(path);
        while let Some(path) = next.filter(|path| !added.contains(path)) {
            next = path.parent();
            added.insert(path);
        }
        Ok(())
    })
}

/// The path as written, from the image's root, as the folder and the name in it; the name of the root is empty.
fn split(name: &[u8]) -> Result<(EntryPath, Vec<u8>), ImportError> {
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    let below = if start == name.len() && !name.is_empty() { b"." } else { &name[start..] };
    let path = EntryPath::parse(below).map_err(|reason| refuse(name, reason))?;
    Ok((path.parent().unwrap_or(EntryPath::root()), path.name().to_vec()))
}

/// Where an entry goes: symbolic links in its folder are followed, the last part is not.
fn place(name: &[u8], parent: &EntryPath, last: &[u8], staging: &Staging) -> Result<EntryPath, ImportError> {
    let folder = staging.follow(parent)?;
    if last.is_empty() {
        return Ok(folder);
    }
    folder.join(last).map_err(|reason| refuse(name, reason))
}

fn hide(
    name: &[u8],
    parent: &EntryPath,
    last: &[u8],
    added: &HashSet<EntryPath>,
    staging: &mut Staging,
) -> Result<(), ImportError> {
    if last == OPAQUE {
        let folder = staging.follow(parent)?;
        return staging.remove_below(&folder, added);
    }
    if last.starts_with(AUFS) {
        return Ok(());
    }
    let hidden = &last[WHITEOUT.len()..];
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(refuse(name, "it hides no name"));
    }
    let hidden = place(name, parent, hidden, staging)?;
    staging.remove(&hidden, added)
}

fn add(
    path: &EntryPath,
    attributes: Attributes,
    content: Content,
    body: &mut dyn Read,
    staging: &mut Staging,
    bad_layer: &dyn Fn(io::Error) -> ImportError,
) -> Result<(), ImportError> {
    if let Content::HardLink(target) = &content {
        let (parent, last) = split(target)?;
        let target = place(target, &parent, &last, staging)?;
        if target == *path {
            return Ok(());
        }
        make_way(path, false, staging)?;
        return staging.add_hard_link(path, &target);
    }
    make_way(path, matches!(content, Content::Folder), staging)?;
    match content {
        Content::Folder => staging.add_folder(path, attributes),
        Content::File => staging.add_file(path, attributes, body, bad_layer),
        Content::Symlink(target) => staging.add_symlink(path, attributes, &target),
        Content::Special(device) => staging.add_special(path, attributes, device),
        Content::HardLink(_) => Ok(()),
    }
}

/// Removes what is at `path`, unless both it and what comes are folders.
fn make_way(path: &EntryPath, comes_a_folder: bool, staging: &mut Staging) -> Result<(), ImportError> {
    let is_folder = matches!(staging.kind(path), Some(Kind::Folder));
    if (is_folder && comes_a_folder) || path.as_bytes().is_empty() {
        return Ok(());
    }
    staging.remove(path, &HashSet::new())
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
