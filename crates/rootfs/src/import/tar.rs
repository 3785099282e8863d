//! A tar as the source: GNU, POSIX (pax) and old ones, compressed or not.
//!
//! The archive is a stranger's. Whatever could write outside the image, through a link, or without end is
//! refused with the entry's name. Owners are the numbers in the archive, never the names.
//!
//! A pax record whose value has a line break cannot be told apart by the `tar` crate, and is refused too. In
//! practice that is an extended attribute: a rare set of file capabilities has the byte 0x0a.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
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

pub(super) fn stage(
    import: &Import,
    compression: Compression,
    cancel: &CancelFlag,
) -> Result<StagedTree, ImportError> {
    let file = File::open(&import.source).map_err(|error| import.unreadable(error))?;
    let total = file.metadata().map_err(|error| import.unreadable(error))?.len();
    // Once laid out and once more in the file system; a compressed one needs more than that.
    space::ensure(import.workspace.path(), total.saturating_mul(2))?;
    let counted = Counted { inner: file, done: 0, total, progress: &*import.progress, cancel };
    let bad_archive = |source| ImportError::BadArchive { path: import.source.clone(), source };
    let plain: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(BufReader::with_capacity(1 << 20, counted)),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        Compression::Zstandard => Box::new(zstd::Decoder::new(counted).map_err(bad_archive)?),
        Compression::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(counted)),
    };

    let mut staging = Staging::new(import.staging(), import.limits(), import.options.source_date_epoch)?;
    let mut archive = Archive::new(plain);
    let mut is_empty = true;
    for entry in archive.entries().map_err(bad_archive)? {
        let mut entry = entry.map_err(bad_archive)?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        is_empty = false;
        add(&mut staging, &mut entry, &bad_archive)?;
    }
    if is_empty {
        return Err(bad_archive(io::Error::other("it has no entries, or is no tar")));
    }
    staging.finish()
}

fn add<R: Read>(
    staging: &mut Staging,
    entry: &mut Entry<'_, R>,
    bad_archive: &impl Fn(io::Error) -> ImportError,
) -> Result<(), ImportError> {
    let name = entry.path_bytes().into_owned();
    let refuse = |reason: &str| ImportError::Refused {
        entry: String::from_utf8_lossy(&name).into_owned(),
        reason: reason.to_owned(),
    };
    // First of all: the crate passes over records it cannot read, and takes path and size from others.
    let attributes = attributes(entry).map_err(|reason| refuse(&reason))?;
    let path = EntryPath::parse(&name).map_err(refuse)?;
    let kind = entry.header().entry_type();
    match kind {
        EntryType::Directory => staging.add_folder(&path, attributes),
        // The oldest archives mark folders so.
        EntryType::Regular if name.ends_with(b"/") => staging.add_folder(&path, attributes),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            staging.add_file(&path, attributes, entry, bad_archive)
        }
        EntryType::Symlink => {
            let target =
                entry.link_name_bytes().ok_or_else(|| refuse("it is a link to nothing"))?.into_owned();
            staging.add_symlink(&path, attributes, &target)
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().ok_or_else(|| refuse("it is a link to nothing"))?;
            let target = EntryPath::parse(&target)
                .map_err(|reason| refuse(&format!("the file it links to: {reason}")))?;
            staging.add_hard_link(&path, &target)
        }
        EntryType::Fifo => staging.add_special(&path, attributes, Device::Fifo),
        EntryType::Char | EntryType::Block => {
            let number = |number: io::Result<Option<u32>>| {
                number.ok().flatten().ok_or_else(|| refuse("it is a device without a number"))
            };
            let major = number(entry.header().device_major())?;
            let minor = number(entry.header().device_minor())?;
            let device = if kind == EntryType::Block {
                Device::Block { major, minor }
            } else {
                Device::Character { major, minor }
            };
            staging.add_special(&path, attributes, device)
        }
        other => Err(refuse(&format!(
            "it is of the unknown type `{}`",
            char::from(other.as_byte()).escape_default()
        ))),
    }
}

fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> Result<Attributes, String> {
    let number =
        |value: u64, what: &str| u32::try_from(value).map_err(|_| format!("its {what} {value} is too large"));
    let header = entry.header();
    let unreadable =
        |what: &'static str| move |error: io::Error| format!("its {what} cannot be read: {error}");
    let mut attributes = Attributes {
        uid: number(header.uid().map_err(unreadable("owner"))?, "owner")?,
        gid: number(header.gid().map_err(unreadable("group"))?, "group")?,
        mode: header.mode().map_err(unreadable("mode"))? & 0o7777,
        modified: i64::try_from(header.mtime().map_err(unreadable("time"))?).unwrap_or(i64::MAX),
        xattrs: Vec::new(),
    };
    let Some(records) = entry.pax_extensions().map_err(unreadable("pax header"))? else {
        return Ok(attributes);
    };
    for record in records {
        let record = record.map_err(unreadable("pax header"))?;
        if let Some(name) = record.key_bytes().strip_prefix(XATTR_PREFIX) {
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

/// Counts what is read of the source, and stops when the import was cancelled.
struct Counted<'a> {
    inner: File,
    done: u64,
    total: u64,
    progress: &'a dyn Progress,
    cancel: &'a CancelFlag,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        let (done, total) = (self.done, Some(self.total));
        self.progress.update(Update { stage: Stage::Unpack, done, total, unit: Unit::Bytes, message: "" });
        Ok(count)
    }
}
