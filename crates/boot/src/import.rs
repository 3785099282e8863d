//! Prepares a kernel from Debian's package: the kernel as an ELF file, and its modules on a disk of their own.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Stdio;

use dozlab_process::{Tool, ToolError};

use crate::debian::Apt;
use crate::kernel::{Kernel, KernelError, KernelKind, file};
use crate::store::KernelStore;
use crate::{extract_elf, modules};

const DPKG_DEB: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
const DEPMOD: Tool = Tool { program: "depmod", package: "kmod" };
const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };

impl KernelStore {
    /// Downloads Debian's newest kernel for virtual machines and prepares it.
    ///
    /// # Errors
    /// [`KernelError`]; nothing is left behind.
    pub async fn import_debian(&self, progress: &dyn Fn(&str)) -> Result<Kernel, KernelError> {
        let work = self.work_folder()?;
        let download = |source| KernelError::Download { source };
        let apt = Apt::update(work.path(), progress).await.map_err(download)?;
        let image = apt.newest_kernel().await.map_err(download)?;
        let package = apt.download(&image, progress).await.map_err(download)?;
        self.import_package(&package, progress).await
    }

    /// Prepares the kernel of a Debian package file (`linux-image-…_amd64.deb`).
    ///
    /// # Errors
    /// [`KernelError`]; nothing is left behind.
    pub async fn import_package(
        &self,
        package: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<Kernel, KernelError> {
        let work = self.work_folder()?;
        progress("unpacking the kernel and its modules");
        let tree = work.path().join("tree");
        unpack(package, &tree).await?;
        let release = release_of(&tree, package)?;
        let image = tree.join(format!("boot/vmlinuz-{release}"));
        let bytes = fs::read(&image).map_err(file("read", &image))?;
        let elf = extract_elf(&bytes)
            .map_err(|source| KernelError::Payload { package: package.to_owned(), source })?;
        let kernel = Kernel {
            release,
            source: package.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind: KernelKind::Debian,
            recipe: None,
            folder: work.path().join("kernel"),
        };
        let fill = async |kernel: &Kernel| {
            fs::write(kernel.vmlinux(), elf).map_err(file("write", &kernel.vmlinux()))?;
            prepare_modules(&tree, kernel, progress).await
        };
        self.add(kernel, fill).await
    }
}

/// Unpacks what is needed of a package: the kernel and its modules.
async fn unpack(package: &Path, tree: &Path) -> Result<(), KernelError> {
    fs::create_dir(tree).map_err(file("create", tree))?;
    File::open(package).map_err(file("read", package))?;
    let mut command = DPKG_DEB.command()?;
    command.arg("--extract").arg(package).arg(tree).stderr(Stdio::piped());
    let output = command.output().await.map_err(|source| ToolError::Run { program: "dpkg-deb", source })?;
    if !output.status.success() {
        return Err(KernelError::Tool(ToolError::Failed {
            command: format!("dpkg-deb --extract {}", package.display()),
            status: output.status,
            message: dozlab_process::last_lines(&output.stderr, 4),
        }));
    }
    Ok(())
}

fn release_of(tree: &Path, package: &Path) -> Result<String, KernelError> {
    let missing = |missing| KernelError::NotAKernelPackage { package: package.to_owned(), missing };
    let entries = fs::read_dir(tree.join("boot")).map_err(|_| missing("folder /boot"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut releases = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
    releases.next().ok_or_else(|| missing("file /boot/vmlinuz-RELEASE"))
}

/// Makes the disk of all modules, and copies those that the guest needs first.
async fn prepare_modules(tree: &Path, kernel: &Kernel, progress: &dyn Fn(&str)) -> Result<(), KernelError> {
    let modules = tree.join("lib/modules").join(&kernel.release);
    if !modules.is_dir() {
        return Ok(());
    }
    let early = kernel.early_modules();
    progress("preparing the kernel's modules");
    let base = tree.as_os_str();
    DEPMOD.run(["-b".as_ref(), base, kernel.release.as_ref()]).await?;
    let mut order = String::new();
    for module in modules::in_load_order(&modules).map_err(file("read", &modules.join("modules.dep")))? {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::copy(&module, early.join(&name)).map_err(file("copy", &module))?;
        order.push_str(&name);
        order.push('\n');
    }
    let order_file = early.join("order");
    fs::write(&order_file, order).map_err(file("write", &order_file))?;

    let disk = kernel.folder.join("modules.ext4");
    let size = format!("{}K", disk_kib(&modules).map_err(file("read", &modules))?);
    let options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d"];
    let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(std::ffi::OsStr::new).collect();
    arguments.extend([modules.as_os_str(), disk.as_os_str(), size.as_ref()]);
    MKE2FS.run(arguments).await?;
    Ok(())
}

/// Room for a folder's files on ext4: whole blocks of 4 KiB, an inode for each, and a tenth for the file system's own
/// tables.
fn disk_kib(folder: &Path) -> io::Result<u64> {
    fn blocks(folder: &Path) -> io::Result<u64> {
        let mut total = 1;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            total +=
                if metadata.is_dir() { blocks(&entry.path())? } else { metadata.len().div_ceil(4096) + 1 };
        }
        Ok(total)
    }
    Ok(blocks(folder)? * 4 * 11 / 10 + 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_package_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("kernel.deb");
        fs::write(&package, "no package").unwrap();
        let store = KernelStore::new(folder.path().join("kernels"));
        let error = store.import_package(&package, &|_| {}).await.unwrap_err();
        assert!(error.to_string().contains("dpkg-deb --extract"), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("kernels")).unwrap().count(), 0);
    }
}
