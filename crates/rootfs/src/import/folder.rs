//! A folder as the source.
//!
//! Symbolic links are never followed. Sockets are left out, as is what another file system is mounted on,
//! save for the empty folder. The kernel's own labels (`security.selinux` and the like) belong to this
//! machine and stay here.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::entry_path::EntryPath;
use super::staging::{Attributes, Device, StagedTree, Staging, Xattr};
use super::{Import, ImportError};
use crate::cancel::CancelFlag;
use crate::progress::{Stage, Unit, Update};

pub(super) fn stage(import: &Import, cancel: &CancelFlag) -> Result<StagedTree, ImportError> {
    let root = fs::metadata(&import.source).map_err(|error| import.unreadable(error))?;
    let mut walk = Walk {
        import,
        cancel,
        staging: Staging::new(import.staging(), import.limits(), import.options.source_date_epoch)?,
        device: root.dev(),
        owners: Owners::for_this_user(),
        linked: HashMap::new(),
        done: 0,
    };
    walk.staging.add_folder(&EntryPath::root(), walk.attributes(&import.source, &root)?)?;
    walk.folder(&import.source, &EntryPath::root())?;
    walk.staging.finish()
}

/// Whose the files are in the image.
enum Owners {
    Kept,
    /// What belongs to this user and group belongs to root.
    Root {
        uid: u32,
        gid: u32,
    },
}

impl Owners {
    fn for_this_user() -> Self {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return Self::Kept;
        }
        Self::Root { uid: uid.as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    fn of(&self, metadata: &Metadata) -> (u32, u32) {
        match self {
            Self::Root { uid, gid } => (
                if metadata.uid() == *uid { 0 } else { metadata.uid() },
                if metadata.gid() == *gid { 0 } else { metadata.gid() },
            ),
            Self::Kept => (metadata.uid(), metadata.gid()),
        }
    }
}

struct Walk<'a> {
    import: &'a Import,
    cancel: &'a CancelFlag,
    staging: Staging,
    device: u64,
    owners: Owners,
    /// The first path of each file that has several, by inode.
    linked: HashMap<u64, EntryPath>,
    done: u64,
}

impl Walk<'_> {
    /// Stages what is in `folder`, in the order of the names, and goes down into the folders there. The depth
    /// is bounded by the longest path that is taken.
    fn folder(&mut self, folder: &Path, path: &EntryPath) -> Result<(), ImportError> {
        let names = fs::read_dir(folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = names.map_err(unreadable(folder))?;
        names.sort();
        for name in names {
            self.cancel.check().map_err(|error| self.import.unreadable(error))?;
            let from = folder.join(&name);
            let to = path.join(name.as_bytes()).map_err(|reason| ImportError::Refused {
                entry: from.to_string_lossy().into_owned(),
                reason: reason.to_owned(),
            })?;
            self.entry(&from, &to)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &EntryPath) -> Result<(), ImportError> {
        let metadata = from.symlink_metadata().map_err(unreadable(from))?;
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        self.done += 1;
        self.import.progress.update(Update {
            stage: Stage::Unpack,
            done: self.staging.bytes(),
            total: None,
            unit: Unit::Bytes,
            message: &to.to_string(),
        });
        if kind.is_dir() {
            self.staging.add_folder(to, self.attributes(from, &metadata)?)?;
            return if metadata.dev() == self.device { self.folder(from, to) } else { Ok(()) };
        }
        if metadata.nlink() > 1 {
            if let Some(first) = self.linked.get(&metadata.ino()) {
                return self.staging.add_hard_link(to, &first.clone());
            }
            self.linked.insert(metadata.ino(), to.clone());
        }
        let attributes = self.attributes(from, &metadata)?;
        if kind.is_symlink() {
            let target = fs::read_link(from).map_err(unreadable(from))?;
            return self.staging.add_symlink(to, attributes, target.as_os_str().as_bytes());
        }
        if kind.is_file() {
            let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
            let mut file =
                OpenOptions::new().read(true).custom_flags(no_follow).open(from).map_err(unreadable(from))?;
            let read_error = |source| ImportError::Unreadable { path: from.to_owned(), source };
            return self.staging.add_file(to, attributes, &mut file, read_error);
        }
        if kind.is_fifo() {
            return self.staging.add_special(to, attributes, Device::Fifo);
        }
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let device = if kind.is_block_device() {
            Device::Block { major, minor }
        } else {
            Device::Character { major, minor }
        };
        self.staging.add_special(to, attributes, device)
    }

    fn attributes(&self, path: &Path, metadata: &Metadata) -> Result<Attributes, ImportError> {
        let (uid, gid) = self.owners.of(metadata);
        Ok(Attributes {
            uid,
            gid,
            mode: metadata.mode() & 0o7777,
            modified: metadata.mtime(),
            xattrs: extended_attributes(path).map_err(unreadable(path))?,
        })
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path: PathBuf = path.to_owned();
    move |source| ImportError::Unreadable { path, source }
}

fn extended_attributes(path: &Path) -> io::Result<Vec<Xattr>> {
    let mut names = vec![0; 64 << 10];
    let count = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| belongs_to_image(name)) {
        let mut value = vec![0; 64 << 10];
        let name_text = CString::new(name).map_err(io::Error::other)?;
        let size = rustix::fs::lgetxattr(path, name_text.as_c_str(), &mut value[..])?;
        value.truncate(size);
        found.push(Xattr { name: OsStr::from_bytes(name).to_owned(), value });
    }
    Ok(found)
}

fn belongs_to_image(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
}
