//! Clones a file: a reflink where the file system has it, else a copy of its data without its holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::{Cloning, Method};
use crate::cancel::CancelFlag;
use crate::progress::{Progress, Stage, Unit, Update};

/// Bytes that are copied at once, between two looks at the cancel flag.
const PIECE: u64 = 8 << 20;

/// Makes `target`, which must be empty, the same as `source`.
pub(crate) fn clone_file(
    source: &File,
    target: &File,
    cloning: Cloning,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> io::Result<Method> {
    if cloning != Cloning::Copy {
        // Fails where the two are on different file systems, or on one that cannot; then the copy does, or
        // says why not.
        match ioctl_ficlone(target, source) {
            Ok(()) => return Ok(Method::Reflink),
            Err(error) if cloning == Cloning::Reflink => return Err(error.into()),
            Err(_) => {}
        }
    }
    let metadata = source.metadata()?;
    target.set_len(metadata.len())?;
    let stored = metadata.blocks() * 512;
    if has_too_little_room(target, stored) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut done = 0;
    let mut offset = 0;
    while let Some(start) = seek_or_end(source, SeekFrom::Data(offset))? {
        let end = seek_or_end(source, SeekFrom::Hole(start))?.unwrap_or(metadata.len());
        offset = start;
        while offset < end {
            cancel.check()?;
            let copied = copy_piece(source, target, offset, (end - offset).min(PIECE))?;
            offset += copied;
            done += copied;
            let (unit, total) = (Unit::Bytes, Some(stored.max(done)));
            progress.update(Update { stage: Stage::Copy, done, total, unit, message: "" });
        }
    }
    Ok(Method::SparseCopy)
}

fn has_too_little_room(target: &File, needed: u64) -> bool {
    let Ok(statistics) = rustix::fs::fstatvfs(target) else { return false };
    statistics.f_bavail.saturating_mul(statistics.f_frsize) < needed
}

fn seek_or_end(file: &File, position: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, position) {
        Ok(offset) => Ok(Some(offset)),
        // There is no data after this.
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Copies up to `length` bytes at `offset`, in the kernel where it can; at least one.
fn copy_piece(source: &File, target: &File, offset: u64, length: u64) -> io::Result<u64> {
    let (mut from, mut to) = (offset, offset);
    let length = usize::try_from(length).expect("a piece is 8 MiB");
    match copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
        Ok(0) => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was copied"))
        }
        Ok(copied) => Ok(copied as u64),
        // Between two file systems, and on some (overlay, FUSE), older kernels cannot.
        Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            copy_by_buffer(source, target, offset, length)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_by_buffer(source: &File, target: &File, offset: u64, length: usize) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; length.min(1 << 20)];
    source.read_exact_at(&mut buffer, offset)?;
    target.write_all_at(&buffer, offset)?;
    Ok(buffer.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::NoProgress;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"first", 0).unwrap();
        source.write_all_at(&vec![7; 3 << 20], 20 << 20).unwrap();
        source.write_all_at(b"last", (64 << 20) - 4).unwrap();

        clone_file(&source, &target, Cloning::Auto, &NoProgress, &CancelFlag::default()).unwrap();

        let all = |file: &File| {
            let mut bytes = vec![0; 64 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(all(&source) == all(&target));
        let stored = |file: &File| file.metadata().unwrap().blocks();
        assert!(stored(&target) <= stored(&source) + 64, "{} and {}", stored(&source), stored(&target));
    }

    #[test]
    fn a_copy_by_buffer_is_one_that_copy_file_range_would_make() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all_at(b"0123456789", 0).unwrap();
        assert_eq!(copy_by_buffer(&source, &target, 3, 4).unwrap(), 4);
        let mut bytes = [0; 7];
        target.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\x003456");
    }
}
