//! Makes an image of a root file system: an ext4 file, a folder, a tar (plain, gzip, zstd, xz), or an OCI
//! image.
//!
//! An ext4 file is checked and copied. A folder or tar is first *staged*: its files are laid out in a
//! temporary folder as plain files of the calling user, and everything that such files cannot carry (owners,
//! set-uid bits, devices, extended attributes) is kept beside them in memory (`staging`). Then `mke2fs -d`
//! makes a file system of the folder, and one run of `debugfs` writes into it what was kept (`make_ext4`). So
//! nothing is mounted, root is not needed, and root is not used either: a hostile tar never gets to create a
//! device or a set-uid file on this machine.
//!
//! The file system is as large as its contents and a quarter, plus 128 MiB with the journal. Its free space
//! is holes, and a session's disk is grown to whatever size it asks for.
//!
//! The same input gives the same bytes. UUID and hash seed are derived from the tree, the file system's clock
//! is `SOURCE_DATE_EPOCH` or else the newest modification time in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dozlab_oci::ImageReference;
use dozlab_oci::credentials::CredentialFiles;
use dozlab_oci::registry::PullOptions;
use dozlab_process::Workspace;
use sha2::{Digest as _, Sha256};

use crate::cancel::{CancelFlag, run_blocking};
use crate::inspect::{Contents, LoginUser, inspect};
use crate::progress::{Progress, Stage, Unit, Update, begin, finish};
use crate::store::{Digest, ImageName, ImageRecord, Store, StoreError};

mod entry_path;
mod error;
mod ext4;
mod fetched;
mod folder;
#[cfg(fuzzing)]
pub mod fuzzing;
mod layer;
mod make_ext4;
mod oci;
pub(crate) mod source;
mod staging;
mod tar;
mod write_tar;

pub use error::ImportError;
pub use fetched::RemoteImage;
use source::SourceKind;
use staging::{Limits, StagedTree};

/// What may be chosen about an import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The most bytes that the files of a folder or tar may have together. Default: 64 GiB.
    pub max_bytes: u64,
    /// The most entries that a folder or tar may have. Default: 4 million.
    pub max_entries: u64,
    /// The file system's clock, in seconds since the epoch; files that are newer are set back to it. Default:
    /// the newest modification time in the tree.
    pub source_date_epoch: Option<i64>,
    /// Where the image comes from, for its record. Default: the path.
    pub description: Option<String>,
    /// Who a learner logs in as; the image must have that user. Default: uid 1000 where there is one, else
    /// `root`.
    pub user: Option<dozlab_session::name::LoginUser>,
    /// Bytes of the file system that is made of a folder or tar. Default: its contents and a quarter, and 128
    /// MiB.
    pub size: Option<u64>,
    /// How registries are talked to. Default: with TLS, without credentials.
    pub pull: PullOptions,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 30,
            max_entries: 4_000_000,
            source_date_epoch: None,
            description: None,
            user: None,
            size: None,
            pull: PullOptions::default(),
        }
    }
}

impl ImportOptions {
    /// The defaults, with the clock that the variable `SOURCE_DATE_EPOCH` gives, as
    /// [reproducible-builds.org](https://reproducible-builds.org/specs/source-date-epoch/) defines it (a
    /// value that is no number is passed over), and with the registry credentials that `docker login` or
    /// `podman login` of this user has left.
    #[must_use]
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let source_date_epoch = lookup("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok());
        let credentials = CredentialFiles::from_env(|name| lookup(name).map(Into::into));
        let pull = PullOptions { credentials, ..PullOptions::default() };
        Self { source_date_epoch, pull, ..Self::default() }
    }
}

/// An OCI image that a build begins with.
pub(crate) struct OciBase {
    /// The digest of its manifest: `sha256:…`.
    pub(crate) digest: String,
}

/// What the pieces of an import need to know of it.
struct Import {
    workspace: Workspace,
    source: PathBuf,
    options: ImportOptions,
    progress: Arc<dyn Progress>,
}

