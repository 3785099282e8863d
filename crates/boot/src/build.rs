//! Builds a kernel of our own from Debian's source package.
//!
//! ```text
//! linux-source-6.1 ──▶ WORK/source-VERSION ─┐
//!                                           ├─ make allnoconfig ─▶ .config ─ checked ─ make vmlinux ─▶ KernelStore
//!                             Fragment ─────┘
//! ```
//!
//! Nothing is installed and no root is needed. What was built once is not built again: a kernel carries the hash of
//! its source's version, its fragment and the way of building. A build that is interrupted leaves whole objects in the
//! work folder, where the next one goes on; the kernel store sees a kernel only when it is complete.

mod fragment;
mod make;
mod source;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dozlab_process::{Tool, ToolError};

pub use fragment::{Fragment, FragmentError, Unmet};
use make::{MAKE, Tree};
use source::{Package, XZ};

use crate::KernelStore;
use crate::kernel::{Kernel, KernelError, KernelKind};

/// Goes up when the same source and fragment are built differently.
const WAY_OF_BUILDING: u32 = 1;

const CC: Tool = Tool { program: "gcc", package: "gcc" };
const OBJCOPY: Tool = Tool { program: "objcopy", package: "binutils" };

/// What Linux's build calls, as its `Documentation/process/changes.rst` has it.
const TOOLS: [Tool; 7] = [
    MAKE,
    CC,
    OBJCOPY,
    XZ,
    Tool { program: "flex", package: "flex" },
    Tool { program: "bison", package: "bison" },
    Tool { program: "bc", package: "bc" },
];

/// The header of the library with which Linux checks its own objects, and its package.
const ELF_HEADER: (&str, &str) = ("gelf.h", "libelf-dev");

/// A kernel could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Programs or headers are missing.
    #[error("a kernel cannot be built without what is missing here: run `apt-get install {}`", .packages.join(" "))]
    Missing {
        /// The Debian packages that have them.
        packages: Vec<&'static str>,
    },
    /// Somebody else builds in the same folder.
    #[error("a kernel is being built in {folder} already: wait for it, or end it")]
    Busy {
        /// The work folder.
        folder: PathBuf,
    },
    /// apt could not download the source.
    #[error(
        "cannot download Linux's source: {source}; a package file from elsewhere can be given to \
         `dozlab kernel build FILE`"
    )]
    Download {
        /// What apt said.
        source: ToolError,
    },
    /// The package has no source in it.
    #[error("{package} is no source package of Linux: it has no /usr/src/*.tar.xz")]
    NotASource {
        /// The package file.
        package: PathBuf,
    },
    /// The source does not have what the fragment asks for, or not under these conditions.
    #[error(
        "this source of Linux cannot be configured as asked; what a symbol depends on may be missing:\n{}",
        .0.iter().map(|unmet| format!("  {unmet}")).collect::<Vec<_>>().join("\n")
    )]
    Unmet(Vec<Unmet>),
    /// Linux's own build failed.
    #[error("`make {target}` failed: {message}\n{log} says more")]
    Make {
        /// What was to be made.
        target: String,
        /// Its last words.
        message: String,
        /// All that it printed.
        log: PathBuf,
    },
    /// A tool is missing or failed.
    #[error("cannot build the kernel: {0}")]
    Tool(#[from] ToolError),
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

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BuildError + 'a {
    move |source| BuildError::File { action, path: path.to_owned(), source }
}

/// A kernel, and whether it had to be built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel.
    pub kernel: Kernel,
    /// False where it was there already.
    pub anew: bool,
}

/// Builds kernels in a work folder, for a store.
#[derive(Clone, Debug)]
pub struct KernelBuilder {
    work: PathBuf,
    fragment: Fragment,
    source: Option<PathBuf>,
    jobs: usize,
    keep: bool,
}

