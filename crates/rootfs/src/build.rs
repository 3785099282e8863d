//! Builds images from definitions, without root and without mounting.
//!
//! ```text
//!   image.toml ─→ base ─→ files, commands ─→ tree.tar ─→ import ─→ the store
//!   and its folder         (`furnish`)                         └─→ publish: NAME.ext4.zst, its digest,
//!                                                                 provenance, software
//! ```
//!
//! A [`Definition`] is a folder with an `image.toml`; those of this repository's folder `images` are in the
//! program too. The base, Debian's packages or an OCI image, makes a tree in a scratch folder, where the
//! script `furnish` lays the definition's files over it and runs its commands, without a network unless the
//! definition asks for it. The tree leaves as a tar, which is imported like any other.
//!
//! A build is a function of the definition and of the packages that the mirror has: built again it gives the
//! same bytes, of the image and of all that is published of it. Times come from `SOURCE_DATE_EPOCH`, else
//! from the definition's `date`, else (and then the next build differs) from the clock.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dozlab_fetch::{FetchError, LocationError};
use dozlab_process::ToolError;
use sha2::{Digest as _, Sha256};

use crate::e2fsprogs::MKE2FS;
use crate::import::{ImportError, ImportOptions};
use crate::progress::Progress;
use crate::space;
use crate::store::{BadName, ImageName, ImageRecord, Store, StoreError};

mod debian;
pub mod definition;
mod folder;
mod namespaces;
mod oci;
mod overlay;
mod provenance;
mod publish;
mod scratch;
mod software;
mod sources;

pub use definition::{Base, Definition, DefinitionError};
pub use namespaces::{BWRAP, check_owners};
pub use publish::{PublishError, Published};
pub use software::{Package, PackageFormat};
pub use sources::SourceFolders;

use debian::{MMDEBSTRAP, Variant};
use namespaces::check_bwrap;
use provenance::Provenance;
use scratch::Scratch;

/// What a build needs for its tree and its tar beside it, for the packages of the `vm` image.
const USUAL_SPACE: u64 = 2 << 30;

/// What may be chosen about a build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The Debian mirror, a URL or a line of `sources.list`. Default: `mmdebstrap`'s own choice for the
    /// suite, with the suite's updates and security updates; apt's configuration on this machine does not
    /// matter.
    pub mirror: Option<String>,
    /// Folders to take the programs of the definition's sources from, by the sources' names. Default: their
    /// addresses.
    pub sources: SourceFolders,
    /// How the tree is imported; its clock goes before the definition's date.
    pub import: ImportOptions,
}

/// An image that was built, and what is known of how.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image in the store.
    pub record: ImageRecord,
    provenance: Provenance,
}

impl Built {
    /// The packages in the image, by name: those it was made from, or those that an OCI image says it has.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.provenance.packages
    }
}

