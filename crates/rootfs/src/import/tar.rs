//! A tar as the source: GNU, POSIX (pax) and old ones, compressed or not.
//!
//! The archive is a stranger's. Whatever could write outside the image, through a link, or without end is
//! refused with the entry's name. Owners are the numbers in the archive, never the names.
//!
//! A pax record whose value has a line break cannot be told apart by the `tar` crate, and is refused too. In
//! practice that is an extended attribute: a rare set of file capabilities has the byte 0x0a.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use ::tar::{Archive, Entry, EntryType};

use super::entry_path::EntryPath;
use super::source::Compression;
use super::staging::{Attributes, Device, StagedTree, Staging, Xattr};
use super::{Import, ImportError};
use crate::cancel::CancelFlag;
use crate::progress::{Progress, Stage, Unit, Update};
use crate::space;

/// Prefix of a pax record that holds an extended attribute, the form of `star`, GNU tar, Docker and
/// mmdebstrap.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The names of extended attributes that Linux stores begin so (`xattr(7)`).
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];
/// The most that names and values may have together: ext4 has one block for them, with some bytes of headers.
const MOST_XATTR_BYTES: usize = 3500;

pub(super) fn stage(
    import: &Import,
    compression: Compression,
    cancel: &CancelFlag,
) -> Result<StagedTree, ImportError> {
    let file = File::open(&import.source).map_err(|error| import.unreadable(error))?;
    let total = file.metadata().map_err(|error| import.unreadable(error))?.len();
    // Once laid out and once more in the file system; a compressed one needs more than that.
    space::ensure(import.workspace.path(), total.saturating_mul(2))?;
    let mut done = 0;
    let counted = Counted { inner: file, done: &mut done, total, progress: &*import.progress, cancel };
    let bad_archive = |source| ImportError::BadArchive { path: import.source.clone(), source };
    let plain = compression.decompress(counted).map_err(bad_archive)?;
    let mut staging = Staging::new(import.staging(), import.limits(), import.options.source_date_epoch)?;
    if !add_all(plain, &mut staging, &bad_archive)? {
        return Err(bad_archive(io::Error::other("it has no entries, or is no tar")));
    }
    staging.finish()
}

/// Adds what is in an archive that is not compressed; whether there was anything.
pub(super) fn add_all(
    archive: impl Read,
    staging: &mut Staging,
    bad_archive: &dyn Fn(io::Error) -> ImportError,
) -> Result<bool, ImportError> {
    let mut has_entries = false;
    for_each_entry(archive, bad_archive, |name, attributes, content, body| {
        has_entries = true;
        let refuse = |reason: &str| refuse(name, reason);
        let path = EntryPath::parse(name).map_err(refuse)?;
        match content {
            Content::Folder => staging.add_folder(&path, attributes),
            Content::File => staging.add_file(&path, attributes, body, bad_archive),
            Content::Symlink(target) => staging.add_symlink(&path, attributes, &target),
            Content::HardLink(target) => {
                let target = EntryPath::parse(&target)
                    .map_err(|reason| refuse(&format!("the file it links to: {reason}")))?;
                staging.add_hard_link(&path, &target)
            }
            Content::Special(device) => staging.add_special(&path, attributes, device),
        }
    })?;
    Ok(has_entries)
}

/// What an entry is. Targets of links are as they were written.
pub(super) enum Content {
    Folder,
    File,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Special(Device),
}

/// Reads an archive that is not compressed, and gives each entry's name as it was written, its attributes, what it
/// is, and its body.
pub(super) fn for_each_entry(
    archive: impl Read,
    bad_archive: &dyn Fn(io::Error) -> ImportError,
    mut each: impl FnMut(&[u8], Attributes, Content, &mut dyn Read) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(bad_archive)? {
        let mut entry = entry.map_err(bad_archive)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let name = entry.path_bytes().into_owned();
        // First of all: the crate passes over records it cannot read, and takes path and size from others.
        let attributes = attributes(&mut entry).map_err(|reason| refuse(&name, &reason))?;
        let content = content(&entry, &name)?;
        each(&name, attributes, content, &mut entry)?;
    }
    Ok(())
}

