//! Writes a file in order and leaves its zeros out, as holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit in which file systems have holes.
const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// Writes into an empty file.
pub(super) struct SparseWriter<'a> {
    file: &'a File,
    offset: u64,
}

impl<'a> SparseWriter<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, offset: 0 }
    }

    /// Writes the next bytes; only the last call may have a number of them that is no multiple of a page.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut data_from = None;
        let mut position = 0;
        for page in bytes.chunks(PAGE) {
            let is_hole = *page == ZEROS[..page.len()];
            match data_from {
                Some(start) if is_hole => {
                    self.write_at(start, &bytes[start..position])?;
                    data_from = None;
                }
                None if !is_hole => data_from = Some(position),
                _ => {}
            }
            position += page.len();
        }
        if let Some(start) = data_from {
            self.write_at(start, &bytes[start..])?;
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn write_at(&self, start: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset + start as u64)
    }

    /// Gives the file its length, which holes at its end do not, and returns it.
    pub(super) fn finish(self) -> io::Result<u64> {
        self.file.set_len(self.offset)?;
        Ok(self.offset)
    }
}
