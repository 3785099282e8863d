//! Makes sources, looks into images, and runs the crate's program as another process.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use dozlab_rootfs::import::{ImportError, ImportOptions};
use dozlab_rootfs::{ImageRecord, NoProgress, Store};
use tar::{Builder, EntryType, Header};

/// A folder for one test, and a store in it.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn import(&self, name: &str, source: &Path) -> Result<ImageRecord, ImportError> {
        self.store.import(name, source, ImportOptions::default(), Arc::new(NoProgress)).await
    }

    /// Imports and returns the ext4 file.
    pub(crate) async fn image(&self, source: &Path) -> PathBuf {
        let record = self.import("image", source).await.unwrap();
        self.blob(&record)
    }

    pub(crate) fn blob(&self, record: &ImageRecord) -> PathBuf {
        self.path(&format!("store/blobs/sha256/{}.ext4", record.digest.digits()))
    }

    /// Nothing but what the store is made of is left of an attempt.
    pub(crate) fn assert_store_is_empty(&self) {
        assert_eq!(self.store.list().unwrap(), []);
        for part in ["tmp", "images", "blobs/sha256"] {
            let left: Vec<_> = fs::read_dir(self.path("store").join(part)).unwrap().collect();
            assert!(left.is_empty(), "{part} holds {left:?}");
        }
    }

    /// A fresh, empty ext4 file of so many MiB.
    pub(crate) fn ext4(&self, name: &str, mib: u32) -> PathBuf {
        let path = self.path(name);
        tool("mke2fs", &["-q", "-t", "ext4", "-b", "4096", path.to_str().unwrap(), &format!("{mib}M")]);
        path
    }
}

/// One entry of a tar.
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) modified: u64,
    pub(crate) body: &'a [u8],
    pub(crate) link: &'a str,
    pub(crate) device: (u32, u32),
    pub(crate) records: &'a [(&'a str, &'a [u8])],
}

impl<'a> Entry<'a> {
    pub(crate) const fn new(kind: EntryType, path: &'a str) -> Self {
        Self {
            path,
            kind,
            mode: 0o644,
            owner: (0, 0),
            modified: 1_700_000_000,
            body: b"",
            link: "",
            device: (0, 0),
            records: &[],
        }
    }

    pub(crate) const fn file(path: &'a str, body: &'a [u8]) -> Self {
        Self { body, ..Self::new(EntryType::Regular, path) }
    }

    pub(crate) const fn folder(path: &'a str) -> Self {
        Self { mode: 0o755, ..Self::new(EntryType::Directory, path) }
    }

    pub(crate) const fn symlink(path: &'a str, link: &'a str) -> Self {
        Self { mode: 0o777, link, ..Self::new(EntryType::Symlink, path) }
    }

    pub(crate) const fn hard_link(path: &'a str, link: &'a str) -> Self {
        Self { link, ..Self::new(EntryType::Link, path) }
    }
}

/// Writes names as they are given, be they hostile: the `tar` crate's own setters refuse those.
pub(crate) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        if !entry.records.is_empty() {
            builder.append_pax_extensions(entry.records.iter().copied()).unwrap();
        }
        let mut header = Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        gnu.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.modified);
        header.set_size(entry.body.len() as u64);
        header.set_device_major(entry.device.0).unwrap();
        header.set_device_minor(entry.device.1).unwrap();
        header.set_cksum();
        builder.append(&header, entry.body).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program).args(arguments).env("PATH", path).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out.into_owned()
}

/// What a `debugfs` command prints about an image.
pub(crate) fn debugfs(image: &Path, command: &str) -> String {
    tool("debugfs", &["-R", command, image.to_str().unwrap()])
}

/// What `debugfs` says about one inode: `type mode uid gid links size mtime`.
pub(crate) fn inode(image: &Path, path: &str) -> String {
    let status = debugfs(image, &format!("stat \"{path}\""));
    let after = |word: &str| {
        let rest = status.split_once(word).unwrap_or_else(|| panic!("no {word} of {path} in {status}")).1;
        rest.trim_start().to_owned()
    };
    let word = |label: &str| after(label).split_whitespace().next().unwrap().to_owned();
    let kind = after("Type:").split("    Mode:").next().unwrap().trim().replace(' ', "-");
    let modified = word("mtime:");
    let modified = u64::from_str_radix(&modified[2..10], 16).unwrap();
    format!(
        "{kind} {} {} {} {} {} {modified}",
        word("Mode:"),
        word("User:"),
        word("Group:"),
        word("Links:"),
        word("Size:")
    )
}

pub(crate) fn assert_is_sound(image: &Path) {
    tool("e2fsck", &["-fn", image.to_str().unwrap()]);
}

/// The program of `examples/rootfs.rs`, which is built together with the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(Path::parent).unwrap().join("examples/rootfs");
    assert!(program.exists(), "{} is not built: run the tests of the whole package", program.display());
    program
}

pub(crate) fn run_program(command: &mut Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A file system mounted for one test, by root.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(folder: &Path, arguments: &[&str]) -> Self {
        fs::create_dir(folder).unwrap();
        let arguments = [arguments, &[folder.to_str().unwrap()]].concat();
        tool("mount", &arguments);
        Self(folder.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
