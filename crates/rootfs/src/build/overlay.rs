//! What a definition lays over the tree, as a tar: its `files`, and the programs of its `sources`.
//!
//! The tar has the owners, modes and times that the definition says, whatever the files here have, so that
//! the same definition makes the same image wherever it is checked out.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::BuildError;
use super::definition::{Definition, DefinitionError, FileBody, FileEntry, TargetPath};
use super::folder::Found;

const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
/// The mode of programs from sources.
const PROGRAM_MODE: u32 = 0o755;

/// A program that a source has given.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it lies on this machine.
    pub(super) path: PathBuf,
    /// The folder it goes to.
    pub(super) to: TargetPath,
    /// Its name there.
    pub(super) name: String,
    /// Its SHA-256 in hexadecimal.
    pub(super) sha256: String,
}
/// Writes the tar to `path`; `date` is the time of everything in it.
pub(super) fn write(
    definition: &Definition,
    programs: &[Program],
    date: i64,
    path: &Path,
) -> Result<(), BuildError> {
    let unwritable = |source| BuildError::Write { path: path.to_owned(), source };
    let file = File::create_new(path).map_err(unwritable)?;
    let mut overlay = Overlay { tar: Builder::new(file), date: u64::try_from(date).unwrap_or(0), path };
    for program in programs {
        overlay.add_program(program)?;
    }
    for entry in &definition.image.files {
        overlay.add(definition, entry)?;
    }
    let mut file = overlay.tar.into_inner().map_err(unwritable)?;
    // Read by the other user of a user namespace.
    file.flush().and_then(|()| file.set_permissions(Permissions::from_mode(0o644))).map_err(unwritable)
}

/// The files beside `image.toml` that are laid over the tree, with what they hold.
pub(super) fn files_beside(definition: &Definition) -> Result<Vec<(PathBuf, Vec<u8>)>, DefinitionError> {
    let mut files = Vec::new();
    let mut rest: Vec<PathBuf> = definition.image.files.iter().filter_map(FileEntry::from).collect();
    while let Some(path) = rest.pop() {
        match definition.folder.look(&path)? {
            Found::File => files.push((path.clone(), definition.folder.read(&path)?)),
            Found::Link(_) => {}
            Found::Folder(names) => rest.extend(names.iter().map(|name| path.join(name))),
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

struct Overlay<'a> {
    tar: Builder<File>,
    date: u64,
    path: &'a Path,
}

impl Overlay<'_> {
    fn add(&mut self, definition: &Definition, entry: &FileEntry) -> Result<(), BuildError> {
        let to = entry.to.as_str();
        let mode = entry.mode.map(|mode| mode.bits());
        match &entry.body {
            FileBody::From(from) => self.add_from(definition, entry, from.as_path(), to),
            FileBody::Text(text) => self.append(
                self.header(EntryType::Regular, mode.unwrap_or(FILE_MODE), entry.owner),
                to,
                text.as_bytes(),
            ),
            FileBody::Link(target) => self.link(entry, to, Path::new(target)),
            FileBody::Folder => self.append(
                self.header(EntryType::Directory, mode.unwrap_or(FOLDER_MODE), entry.owner),
                to,
                &[],
            ),
        }
    }

    fn add_from(
        &mut self,
        definition: &Definition,
        entry: &FileEntry,
        from: &Path,
        to: &str,
    ) -> Result<(), BuildError> {
        match definition.folder.look(from)? {
            Found::File => {
                let mode = entry.mode.map_or(FILE_MODE, |mode| mode.bits());
                let bytes = definition.folder.read(from)?;
                self.append(self.header(EntryType::Regular, mode, entry.owner), to, &bytes)
            }
            Found::Link(target) => self.link(entry, to, &target),
            Found::Folder(names) => {
                if !to.is_empty() {
                    let header = self.header(EntryType::Directory, FOLDER_MODE, entry.owner);
                    self.append(header, to, &[])?;
                }
                for name in names {
                    let below = if to.is_empty() { name.clone() } else { format!("{to}/{name}") };
                    self.add_from(definition, entry, &from.join(&name), &below)?;
                }
                Ok(())
            }
        }
    }

    fn add_program(&mut self, program: &Program) -> Result<(), BuildError> {
        let unreadable = |source| BuildError::SourceUnreadable { path: program.path.clone(), source };
        let file = File::open(&program.path).map_err(unreadable)?;
        let mut header = self.header(EntryType::Regular, PROGRAM_MODE, (0, 0));
        header.set_size(file.metadata().map_err(unreadable)?.len());
        let to = format!("{}/{}", program.to.as_str(), program.name);
        self.tar.append_data(&mut header, to, file).map_err(|error| self.unwritable(error))
    }

    fn link(&mut self, entry: &FileEntry, to: &str, target: &Path) -> Result<(), BuildError> {
        let mut header = self.header(EntryType::Symlink, 0o777, entry.owner);
        header.set_size(0);
        self.tar.append_link(&mut header, to, target).map_err(|error| self.unwritable(error))
    }

    fn append(&mut self, mut header: Header, to: &str, bytes: &[u8]) -> Result<(), BuildError> {
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, to, bytes).map_err(|error| self.unwritable(error))
    }

    fn header(&self, kind: EntryType, mode: u32, (uid, gid): (u32, u32)) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(self.date);
        header
    }

    fn unwritable(&self, source: io::Error) -> BuildError {
        BuildError::Write { path: self.path.to_owned(), source }
    }
}
