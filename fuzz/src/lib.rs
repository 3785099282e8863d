//! What several fuzz targets share: a place to write, and tars that get past their checksums.

use std::path::Path;

const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const SIZE: std::ops::Range<usize> = 124..136;

/// A folder for one input, in memory where there is such a place.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder can be made")
}

/// Panics if `folder` holds anything but `allowed`: something was written beside its place.
pub fn assert_holds_only(folder: &Path, allowed: &str) {
    for entry in std::fs::read_dir(folder).expect("the folder was made by this input") {
        let name = entry.expect("the folder can be read").file_name();
        assert_eq!(name, allowed, "something was written outside");
    }
}

/// Corrects the checksum of each header, so that a change in a tar changes what is read and not whether it is read.
pub fn repair(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            header[CHECKSUM].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let digits: String =
            header[SIZE].iter().map(|byte| char::from(*byte)).filter(|each| each.is_digit(8)).collect();
        let size = usize::from_str_radix(&digits, 8).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(size.min(tar.len()).next_multiple_of(BLOCK));
    }
    tar
}
