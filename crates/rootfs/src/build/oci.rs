//! Trees of OCI images: laid out by the import, furnished as real files, and packed again.
//!
//! Commands need owners that are real, so the tree is unpacked as root, or in a user namespace with the ids
//! that `/etc/subuid` gives the user. Device nodes, which few images have, can be unpacked by root alone.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use dozlab_oci::ImageReference;
use dozlab_process::last_lines;

use super::folder::DefinitionFolder;
use super::namespaces::contained;
use super::scratch::Scratch;
use super::software::installed::packages_in;
use super::{BuildError, MadeTree};
use crate::cancel::run_blocking;
use crate::import::ImportOptions;
use crate::progress::{Progress, Stage, begin, finish};
use crate::store::Store;

/// Makes the tree, furnishes it, and writes it to `tar`.
pub(super) async fn make_tree(
    store: &Store,
    reference: &ImageReference,
    options: &ImportOptions,
    scratch: &Scratch,
    tar: &Path,
    progress: Arc<dyn Progress>,
) -> Result<MadeTree, BuildError> {
    let base_tar = scratch.path().join("base.tar");
    let base = store.oci_tree(reference, options.clone(), &base_tar, Arc::clone(&progress)).await?;
    scratch.open_to_all(&base_tar)?;
    scratch.add_script("make-tree", include_str!("oci/make-tree"))?;
    let tar_file =
        File::create_new(tar).map_err(|source| BuildError::Write { path: tar.to_owned(), source })?;
    let mut command = contained(&scratch.path().join("make-tree"))?;
    scratch.set_environment(&mut command);
    command.stdout(tar_file).stderr(Stdio::piped());
    begin(&*progress, Stage::Furnish, "");
    let output = command.spawn().map_err(|source| BuildError::Script { source })?;
    let output = output.wait_with_output().await.map_err(|source| BuildError::Script { source })?;
    if !output.status.success() {
        return Err(BuildError::Commands {
            base: reference.to_string(),
            status: output.status,
            output: last_lines(&output.stderr, 8),
        });
    }
    finish(&*progress, Stage::Furnish);
    let digest = base.digest.strip_prefix("sha256:").unwrap_or(&base.digest).to_owned();
    let name = reference.to_string();
    let tree = tar.to_owned();
    let packages = run_blocking(move |cancel| packages_in(&tree, &cancel)).await;
    let packages = packages.map_err(|source| BuildError::Tree { path: tar.to_owned(), source })?;
    Ok(MadeTree { base: name.clone(), base_digests: vec![(name, digest)], packages })
}

/// A reference whose file or folder, if it is relative, lies beside the definition.
pub(super) fn beside(reference: &ImageReference, folder: &DefinitionFolder) -> ImageReference {
    let mut reference = reference.clone();
    match &mut reference {
        ImageReference::Registry(_) => {}
        ImageReference::Layout { folder: path, .. }
        | ImageReference::OciArchive { file: path, .. }
        | ImageReference::DockerArchive { file: path, .. } => *path = folder.display(path),
    }
    reference
}
