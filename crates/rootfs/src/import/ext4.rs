//! An ext4 file as the source: checked where it lies, and copied with its holes.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Import, ImportError};
use crate::cancel::run_blocking;
use crate::disk::{Cloning, clone_file};
use crate::e2fsprogs::{Check, check};
use crate::progress::{Stage, begin, finish};
use crate::space;
use crate::superblock::Superblock;

pub(super) async fn copy(import: &Arc<Import>) -> Result<PathBuf, ImportError> {
    let source = File::open(&import.source).map_err(|error| import.unreadable(error))?;
    let metadata = source.metadata().map_err(|error| import.unreadable(error))?;
    let superblock =
        Superblock::read(&source).map_err(|error| import.unreadable(error))?.ok_or_else(|| {
            ImportError::NotAFileSystem {
                path: import.source.clone(),
                found: "has lost its superblock meanwhile",
            }
        })?;
    if metadata.len() < superblock.size() {
        return Err(ImportError::CutShort {
            path: import.source.clone(),
            expected: superblock.size(),
            actual: metadata.len(),
        });
    }
    begin(&*import.progress, Stage::Check, &import.source.to_string_lossy());
    check(&import.source, Check::ReadOnly, None).await?;
    finish(&*import.progress, Stage::Check);

    let needed = metadata.blocks() * 512;
    space::ensure(import.workspace.path(), needed)?;
    let import = Arc::clone(import);
    run_blocking(move |cancel| {
        let image = import.image();
        let target = File::create_new(&image).map_err(|error| ImportError::write(&image, needed, error))?;
        clone_file(&source, &target, Cloning::Auto, &*import.progress, &cancel)
            .map_err(|error| ImportError::write(&image, needed, error))?;
        Ok(image)
    })
    .await
}
