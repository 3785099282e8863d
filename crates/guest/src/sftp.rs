//! SFTP on the standard input and output, as the user whose files they are.
//!
//! The SSH server starts this program under the name `dozlab-sftp`, after giving up its rights: what the user
//! may not touch, the kernel refuses. The protocol is version 3 (`draft-ietf-secsh-filexfer-02`) as OpenSSH
//! speaks it, with the OpenSSH extensions that its clients, sshfs and editors use. Requests are served one
//! after the other.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use russh_sftp::extensions::{self, FsyncExtension, HardlinkExtension, Statvfs, StatvfsExtension};
use russh_sftp::protocol::{
    Attrs, Data, ExtendedReply, File as Entry, FileAttributes, Handle, Name, OpenFlags, Packet, Status,
    StatusCode, Version,
};
use russh_sftp::server::StatusReply;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use attributes::Change;

mod attributes;

/// The name under which this program serves SFTP.
pub const PROGRAM_NAME: &str = "dozlab-sftp";
/// The extension of OpenSSH that replaces the target of a rename; `PROTOCOL`, section 4.3, of OpenSSH.
const POSIX_RENAME: &str = "posix-rename@openssh.com";
/// The most that is read at once, in bytes; what OpenSSH's own server serves.
const MAX_READ: u32 = 255 * 1024;
/// Names in one answer to a request for a folder's entries; what OpenSSH's own server sends.
const NAMES_AT_ONCE: usize = 100;
/// Open handles of one client.
const MAX_HANDLES: usize = 512;

/// SFTP cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve SFTP on the standard input and output: {0}; it is started by the SSH server, not by hand"
)]
pub struct SftpError(#[from] io::Error);

/// Serves one client until it closes its end.
///
/// # Errors
///
/// The standard input and output are not pipes, or the runtime cannot be had.
pub fn serve_standard_streams() -> Result<(), SftpError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let output = pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?;
        let (alive, ended) = oneshot::channel::<()>();
        let files = Files { handles: HashMap::new(), next_handle: 0, _alive: alive };
        russh_sftp::server::run(tokio::io::join(input, output), files).await;
        // The sender is dropped with the handler, when the client is done.
        let _ = ended.await;
        Ok(())
    })
}

/// What a handle stands for.
enum Open {
    File(File),
    Folder(fs::ReadDir),
}

/// The files of one client.
struct Files {
    handles: HashMap<String, Open>,
    next_handle: u64,
    /// Dropped with the client.
    _alive: oneshot::Sender<()>,
}

impl Files {
    fn keep(&mut self, open: Open) -> Result<String, StatusReply> {
        if self.handles.len() >= MAX_HANDLES {
            return Err(StatusCode::Failure.with_message("too many open files"));
        }
        let handle = self.next_handle.to_string();
        self.next_handle += 1;
        self.handles.insert(handle.clone(), open);
        Ok(handle)
    }

    fn file(&self, handle: &str) -> Result<&File, StatusReply> {
        match self.handles.get(handle) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(StatusCode::Failure.with_message("no such file handle")),
        }
    }
}

/// The status for an error of the kernel, with its words.
fn failure(error: io::Error) -> StatusReply {
    let code = match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NoSuchFile,
        io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
        io::ErrorKind::UnexpectedEof => StatusCode::Eof,
        _ => StatusCode::Failure,
    };
    code.with_message(error.to_string())
}

fn success(id: u32) -> Status {
    let (error_message, language_tag) = ("Success".to_owned(), "en".to_owned());
    Status { id, status_code: StatusCode::Ok, error_message, language_tag }
}

fn one_name(id: u32, path: &Path) -> Name {
    Name { id, files: vec![Entry::dummy(path.to_string_lossy())] }
}

fn decode<T: for<'a> serde::Deserialize<'a>>(data: Vec<u8>) -> Result<T, StatusReply> {
    russh_sftp::de::from_bytes(&mut Bytes::from(data)).map_err(|_| StatusCode::BadMessage.into())
}

impl russh_sftp::server::Handler for Files {
    type Error = StatusReply;

    fn unimplemented(&self) -> StatusReply {
        StatusCode::OpUnsupported.into()
    }

