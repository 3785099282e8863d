//! The root disk: waits for the device, mounts its file system and makes that the root.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// How long the disk may take to appear after its drivers are loaded. It is there at once, even on an
/// emulated processor; the deadline is for a host so loaded that nothing is.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(2);
/// Where the initramfs holds the place for the root.
pub(super) const NEW_ROOT: &str = "/newroot";

/// The root file system cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootDiskError {
    #[error(
        "the root disk {device} did not appear within {} s: is it attached, and are its drivers in the \
         initramfs?",
        DEADLINE.as_secs()
    )]
    Missing { device: String },
    #[error(
        "cannot mount {device} as the root: it holds {content}, and the image must be an ext4 file system"
    )]
    WrongContent { device: String, content: &'static str },
    #[error(
        "cannot mount {device} as the root: its ext4 file system is damaged, or uses features that kernel \
         {kernel} does not know: {source}"
    )]
    Refused { device: String, kernel: String, source: io::Error },
    #[error("cannot lay {overlay} over {base}: {what}: {source}")]
    Overlay { base: String, overlay: String, what: &'static str, source: io::Error },
    #[error("cannot make the disk the root: {0}")]
    Switch(#[source] io::Error),
}

/// Waits until the block device is there.
pub(crate) fn wait_for(device: &str) -> Result<(), RootDiskError> {
    let start = Instant::now();
    loop {
        if fs::metadata(device).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            return Ok(());
        }
        if start.elapsed() > DEADLINE {
            return Err(RootDiskError::Missing { device: device.to_owned() });
        }
        sleep(INTERVAL);
    }
}

/// Mounts the device's file system as the new root, writable.
pub(crate) fn mount(device: &str) -> Result<(), RootDiskError> {
    mount_ext4(device, NEW_ROOT, MountFlags::empty())
}

/// Mounts the device's file system.
pub(super) fn mount_ext4(device: &str, target: &str, flags: MountFlags) -> Result<(), RootDiskError> {
    let mount = |options| rustix::mount::mount(device, target, c"ext4", flags, options);
    let mounted = match mount(None) {
        // A read-only device whose journal is not empty: what is in it cannot be written back, and is not needed,
        // for images are checked before they are used.
        Err(Errno::ROFS) if flags.contains(MountFlags::RDONLY) => mount(Some(c"noload")),
        other => other,
    };
    let Err(error) = mounted else { return Ok(()) };
    let device = device.to_owned();
    match File::open(&device).map(|disk| content_of(&disk)) {
        Ok(Some(EXT4)) | Err(_) => {
            Err(RootDiskError::Refused { device, kernel: super::modules::release(), source: error.into() })
        }
        Ok(content) => {
            Err(RootDiskError::WrongContent { device, content: content.unwrap_or("no known file system") })
        }
    }
}

/// What an ext4 file system is called below.
const EXT4: &str = "an ext4 file system";

/// Bytes that tell what a disk holds: where they are, what they are, and what it is then. From each format's
/// own description, as `libblkid` and `file` know them too.
const SIGNATURES: [(u64, &[u8], &str); 15] = [
    (1080, &[0x53, 0xef], EXT4),
    (0, b"XFSB", "an XFS file system"),
    (65_600, b"_BHRfS_M", "a btrfs file system"),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "an EROFS file system"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"QFI\xfb", "a QCOW2 image"),
    (32_769, b"CD001", "an ISO 9660 image"),
    (257, b"ustar", "a tar archive"),
    (0, &[0x1f, 0x8b], "gzip-compressed data"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "zstd-compressed data"),
    (0, &[0xfd, b'7', b'z', b'X', b'Z', 0], "xz-compressed data"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (510, &[0x55, 0xaa], "a partition table (MBR)"),
];

/// What the disk holds; `None` where that is nothing known.
fn content_of(disk: &impl FileExt) -> Option<&'static str> {
    let holds = |offset: u64, signature: &[u8]| {
        let mut found = [0; 8];
        let found = &mut found[..signature.len()];
        disk.read_exact_at(found, offset).is_ok() && found == signature
    };
    let known = SIGNATURES.iter().find(|(offset, signature, _)| holds(*offset, signature));
    known.map(|(_, _, content)| *content)
}

/// Makes the mounted disk the root of this process and of all it starts. Nothing of the initramfs can be
/// reached by a path afterwards.
pub(crate) fn switch() -> Result<(), RootDiskError> {
    for hidden in ["/proc", "/dev"] {
        rustix::mount::unmount(hidden, UnmountFlags::DETACH)
            .map_err(|error| RootDiskError::Switch(error.into()))?;
    }
    let switch = || {
        rustix::process::chdir(NEW_ROOT)?;
        rustix::mount::mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    switch().map_err(|error| RootDiskError::Switch(error.into()))
}

/// Mounts the kernel's own file systems in the new root, following the paths of the image. `/dev` and `/proc`
/// are needed; an image on which one of the others cannot be mounted still gives a shell, and is told about.
pub(crate) fn mount_kernel_file_systems() -> Result<Vec<String>, RootDiskError> {
    let hardened = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let files = MountFlags::NOSUID | MountFlags::NODEV;
    let needed: [(&str, &str, MountFlags, &str); 3] = [
        ("proc", "/proc", hardened, ""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
        // Group 5 is `tty` on every distribution; without it `mesg` and `write` do not work.
        ("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "gid=5,mode=620,ptmxmode=000"),
    ];
    let useful: [(&str, &str, MountFlags, &str); 4] = [
        ("sysfs", "/sys", hardened, ""),
        ("cgroup2", "/sys/fs/cgroup", hardened, "nsdelegate,memory_recursiveprot"),
        ("tmpfs", "/dev/shm", files, "mode=1777"),
        ("tmpfs", "/run", files, "mode=0755"),
    ];
    for (kind, target, flags, options) in needed {
        mount_kernel(kind, target, flags, options).map_err(RootDiskError::Switch)?;
    }
    let mut failures = Vec::new();
    for (kind, target, flags, options) in useful {
        if let Err(error) = mount_kernel(kind, target, flags, options) {
            failures.push(format!("cannot mount {kind} on {target}: {error}"));
        }
    }
    link_standard_streams();
    Ok(failures)
}

fn mount_kernel(kind: &str, target: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    if !Path::new(target).is_dir() {
        fs::create_dir_all(target)?;
    }
    let options = std::ffi::CString::new(options)?;
    Ok(rustix::mount::mount(kind, target, kind, flags, Some(options.as_c_str()))?)
}

/// The links that shells expect in `/dev` (`<(…)`, `> /dev/stderr`). The kernel does not make them.
fn link_standard_streams() {
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        // One that is there already is as good.
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(link));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(offset: u64, signature: &[u8]) -> File {
        let disk = tempfile::tempfile().expect("a temporary file");
        disk.set_len(128 * 1024).expect("it grows");
        disk.write_all_at(signature, offset).expect("it is written");
        disk
    }

    #[test]
    fn every_signature_is_recognised() {
        for (offset, signature, content) in SIGNATURES {
            assert_eq!(content_of(&disk(offset, signature)), Some(content));
        }
    }

    #[test]
    fn an_empty_or_short_disk_holds_nothing_known() {
        assert_eq!(content_of(&disk(0, b"")), None);
        assert_eq!(content_of(&tempfile::tempfile().expect("a temporary file")), None);
    }
}
