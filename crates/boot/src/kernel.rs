//! The kernels on this machine: prepared once from a Debian package, then only read.
//!
//! A kernel is a folder named by its release. It is put together beside its place and renamed into it when complete, so
//! a kernel that can be seen is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dozlab_process::{Tool, ToolError};
use serde::{Deserialize, Serialize};

use crate::debian::download_kernel_package;
use crate::initramfs::{InitramfsError, write_base};
use crate::{PayloadError, extract_elf, modules};

const DPKG_DEB: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
const DEPMOD: Tool = Tool { program: "depmod", package: "kmod" };
const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };

/// A kernel that is ready to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// What `uname -r` says in the guest.
    pub release: String,
    /// Where the kernel came from, for a person: the package file's name.
    pub source: String,
    /// The folder that holds the kernel's files.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Kernel {
    /// Reads the description of a kernel that was prepared in this folder.
    ///
    /// # Errors
    /// [`KernelError::File`]: there is none, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self, KernelError> {
        let path = folder.join("kernel.json");
        let text = fs::read(&path).map_err(file("read", &path))?;
        let kernel: Self =
            serde_json::from_slice(&text).map_err(|error| file("read", &path)(error.into()))?;
        Ok(Self { folder: folder.to_owned(), ..kernel })
    }

    /// The kernel itself, an uncompressed ELF file with a PVH entry point.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// The kernel as the distribution ships it, for comparison.
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// All modules, as a file system to be mounted on `/lib/modules/RELEASE`. `None` for a kernel without modules.
    #[must_use]
    pub fn modules_disk(&self) -> Option<PathBuf> {
        Some(self.folder.join("modules.ext4")).filter(|path| path.exists())
    }

    /// The modules that the initramfs holds.
    pub(crate) fn early_modules(&self) -> PathBuf {
        self.folder.join("early")
    }
}

/// A kernel could not be found or prepared.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is none yet.
    #[error("there is no kernel in {folder} yet: run `dozlab kernel import`")]
    None {
        /// The kernels' folder.
        folder: PathBuf,
    },
    /// apt could not download one.
    #[error(
        "cannot download Debian's kernel: {source}; a package file from elsewhere can be given to `dozlab kernel import FILE`"
    )]
    Download {
        /// What apt said.
        source: ToolError,
    },
    /// The package has no kernel in it.
    #[error("{package} is no kernel package: it has no {missing}")]
    NotAKernelPackage {
        /// The package file.
        package: PathBuf,
        /// What was looked for.
        missing: &'static str,
    },
    /// The kernel in it cannot be unpacked.
    #[error("cannot unpack the kernel of {package}: {source}")]
    Payload {
        /// The package file.
        package: PathBuf,
        /// Why.
        source: PayloadError,
    },
    /// A tool is missing or failed.
    #[error("cannot prepare the kernel: {0}")]
    Tool(#[from] ToolError),
    /// The initramfs could not be written.
    #[error("cannot prepare the kernel: {0}")]
    Initramfs(#[from] InitramfsError),
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

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> KernelError + 'a {
    move |source| KernelError::File { action, path: path.to_owned(), source }
}

/// The kernels under the user's data folder.
#[derive(Clone, Debug)]
pub struct KernelStore {
    folder: PathBuf,
}

impl KernelStore {
    /// The store in this folder, which need not be there yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The kernel to boot: the one with the highest release, by the numbers in it.
    ///
    /// # Errors
    /// [`KernelError::None`], [`KernelError::File`].
    pub fn current(&self) -> Result<Kernel, KernelError> {
        let mut kernels = self.list()?;
        kernels.pop().ok_or_else(|| KernelError::None { folder: self.folder.clone() })
    }

    /// All kernels, lowest release first.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn list(&self) -> Result<Vec<Kernel>, KernelError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file("read", &self.folder)(error)),
        };
        let mut kernels: Vec<Kernel> =
            entries.filter_map(Result::ok).filter_map(|entry| Kernel::read(&entry.path()).ok()).collect();
        kernels.sort_by_key(|kernel| release_numbers(&kernel.release));
        Ok(kernels)
    }

    /// Downloads Debian's newest kernel for virtual machines and prepares it.
    ///
    /// # Errors
    /// [`KernelError`]; nothing is left behind.
    pub async fn import_debian(&self, progress: &dyn Fn(&str)) -> Result<Kernel, KernelError> {
        let work = self.work_folder()?;
        let package = download_kernel_package(work.path(), progress).await?;
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
        let kernel = Kernel {
            source: package.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            folder: work.path().join("kernel"),
            release,
        };
        fs::create_dir(&kernel.folder).map_err(file("create", &kernel.folder))?;

        let image = tree.join(format!("boot/vmlinuz-{}", kernel.release));
        let bytes = fs::read(&image).map_err(file("read", &image))?;
        let elf = extract_elf(&bytes)
            .map_err(|source| KernelError::Payload { package: package.to_owned(), source })?;
        fs::write(kernel.vmlinux(), elf).map_err(file("write", &kernel.vmlinux()))?;
        fs::rename(&image, kernel.vmlinuz()).map_err(file("move", &image))?;

        prepare_modules(&tree, &kernel, progress).await?;
        write_base(&kernel)?;
        let description =
            serde_json::to_vec_pretty(&kernel).expect("a kernel's description has only strings");
        let path = kernel.folder.join("kernel.json");
        fs::write(&path, description).map_err(file("write", &path))?;
        self.put_in_place(kernel)
    }

    fn work_folder(&self) -> Result<tempfile::TempDir, KernelError> {
        fs::create_dir_all(&self.folder).map_err(file("create", &self.folder))?;
        let work = tempfile::Builder::new().prefix(".import-").tempdir_in(&self.folder);
        work.map_err(file("create a folder in", &self.folder))
    }

    /// Two imports of one release end with the same kernel: the later one gives way.
    fn put_in_place(&self, kernel: Kernel) -> Result<Kernel, KernelError> {
        let place = self.folder.join(&kernel.release);
        match fs::rename(&kernel.folder, &place) {
            Err(_) if place.join("kernel.json").exists() => {}
            other => other.map_err(file("create", &place))?,
        }
        Ok(Kernel { folder: place, ..kernel })
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
    let early = kernel.early_modules();
    fs::create_dir(&early).map_err(file("create", &early))?;
    let modules = tree.join("lib/modules").join(&kernel.release);
    if !modules.is_dir() {
        let order = early.join("order");
        return fs::write(&order, "").map_err(file("write", &order));
    }
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

fn release_numbers(release: &str) -> Vec<u64> {
    release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        assert!(release_numbers("6.1.0-9-cloud-amd64") < release_numbers("6.1.0-56-cloud-amd64"));
        assert!(release_numbers("6.1.0-56-cloud-amd64") < release_numbers("6.12.3-1-cloud-amd64"));
    }

    #[test]
    fn an_empty_store_says_how_to_fill_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = KernelStore::new(folder.path().join("kernels")).current().unwrap_err().to_string();
        assert!(error.ends_with("run `dozlab kernel import`"), "{error}");
    }

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
