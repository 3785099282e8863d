//! Makes the writable disk: `mke2fs` for an empty file system, one run of `debugfs` for what is in it.
//!
//! The file is new, so all of it reads as zeros: told so (`discard`), `mke2fs` marks its inode tables as written
//! without writing them, and the guest does not write them later. What is left is about 2 MiB for a disk of 4 GiB.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::cancel::run_blocking;
use crate::disk::partial::{Partial, folder_of};
use crate::disk::{BLOCK, Method, PrepareError, Prepared, SeedFile, keep, seed, write_error};
use crate::e2fsprogs::{MKE2FS, failed, run};
use crate::progress::{Progress, Stage, begin, finish};
use crate::space;
use crate::store::Digest;

const MIB: u64 = 1 << 20;
/// The smallest disk: below it ext4 keeps no journal worth having.
const SMALLEST: u64 = 16 * MIB;
/// As in images: nothing newer than Linux 4.4.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                        sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

pub(super) async fn writable_disk(
    target: &Path,
    size: u64,
    base: Option<&Digest>,
    seed: &[SeedFile],
    progress: Arc<dyn Progress>,
) -> Result<Prepared, PrepareError> {
    let label = base.map(base_label);
    if let Some(kept) = keep_on_same_base(target, label.as_deref())? {
        return Ok(kept);
    }
    let size = size / BLOCK * BLOCK;
    if size < SMALLEST {
        return Err(PrepareError::TooSmall { asked: size, minimum: SMALLEST });
    }
    let partial = Partial::create(target)?;
    if let Some(kept) = keep_on_same_base(target, label.as_deref())? {
        return Ok(kept);
    }
    let started = Instant::now();
    begin(&*progress, Stage::MakeFileSystem, "");
    partial.file.set_len(size).map_err(|error| write_error(&partial.path, size, error))?;
    let or_no_space = |error: PrepareError| {
        let no_space = space::ran_out_says(&error.to_string(), folder_of(target), size);
        no_space.map_or(error, PrepareError::NoSpace)
    };
    let output = run(MKE2FS, mke2fs_arguments(&partial.path, size, label.as_deref()), None).await?;
    if !output.status.success() {
        return Err(or_no_space(failed(MKE2FS, &partial.path, &output).into()));
    }
    seed::into_new_overlay(&partial.path, seed).await.map_err(or_no_space)?;
    finish(&*progress, Stage::MakeFileSystem);
    let made = started.elapsed();

    let started = Instant::now();
    begin(&*progress, Stage::Sync, "");
    let target = target.to_owned();
    run_blocking(move |_| partial.publish(&target)).await?;
    finish(&*progress, Stage::Sync);
    let steps = vec![(Stage::MakeFileSystem, made), (Stage::Sync, started.elapsed())];
    Ok(Prepared { method: Method::Overlay, size, steps })
}

/// What the disk's label says of the image below it: a disk full of changes makes no sense on another one. ext4's
/// labels have up to 16 bytes.
fn base_label(base: &Digest) -> String {
    format!("base:{}", &base.digits()[..11])
}

fn keep_on_same_base(target: &Path, label: Option<&str>) -> Result<Option<Prepared>, PrepareError> {
    let Some((kept, superblock)) = keep(target)? else { return Ok(None) };
    let found = superblock.label;
    match label {
        Some(label) if found.starts_with("base:") && found != label => {
            Err(PrepareError::OtherBase { path: target.to_owned() })
        }
        _ => Ok(Some(kept)),
    }
}

fn mke2fs_arguments(disk: &Path, size: u64, label: Option<&str>) -> Vec<OsString> {
    // A sixteenth of a small disk, for the journal's place cannot be used for anything else.
    let journal_mib = (size / MIB / 16).clamp(4, 32);
    let options = [
        ["-t", "ext4"],
        ["-O", FEATURES],
        ["-b", &BLOCK.to_string()],
        ["-I", "256"],
        ["-i", "16384"],
        ["-m", "0"],
        ["-J", &format!("size={journal_mib}")],
        ["-E", "lazy_journal_init=1,discard,root_owner=0:0"],
        ["-L", label.unwrap_or("")],
    ];
    let mut arguments: Vec<OsString> = ["-q", "-F"].map(OsString::from).into();
    arguments.extend(options.iter().flatten().map(OsString::from));
    arguments.push(disk.into());
    arguments
}