/// No image was built, and the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The name cannot be one of an image.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The definition, or a file that it names, cannot be used.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A program is missing, or could not be run.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// An ordinary user has no subordinate ids.
    #[error(
        "user `{user}` has no subordinate ids in {file}, which a build without root needs: \
         run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}` as root, \
         or build as root"
    )]
    NoSubordinateIds {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The user's name, or its number.
        user: String,
    },
    /// `mmdebstrap`, or a command of the definition that it ran, failed.
    #[error("mmdebstrap could not build a tree of Debian {suite} ({status}); its last words:\n{output}")]
    Mmdebstrap {
        /// The suite.
        suite: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines it printed.
        output: String,
    },
    /// A command of the definition failed.
    #[error("the tree of {base} could not be made ({status}); the last words of what was run:\n{output}")]
    Commands {
        /// The base.
        base: String,
        /// The exit status.
        status: ExitStatus,
        /// The last lines that were printed.
        output: String,
    },
    /// The tree that was made cannot be read.
    #[error("cannot read the tree {path}: {source}")]
    Tree {
        /// Its tar.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The build's script could not be run.
    #[error("cannot run the build's script: {source}")]
    Script {
        /// What the system said.
        source: io::Error,
    },
    /// A folder was given for a source that the definition does not have.
    #[error("the definition has no source `{name}`{}", describe_sources(available))]
    UnknownSource {
        /// The name.
        name: String,
        /// The sources that it has.
        available: Vec<String>,
    },
    /// A source's address is none.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A program could not be fetched.
    #[error("{0}; a folder that has the programs can be given with `--source NAME=FOLDER`")]
    Fetch(#[from] FetchError),
    /// The file with a program's digest has none in it.
    #[error("there is no SHA-256 in {location}")]
    NoDigest {
        /// The file.
        location: String,
    },
    /// A file that the build made, or that it was given, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    SourceUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the build cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tree could not be made an image.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn describe_sources(available: &[String]) -> String {
    if available.is_empty() {
        return ", nor any other".to_owned();
    }
    format!(": it has {}", available.join(", "))
}

/// Builds `definition` and gives the image `name`. Needs a Debian mirror; takes one to two minutes for `vm`.
///
/// # Errors
/// See [`BuildError`]. The store is then as it was.
pub async fn build(
    store: &Store,
    name: &str,
    definition: &Definition,
    options: BuildOptions,
    progress: Arc<dyn Progress>,
) -> Result<Built, BuildError> {
    name.parse::<ImageName>()?;
    let image = &definition.image;
    let date = options.import.source_date_epoch.or(image.source_date()).unwrap_or_else(now);
    if !image.commands.is_empty() {
        check_bwrap()?;
    }
    let workspace = store.workspace()?;
    space::ensure(workspace.path(), USUAL_SPACE).map_err(ImportError::from)?;
    let scratch = Scratch::create(&workspace, image, date)?;
    let programs = sources::fetch(definition, &options.sources, workspace.path(), &progress).await?;
    overlay::write(definition, &programs, date, &scratch.overlay())?;
    let mut definition_digests = definition_digests(definition)?;
    definition_digests.extend(programs.into_iter().map(|program| (program.name, program.sha256)));

    let import = ImportOptions {
        source_date_epoch: Some(date),
        user: image.user.clone(),
        size: image.size.map(dozlab_session::size::ByteSize::as_bytes),
        ..options.import
    };
    let tar = workspace.join("tree.tar");
    let made = match &image.base {
        Base::Debian(suite) => {
            let mirror = options.mirror.as_deref();
            debian::make_tree((suite, Variant::Minbase), image, mirror, &scratch, &tar, &*progress).await?
        }
        Base::DebianExtract(suite) => {
            let mirror = options.mirror.as_deref();
            debian::make_tree((suite, Variant::Extract), image, mirror, &scratch, &tar, &*progress).await?
        }
        Base::Oci(reference) => {
            let reference = oci::beside(reference.reference(), &definition.folder);
            oci::make_tree(store, &reference, &import, &scratch, &tar, Arc::clone(&progress)).await?
        }
    };
    drop(scratch);
    let import = ImportOptions { description: Some(made.base.clone()), ..import };
    let record = store.import(name, &tar, import, progress).await?;
    let provenance = Provenance {
        name: name.to_owned(),
        definition: definition_digests,
        base: made.base,
        base_digests: made.base_digests,
        packages: made.packages,
        tools: tool_versions(&image.base).await?,
        date,
    };
    Ok(Built { record, provenance })
}

/// A tree that was made, and of what.
struct MadeTree {
    /// For a person: `Debian bookworm`, or the reference of an OCI image.
    base: String,
    /// What the base was read from, with SHA-256 digests in hexadecimal.
    base_digests: Vec<(String, String)>,
    packages: Vec<Package>,
}

fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// `image.toml`, and one digest of all that is laid over the tree.
fn definition_digests(definition: &Definition) -> Result<Vec<(String, String)>, BuildError> {
    let mut digests = vec![("image.toml".to_owned(), sha256(definition.text.as_bytes()))];
    for (path, bytes) in overlay::files_beside(definition)? {
        digests.push((path.display().to_string(), sha256(&bytes)));
    }
    Ok(digests)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The programs that decide what the bytes are.
async fn tool_versions(base: &Base) -> Result<Vec<(String, String)>, ToolError> {
    let mke2fs = MKE2FS.output(["-V"]).await?;
    // `mke2fs 1.47.0 (5-Feb-2023)` on standard error, `mmdebstrap 1.3.5`.
    let version = |printed: &[u8]| {
        let printed = String::from_utf8_lossy(printed);
        printed.split_whitespace().nth(1).unwrap_or("unknown").to_owned()
    };
    let mut versions = vec![
        ("dozlab".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("e2fsprogs".to_owned(), version(&mke2fs.stderr)),
    ];
    if !matches!(base, Base::Oci(_)) {
        let mmdebstrap = MMDEBSTRAP.output(["--version"]).await?;
        versions.push(("mmdebstrap".to_owned(), version(&mmdebstrap.stdout)));
    }
    Ok(versions)
}
