//! Writes the initramfs: a base archive for a kernel, and behind it a small one for a session.
//!
//! The kernel unpacks several cpio archives one after the other (`Documentation/driver-api/early-userspace/
//! buffer-format.rst`); a following one must start at a multiple of four bytes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cpio::newc::Builder;
use dozlab_session::guest_config::{CONFIG_PATH, GuestConfig};

use crate::{GUEST_PROGRAM, Kernel};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Folders that the guest program finds at its start.
const FOLDERS: [&str; 6] = ["dev", "proc", "sys", "newroot", "dozlab", "dozlab/modules"];

/// An initramfs could not be written.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> InitramfsError + 'a {
    move |source| InitramfsError::File { action, path: path.to_owned(), source }
}

/// An archive being written.
struct Archive<W: Write> {
    output: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn new(output: W) -> Self {
        Self { output, inode: 0 }
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let builder = Builder::new(name).ino(self.inode).nlink(1).mode(mode);
        let builder = builder.rdev_major(device.0).rdev_minor(device.1);
        let length = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut writer = builder.write(&mut self.output, length);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(self) -> io::Result<W> {
        cpio::newc::trailer(self.output)
    }
}

/// Writes the kernel's base archive into its folder. It is made anew when the guest program has changed since.
pub(crate) fn write_base(kernel: &Kernel) -> Result<(), InitramfsError> {
    let path = base_path(kernel);
    let partial = path.with_extension("partial");
    let output = File::create(&partial).map_err(file("create", &partial))?;
    let mut archive = Archive::new(io::BufWriter::new(output));
    add_base(&mut archive, kernel).map_err(file("write", &partial))?;
    let written = archive.finish().and_then(|mut output| output.flush());
    written.map_err(file("write", &partial))?;
    fs::rename(&partial, &path).map_err(file("create", &path))
}

fn add_base<W: Write>(archive: &mut Archive<W>, kernel: &Kernel) -> io::Result<()> {
    for folder in FOLDERS {
        archive.entry(folder, DIRECTORY | 0o755, (0, 0), &[])?;
    }
    // The kernel opens the console for process 1 before anything can make this node.
    archive.entry("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), &[])?;
    archive.entry("dev/null", CHARACTER_DEVICE | 0o666, (1, 3), &[])?;
    archive.entry("init", REGULAR | 0o755, (0, 0), GUEST_PROGRAM)?;
    let order = fs::read_to_string(kernel.early_modules().join("order"))?;
    archive.entry("dozlab/modules/order", REGULAR | 0o644, (0, 0), order.as_bytes())?;
    for module in order.lines() {
        let content = fs::read(kernel.early_modules().join(module))?;
        archive.entry(&format!("dozlab/modules/{module}"), REGULAR | 0o644, (0, 0), &content)?;
    }
    Ok(())
}

impl Kernel {
    /// The checksum of what this kernel's initramfs is made of, the guest program and the list of modules: 16
    /// hexadecimal digits.
    #[must_use]
    pub fn initramfs_checksum(&self) -> String {
        use sha2::Digest;
        let mut digest = sha2::Sha256::new_with_prefix(GUEST_PROGRAM);
        digest.update(fs::read(self.early_modules().join("order")).unwrap_or_default());
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The base archive's name carries that checksum: a newer program of ours does not boot an older guest, and a kernel
/// whose modules were added to is not booted without them.
fn base_path(kernel: &Kernel) -> PathBuf {
    kernel.folder.join(format!("initramfs-{}", kernel.initramfs_checksum()))
}

fn base(kernel: &Kernel) -> Result<Vec<u8>, InitramfsError> {
    let path = base_path(kernel);
    if !path.exists() {
        write_base(kernel)?;
    }
    fs::read(&path).map_err(file("read", &path))
}

/// Writes the initramfs of one session. The file is readable by its owner alone: it holds the VM's host key.
///
/// # Errors
/// [`InitramfsError`].
pub fn write_initramfs(kernel: &Kernel, config: &GuestConfig, path: &Path) -> Result<(), InitramfsError> {
    let mut content = base(kernel)?;
    content.resize(content.len().next_multiple_of(4), 0);
    let config = serde_json::to_vec(config).expect("a guest's configuration has only strings and numbers");
    let mut archive = Archive::new(content);
    let name = CONFIG_PATH.trim_start_matches('/');
    let added = archive.entry(name, REGULAR | 0o600, (0, 0), &config).and_then(|()| archive.finish());
    write_private(path, &added.map_err(file("write", path))?)
}

/// Writes an initramfs without a session, for [the probe](dozlab_session::guest_config::PROBE_PARAMETER).
///
/// # Errors
/// [`InitramfsError`].
pub fn write_probe_initramfs(kernel: &Kernel, path: &Path) -> Result<(), InitramfsError> {
    write_private(path, &base(kernel)?)
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), InitramfsError> {
    let partial = path.with_extension("partial");
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let mut output = opened.map_err(file("create", &partial))?;
    output.write_all(content).map_err(file("write", &partial))?;
    fs::rename(&partial, path).map_err(file("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelKind;
    use dozlab_session::guest_config::GuestNetwork;
    use std::net::Ipv4Addr;
    use std::os::unix::fs::PermissionsExt;

    fn kernel(folder: &Path) -> Kernel {
        let early = folder.join("early");
        fs::create_dir(&early).unwrap();
        fs::write(early.join("order"), "one.ko\n").unwrap();
        fs::write(early.join("one.ko"), "module").unwrap();
        Kernel {
            release: "6.1.0".into(),
            source: "test".into(),
            kind: KernelKind::Debian,
            recipe: None,
            folder: folder.to_owned(),
        }
    }

    fn config() -> GuestConfig {
        GuestConfig {
            session_id: "abc123".into(),
            hostname: "lab".into(),
            user: "root".into(),
            authorized_key: "ssh-ed25519 AAAA".into(),
            host_key: "secret".into(),
            machine_id: "0".repeat(32),
            entropy: "00".repeat(32),
            network: GuestNetwork {
                address: Ipv4Addr::new(172, 16, 0, 2),
                prefix: 24,
                gateway: Ipv4Addr::new(172, 16, 0, 1),
                dns: vec![],
            },
            root_device: "/dev/vda".into(),
            overlay_device: None,
            modules_device: None,
        }
    }

    /// All entries of concatenated archives, as the kernel unpacks them: zeros between two archives are passed over,
    /// and an archive starts at a multiple of four.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut rest = io::Cursor::new(archive);
        while (rest.position() as usize) < archive.len() {
            let at = rest.position() as usize;
            if archive[at] == 0 {
                rest.set_position(at as u64 + 1);
                continue;
            }
            assert_eq!(at % 4, 0, "an archive starts at {at}");
            loop {
                let mut reader = cpio::newc::Reader::new(rest).unwrap();
                let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
                let mut content = Vec::new();
                io::Read::read_to_end(&mut reader, &mut content).unwrap();
                rest = reader.finish().unwrap();
                if name == "TRAILER!!!" {
                    break;
                }
                entries.push((name, mode, content));
            }
        }
        entries
    }

    #[test]
    fn the_sessions_archive_follows_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = kernel(folder.path());
        let path = folder.path().join("initramfs");

        write_initramfs(&kernel, &config(), &path).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let entries = entries(&fs::read(&path).unwrap());
        let content = |wanted: &str| &entries.iter().find(|(name, ..)| name == wanted).unwrap().2;
        assert_eq!(content("init"), GUEST_PROGRAM);
        assert_eq!(content("dozlab/modules/one.ko"), b"module");
        let read: GuestConfig = serde_json::from_slice(content("dozlab/config.json")).unwrap();
        assert!(read == config());
        let (_, mode, _) = entries.iter().find(|(name, ..)| name == "dozlab/config.json").unwrap();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_probe_knows_no_session() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initramfs");
        write_probe_initramfs(&kernel(folder.path()), &path).unwrap();
        assert!(entries(&fs::read(&path).unwrap()).iter().all(|(name, ..)| name != "dozlab/config.json"));
    }
}
