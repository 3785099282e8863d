//! A kernel that nobody prepared: one ELF file, as existing lab pods mount it.
//!
//! It gets a folder that looks like a prepared kernel's, with a link to the file and no modules. So it must have
//! built in what stands between the guest program and its root: initramfs, devtmpfs, virtio over MMIO with block and
//! network devices, the serial console, ext4, and overlayfs where the disk lies over an image; QEMU's `microvm`
//! also asks for the PVH entry point. Firecracker's own kernels have all of that.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::kernel::{Kernel, KernelError, KernelKind, file};

/// The first bytes of an ELF file (elf(5)).
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// How the kernel's banner begins, before its release (`init/version.c`).
const BANNER: &[u8] = b"Linux version ";

impl Kernel {
    /// A kernel from a bare ELF file, with what belongs to it put into `folder`, which only this user's processes
    /// should be able to write.
    ///
    /// # Errors
    /// [`KernelError::NotElf`], [`KernelError::File`].
    pub fn bare(vmlinux: &Path, folder: &Path) -> Result<Self, KernelError> {
        let content = read_elf(vmlinux)?;
        let kernel = Self {
            release: release_in(&content).unwrap_or_else(|| "unknown".to_owned()),
            source: vmlinux.display().to_string(),
            kind: KernelKind::Bare,
            recipe: None,
            folder: folder.to_owned(),
        };
        let early = kernel.early_modules();
        fs::create_dir_all(&early).map_err(file("create", &early))?;
        let order = early.join("order");
        fs::write(&order, "").map_err(file("write", &order))?;
        let target = fs::canonicalize(vmlinux).map_err(file("read", vmlinux))?;
        let (link, partial) = (kernel.vmlinux(), folder.join("vmlinux.partial"));
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove", &partial)(error));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(target, &partial).map_err(file("create", &partial))?;
        fs::rename(&partial, &link).map_err(file("create", &link))?;
        Ok(kernel)
    }
}

fn read_elf(path: &Path) -> Result<Vec<u8>, KernelError> {
    let mut input = fs::File::open(path).map_err(file("read", path))?;
    let mut content = vec![0; ELF_MAGIC.len()];
    match input.read_exact(&mut content) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(file("read", path)(error)),
        read if read.is_err() || content != ELF_MAGIC => {
            return Err(KernelError::NotElf { path: path.to_owned() });
        }
        _ => {}
    }
    input.read_to_end(&mut content).map_err(file("read", path))?;
    Ok(content)
}

/// What `uname -r` will say. Code may hold the banner's beginning too, so what follows must look like a version.
fn release_in(content: &[u8]) -> Option<String> {
    let mut rest = content;
    while let Some(at) = rest.windows(BANNER.len()).position(|window| window == BANNER) {
        rest = &rest[at + BANNER.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_graphic())?;
        let word = String::from_utf8_lossy(&rest[..end]);
        if word.starts_with(|first: char| first.is_ascii_digit()) {
            return Some(word.into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_kernel_has_its_release_and_no_modules() {
        let place = tempfile::tempdir().unwrap();
        let (vmlinux, folder) = (place.path().join("vmlinux.bin"), place.path().join("kernel"));
        fs::write(&vmlinux, b"\x7fELF code Linux version %s \0 Linux version 6.1.155 (builder@host) #1\0")
            .unwrap();
        for _ in 0..2 {
            let kernel = Kernel::bare(&vmlinux, &folder).unwrap();
            assert_eq!((kernel.describe().as_str(), kernel.modules_disk()), ("6.1.155 (bare)", None));
            assert_eq!(fs::read(kernel.vmlinux()).unwrap(), fs::read(&vmlinux).unwrap());
            crate::write_probe_initramfs(&kernel, &place.path().join("initramfs")).unwrap();
        }
    }

    #[test]
    fn what_is_no_elf_file_is_refused_by_name() {
        let place = tempfile::tempdir().unwrap();
        let vmlinux = place.path().join("vmlinux.bin");
        for content in [&b"MZ"[..], b"MZ, a bzImage", b""] {
            fs::write(&vmlinux, content).unwrap();
            let error = Kernel::bare(&vmlinux, &place.path().join("kernel")).unwrap_err().to_string();
            assert!(error.contains("vmlinux.bin is no uncompressed ELF kernel"), "{error}");
        }
        assert!(!place.path().join("kernel").exists());
    }

    #[test]
    fn a_kernel_without_a_banner_is_unknown() {
        assert_eq!(release_in(b"\x7fELF"), None);
        assert_eq!(release_in(b"Linux version 6.1"), None, "the text never ends");
    }
}
