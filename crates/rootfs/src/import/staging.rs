//! A root file system laid out as plain files of the calling user, and beside them what plain files cannot
//! carry.
//!
//! Bodies, folders, symbolic links, hard links and FIFOs are real, in a folder that only this user may enter;
//! devices exist in memory alone. Nothing is ever written through a symbolic link, because each entry's
//! parents are looked up in the tree in memory, and that tree is the only thing that writes the folder. Real
//! modes have no set-uid bits and always let their owner in.
//!
//! Times are whole seconds from the epoch to 2038: `mke2fs -d` stores no more than that.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use super::ImportError;
use super::entry_path::EntryPath;
use crate::space::Bytes;

mod inode;
mod layers;

pub(super) use inode::{Attributes, Device, Inode, Kind, Xattr, is_device, staged_mode};

/// The longest target of a symbolic link, ext4's limit with blocks of 4 KiB.
const LONGEST_TARGET: usize = 4095;
/// Linux's device numbers have 12 and 20 bits.
const LARGEST_MAJOR: u32 = 0xfff;
const LARGEST_MINOR: u32 = 0xf_ffff;
/// Bodies are read, and holes made, in pieces of this many bytes.
const PIECE: usize = 64 << 10;

/// How large a tree may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// A tree that is complete.
pub(super) struct StagedTree {
    pub(super) folder: PathBuf,
    /// Paths to indices of `inodes`; several paths of one inode are hard links.
    pub(super) paths: BTreeMap<EntryPath, usize>,
    pub(super) inodes: Vec<Inode>,
    /// The file system's clock, seconds since the epoch.
    pub(super) clock: i64,
}

/// A tree that is being filled.
pub(super) struct Staging {
    tree: StagedTree,
    limits: Limits,
    bytes: u64,
    source_date_epoch: Option<i64>,
}