/// The lock on a work folder. It is let go of by name: the open file may be shared for a moment by a program that another
/// thread is just starting.
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl KernelBuilder {
    /// A builder of [the slim kernel](Fragment::slim) from Debian's newest source, with as many jobs as there are
    /// processors. The work folder takes up to 4 GB while it builds, and is empty again afterwards.
    #[must_use]
    pub fn new(work: PathBuf) -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { work, fragment: Fragment::slim(), source: None, jobs, keep: false }
    }

    /// Builds with another configuration.
    #[must_use]
    pub fn fragment(self, fragment: Fragment) -> Self {
        Self { fragment, ..self }
    }

    /// Builds from this package file (`linux-source-…_all.deb`) instead of downloading the newest.
    #[must_use]
    pub fn source(self, package: Option<PathBuf>) -> Self {
        Self { source: package, ..self }
    }

    /// Runs this many compilers at once.
    #[must_use]
    pub fn jobs(self, jobs: usize) -> Self {
        Self { jobs, ..self }
    }

    /// Keeps the source and the objects, so that another configuration compiles only what it changes.
    #[must_use]
    pub fn keep(self, keep: bool) -> Self {
        Self { keep, ..self }
    }

    /// Checks that the source can be configured as the fragment asks, which takes seconds, and builds nothing.
    ///
    /// # Errors
    /// [`BuildError`], with every symbol that cannot be had in [`BuildError::Unmet`].
    pub async fn check(&self, progress: &dyn Fn(&str)) -> Result<(), BuildError> {
        let _lock = self.lock()?;
        require_tools().await?;
        let downloads = self.temporary_folder()?;
        let package = Package::find(self.source.as_deref(), downloads.path(), progress).await?;
        let source = self.unpacked(&package, &package.version().await?, progress).await?;
        let objects = self.temporary_folder()?;
        self.configure(&Tree { source: &source, objects: objects.path() }, progress).await
    }

    /// The kernel of this builder, built where the store has none of the same source and configuration.
    ///
    /// # Errors
    /// [`KernelError::Build`]. What was compiled until then is kept in the work folder for the next try.
    pub async fn build(&self, store: &KernelStore, progress: &dyn Fn(&str)) -> Result<Built, KernelError> {
        let _lock = self.lock()?;
        let downloads = self.temporary_folder()?;
        let package = Package::find(self.source.as_deref(), downloads.path(), progress).await?;
        let version = package.version().await?;
        let recipe = self.fragment.recipe(WAY_OF_BUILDING, &version);
        let known = store.list()?.into_iter().find(|kernel| kernel.recipe.as_ref() == Some(&recipe));
        if let Some(kernel) = known {
            return Ok(Built { kernel, anew: false });
        }
        require_tools().await?;
        let source = self.unpacked(&package, &version, progress).await?;
        let objects = self.work.join(format!("objects-{version}"));
        fs::create_dir_all(&objects).map_err(file("create", &objects))?;
        let tree = Tree { source: &source, objects: &objects };
        self.configure(&tree, progress).await?;
        // Two kernels of one version differ in their release, by which everything else tells them apart.
        let suffix = format!("-{}", &recipe[..8]);
        let vmlinux = tree.compile(self.jobs, &suffix, progress).await?;

        let release_file = objects.join("include/config/kernel.release");
        let release = fs::read_to_string(&release_file).map_err(file("read", &release_file))?;
        let kernel = Kernel {
            release: release.trim().to_owned(),
            source: format!("{} {version}", source::PACKAGE),
            kind: KernelKind::Slim,
            recipe: Some(recipe),
            folder: PathBuf::new(),
        };
        let configuration = objects.join(".config");
        let kernel = store.add(kernel, async |kernel| {
            strip(&vmlinux, &kernel.vmlinux()).await?;
            let copy = kernel.folder.join("config");
            fs::copy(&configuration, &copy).map_err(file("create", &copy))?;
            Ok(())
        });
        let kernel = kernel.await?;
        if !self.keep {
            progress("removing what was built on the way");
            self.remove_trees()?;
        }
        Ok(Built { kernel, anew: true })
    }

    /// Removes sources and objects, those of other versions too.
    fn remove_trees(&self) -> Result<(), BuildError> {
        let entries = fs::read_dir(&self.work).map_err(file("read", &self.work))?;
        for entry in entries {
            let entry = entry.map_err(file("read", &self.work))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("source-") || name.starts_with("objects-") {
                fs::remove_dir_all(entry.path()).map_err(file("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Holds the work folder until it is dropped.
    fn lock(&self) -> Result<FolderLock, BuildError> {
        fs::create_dir_all(&self.work).map_err(file("create", &self.work))?;
        let path = self.work.join("lock");
        let lock = File::create(&path).map_err(file("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(FolderLock(lock)),
            Err(fs::TryLockError::WouldBlock) => Err(BuildError::Busy { folder: self.work.clone() }),
            Err(fs::TryLockError::Error(error)) => Err(file("lock", &path)(error)),
        }
    }

    fn temporary_folder(&self) -> Result<tempfile::TempDir, BuildError> {
        let folder = tempfile::Builder::new().prefix(".build-").tempdir_in(&self.work);
        folder.map_err(file("create a folder in", &self.work))
    }

    async fn unpacked(
        &self,
        package: &Package<'_>,
        version: &str,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, BuildError> {
        let place = self.work.join(format!("source-{version}"));
        if !place.exists() {
            package.unpack(&place, progress).await?;
        }
        Ok(place)
    }

    async fn configure(&self, tree: &Tree<'_>, progress: &dyn Fn(&str)) -> Result<(), BuildError> {
        progress("configuring Linux");
        let mut fragment =
            tempfile::NamedTempFile::new_in(&self.work).map_err(file("create a file in", &self.work))?;
        fragment.write_all(self.fragment.text().as_bytes()).map_err(file("write", fragment.path()))?;
        tree.configure(fragment.path()).await?;
        let path = tree.objects.join(".config");
        let configuration = fs::read_to_string(&path).map_err(file("read", &path))?;
        let unmet = self.fragment.unmet(&configuration);
        if unmet.is_empty() { Ok(()) } else { Err(BuildError::Unmet(unmet)) }
    }
}

/// Names everything that is missing at once.
async fn require_tools() -> Result<(), BuildError> {
    let absent = TOOLS.into_iter().filter(|tool| tool.find().is_none());
    let mut packages: Vec<&'static str> = absent.map(|tool| tool.package).collect();
    let (header, package) = ELF_HEADER;
    if !packages.contains(&CC.package) && !has_header(header).await? {
        packages.push(package);
    }
    if packages.is_empty() { Ok(()) } else { Err(BuildError::Missing { packages }) }
}

async fn has_header(header: &str) -> Result<bool, BuildError> {
    let mut command = CC.command()?;
    command.args(["-E", "-include", header, "-x", "c", "/dev/null"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().await.map_err(|source| ToolError::Run { program: CC.program, source })?;
    Ok(status.success())
}

/// Without its symbols the file is half as large, and a hypervisor reads all of it at each start.
async fn strip(vmlinux: &Path, into: &Path) -> Result<(), BuildError> {
    OBJCOPY.run(["--strip-all".as_ref(), vmlinux.as_os_str(), into.as_os_str()]).await?;
    Ok(())
}
