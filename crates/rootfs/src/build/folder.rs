//! Where a definition lies: a folder, or this program, which has those of the folder `images` in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use super::definition::{DefinitionError, FILE};

/// The definitions that come with the program; a folder without an `image.toml` is something else.
static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../images");

/// The folder of one definition.
#[derive(Clone, Debug)]
pub(super) enum DefinitionFolder {
    Embedded(&'static Dir<'static>),
    OnDisk(PathBuf),
}

/// What lies at a path of the folder.
#[derive(Debug)]
pub(super) enum Found {
    File,
    /// With the names in it, in order.
    Folder(Vec<String>),
    /// A symbolic link, and where it leads.
    Link(PathBuf),
}

/// The names of the definitions that come with the program.
pub(super) fn embedded_names() -> Vec<&'static str> {
    EMBEDDED.dirs().filter(is_definition).filter_map(|folder| folder.path().to_str()).collect()
}

fn is_definition(folder: &&Dir<'_>) -> bool {
    folder.get_file(folder.path().join(FILE)).is_some()
}

impl DefinitionFolder {
    pub(super) fn embedded(name: &str) -> Option<Self> {
        EMBEDDED.get_dir(name).filter(is_definition).map(Self::Embedded)
    }

    /// The folder's own name.
    pub(super) fn name(&self) -> Result<String, DefinitionError> {
        let path = match self {
            Self::Embedded(folder) => folder.path().to_owned(),
            // Of `.` and `..`, what they stand for.
            Self::OnDisk(path) => path
                .canonicalize()
                .map_err(|source| DefinitionError::Unreadable { path: path.clone(), source })?,
        };
        Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// A path in it, for a person.
    pub(super) fn display(&self, path: &Path) -> PathBuf {
        match self {
            Self::Embedded(folder) => Path::new("images").join(folder.path()).join(path),
            Self::OnDisk(folder) => folder.join(path),
        }
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, DefinitionError> {
        match self {
            Self::Embedded(folder) => match folder.get_file(folder.path().join(path)) {
                Some(file) => Ok(file.contents().to_vec()),
                None => Err(self.unreadable(path, io::ErrorKind::NotFound.into())),
            },
            Self::OnDisk(folder) => {
                fs::read(folder.join(path)).map_err(|source| self.unreadable(path, source))
            }
        }
    }

    pub(super) fn look(&self, path: &Path) -> Result<Found, DefinitionError> {
        let failure = |source| self.unreadable(path, source);
        match self {
            Self::Embedded(folder) => match folder.get_entry(folder.path().join(path)) {
                Some(DirEntry::File(_)) => Ok(Found::File),
                Some(DirEntry::Dir(found)) => {
                    let names = found.entries().iter().filter_map(|entry| entry.path().file_name());
                    Ok(Found::folder(names.map(|name| name.to_string_lossy().into_owned()).collect()))
                }
                None => Err(failure(io::ErrorKind::NotFound.into())),
            },
            Self::OnDisk(folder) => {
                let path = folder.join(path);
                let kind = path.symlink_metadata().map_err(failure)?.file_type();
                if kind.is_symlink() {
                    return fs::read_link(&path).map(Found::Link).map_err(failure);
                }
                if kind.is_file() {
                    return Ok(Found::File);
                }
                let mut names = Vec::new();
                for entry in fs::read_dir(&path).map_err(failure)? {
                    let name = entry.map_err(failure)?.file_name().into_string();
                    names.push(
                        name.map_err(|_| failure(io::Error::other("it has a name that is not UTF-8")))?,
                    );
                }
                Ok(Found::folder(names))
            }
        }
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> DefinitionError {
        DefinitionError::Unreadable { path: self.display(path), source }
    }
}

impl Found {
    fn folder(mut names: Vec<String>) -> Self {
        names.sort();
        Self::Folder(names)
    }
}
