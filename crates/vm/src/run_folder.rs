//! The folder in which a machine's sockets and its initramfs, which holds the guest's host key, are made.
//!
//! Where nobody named one it is in `/tmp`, where anybody may have made a folder of that name before: one that is not ours
//! alone would let its owner read the key and talk to the machine.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// The run folder where nobody named another.
pub(crate) const DEFAULT: &str = "/tmp/dozlab";

/// Makes a folder that somebody chose.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Makes a folder at a place where everybody may make one, and refuses one that another user made or can write to.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    // What the name itself is: a link leads wherever its owner likes.
    let made = fs::symlink_metadata(folder)?;
    let is_ours = made.is_dir() && made.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || made.mode() & 0o022 != 0 {
        let refused = "it is no folder of ours alone: remove it, or let RUN_DIR name a folder of your own";
        return Err(io::Error::other(refused));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_folder_in_a_public_place_must_be_ours_alone() {
        let public = tempfile::tempdir().unwrap();
        let folder = public.path().join("run");
        make_private(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        make_private(&folder).unwrap();

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        let error = make_private(&folder).unwrap_err().to_string();
        assert!(error.contains("RUN_DIR"), "{error}");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&folder).unwrap();

        let link = public.path().join("link");
        symlink(&folder, &link).unwrap();
        make_private(&link).unwrap_err();
        let file = public.path().join("file");
        fs::write(&file, "").unwrap();
        make_private(&file).unwrap_err();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(12345), None).unwrap();
            make_private(&folder).unwrap_err();
        }
    }
}
