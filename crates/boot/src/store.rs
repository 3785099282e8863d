//! The kernels on this machine: prepared once, then only read.
//!
//! A kernel is a folder named by its release. It is put together beside its place and renamed into it when complete, so
//! a kernel that can be seen is whole. A file `chosen` names the one that labs boot, where somebody chose.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use dozlab_process::Workspace;

use crate::initramfs::write_base;
use crate::kernel::{Kernel, KernelError, file};

/// How the folders begin in which kernels are put together.
const WORK_PREFIX: &str = ".import-";

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

    /// The kernel to boot: the one that was [chosen](Self::choose), else the newest slim one, else Debian's newest.
    ///
    /// # Errors
    /// [`KernelError::None`], [`KernelError::NoSuchKernel`] when the chosen one was removed, [`KernelError::File`].
    pub fn current(&self) -> Result<Kernel, KernelError> {
        let path = self.choice_path();
        match fs::read_to_string(&path) {
            Ok(chosen) => self.find(chosen.trim()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let kernels = self.list()?.into_iter();
                // Of equals the last is taken, which is the newest.
                let best = kernels.max_by_key(|kernel| kernel.kind);
                best.ok_or_else(|| KernelError::None { folder: self.folder.clone() })
            }
            Err(error) => Err(file("read", &path)(error)),
        }
    }

    /// The kernel of this release, or the newest of this kind (`slim`, `debian`).
    ///
    /// # Errors
    /// [`KernelError::None`], [`KernelError::NoSuchKernel`], [`KernelError::File`].
    pub fn find(&self, wanted: &str) -> Result<Kernel, KernelError> {
        let kernels = self.list()?;
        if kernels.is_empty() {
            return Err(KernelError::None { folder: self.folder.clone() });
        }
        let is_wanted = |kernel: &Kernel| kernel.release == wanted || kernel.kind.to_string() == wanted;
        let found = kernels.into_iter().rfind(is_wanted);
        found.ok_or_else(|| KernelError::NoSuchKernel { wanted: wanted.to_owned() })
    }

    /// Makes [`find`](Self::find) of this word the kernel to boot from now on; `None` leaves it to the store again.
    ///
    /// # Errors
    /// As [`find`](Self::find), and then nothing is changed.
    pub fn choose(&self, wanted: Option<&str>) -> Result<Kernel, KernelError> {
        let path = self.choice_path();
        if let Some(wanted) = wanted {
            self.find(wanted)?;
            let partial = path.with_extension("partial");
            fs::write(&partial, wanted).map_err(file("write", &partial))?;
            fs::rename(&partial, &path).map_err(file("create", &path))?;
        } else if path.exists() {
            fs::remove_file(&path).map_err(file("remove", &path))?;
        }
        self.current()
    }

    fn choice_path(&self) -> PathBuf {
        self.folder.join("chosen")
    }

    /// All kernels, lowest version first, and of one version the oldest.
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
        kernels.sort_by_cached_key(|kernel| (version_numbers(&kernel.release), prepared(kernel)));
        Ok(kernels)
    }

    /// Puts a kernel together and into its place. `fill` gets it with an empty folder, and writes at least its ELF
    /// file.
    pub(crate) async fn add(
        &self,
        kernel: Kernel,
        fill: impl AsyncFnOnce(&Kernel) -> Result<(), KernelError>,
    ) -> Result<Kernel, KernelError> {
        let work = self.work_folder()?;
        let kernel = Kernel { folder: work.path().join("kernel"), ..kernel };
        let early = kernel.early_modules();
        fs::create_dir_all(&early).map_err(file("create", &early))?;
        let order = early.join("order");
        fs::write(&order, "").map_err(file("write", &order))?;
        fill(&kernel).await?;
        write_base(&kernel)?;
        let description =
            serde_json::to_vec_pretty(&kernel).expect("a kernel's description has only strings");
        let path = kernel.folder.join("kernel.json");
        fs::write(&path, description).map_err(file("write", &path))?;
        self.put_in_place(kernel)
    }

    pub(crate) fn work_folder(&self) -> Result<Workspace, KernelError> {
        fs::create_dir_all(&self.folder).map_err(file("create", &self.folder))?;
        let work = Workspace::create(&self.folder, WORK_PREFIX);
        work.map_err(file("create a folder in", &self.folder))
    }

    /// Removes what imports that were killed have left; returns it.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn sweep(&self) -> Result<Vec<PathBuf>, KernelError> {
        Workspace::sweep(&self.folder, WORK_PREFIX).map_err(file("read", &self.folder))
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

/// The numbers at a release's beginning: 6, 1, 0 and 56 of `6.1.0-56-cloud-amd64`.
fn version_numbers(release: &str) -> Vec<u64> {
    release.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

fn prepared(kernel: &Kernel) -> Option<SystemTime> {
    fs::metadata(kernel.folder.join("kernel.json")).and_then(|description| description.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelKind;

    async fn add(store: &KernelStore, release: &str, kind: KernelKind) -> Kernel {
        let kernel = Kernel {
            release: release.to_owned(),
            source: "test".into(),
            kind,
            recipe: None,
            folder: PathBuf::new(),
        };
        store.add(kernel, async |_| Ok(())).await.unwrap()
    }

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        assert!(version_numbers("6.1.0-9-cloud-amd64") < version_numbers("6.1.0-56-cloud-amd64"));
        assert!(version_numbers("6.1.0-56-cloud-amd64") < version_numbers("6.12.3-1-cloud-amd64"));
        assert_eq!(version_numbers("6.1.192-dozlab-9a8b7c6d"), [6, 1, 192]);
    }

    #[test]
    fn an_empty_store_says_how_to_fill_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = KernelStore::new(folder.path().join("kernels")).current().unwrap_err().to_string();
        assert!(error.ends_with("run `dozlab kernel import`"), "{error}");
    }

    #[tokio::test]
    async fn a_slim_kernel_comes_first_unless_another_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let store = KernelStore::new(folder.path().join("kernels"));
        add(&store, "6.1.0-57-cloud-amd64", KernelKind::Debian).await;
        add(&store, "6.1.0-9-cloud-amd64", KernelKind::Debian).await;
        assert_eq!(store.current().unwrap().release, "6.1.0-57-cloud-amd64");
        let slim = add(&store, "6.1.0-dozlab-ffffffff", KernelKind::Slim).await;
        assert_eq!(store.current().unwrap(), slim);
        assert_eq!(slim.modules_disk(), None);

        assert_eq!(store.choose(Some("debian")).unwrap().release, "6.1.0-57-cloud-amd64");
        assert_eq!(store.choose(Some("6.1.0-9-cloud-amd64")).unwrap().release, "6.1.0-9-cloud-amd64");
        let error = store.choose(Some("6.2")).unwrap_err();
        assert!(matches!(error, KernelError::NoSuchKernel { .. }), "{error}");
        assert_eq!(store.current().unwrap().release, "6.1.0-9-cloud-amd64");
        assert_eq!(store.choose(None).unwrap(), slim);
    }

    #[tokio::test]
    async fn of_one_version_the_kernel_that_was_built_last_is_booted() {
        let folder = tempfile::tempdir().unwrap();
        let store = KernelStore::new(folder.path().join("kernels"));
        let older = add(&store, "6.1.192-dozlab-ffffffff", KernelKind::Slim).await;
        let description = fs::File::open(older.folder.join("kernel.json")).unwrap();
        description.set_modified(SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
        let newer = add(&store, "6.1.192-dozlab-00000000", KernelKind::Slim).await;
        assert_eq!(store.current().unwrap(), newer);
    }
}
