//! An OCI image as the source: brought into a layout, then its layers laid out one on another.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use dozlab_oci::archive::{self, ArchiveKind};
use dozlab_oci::{Image, ImageReference, Layout};

use super::source::decompress;
use super::staging::{StagedTree, Staging};
use super::tar::Counted;
use super::{Import, ImportError, layer};
use crate::cancel::{CancelFlag, run_blocking};
use crate::inspect::LoginUser;
use crate::space;

/// An image laid out, and what its configuration says.
pub(super) struct StagedImage {
    pub(super) tree: StagedTree,
    /// Whom its configuration names as its user.
    pub(super) user: LoginUser,
}

/// Fetches what is not here yet, and lays the image out.
pub(super) async fn stage(
    import: &Arc<Import>,
    reference: &ImageReference,
) -> Result<StagedImage, ImportError> {
    let (import, reference) = (Arc::clone(import), reference.clone());
    run_blocking(move |cancel| {
        let image = open(&import, &reference, &cancel)?;
        lay_out(&image, &import, &cancel)
    })
    .await
}

fn open(import: &Import, reference: &ImageReference, cancel: &CancelFlag) -> Result<Image, ImportError> {
    match reference {
        ImageReference::Layout { folder, tag } => Ok(Layout::open(folder)?.image(tag.as_deref())?),
        ImageReference::OciArchive { file, tag } => {
            let layout = unpack(import, ArchiveKind::Oci, file, tag.as_deref(), cancel)?;
            Ok(layout.image(tag.as_deref())?)
        }
        ImageReference::DockerArchive { file, tag } => {
            let layout = unpack(import, ArchiveKind::Docker, file, tag.as_deref(), cancel)?;
            Ok(layout.image(None)?)
        }
        ImageReference::Registry(reference) => Err(ImportError::Refused {
            entry: reference.whole(),
            reason: "registries are not supported yet".to_owned(),
        }),
    }
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
    let user = configuration.and_then(|configuration| configuration.user().clone()).unwrap_or_default();
    Ok(StagedImage { tree: staging.finish()?, user: LoginUser::Configured(user) })
}