fn content<R: Read>(entry: &Entry<'_, R>, name: &[u8]) -> Result<Content, ImportError> {
    let refuse = |reason: &str| refuse(name, reason);
    let target = || {
        let target = entry.link_name_bytes().ok_or_else(|| refuse("it is a link to nothing"))?;
        Ok::<_, ImportError>(target.into_owned())
    };
    let kind = entry.header().entry_type();
    Ok(match kind {
        EntryType::Directory => Content::Folder,
        // The oldest archives mark folders so.
        EntryType::Regular if name.ends_with(b"/") => Content::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Content::File,
        EntryType::Symlink => Content::Symlink(target()?),
        EntryType::Link => Content::HardLink(target()?),
        EntryType::Fifo => Content::Special(Device::Fifo),
        EntryType::Char | EntryType::Block => {
            let number = |number: io::Result<Option<u32>>| {
                number.ok().flatten().ok_or_else(|| refuse("it is a device without a number"))
            };
            let major = number(entry.header().device_major())?;
            let minor = number(entry.header().device_minor())?;
            Content::Special(if kind == EntryType::Block {
                Device::Block { major, minor }
            } else {
                Device::Character { major, minor }
            })
        }
        other => {
            let letter = char::from(other.as_byte()).escape_default();
            return Err(refuse(&format!("it is of the unknown type `{letter}`")));
        }
    })
}

pub(super) fn refuse(name: &[u8], reason: &str) -> ImportError {
    ImportError::Refused { entry: String::from_utf8_lossy(name).into_owned(), reason: reason.to_owned() }
}

fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> Result<Attributes, String> {
    let number =
        |value: u64, what: &str| u32::try_from(value).map_err(|_| format!("its {what} {value} is too large"));
    let header = entry.header();
    let fields = header.as_old();
    let unreadable =
        |what: &'static str| move |error: io::Error| format!("its {what} cannot be read: {error}");
    let mut attributes = Attributes {
        uid: number(or_zero(&fields.uid, header.uid()).map_err(unreadable("owner"))?, "owner")?,
        gid: number(or_zero(&fields.gid, header.gid()).map_err(unreadable("group"))?, "group")?,
        mode: or_zero(&fields.mode, header.mode()).map_err(unreadable("mode"))? & 0o7777,
        modified: i64::try_from(or_zero(&fields.mtime, header.mtime()).map_err(unreadable("time"))?)
            .unwrap_or(i64::MAX),
        xattrs: Vec::new(),
    };
    let mut xattr_bytes = 0;
    let Some(records) = entry.pax_extensions().map_err(unreadable("pax header"))? else {
        return Ok(attributes);
    };
    for record in records {
        let record = record.map_err(unreadable("pax header"))?;
        if let Some(name) = record.key_bytes().strip_prefix(XATTR_PREFIX) {
            // Those of other systems (`com.apple.provenance`) mean nothing to Linux, and it cannot store them.
            if !NAMESPACES.iter().any(|namespace| name.starts_with(namespace)) {
                continue;
            }
            if name.contains(&0) {
                return Err("an extended attribute has a NUL in its name".into());
            }
            xattr_bytes += name.len() + record.value_bytes().len();
            if xattr_bytes > MOST_XATTR_BYTES {
                return Err(format!("it has more than {MOST_XATTR_BYTES} bytes of extended attributes"));
            }
            let name = OsString::from_vec(name.to_vec());
            attributes.xattrs.push(Xattr { name, value: record.value_bytes().to_vec() });
        } else if record.key_bytes() == b"mtime" {
            // Seconds with a fraction, which is dropped: `1764000000.25`.
            let text = String::from_utf8_lossy(record.value_bytes()).into_owned();
            let whole = text.split('.').next().unwrap_or_default();
            attributes.modified =
                whole.parse().map_err(|_| format!("its time `{}` is none", text.escape_debug()))?;
        } else if record.key_bytes().starts_with(b"GNU.sparse.") {
            return Err(
                "it is sparse in the pax form: make the archive with `--format=gnu` or without --sparse"
                    .into(),
            );
        }
    }
    Ok(attributes)
}

/// A field that was left empty is zero, as other readers have it.
fn or_zero<T: Default>(field: &[u8], value: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { value }
}

/// Counts what is read of the source, and stops when the import was cancelled.
pub(super) struct Counted<'a, R> {
    pub(super) inner: R,
    /// Bytes read so far, of this source and those before it.
    pub(super) done: &'a mut u64,
    pub(super) total: u64,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a CancelFlag,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        let count = self.inner.read(buffer)?;
        *self.done += count as u64;
        let (done, total) = (*self.done, Some(self.total));
        self.progress.update(Update { stage: Stage::Unpack, done, total, unit: Unit::Bytes, message: "" });
        Ok(count)
    }
}
