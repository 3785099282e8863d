//! Writes a staged tree as a tar, with everything that plain files cannot carry: for builds, which work on
//! trees of real owners.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ::tar::{Builder, EntryType, Header};

use super::entry_path::EntryPath;
use super::staging::{Device, Inode, Kind, StagedTree};

/// In the order of paths: folders before what is in them, the first name of a file before its hard links.
pub(super) fn write_tar(tree: &StagedTree, path: &Path) -> io::Result<()> {
    let mut tar = Builder::new(BufWriter::new(File::create_new(path)?));
    let mut first: HashMap<usize, &EntryPath> = HashMap::new();
    for (path, &index) in &tree.paths {
        let inode = &tree.inodes[index];
        let name = if path.as_bytes().is_empty() { b".".as_slice() } else { path.as_bytes() };
        let name = Path::new(OsStr::from_bytes(name));
        let Some(target) = first.get(&index) else {
            first.insert(index, path);
            append(&mut tar, tree, path, name, inode)?;
            continue;
        };
        let mut header = header(inode, EntryType::Link);
        tar.append_link(&mut header, name, Path::new(OsStr::from_bytes(target.as_bytes())))?;
    }
    tar.into_inner()?.flush()
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    tree: &StagedTree,
    path: &EntryPath,
    name: &Path,
    inode: &Inode,
) -> io::Result<()> {
    let xattrs: Vec<(String, &[u8])> = inode
        .attributes
        .xattrs
        .iter()
        .map(|xattr| (format!("SCHILY.xattr.{}", xattr.name.to_string_lossy()), xattr.value.as_slice()))
        .collect();
    if !xattrs.is_empty() {
        tar.append_pax_extensions(xattrs.iter().map(|(name, value)| (name.as_str(), *value)))?;
    }
    match &inode.kind {
        Kind::Folder => tar.append_data(&mut header(inode, EntryType::Directory), name, io::empty()),
        Kind::File { size, .. } => {
            let mut header = header(inode, EntryType::Regular);
            header.set_size(*size);
            tar.append_data(&mut header, name, File::open(path.under(&tree.folder))?)
        }
        Kind::Symlink(target) => {
            let target = Path::new(OsStr::from_bytes(target));
            tar.append_link(&mut header(inode, EntryType::Symlink), name, target)
        }
        Kind::Special(device) => {
            let (kind, major, minor) = match *device {
                Device::Fifo => (EntryType::Fifo, 0, 0),
                Device::Character { major, minor } => (EntryType::Char, major, minor),
                Device::Block { major, minor } => (EntryType::Block, major, minor),
            };
            let mut header = header(inode, kind);
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
            tar.append_data(&mut header, name, io::empty())
        }
    }
}

fn header(inode: &Inode, kind: EntryType) -> Header {
    let attributes = &inode.attributes;
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(attributes.mode);
    header.set_uid(attributes.uid.into());
    header.set_gid(attributes.gid.into());
    header.set_mtime(u64::try_from(attributes.modified).unwrap_or(0));
    header.set_size(0);
    header
}