impl Store {
    /// Makes an image of `source` and gives it `name`, which is taken from the image that had it before.
    ///
    /// The source is only read. A folder is imported up to the borders of its file system. Owners are kept,
    /// but where an ordinary user imports a folder, what belongs to them belongs to root in the image.
    ///
    /// # Errors
    /// See [`ImportError`]. The store is then as it was.
    pub async fn import(
        &self,
        name: &str,
        source: &Path,
        options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<ImageRecord, ImportError> {
        let name: ImageName = name.parse()?;
        let kind = SourceKind::of(source)?;
        let import = Arc::new(Import::new(self, source, options, progress)?);
        let image = match kind {
            SourceKind::Ext4 => ext4::copy(&import).await?,
            SourceKind::Folder => import.stage_and_make(folder::stage).await?,
            SourceKind::Tar(compression) => {
                import.stage_and_make(move |import, cancel| tar::stage(import, compression, cancel)).await?
            }
        };
        let contents = import.inspect(&image, LoginUser::First).await?;
        self.keep(name, &import, image, contents, None).await
    }

    /// Makes an image of an OCI image, and gives it `name` as [`import`](Self::import) does.
    ///
    /// # Errors
    /// See [`ImportError`]. The store is then as it was.
    pub async fn import_oci(
        &self,
        name: &str,
        reference: &ImageReference,
        options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<ImageRecord, ImportError> {
        let name: ImageName = name.parse()?;
        let mut options = options;
        options.description.get_or_insert_with(|| reference.to_string());
        let import = Arc::new(Import::new(self, Path::new(""), options, progress)?);
        let base = oci::stage(&import, reference).await?;
        let image = import.make(base.tree).await?;
        let contents = import.inspect(&image, base.user).await?;
        self.keep(name, &import, image, contents, None).await
    }

    /// Writes the tree of an OCI image to `tar`, for a build; nothing of it comes into the store.
    pub(crate) async fn oci_tree(
        &self,
        reference: &ImageReference,
        options: ImportOptions,
        tar: &Path,
        progress: Arc<dyn Progress>,
    ) -> Result<OciBase, ImportError> {
        let import = Arc::new(Import::new(self, Path::new(""), options, progress)?);
        let base = oci::stage(&import, reference).await?;
        let tar = tar.to_owned();
        run_blocking(move |_| {
            let needed = import.options.max_bytes;
            write_tar::write_tar(&base.tree, &tar)
                .map_err(|error| ImportError::write(&tar, needed, error))?;
            Ok(OciBase { digest: base.digest })
        })
        .await
    }

    /// Moves the image that was made into the store. Its digest and length are computed where they are not
    /// known.
    async fn keep(
        &self,
        name: ImageName,
        import: &Arc<Import>,
        image: PathBuf,
        contents: Contents,
        known: Option<(Digest, u64)>,
    ) -> Result<ImageRecord, ImportError> {
        let store = self.clone();
        let import = Arc::clone(import);
        run_blocking(move |cancel| {
            let (digest, size) = match known {
                Some(known) => known,
                None => digest(&image, &*import.progress, &cancel)
                    .map_err(|source| ImportError::Unreadable { path: image.clone(), source })?,
            };
            let stored = make_durable(&image).map_err(|source| ImportError::write(&image, size, source))?;
            let source = import.options.description.clone();
            let record = ImageRecord {
                name,
                digest,
                size,
                stored,
                created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
                source: source.unwrap_or_else(|| import.source.display().to_string()),
                user: contents.user,
                has_init: contents.has_init,
                os_name: contents.os_name,
            };
            store.publish(&image, &record)?;
            Ok(record)
        })
        .await
    }
}

impl Import {
    fn new(
        store: &Store,
        source: &Path,
        options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, StoreError> {
        Ok(Self { workspace: store.workspace()?, source: source.to_owned(), options, progress })
    }

    async fn stage_and_make(
        self: &Arc<Self>,
        stage: impl FnOnce(&Import, &CancelFlag) -> Result<StagedTree, ImportError> + Send + 'static,
    ) -> Result<PathBuf, ImportError> {
        let import = Arc::clone(self);
        let tree = run_blocking(move |cancel| stage(&import, &cancel)).await?;
        self.make(tree).await
    }

    async fn make(&self, tree: StagedTree) -> Result<PathBuf, ImportError> {
        let image = self.image();
        begin(&*self.progress, Stage::MakeFileSystem, "");
        make_ext4::make_ext4(&tree, self.options.size, &image, &self.workspace.join("debugfs")).await?;
        finish(&*self.progress, Stage::MakeFileSystem);
        Ok(image)
    }

    /// What is in the image; the user that was asked for goes before `default`.
    async fn inspect(&self, image: &Path, default: LoginUser) -> Result<Contents, ImportError> {
        let Some(asked) = &self.options.user else { return Ok(inspect(image, &default).await?) };
        let contents = inspect(image, &LoginUser::Configured(asked.to_string())).await?;
        if contents.user != asked.as_str() {
            return Err(ImportError::NoSuchUser { user: asked.to_string() });
        }
        Ok(contents)
    }

    /// Where the image is made.
    fn image(&self) -> PathBuf {
        self.workspace.join("image.ext4")
    }

    /// Where the tree is staged.
    fn staging(&self) -> PathBuf {
        self.workspace.join("tree")
    }

    fn limits(&self) -> Limits {
        Limits { bytes: self.options.max_bytes, entries: self.options.max_entries }
    }

    fn unreadable(&self, source: io::Error) -> ImportError {
        ImportError::Unreadable { path: self.source.clone(), source }
    }
}

/// The SHA-256 of a file and its length.
pub(crate) fn digest(
    image: &Path,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> io::Result<(Digest, u64)> {
    let mut file = File::open(image)?;
    let total = file.metadata()?.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        cancel.check()?;
        let count = io::Read::read(&mut file, &mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        done += count as u64;
        let unit = Unit::Bytes;
        progress.update(Update { stage: Stage::Digest, done, total: Some(total), unit, message: "" });
    }
    Ok((Digest::from_bytes(&hasher.finalize().into()), done))
}

/// Writes the file through to the device, and returns the bytes it takes there.
fn make_durable(image: &Path) -> io::Result<u64> {
    let file = File::open(image)?;
    file.sync_all()?;
    Ok(std::os::unix::fs::MetadataExt::blocks(&file.metadata()?) * 512)
}