impl Staging {
    pub(super) fn new(
        folder: PathBuf,
        limits: Limits,
        source_date_epoch: Option<i64>,
    ) -> Result<Self, ImportError> {
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| ImportError::write(&folder, 0, error))?;
        let root =
            Inode { kind: Kind::Folder, attributes: Attributes { mode: 0o755, ..Attributes::default() } };
        let paths = BTreeMap::from([(EntryPath::root(), 0)]);
        Ok(Self {
            tree: StagedTree { folder, paths, inodes: vec![root], clock: 0 },
            limits,
            bytes: 0,
            source_date_epoch,
        })
    }

    /// Bytes of all bodies so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a folder, or gives one that is there already other attributes.
    pub(super) fn add_folder(&mut self, path: &EntryPath, attributes: Attributes) -> Result<(), ImportError> {
        if let Some(index) = self.tree.paths.get(path) {
            let inode = &mut self.tree.inodes[*index];
            if inode.kind != Kind::Folder {
                return Err(refuse(path, "it is a folder here, and something else earlier in the archive"));
            }
            inode.attributes = attributes;
            return Ok(());
        }
        self.make_parents(path)?;
        self.make_folder(path, attributes)
    }

    /// Adds a file; `read_error` tells whose fault it is when its body cannot be read.
    pub(super) fn add_file(
        &mut self,
        path: &EntryPath,
        attributes: Attributes,
        body: &mut dyn Read,
        read_error: impl Fn(io::Error) -> ImportError,
    ) -> Result<(), ImportError> {
        let real = self.make_room(path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&real)
            .map_err(|error| self.write_error(&real, error))?;
        let mut checksum = crc32fast::Hasher::new();
        let mut size = 0;
        let mut buffer = vec![0; PIECE];
        loop {
            let count = body.read(&mut buffer).map_err(&read_error)?;
            if count == 0 {
                break;
            }
            let piece = &buffer[..count];
            checksum.update(piece);
            size += count as u64;
            self.bytes += count as u64;
            if self.bytes > self.limits.bytes {
                return Err(ImportError::TooLarge { limit: Bytes(self.limits.bytes).to_string() });
            }
            write_or_skip(&mut file, piece).map_err(|error| self.write_error(&real, error))?;
        }
        file.set_len(size).map_err(|error| self.write_error(&real, error))?;
        self.insert(path, Kind::File { size, checksum: checksum.finalize() }, attributes)
    }

    pub(super) fn add_symlink(
        &mut self,
        path: &EntryPath,
        attributes: Attributes,
        target: &[u8],
    ) -> Result<(), ImportError> {
        if target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0) {
            return Err(refuse(
                path,
                "the target of the link is empty, has a NUL, or is longer than 4095 bytes",
            ));
        }
        let real = self.make_room(path)?;
        std::os::unix::fs::symlink(OsStr::from_bytes(target), &real)
            .map_err(|error| self.write_error(&real, error))?;
        self.insert(path, Kind::Symlink(target.to_vec()), attributes)
    }

    /// Adds another name of something that is there already.
    pub(super) fn add_hard_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), ImportError> {
        let Some(&index) = self.tree.paths.get(target) else {
            return Err(refuse(
                path,
                &format!("it is a link to `{target}`, which is not in the archive before it"),
            ));
        };
        if path == target {
            return Ok(());
        }
        let kind = &self.tree.inodes[index].kind;
        if *kind == Kind::Folder {
            return Err(refuse(path, &format!("it is a hard link to the folder `{target}`")));
        }
        let is_real = !is_device(kind);
        let real = self.make_room(path)?;
        if is_real {
            let target = target.under(&self.tree.folder);
            fs::hard_link(target, &real).map_err(|error| self.write_error(&real, error))?;
        }
        self.count_entry()?;
        self.tree.paths.insert(path.clone(), index);
        Ok(())
    }

    pub(super) fn add_special(
        &mut self,
        path: &EntryPath,
        attributes: Attributes,
        device: Device,
    ) -> Result<(), ImportError> {
        if let Device::Character { major, minor } | Device::Block { major, minor } = device
            && (major > LARGEST_MAJOR || minor > LARGEST_MINOR)
        {
            return Err(refuse(
                path,
                &format!("its device number {major}:{minor} is larger than Linux knows"),
            ));
        }
        let real = self.make_room(path)?;
        if device == Device::Fifo {
            mknodat(CWD, &real, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .map_err(|error| self.write_error(&real, error.into()))?;
        }
        self.insert(path, Kind::Special(device), attributes)
    }

    /// What is at `path`; `None` where nothing is.
    pub(super) fn kind(&self, path: &EntryPath) -> Option<&Kind> {
        self.tree.paths.get(path).map(|index| &self.tree.inodes[*index].kind)
    }

    /// Where the body of a file is, which is in the tree.
    pub(super) fn real_path(&self, path: &EntryPath) -> PathBuf {
        path.under(&self.tree.folder)
    }

    /// Settles modes and times, and hands the tree over.
    pub(super) fn finish(mut self) -> Result<StagedTree, ImportError> {
        self.forget_what_was_replaced();
        let newest = self.tree.inodes.iter().map(|inode| inode.attributes.modified).max().unwrap_or(0);
        // Zero would be "no clock given" to e2fsprogs.
        self.tree.clock = self.source_date_epoch.unwrap_or(newest).clamp(1, i64::from(i32::MAX));
        for inode in &mut self.tree.inodes {
            inode.attributes.modified = inode.attributes.modified.clamp(0, self.tree.clock);
        }
        // Children before their parents: making a child changes its parent's time.
        for (path, index) in self.tree.paths.iter().rev() {
            let inode = &self.tree.inodes[*index];
            if is_device(&inode.kind) {
                continue;
            }
            let real = path.under(&self.tree.folder);
            settle(&real, inode).map_err(|error| self.write_error(&real, error))?;
        }
        Ok(self.tree)
    }

    /// Drops the inodes that no path leads to any more, so that equal trees are equal whatever came before.
    fn forget_what_was_replaced(&mut self) {
        let mut former = std::mem::take(&mut self.tree.inodes).into_iter().map(Some).collect::<Vec<_>>();
        let mut places = vec![None; former.len()];
        for index in self.tree.paths.values_mut() {
            let place = *places[*index].get_or_insert_with(|| {
                self.tree.inodes.extend(former[*index].take());
                self.tree.inodes.len() - 1
            });
            *index = place;
        }
    }

    /// Makes sure that something new can be made at `path`, and says where.
    fn make_room(&mut self, path: &EntryPath) -> Result<PathBuf, ImportError> {
        if path.as_bytes().is_empty() {
            return Err(refuse(path, "the root must be a folder"));
        }
        self.make_parents(path)?;
        let real = path.under(&self.tree.folder);
        // As `tar -x` does, a later entry takes the place of an earlier one of the same name.
        if let Some(&index) = self.tree.paths.get(path) {
            let former = &self.tree.inodes[index].kind;
            if *former == Kind::Folder {
                return Err(refuse(path, "it was a folder earlier in the archive"));
            }
            if !is_device(former) {
                fs::remove_file(&real).map_err(|error| self.write_error(&real, error))?;
            }
            self.tree.paths.remove(path);
        }
        Ok(real)
    }

    fn make_parents(&mut self, path: &EntryPath) -> Result<(), ImportError> {
        let mut missing = Vec::new();
        let mut next = path.parent();
        while let Some(parent) = next {
            match self.tree.paths.get(&parent).map(|index| &self.tree.inodes[*index].kind) {
                Some(Kind::Folder) => break,
                Some(Kind::Symlink(_)) => {
                    return Err(refuse(
                        path,
                        &format!("it would be written through the symbolic link `{parent}`"),
                    ));
                }
                Some(_) => return Err(refuse(path, &format!("`{parent}` is no folder"))),
                None => next = parent.parent(),
            }
            missing.push(parent);
        }
        for parent in missing.into_iter().rev() {
            self.make_folder(&parent, Attributes { mode: 0o755, ..Attributes::default() })?;
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &EntryPath, attributes: Attributes) -> Result<(), ImportError> {
        let real = path.under(&self.tree.folder);
        DirBuilder::new().mode(0o700).create(&real).map_err(|error| self.write_error(&real, error))?;
        self.insert(path, Kind::Folder, attributes)
    }

    fn insert(&mut self, path: &EntryPath, kind: Kind, attributes: Attributes) -> Result<(), ImportError> {
        self.count_entry()?;
        self.tree.paths.insert(path.clone(), self.tree.inodes.len());
        self.tree.inodes.push(Inode { kind, attributes });
        Ok(())
    }

    fn count_entry(&self) -> Result<(), ImportError> {
        if self.tree.paths.len() as u64 >= self.limits.entries {
            return Err(ImportError::TooLarge { limit: format!("{} entries", self.limits.entries) });
        }
        Ok(())
    }

    fn write_error(&self, path: &Path, error: io::Error) -> ImportError {
        match crate::space::ran_out(&error, &self.tree.folder, self.bytes.saturating_mul(2)) {
            Some(no_space) => ImportError::NoSpace(no_space),
            None => ImportError::Write { path: path.to_owned(), source: error },
        }
    }
}

fn settle(real: &Path, inode: &Inode) -> io::Result<()> {
    if !matches!(inode.kind, Kind::Symlink(_)) {
        fs::set_permissions(real, Permissions::from_mode(staged_mode(inode)))?;
    }
    let time = Timespec { tv_sec: inode.attributes.modified, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, real, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Writes a piece, or leaves a hole where it is all zeros.
fn write_or_skip(file: &mut File, piece: &[u8]) -> io::Result<()> {
    if piece.iter().all(|byte| *byte == 0) {
        file.seek(SeekFrom::Current(i64::try_from(piece.len()).expect("a piece is 64 KiB")))?;
        return Ok(());
    }
    file.write_all(piece)
}

fn refuse(path: &EntryPath, reason: &str) -> ImportError {
    let entry = if path.as_bytes().is_empty() { ".".to_owned() } else { path.to_string() };
    ImportError::Refused { entry, reason: reason.to_owned() }
}

impl StagedTree {
    /// Owner and group of everything that is staged: they are the same for all.
    pub(super) fn staged_owner(&self) -> io::Result<(u32, u32)> {
        let root = fs::metadata(&self.folder)?;
        Ok((root.uid(), root.gid()))
    }
}
