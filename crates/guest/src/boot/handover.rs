//! Hands the machine over to the image's own init.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};

/// Where an init is looked for: the kernel's own order, without its last resort of a shell, which would own
/// the console and end the machine when it exits. The last one is for images whose `/sbin/init` was left out.
const CANDIDATES: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/lib/systemd/systemd"];
/// Units of the image's own SSH server, by the names of Debian, Fedora and Arch. It would find port 22 taken.
const SSH_UNITS: [&str; 4] = ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];
/// Where systemd takes a unit's absence from, until the next boot; `systemd.unit(5)`.
const RUNTIME_UNITS: &str = "/run/systemd/system";

/// An init that the image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageInit {
    pub(crate) path: PathBuf,
    pub(crate) is_systemd: bool,
}

/// The first init that the image mounted on `root` can run.
pub(crate) fn find(root: &Path) -> Option<ImageInit> {
    CANDIDATES.iter().find_map(|candidate| {
        let path = root.join(candidate.trim_start_matches('/'));
        let metadata = fs::metadata(&path).ok()?;
        let can_run = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
        let is_systemd = fs::canonicalize(&path).is_ok_and(|real| real.ends_with("systemd"));
        can_run.then(|| ImageInit { path: PathBuf::from(candidate), is_systemd })
    })
}

/// Keeps systemd from starting the image's own SSH server in this boot.
pub(crate) fn mask_ssh_units(units: &Path) -> io::Result<()> {
    fs::create_dir_all(units)?;
    for unit in SSH_UNITS {
        match symlink("/dev/null", units.join(unit)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Keeps systemd from emptying `/tmp` in this boot. It does so on its way up, which on a conventional machine
/// is before anybody is there; here there has been a prompt already. A file of the same name in `/run` goes
/// before the image's (`tmpfiles.d(5)`); `d` makes what is missing and leaves the rest.
pub(crate) fn keep_temporary_files(settings: &Path) -> io::Result<()> {
    fs::create_dir_all(settings)?;
    fs::write(settings.join("tmp.conf"), "d /tmp 1777 root root 10d\nd /var/tmp 1777 root root 30d\n")
}

/// The folder for [`keep_temporary_files`].
pub(crate) fn runtime_tmpfiles() -> &'static Path {
    Path::new("/run/tmpfiles.d")
}

/// The folder for [`mask_ssh_units`].
pub(crate) fn runtime_units() -> &'static Path {
    Path::new(RUNTIME_UNITS)
}

/// Becomes the image's init, on the console. Returns only if that fails.
pub(crate) fn exec(init: &ImageInit) -> io::Error {
    if let Err(error) = take_console() {
        return error;
    }
    // The kernel's own arguments for init (`single`, what follows `--`) are this program's.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    Command::new(&init.path).args(arguments).exec()
}

/// Puts the standard streams on the console of the new root: the ones the kernel opened belong to the
/// initramfs.
fn take_console() -> io::Result<()> {
    let path = CString::from(c"/dev/console");
    let console = rustix::fs::open(path.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, "").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn an_image_without_an_init_has_none() {
        let root = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(find(root.path()), None);
        program(root.path(), "sbin/init", 0o644);
        fs::create_dir_all(root.path().join("etc/init")).expect("a folder");
        assert_eq!(find(root.path()), None);
    }

    #[test]
    fn systemd_is_known_behind_its_link() {
        let root = tempfile::tempdir().expect("a temporary folder");
        program(root.path(), "lib/systemd/systemd", 0o755);
        fs::create_dir(root.path().join("sbin")).expect("a folder");
        symlink("../lib/systemd/systemd", root.path().join("sbin/init")).expect("a link");
        assert_eq!(find(root.path()), Some(ImageInit { path: "/sbin/init".into(), is_systemd: true }));
    }

    #[test]
    fn the_kernels_order_is_kept() {
        let root = tempfile::tempdir().expect("a temporary folder");
        program(root.path(), "bin/init", 0o755);
        program(root.path(), "etc/init", 0o755);
        assert_eq!(find(root.path()), Some(ImageInit { path: "/etc/init".into(), is_systemd: false }));
    }

    #[test]
    fn temporary_files_are_made_and_not_emptied() {
        let settings = tempfile::tempdir().expect("a temporary folder");
        keep_temporary_files(settings.path()).expect("the settings are written");
        let text = fs::read_to_string(settings.path().join("tmp.conf")).expect("the settings");
        assert!(text.lines().all(|line| line.starts_with("d /")), "{text}");
    }

    #[test]
    fn units_are_masked_once_and_for_all() {
        let units = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..2 {
            mask_ssh_units(units.path()).expect("the units are masked");
        }
        assert_eq!(fs::read_link(units.path().join("ssh.service")).expect("a link"), Path::new("/dev/null"));
    }
}
