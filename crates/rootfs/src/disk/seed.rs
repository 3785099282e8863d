//! Files that a disk has from the beginning, written into its file system by `debugfs`.
//!
//! ```text
//!   folders on the way ── stat, one run ──→ which are there
//!   SEED files ──→ DISK.seed/ (private) ── mkdir, write, sif: one run ──→ the file system
//! ```
//!
//! An image is a stranger's work. `debugfs` never leaves its file system; where a folder on the way is something else,
//! nothing is written and the error says so.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{PrepareError, write_error};
use crate::e2fsprogs::{self, DEBUGFS, run};

/// A file that a disk has from the beginning, and with it the guest's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedFile {
    /// Its absolute path in the guest: `/var/lib/cloud/seed/nocloud/meta-data`. Folders on the way are made where they
    /// are missing, owned by root, mode 0755. A file that is there is replaced.
    pub path: String,
    /// Its permissions: `0o600`. It belongs to root.
    pub mode: u16,
    /// What it holds.
    pub content: Vec<u8>,
}

/// Writes the files into an empty file system, below its new folder `/upper`; `/work`, beside it, is made too.
pub(super) async fn into_new_overlay(disk: &Path, files: &[SeedFile]) -> Result<(), PrepareError> {
    let mut script = Script::default();
    script.make_folder("/upper");
    script.make_folder("/work");
    script.run(&Scratch::create(disk)?, disk, "/upper", files).await
}

/// Writes the files into the file system of an image.
pub(super) async fn into_image(disk: &Path, files: &[SeedFile]) -> Result<(), PrepareError> {
    if files.is_empty() {
        return Ok(());
    }
    let scratch = Scratch::create(disk)?;
    let mut script = Script::default();
    let mut paths: Vec<&str> = files.iter().flat_map(|file| folders(&file.path)).collect();
    paths.sort_unstable();
    paths.dedup();
    let wanted = paths.len();
    paths.extend(files.iter().map(|file| file.path.as_str()));
    for (index, (path, kind)) in paths.iter().zip(scratch.kinds(disk, &paths).await?).enumerate() {
        match (kind, index < wanted) {
            (Kind::Missing, _) => {}
            (Kind::Folder, true) => script.made.push((*path).to_owned()),
            (Kind::File, false) => command(&mut script.commands, "rm", &[path.as_bytes()]),
            _ => return Err(PrepareError::SeedBlocked { path: (*path).to_owned() }),
        }
    }
    script.run(&scratch, disk, "", files).await
}

/// What is at a path of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Missing,
    Folder,
    File,
    Other,
}

/// A private folder beside the disk for what `debugfs` reads. The disk's lock is held, so one that is there is what a
/// crash left.
struct Scratch(PathBuf);

impl Scratch {
    fn create(disk: &Path) -> Result<Self, PrepareError> {
        let mut path = disk.as_os_str().to_owned();
        path.push(".seed");
        let scratch = Self(path.into());
        scratch.remove();
        let made = DirBuilder::new().mode(0o700).create(&scratch.0);
        made.map_err(|error| write_error(disk, 0, error))?;
        Ok(scratch)
    }

    /// What is at each of the paths.
    async fn kinds(&self, disk: &Path, paths: &[&str]) -> Result<Vec<Kind>, PrepareError> {
        let mut commands = Vec::new();
        for path in paths {
            command(&mut commands, "stat", &[path.as_bytes()]);
        }
        let script = self.0.join("stat");
        fs::write(&script, commands).map_err(|error| write_error(&script, 0, error))?;
        let output = run(DEBUGFS, [OsString::from("-f"), script.into(), disk.into()], None).await?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let kinds: Vec<Kind> = printed.split("debugfs: stat ").skip(1).map(kind).collect();
        if kinds.len() != paths.len() {
            return Err(e2fsprogs::failed(DEBUGFS, disk, &output).into());
        }
        Ok(kinds)
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

/// What `stat` printed of one path: `Inode: 12   Type: directory    Mode:  0755`, or nothing where it is missing.
fn kind(printed: &str) -> Kind {
    let Some(line) = printed.lines().find(|line| line.starts_with("Inode:")) else { return Kind::Missing };
    let mut words = line.split_whitespace().skip_while(|word| *word != "Type:").skip(1);
    match words.next() {
        Some("directory") => Kind::Folder,
        Some("regular") => Kind::File,
        _ => Kind::Other,
    }
}

/// Commands for `debugfs`, and the folders that are there once they have run.
#[derive(Default)]
struct Script {
    commands: Vec<u8>,
    made: Vec<String>,
}

impl Script {
    fn make_folder(&mut self, path: &str) {
        if self.made.iter().any(|known| known == path) {
            return;
        }
        command(&mut self.commands, "mkdir", &[path.as_bytes()]);
        self.set_owner(path, 0o040_755);
        self.made.push(path.to_owned());
    }

    fn set_owner(&mut self, path: &str, mode: u32) {
        for (field, value) in [("mode", format!("0{mode:o}")), ("uid", "0".into()), ("gid", "0".into())] {
            command(&mut self.commands, "sif", &[path.as_bytes(), field.as_bytes(), value.as_bytes()]);
        }
    }

    /// Adds the files below `root`, and runs all of it.
    async fn run(
        mut self,
        scratch: &Scratch,
        disk: &Path,
        root: &str,
        files: &[SeedFile],
    ) -> Result<(), PrepareError> {
        self.write_files(root, files, &scratch.0).map_err(|error| write_error(&scratch.0, 0, error))?;
        let script = scratch.0.join("script");
        fs::write(&script, &self.commands).map_err(|error| write_error(&script, 0, error))?;
        Ok(e2fsprogs::edit(&["-f".into(), script.into()], disk, None).await?)
    }

    fn write_files(&mut self, root: &str, files: &[SeedFile], scratch: &Path) -> std::io::Result<()> {
        for (index, file) in files.iter().enumerate() {
            let path = format!("{root}{}", file.path);
            for folder in folders(&path) {
                self.make_folder(folder);
            }
            let (folder, name) = path.rsplit_once('/').unwrap_or(("/", &path));
            let content = scratch.join(index.to_string());
            fs::write(&content, &file.content)?;
            // `write` takes a name in the current folder, not a path.
            command(&mut self.commands, "cd", &[folder.as_bytes()]);
            command(&mut self.commands, "write", &[content.as_os_str().as_bytes(), name.as_bytes()]);
            self.set_owner(&path, 0o100_000 | u32::from(file.mode & 0o7777));
        }
        Ok(())
    }
}

/// The folders that an absolute path goes through, the outermost first, without the root.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).skip(1)
}

fn command(commands: &mut Vec<u8>, name: &str, arguments: &[&[u8]]) {
    commands.extend_from_slice(name.as_bytes());
    for argument in arguments {
        commands.push(b' ');
        e2fsprogs::quote(commands, argument);
    }
    commands.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_a_path_are_those_on_its_way() {
        assert_eq!(folders("/var/lib/file").collect::<Vec<_>>(), ["/var", "/var/lib"]);
        assert_eq!(folders("/file").count(), 0);
    }

    #[test]
    fn what_stat_prints_says_what_is_there() {
        assert_eq!(kind("\"/var\"\nInode: 12   Type: directory    Mode:  0755\nLinks: 2\n"), Kind::Folder);
        assert_eq!(kind("\"/f\"\nInode: 13   Type: regular    Mode:  0644\n"), Kind::File);
        assert_eq!(kind("\"/l\"\nInode: 14   Type: symlink    Mode:  0777\n"), Kind::Other);
        assert_eq!(kind("\"/none\"\n"), Kind::Missing);
    }
}
