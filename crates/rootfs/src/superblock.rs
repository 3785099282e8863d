//! The few fields of an ext2/3/4 superblock that tell whether a file can be a root file system at all.
//!
//! The superblock lies 1024 bytes into the file system; offsets and meanings are those of the kernel's
//! `Documentation/filesystems/ext4/super.rst`. Everything beyond them is left to `e2fsck`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const SUPERBLOCK_OFFSET: u64 = 1024;
const MAGIC: u16 = 0xEF53;
const INCOMPAT_64BIT: u32 = 0x80;

/// What the superblock says about the file system's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) block_count: u64,
    /// Bytes.
    pub(crate) block_size: u64,
    /// The volume's name, up to 16 bytes.
    pub(crate) label: String,
    free_blocks: u64,
}

impl Superblock {
    /// Reads the superblock; `None` where the file holds no ext2/3/4 file system.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; 1024];
        match file.read_exact_at(&mut bytes, SUPERBLOCK_OFFSET) {
            Ok(()) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes from the first block to the end of the last.
    pub(crate) fn size(&self) -> u64 {
        self.block_count.saturating_mul(self.block_size)
    }

    /// The superblock in the first bytes of a file; `None` where there is none, or too few bytes.
    pub(crate) fn in_head(head: &[u8]) -> Option<Self> {
        let start = usize::try_from(SUPERBLOCK_OFFSET).expect("it is 1024");
        Self::parse(head.get(start..start + 1024)?.try_into().expect("the slice has 1024 bytes"))
    }

    /// Bytes that the file system uses: at most so many are not holes.
    pub(crate) fn used(&self) -> u64 {
        self.block_count.saturating_sub(self.free_blocks).saturating_mul(self.block_size)
    }

    fn parse(bytes: &[u8; 1024]) -> Option<Self> {
        let u16_at = |offset: usize| u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
        let u32_at = |offset: usize| u32::from(u16_at(offset)) | u32::from(u16_at(offset + 2)) << 16;
        let log_block_size = u32_at(0x18);
        // 64 KiB is the largest block that the format knows.
        if u16_at(0x38) != MAGIC || log_block_size > 6 {
            return None;
        }
        let has_high = u32_at(0x60) & INCOMPAT_64BIT != 0;
        let high = |offset| if has_high { u64::from(u32_at(offset)) << 32 } else { 0 };
        Some(Self {
            block_count: high(0x150) | u64::from(u32_at(0x4)),
            free_blocks: high(0x158) | u64::from(u32_at(0xc)),
            block_size: 1024 << log_block_size,
            label: String::from_utf8_lossy(&bytes[0x78..0x88]).trim_end_matches('\0').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_magic() -> [u8; 1024] {
        let mut bytes = [0; 1024];
        bytes[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        bytes
    }

    #[test]
    fn the_high_half_of_the_block_count_counts_only_with_the_64bit_feature() {
        let mut bytes = with_magic();
        bytes[0x4] = 7;
        bytes[0x18] = 2;
        bytes[0x150] = 1;
        let superblock = Superblock::parse(&bytes).unwrap();
        assert_eq!((superblock.block_count, superblock.block_size), (7, 4096));
        bytes[0x60] = 0x80;
        assert_eq!(Superblock::parse(&bytes).unwrap().block_count, (1 << 32) + 7);
    }

    #[test]
    fn a_block_size_beyond_the_format_is_no_file_system() {
        let mut bytes = with_magic();
        bytes[0x18] = 7;
        assert_eq!(Superblock::parse(&bytes), None);
    }
}
