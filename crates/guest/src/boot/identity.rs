//! The files in `/etc` that make the image this session's machine: name, id and resolvers.
//!
//! A file whose text is right already is left alone, so that a second boot writes nothing. Another is
//! replaced whole: a reader sees the old text or the new one, and a symbolic link (systemd's
//! `/etc/resolv.conf`) gives way to a file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dozlab_session::guest_config::GuestConfig;

/// The address that Debian gives a machine's own name, so that `sudo` and others can resolve it without a
/// network.
const OWN_ADDRESS: &str = "127.0.1.1";
/// `/etc/hosts` of an image that has none.
const BARE_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// A file of the image is not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub(crate) struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the files. What cannot be written is returned and the others are written all the same.
pub(crate) fn write(etc: &Path, config: &GuestConfig) -> Vec<WriteError> {
    let hosts_path = etc.join("hosts");
    let hosts = fs::read(&hosts_path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let files = [
        (etc.join("hostname"), format!("{}\n", config.hostname), 0o644),
        (hosts_path, hosts_with(hosts.as_deref().unwrap_or(BARE_HOSTS), &config.hostname), 0o644),
        (etc.join("machine-id"), format!("{}\n", config.machine_id), 0o444),
        (etc.join("resolv.conf"), resolvers(config), 0o644),
    ];
    let written = files
        .into_iter()
        .map(|(path, text, mode)| replace(&path, &text, mode).map_err(|source| WriteError { path, source }));
    written.filter_map(Result::err).collect()
}

/// The hosts file with a line for the machine's own name, unless a line has the name.
fn hosts_with(hosts: &str, name: &str) -> String {
    let names = |line: &str| {
        let line = line.split('#').next().unwrap_or("");
        line.split_whitespace().skip(1).any(|found| found == name)
    };
    let mut hosts = hosts.to_owned();
    if !hosts.lines().any(names) {
        if !hosts.is_empty() && !hosts.ends_with('\n') {
            hosts.push('\n');
        }
        let _ = writeln!(hosts, "{OWN_ADDRESS}\t{name}");
    }
    hosts
}

fn resolvers(config: &GuestConfig) -> String {
    config.network.dns.iter().fold(String::new(), |mut text, resolver| {
        let _ = writeln!(text, "nameserver {resolver}");
        text
    })
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    if is_file && fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".dozlab");
    let new = folder.join(name);
    // Left over from a boot that was cut off.
    let _ = fs::remove_file(&new);
    let written = write_new(&new, text, mode).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dozlab_session::guest_config::GuestNetwork;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn config() -> GuestConfig {
        GuestConfig {
            session_id: "s1".into(),
            hostname: "lab".into(),
            user: "root".into(),
            authorized_key: String::new(),
            host_key: String::new(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            entropy: String::new(),
            network: GuestNetwork {
                address: [172, 16, 0, 2].into(),
                prefix: 24,
                gateway: [172, 16, 0, 1].into(),
                dns: vec![[1, 1, 1, 1].into(), [8, 8, 8, 8].into()],
            },
            root_device: "/dev/vda".into(),
            overlay_device: None,
            modules_device: None,
        }
    }

    #[test]
    fn an_image_without_etc_gets_all_files() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let etc = root.path().join("etc");
        assert!(write(&etc, &config()).is_empty());
        let read = |name: &str| fs::read_to_string(etc.join(name)).expect("it was written");
        assert_eq!(read("hostname"), "lab\n");
        assert_eq!(read("machine-id"), "0123456789abcdef0123456789abcdef\n");
        assert_eq!(read("resolv.conf"), "nameserver 1.1.1.1\nnameserver 8.8.8.8\n");
        assert_eq!(read("hosts"), format!("{BARE_HOSTS}127.0.1.1\tlab\n"));
        assert_eq!(fs::read_dir(&etc).expect("it is there").count(), 4);
    }

    #[test]
    fn a_second_boot_writes_nothing() {
        let etc = tempfile::tempdir().expect("a temporary folder");
        assert!(write(etc.path(), &config()).is_empty());
        let inode = |name: &str| fs::metadata(etc.path().join(name)).expect("it is there").ino();
        let before = ["hostname", "hosts", "machine-id", "resolv.conf"].map(inode);
        assert!(write(etc.path(), &config()).is_empty());
        assert_eq!(before, ["hostname", "hosts", "machine-id", "resolv.conf"].map(inode));
    }

    #[test]
    fn a_linked_file_gives_way_and_its_target_stays() {
        let etc = tempfile::tempdir().expect("a temporary folder");
        let target = etc.path().join("target");
        fs::write(&target, "nameserver 1.1.1.1\nnameserver 8.8.8.8\n").expect("a target");
        symlink(&target, etc.path().join("resolv.conf")).expect("a link");
        symlink("/nonexistent/stub", etc.path().join("hostname")).expect("a link");
        assert!(write(etc.path(), &config()).is_empty());
        for name in ["resolv.conf", "hostname"] {
            assert!(fs::symlink_metadata(etc.path().join(name)).expect("it is there").is_file(), "{name}");
        }
        assert!(target.exists());
    }

    #[test]
    fn one_file_that_cannot_be_written_does_not_stop_the_others() {
        let etc = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(etc.path().join("hostname/in-the-way")).expect("a folder");
        let failures = write(etc.path(), &config());
        assert_eq!(failures.len(), 1);
        assert!(failures[0].to_string().contains("hostname"), "{}", failures[0]);
        assert!(etc.path().join("resolv.conf").exists());
        assert!(!etc.path().join("hostname.dozlab").exists());
    }

    #[test]
    fn a_host_that_is_named_already_is_not_added() {
        for hosts in ["127.0.0.1 localhost lab\n", "127.0.1.1\tlab.example lab # us"] {
            assert_eq!(hosts_with(hosts, "lab"), hosts);
        }
        assert_eq!(hosts_with("10.0.0.1 labs # lab", "lab"), "10.0.0.1 labs # lab\n127.0.1.1\tlab\n");
    }
}
