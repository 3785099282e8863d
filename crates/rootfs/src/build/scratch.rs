//! The folder that a build's scripts and its tree lie in, and where they leave what they have found.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dozlab_process::Workspace;
use tokio::process::Command;

use super::BuildError;
use super::definition::ImageToml;
use super::namespaces::is_root;

/// Open to all who can enter its parent: in a user namespace, scripts run as another user. Nothing in it is
/// secret.
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    date: i64,
}

impl Scratch {
    /// In the store as root; else in the folder of temporary files, for nobody else can enter the store.
    pub(super) fn create(workspace: &Workspace, image: &ImageToml, date: i64) -> Result<Self, BuildError> {
        let parent = if is_root() { workspace.path().to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("dozlab-build-").tempdir_in(&parent);
        let folder = folder.map_err(|source| BuildError::Write { path: parent, source })?;
        let scratch = Self { folder, date };
        scratch.fill(image).map_err(|source| scratch.unwritable(source))?;
        Ok(scratch)
    }

    fn fill(&self, image: &ImageToml) -> io::Result<()> {
        // World-writable with the sticky bit, like /tmp itself: the other user makes its tree here.
        fs::set_permissions(self.path(), Permissions::from_mode(0o1777))?;
        for (name, mode) in [("commands", 0o755), ("found", 0o1777)] {
            let folder = self.path().join(name);
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        }
        for (index, command) in image.commands.iter().enumerate() {
            write_with_mode(&self.path().join(format!("commands/{index:04}")), command, 0o644)?;
        }
        if image.network {
            write_with_mode(&self.path().join("network"), "", 0o644)?;
        }
        write_with_mode(&self.path().join("furnish"), include_str!("furnish"), 0o755)
    }

    pub(super) fn add_script(&self, name: &str, text: &str) -> Result<(), BuildError> {
        write_with_mode(&self.path().join(name), text, 0o755).map_err(|source| self.unwritable(source))
    }

    /// Lets the other user of a user namespace read a file, and remove it.
    pub(super) fn open_to_all(&self, path: &Path) -> Result<(), BuildError> {
        fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(|source| self.unwritable(source))
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn overlay(&self) -> PathBuf {
        self.path().join("overlay.tar")
    }

    /// What a script has left under this name.
    pub(super) fn found(&self, name: &str) -> Result<String, BuildError> {
        let path = self.path().join("found").join(name);
        fs::read_to_string(&path).map_err(|source| BuildError::SourceUnreadable { path, source })
    }

    /// Gives a program its folder of temporary files, and the build's time for that of day.
    pub(super) fn set_environment(&self, command: &mut Command) {
        command.env("LC_ALL", "C").env("TMPDIR", self.path()).env("SOURCE_DATE_EPOCH", self.date.to_string());
    }

    fn unwritable(&self, source: io::Error) -> BuildError {
        BuildError::Write { path: self.path().to_owned(), source }
    }
}

fn write_with_mode(path: &Path, contents: &str, mode: u32) -> io::Result<()> {
    fs::write(path, contents)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}
