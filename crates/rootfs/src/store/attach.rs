//! What a session that lies over an image has of it: a name for the image's file beside its own disk.
//!
//! On the store's own file system the name is a hard link: the image's bytes are there for as long as the link is,
//! whatever becomes of the store, and nothing has to be remembered or cleaned up. Between two file systems it is a
//! symbolic link, and a *lease* in the store, `leases/DIGEST/NAME`, that says where that link is. A lease holds for as
//! long as the link is there and points at the image; so a session that was removed by any means has given its lease
//! back, and the next [`Store::open`](super::Store::open) sweeps it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Digest, HeldImage, Store, StoreError, io_error, sync_folder};

impl HeldImage {
    /// Gives the image the name `base`: its bytes stay for as long as that does. One that is there already for the
    /// same image is kept.
    ///
    /// # Errors
    /// [`StoreError::Io`]: another file is there, or none can be made.
    pub fn attach(&self, base: &Path) -> Result<(), StoreError> {
        if is_attached(base, &self.path) {
            return Ok(());
        }
        match fs::hard_link(&self.path, base) {
            Ok(()) => return Ok(()),
            // Another file system; or one without hard links, or a store that may only be read.
            Err(error) if may_be_linked_symbolically(&error) => {}
            Err(error) => return Err(io_error("link the image to", base)(error)),
        }
        let base = std::path::absolute(base).map_err(io_error("resolve", base))?;
        let blob = fs::canonicalize(&self.path).map_err(io_error("resolve", &self.path))?;
        // Nobody may sweep the lease before its link is there.
        let _lock = self.store.lock()?;
        self.store.write_lease(&self.record.digest, &base)?;
        match symlink(&blob, &base) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_dangling(&base) => {
                fs::remove_file(&base).and_then(|()| symlink(&blob, &base))
            }
            other => other,
        }
        .map_err(io_error("link the image to", &base))
    }
}

fn may_be_linked_symbolically(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::XDEV, Errno::PERM, Errno::OPNOTSUPP, Errno::ROFS, Errno::MLINK];
    known.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn is_attached(base: &Path, blob: &Path) -> bool {
    let (Ok(base), Ok(blob)) = (fs::metadata(base), fs::metadata(blob)) else { return false };
    (base.dev(), base.ino()) == (blob.dev(), blob.ino())
}

fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

impl Store {
    fn leases(&self) -> PathBuf {
        self.folder.join("leases")
    }

    fn write_lease(&self, digest: &Digest, base: &Path) -> Result<(), StoreError> {
        let folder = self.leases().join(digest.digits());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(io_error("make", &folder))?;
        let name: String = Sha256::digest(base.as_os_str().as_bytes())
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = folder.join(name);
        let written = fs::write(&path, base.as_os_str().as_bytes());
        written.and_then(|()| File::open(&path)?.sync_all()).map_err(io_error("write", &path))?;
        sync_folder(&folder)
    }

    /// Where the links are that leases of this image name, and that are there. Leases whose links are gone are
    /// removed. The store's lock must be held.
    pub(super) fn leased_to(&self, digest: &Digest) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.leases().join(digest.digits());
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("read", &folder))?,
        };
        let blob = self.blob(digest);
        let mut links = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("read", &folder))?.path();
            let link = PathBuf::from(std::ffi::OsString::from_vec(
                fs::read(&path).map_err(io_error("read", &path))?,
            ));
            if link.is_symlink() && is_attached(&link, &blob) {
                links.push(link);
            } else if self.writable {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(links)
    }
}
