//! The session's key in the user's own `authorized_keys`, so that an `sshd` that the learner starts knows it
//! too.
//!
//! The folder is the learner's: no link in it is followed, because whoever makes `~/.ssh` a link to another
//! user's would get the key into that user's file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::login::Login;

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// The key is not in the user's file.
#[derive(Debug, thiserror::Error)]
#[error("cannot add the session's key to {path}: {source}", path = path.display())]
pub(crate) struct KeyError {
    path: PathBuf,
    source: io::Error,
}

/// Adds the line unless the file has it. A user without a home folder has no use for it, and gets none.
pub(crate) fn add(login: &Login, line: &str) -> Result<(), KeyError> {
    if !login.home.is_dir() {
        return Ok(());
    }
    let path = login.home.join(".ssh/authorized_keys");
    add_to(login, line.trim()).map_err(|source| KeyError { path, source })
}

fn add_to(login: &Login, line: &str) -> io::Result<()> {
    let folder = open_folder(login)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = File::from(rustix::fs::openat(&folder, c"authorized_keys", flags, mode(0o600))?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    (&mut file).take(MAX_SIZE).read_to_end(&mut text)?;
    if text.split(|byte| *byte == b'\n').any(|found| found.trim_ascii() == line.as_bytes()) {
        return Ok(());
    }
    let separator = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    file.seek(SeekFrom::End(0))?;
    file.write_all(format!("{separator}{line}\n").as_bytes())?;
    rustix::fs::fchmod(&file, mode(0o600))?;
    give_to(login, &file.into())
}

/// Opens `~/.ssh`, which is made if it is not there.
fn open_folder(login: &Login) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let home = rustix::fs::open(&login.home, flags, Mode::empty())?;
    match rustix::fs::mkdirat(&home, c".ssh", mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = rustix::fs::openat(&home, c".ssh", flags | OFlags::NOFOLLOW, Mode::empty())?;
    give_to(login, &folder)?;
    Ok(folder)
}

fn give_to(login: &Login, file: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(login.uid)), Some(Gid::from_raw(login.gid)))?)
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    const KEY: &str = "ssh-ed25519 AAAA session";

    fn login(home: &Path) -> Login {
        let mut login = Login::parse("root", "", "", "").expect("root always exists");
        login.uid = rustix::process::getuid().as_raw();
        login.gid = rustix::process::getgid().as_raw();
        login.home = home.to_owned();
        login
    }

    #[test]
    fn the_key_is_added_once_and_for_the_user_alone() {
        let home = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..2 {
            add(&login(home.path()), &format!("{KEY}\n")).expect("the key is added");
        }
        let path = home.path().join(".ssh/authorized_keys");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), format!("{KEY}\n"));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&home.path().join(".ssh"))), (0o600, 0o700));
    }

    #[test]
    fn keys_of_the_user_stay() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = home.path().join(".ssh/authorized_keys");
        fs::create_dir(home.path().join(".ssh")).expect("a folder");
        fs::write(&path, "ssh-ed25519 BBBB mine").expect("a file");
        add(&login(home.path()), KEY).expect("the key is added");
        assert_eq!(
            fs::read_to_string(&path).expect("it is there"),
            format!("ssh-ed25519 BBBB mine\n{KEY}\n")
        );
    }

    #[test]
    fn links_are_not_followed() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let other = tempfile::tempdir().expect("a temporary folder");
        symlink(other.path(), home.path().join(".ssh")).expect("a link");
        let error = add(&login(home.path()), KEY).expect_err("the folder is a link");
        assert!(error.to_string().contains("authorized_keys"), "{error}");
        assert_eq!(fs::read_dir(other.path()).expect("it is there").count(), 0);

        fs::remove_file(home.path().join(".ssh")).expect("the link goes");
        fs::create_dir(home.path().join(".ssh")).expect("a folder");
        symlink(other.path().join("target"), home.path().join(".ssh/authorized_keys")).expect("a link");
        add(&login(home.path()), KEY).expect_err("the file is a link");
        assert!(!other.path().join("target").exists());
    }

    #[test]
    fn a_user_without_a_home_needs_no_key() {
        add(&login(Path::new("/nonexistent")), KEY).expect("there is nothing to do");
    }
}
