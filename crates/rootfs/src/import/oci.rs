//! An OCI image as the source: brought into a layout, then its layers laid out one on another.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use dozlab_oci::archive::{self, ArchiveKind};
use dozlab_oci::registry::{PullError, RemoteImage};
use dozlab_oci::{Image, ImageReference, Layout, Reference};

use super::source::decompress;
use super::staging::{StagedTree, Staging};
use super::tar::Counted;
use super::{Import, ImportError, layer};
use crate::cancel::{CancelFlag, run_blocking};
use crate::inspect::LoginUser;
use crate::progress::{Stage, Unit, Update};
use crate::space;

mod environment;

/// An image laid out, and what its configuration says.
pub(super) struct StagedImage {
    pub(super) tree: StagedTree,
    /// Whom its configuration names as its user.
    pub(super) user: LoginUser,
    /// The digest of its manifest.
    pub(super) digest: String,
}

/// Fetches what is not here yet, and lays the image out.
pub(super) async fn stage(
    import: &Arc<Import>,
    reference: &ImageReference,
) -> Result<StagedImage, ImportError> {
    let image = open(import, reference).await?;
    let import = Arc::clone(import);
    run_blocking(move |cancel| lay_out(&image, &import, &cancel)).await
}

/// Brings the image into a layout, where it is not in one.
async fn open(import: &Arc<Import>, reference: &ImageReference) -> Result<Image, ImportError> {
    let (kind, file, tag) = match reference {
        ImageReference::Registry(reference) => return pull(import, reference).await,
        ImageReference::Layout { folder, tag } => return Ok(Layout::open(folder)?.image(tag.as_deref())?),
        ImageReference::OciArchive { file, tag } => (ArchiveKind::Oci, file.clone(), tag.clone()),
        ImageReference::DockerArchive { file, tag } => (ArchiveKind::Docker, file.clone(), tag.clone()),
    };
    let import = Arc::clone(import);
    run_blocking(move |cancel| {
        let layout = unpack(&import, kind, &file, tag.as_deref(), &cancel)?;
        // A docker archive's layout has the one image that was asked for.
        let tag = tag.as_deref().filter(|_| kind == ArchiveKind::Oci);
        Ok(layout.image(tag)?)
    })
    .await
}

async fn pull(import: &Import, reference: &Reference) -> Result<Image, ImportError> {
    let remote = RemoteImage::find(reference, &import.options.pull).await?;
    let total = remote.size();
    // As it comes, laid out, and once more in the file system; compressed layers need more than that.
    space::ensure(import.workspace.path(), total.saturating_mul(3))?;
    let progress = |done: u64| {
        let unit = Unit::Bytes;
        import.progress.update(Update {
            stage: Stage::Download,
            done,
            total: Some(total),
            unit,
            message: "",
        });
    };
    remote.download(&import.workspace.join("layout"), &progress).await.map_err(|error| match error {
        PullError::Write { path, source } => ImportError::write(&path, total.saturating_mul(3), source),
        other => other.into(),
    })
}

fn unpack(
    import: &Import,
    kind: ArchiveKind,
    file: &Path,
    tag: Option<&str>,
    cancel: &CancelFlag,
) -> Result<Layout, ImportError> {
    let unreadable = |source| ImportError::Unreadable { path: file.to_owned(), source };
    let archive = File::open(file).map_err(unreadable)?;
    let total = archive.metadata().map_err(unreadable)?.len();
    // Its layers in the layout, laid out, and once more in the file system.
    space::ensure(import.workspace.path(), total.saturating_mul(3))?;
    let mut done = 0;
    let counted = Counted { inner: archive, done: &mut done, total, progress: &*import.progress, cancel };
    let plain = decompress(counted).map_err(unreadable)?;
    let folder = import.workspace.join("layout");
    Ok(archive::unpack(kind, plain, &folder, tag, import.options.max_bytes)?)
}

fn lay_out(image: &Image, import: &Import, cancel: &CancelFlag) -> Result<StagedImage, ImportError> {
    let mut staging = Staging::new(import.staging(), import.limits(), import.options.source_date_epoch)?;
    layer::apply_all(image, &mut staging, import, cancel)?;
    let configuration = image.configuration().config().as_ref();
    let variables = configuration.and_then(|configuration| configuration.env().clone()).unwrap_or_default();
    environment::place(&mut staging, &variables)?;
    let folder = configuration.and_then(|configuration| configuration.working_dir().clone());
    environment::place_folder(&mut staging, folder.as_deref().unwrap_or_default())?;
    let user = configuration.and_then(|configuration| configuration.user().clone()).unwrap_or_default();
    Ok(StagedImage {
        tree: staging.finish()?,
        user: LoginUser::Configured(user),
        digest: image.digest().to_string(),
    })
}
