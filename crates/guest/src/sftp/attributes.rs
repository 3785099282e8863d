//! Attributes of files, from the kernel's form into the protocol's and back.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use russh_sftp::protocol::{File as Entry, FileAttributes};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};

/// The protocol's attributes of a file. Times are seconds since the epoch in 32 bits; later ones are cut.
pub(super) fn of(metadata: &Metadata) -> FileAttributes {
    let seconds = |time: i64| Some(u32::try_from(time.max(0)).unwrap_or(u32::MAX));
    FileAttributes {
        size: Some(metadata.len()),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
        permissions: Some(metadata.mode()),
        atime: seconds(metadata.atime()),
        mtime: seconds(metadata.mtime()),
        ..FileAttributes::empty()
    }
}

/// A line of a folder: name, attributes, and both as `ls -l` would show them.
pub(super) fn entry(name: &str, metadata: &Metadata) -> Entry {
    let mut entry = Entry::new(name, of(metadata));
    let kind = metadata.file_type();
    let letter = match kind {
        _ if kind.is_symlink() => "l",
        _ if kind.is_fifo() => "p",
        _ if kind.is_socket() => "s",
        _ if kind.is_char_device() => "c",
        _ if kind.is_block_device() => "b",
        // The library writes folders and files itself.
        _ => return entry,
    };
    entry.longname.replace_range(..1, letter);
    entry
}

/// What a client wants changed on a file; what it leaves out stays.
pub(super) struct Change {
    size: Option<u64>,
    owner: (Option<Uid>, Option<Gid>),
    mode: Option<u32>,
    times: Option<Timestamps>,
}

impl From<FileAttributes> for Change {
    fn from(attributes: FileAttributes) -> Self {
        let time = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let times = attributes.atime.zip(attributes.mtime);
        Self {
            size: attributes.size,
            owner: (attributes.uid.map(Uid::from_raw), attributes.gid.map(Gid::from_raw)),
            mode: attributes.permissions.map(|mode| mode & 0o7777),
            times: times.map(|(access, change)| Timestamps {
                last_access: time(access),
                last_modification: time(change),
            }),
        }
    }
}

impl Change {
    pub(super) fn apply_to_path(&self, path: &Path) -> io::Result<()> {
        if let Some(size) = self.size {
            File::options().write(true).open(path)?.set_len(size)?;
        }
        if let (owner, group) = self.owner
            && (owner.is_some() || group.is_some())
        {
            rustix::fs::chown(path, owner, group)?;
        }
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        if let Some(times) = &self.times {
            rustix::fs::utimensat(CWD, path, times, AtFlags::empty())?;
        }
        Ok(())
    }

    pub(super) fn apply_to_file(&self, file: &File) -> io::Result<()> {
        let descriptor: BorrowedFd<'_> = file.as_fd();
        if let Some(size) = self.size {
            file.set_len(size)?;
        }
        if let (owner, group) = self.owner
            && (owner.is_some() || group.is_some())
        {
            rustix::fs::fchown(descriptor, owner, group)?;
        }
        if let Some(mode) = self.mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        if let Some(times) = &self.times {
            rustix::fs::futimens(descriptor, times)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files_keep_their_kind() {
        let null = fs::metadata("/dev/null").expect("every Linux has /dev/null");
        assert_eq!(of(&null).permissions.map(|mode| mode & 0o170_000), Some(0o020_000));
        assert!(entry("null", &null).longname.starts_with("crw-rw-rw-"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        let metadata = fs::symlink_metadata(&link).expect("the link is there");
        assert!(entry("link", &metadata).longname.starts_with("lrwx"));
        assert!(entry("d", &folder.path().metadata().expect("it is there")).longname.starts_with('d'));
    }

    #[test]
    fn only_what_is_asked_for_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        fs::write(&path, "hello").expect("a file");
        let wanted =
            FileAttributes { permissions: Some(0o100_640), size: Some(2), ..FileAttributes::empty() };
        Change::from(wanted).apply_to_path(&path).expect("mode and size change");
        let wanted = FileAttributes { atime: Some(5), mtime: Some(7), ..FileAttributes::empty() };
        Change::from(wanted).apply_to_file(&File::open(&path).expect("it opens")).expect("times change");
        let now = of(&fs::metadata(&path).expect("it is there"));
        assert_eq!(
            (now.size, now.permissions, now.atime, now.mtime),
            (Some(2), Some(0o100_640), Some(5), Some(7))
        );
    }
}
