//! Tells what a source is, by its first bytes, not by its name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::ImportError;
use crate::superblock::Superblock;

/// How a tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstandard,
    Xz,
}

impl Compression {
    /// Tells by the first bytes; what is not known as compressed is not.
    pub(super) fn of(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            return Self::Gzip;
        }
        if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Self::Zstandard;
        }
        if start.starts_with(b"\xfd7zXZ\0") {
            return Self::Xz;
        }
        Self::None
    }

    /// What `compressed` is when it is not compressed any more.
    pub(super) fn decompress<'a>(self, compressed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(BufReader::with_capacity(1 << 20, compressed)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(compressed)),
            Self::Zstandard => Box::new(zstd::Decoder::new(compressed)?),
            Self::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(compressed)),
        })
    }
}

/// The same for a source of which nothing is known yet.
pub(super) fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(64 << 10, source);
    let compression = Compression::of(source.fill_buf()?);
    compression.decompress(source)
}

/// What can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Ext4,
    Folder,
    Tar(Compression),
}

impl Compression {
    pub(crate) fn is_none(self) -> bool {
        self == Self::None
    }
}

impl SourceKind {
    pub(super) fn of(path: &Path) -> Result<Self, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.to_owned(), source };
        // Opening a FIFO or a device may block or have effects: what it is comes first.
        let kind = path.metadata().map_err(unreadable)?.file_type();
        if kind.is_dir() {
            return Ok(Self::Folder);
        }
        if !kind.is_file() {
            return Err(ImportError::NotAFileSystem { path: path.to_owned(), found: "is no regular file" });
        }
        let file = File::open(path).map_err(unreadable)?;
        let mut start = Vec::new();
        (&file).take(512).read_to_end(&mut start).map_err(unreadable)?;
        if Superblock::read(&file).map_err(unreadable)?.is_some() {
            return Ok(Self::Ext4);
        }
        Self::by_first_bytes(&start)
            .map_err(|found| ImportError::NotAFileSystem { path: path.to_owned(), found })
    }

    /// Tells by the first 2 KiB of a file; says what it is instead, where it cannot be imported.
    pub(crate) fn of_head(head: &[u8]) -> Result<Self, &'static str> {
        if Superblock::in_head(head).is_some() {
            return Ok(Self::Ext4);
        }
        Self::by_first_bytes(&head[..head.len().min(512)])
    }

    fn by_first_bytes(start: &[u8]) -> Result<Self, &'static str> {
        let compression = Compression::of(start);
        if compression != Compression::None {
            return Ok(Self::Tar(compression));
        }
        if is_tar_header(start) {
            return Ok(Self::Tar(Compression::None));
        }
        if start.is_empty() {
            return Err("is empty");
        }
        if start.trim_ascii_start().starts_with(b"<") {
            return Err("is a web page, not an image: the URL may need a login, or be another one");
        }
        if start.starts_with(b"QFI\xfb") {
            return Err(
                "is a qcow2 disk, not a file system (`qemu-img convert` and the partition's offset help)",
            );
        }
        if start.starts_with(b"hsqs") {
            return Err("is a squashfs (`unsquashfs` makes a folder of it)");
        }
        if start.len() == 512 && start.ends_with(&[0x55, 0xaa]) {
            return Err("is a disk with partitions, or a boot sector, not a file system");
        }
        Err("holds no file system and is no archive")
    }
}

/// Whether the bytes are a tar header: POSIX and GNU mark theirs, older ones only have the right sum.
fn is_tar_header(start: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if start.len() < 512 {
        return false;
    }
    let sum: u32 = start
        .iter()
        .enumerate()
        .map(|(index, byte)| if CHECKSUM.contains(&index) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    let text = String::from_utf8_lossy(&start[CHECKSUM]);
    u32::from_str_radix(text.trim_matches([' ', '\0']), 8) == Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_file_is() {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(0);
        header.set_cksum();
        let tar = header.as_bytes().to_vec();
        assert_eq!(SourceKind::by_first_bytes(&tar), Ok(SourceKind::Tar(Compression::None)));
        assert_eq!(SourceKind::by_first_bytes(&[0x1f, 0x8b, 8]), Ok(SourceKind::Tar(Compression::Gzip)));
        assert_eq!(SourceKind::by_first_bytes(&[0; 512]), Err("holds no file system and is no archive"));
        assert_eq!(SourceKind::by_first_bytes(b""), Err("is empty"));
    }
}
