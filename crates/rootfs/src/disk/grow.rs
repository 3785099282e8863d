//! Checks a cloned file system and grows it to the size of its disk.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use super::{PrepareError, write_error};
use crate::e2fsprogs::{Check, RESIZE2FS, check, failed, run};
use crate::space;

/// `e2fsck -fy`, which `resize2fs` wants to have seen.
pub(super) async fn check_clone(partial: &Path, size: u64) -> Result<(), PrepareError> {
    let error = match check(partial, Check::Repair, None).await {
        Ok(()) => return Ok(()),
        Err(error) => PrepareError::from(error),
    };
    Err(or_no_space(error, partial, size))
}

/// Makes the file `size` bytes long, and its file system with it.
pub(super) async fn grow(partial: &Path, file: &File, size: u64) -> Result<(), PrepareError> {
    file.set_len(size).map_err(|error| write_error(partial, size, error))?;
    let output = run(RESIZE2FS, [OsString::from(partial)], None).await?;
    if !output.status.success() {
        return Err(or_no_space(failed(RESIZE2FS, partial, &output).into(), partial, size));
    }
    Ok(())
}

/// The error, or that the disk is full where it says so.
pub(super) fn or_no_space(error: PrepareError, partial: &Path, size: u64) -> PrepareError {
    let folder = partial.parent().unwrap_or(partial);
    space::ran_out_says(&error.to_string(), folder, size).map_or(error, PrepareError::NoSpace)
}
