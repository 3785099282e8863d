//! What a staged tree knows of each inode.

use std::ffi::OsString;

/// An extended attribute: `security.capability` and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) struct Xattr {
    pub(in crate::import) name: OsString,
    pub(in crate::import) value: Vec<u8>,
}

/// What every inode has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::import) struct Attributes {
    pub(in crate::import) uid: u32,
    pub(in crate::import) gid: u32,
    /// The lower twelve bits: permissions, set-uid, set-gid, sticky.
    pub(in crate::import) mode: u32,
    /// Seconds since the epoch.
    pub(in crate::import) modified: i64,
    pub(in crate::import) xattrs: Vec<Xattr>,
}

/// An inode that is neither a file, a folder nor a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::import) enum Device {
    Fifo,
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) enum Kind {
    Folder,
    /// A body of so many bytes, with so much of a checksum.
    File {
        size: u64,
        checksum: u32,
    },
    Symlink(Vec<u8>),
    Special(Device),
}

#[derive(Clone, Debug)]
pub(in crate::import) struct Inode {
    pub(in crate::import) kind: Kind,
    pub(in crate::import) attributes: Attributes,
}

/// Whether it exists in memory alone.
pub(in crate::import) fn is_device(kind: &Kind) -> bool {
    matches!(kind, Kind::Special(Device::Character { .. } | Device::Block { .. }))
}

/// The mode that an inode has while it is staged.
pub(in crate::import) fn staged_mode(inode: &Inode) -> u32 {
    match inode.kind {
        Kind::Folder => inode.attributes.mode & 0o777 | 0o700,
        Kind::Symlink(_) => 0o777,
        Kind::File { .. } | Kind::Special(_) => inode.attributes.mode & 0o777 | 0o600,
    }
}