    async fn init(
        &mut self,
        _version: u32,
        _extensions: HashMap<String, String>,
    ) -> Result<Version, StatusReply> {
        let mut version = Version::new();
        for (name, revision) in [
            (POSIX_RENAME, "1"),
            (extensions::STATVFS, "2"),
            (extensions::HARDLINK, "1"),
            (extensions::FSYNC, "1"),
        ] {
            version.extensions.insert(name.to_owned(), revision.to_owned());
        }
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        pflags: OpenFlags,
        attrs: FileAttributes,
    ) -> Result<Handle, StatusReply> {
        let mut options = OpenOptions::from(pflags);
        options.mode(attrs.permissions.map_or(0o666, |mode| mode & 0o7777));
        let file = options.open(&filename).map_err(failure)?;
        Ok(Handle { id, handle: self.keep(Open::File(file))? })
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, StatusReply> {
        match self.handles.remove(&handle) {
            Some(_) => Ok(success(id)),
            None => Err(StatusCode::Failure.with_message("no such handle")),
        }
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Result<Data, StatusReply> {
        let file = self.file(&handle)?;
        let mut data = vec![0; len.min(MAX_READ) as usize];
        let count = file.read_at(&mut data, offset).map_err(failure)?;
        if count == 0 && len > 0 {
            return Err(StatusCode::Eof.into());
        }
        data.truncate(count);
        Ok(Data { id, data })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, StatusReply> {
        self.file(&handle)?.write_all_at(&data, offset).map_err(failure)?;
        Ok(success(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, StatusReply> {
        let metadata = fs::symlink_metadata(&path).map_err(failure)?;
        Ok(Attrs { id, attrs: attributes::of(&metadata) })
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, StatusReply> {
        let metadata = fs::metadata(&path).map_err(failure)?;
        Ok(Attrs { id, attrs: attributes::of(&metadata) })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, StatusReply> {
        let metadata = self.file(&handle)?.metadata().map_err(failure)?;
        Ok(Attrs { id, attrs: attributes::of(&metadata) })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, StatusReply> {
        Change::from(attrs).apply_to_path(Path::new(&path)).map_err(failure)?;
        Ok(success(id))
    }

    async fn fsetstat(
        &mut self,
        id: u32,
        handle: String,
        attrs: FileAttributes,
    ) -> Result<Status, StatusReply> {
        Change::from(attrs).apply_to_file(self.file(&handle)?).map_err(failure)?;
        Ok(success(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, StatusReply> {
        let folder = fs::read_dir(&path).map_err(failure)?;
        Ok(Handle { id, handle: self.keep(Open::Folder(folder))? })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, StatusReply> {
        let Some(Open::Folder(folder)) = self.handles.get_mut(&handle) else {
            return Err(StatusCode::Failure.with_message("no such folder handle"));
        };
        let mut files = Vec::new();
        for entry in folder.take(NAMES_AT_ONCE) {
            let entry = entry.map_err(failure)?;
            // A file that was removed since is not there.
            let Ok(metadata) = entry.metadata() else { continue };
            files.push(attributes::entry(&entry.file_name().to_string_lossy(), &metadata));
        }
        if files.is_empty() {
            return Err(StatusCode::Eof.into());
        }
        Ok(Name { id, files })
    }

    async fn remove(&mut self, id: u32, filename: String) -> Result<Status, StatusReply> {
        fs::remove_file(&filename).map_err(failure)?;
        Ok(success(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, StatusReply> {
        let mode = attrs.permissions.map_or(0o777, |mode| mode & 0o7777);
        fs::DirBuilder::new().mode(mode).create(&path).map_err(failure)?;
        Ok(success(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Result<Status, StatusReply> {
        fs::remove_dir(&path).map_err(failure)?;
        Ok(success(id))
    }

    /// The path in full. One that does not exist, or not yet, is completed without looking.
    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, StatusReply> {
        let path = Path::new(if path.is_empty() { "." } else { &path });
        let full = fs::canonicalize(path).or_else(|_| std::path::absolute(path)).map_err(failure)?;
        Ok(one_name(id, &full))
    }

    /// Version 3 of the protocol never replaces a file in a rename; `posix-rename@openssh.com` does.
    async fn rename(&mut self, id: u32, oldpath: String, newpath: String) -> Result<Status, StatusReply> {
        if fs::symlink_metadata(&newpath).is_ok() {
            return Err(StatusCode::Failure.with_message(format!("{newpath} exists")));
        }
        fs::rename(&oldpath, &newpath).map_err(failure)?;
        Ok(success(id))
    }

    async fn readlink(&mut self, id: u32, path: String) -> Result<Name, StatusReply> {
        let target = fs::read_link(&path).map_err(failure)?;
        Ok(one_name(id, &target))
    }

    /// OpenSSH sends the target first and the link second, against the draft, and all clients follow it:
    /// section 4.1 of its `PROTOCOL`. The names here are the draft's.
    async fn symlink(
        &mut self,
        id: u32,
        linkpath: String,
        targetpath: String,
    ) -> Result<Status, StatusReply> {
        let (target, link) = (linkpath, targetpath);
        std::os::unix::fs::symlink(target, link).map_err(failure)?;
        Ok(success(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Result<Packet, StatusReply> {
        match request.as_str() {
            // Both carry two paths, the old one first.
            POSIX_RENAME => {
                let HardlinkExtension { oldpath, newpath } = decode(data)?;
                fs::rename(oldpath, newpath).map_err(failure)?;
            }
            extensions::HARDLINK => {
                let HardlinkExtension { oldpath, newpath } = decode(data)?;
                fs::hard_link(oldpath, newpath).map_err(failure)?;
            }
            extensions::FSYNC => {
                let FsyncExtension { handle } = decode(data)?;
                self.file(&handle)?.sync_all().map_err(failure)?;
            }
            extensions::STATVFS => {
                let StatvfsExtension { path } = decode(data)?;
                let data =
                    russh_sftp::ser::to_bytes(&file_system(&path)?).map_err(|_| StatusCode::Failure)?;
                return Ok(Packet::ExtendedReply(ExtendedReply { id, data: data.to_vec() }));
            }
            _ => return Err(self.unimplemented()),
        }
        Ok(Packet::Status(success(id)))
    }
}

/// Space and limits of the file system that holds the path.
fn file_system(path: &str) -> Result<Statvfs, StatusReply> {
    let found = rustix::fs::statvfs(path).map_err(|error| failure(error.into()))?;
    Ok(Statvfs {
        block_size: found.f_bsize,
        fragment_size: found.f_frsize,
        blocks: found.f_blocks,
        blocks_free: found.f_bfree,
        blocks_avail: found.f_bavail,
        inodes: found.f_files,
        inodes_free: found.f_ffree,
        inodes_avail: found.f_favail,
        fs_id: found.f_fsid,
        // `ST_RDONLY` and `ST_NOSUID` have the protocol's values 1 and 2.
        flags: found.f_flag.bits() & 3,
        name_max: found.f_namemax,
    })
}
