//! Free space: asked before a large write, and said plainly when it runs out all the same.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file system has too little room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no space left in {}: about {} needed, {} available; free some there, or use a folder on another \
        file system",
    folder.display(), Bytes(*needed), Bytes(*available)
)]
pub struct NoSpace {
    /// The folder that was to be written to.
    pub folder: PathBuf,
    /// Bytes that the whole operation needs there.
    pub needed: u64,
    /// Bytes that were free there, for this user.
    pub available: u64,
}

/// Shows a number of bytes as a person would: `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(formatter, "{} bytes", self.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(formatter, "{value:.1} {}", UNITS[unit])
    }
}

/// Bytes free for this user on the file system of `folder`.
pub(crate) fn available(folder: &Path) -> io::Result<u64> {
    let statistics = rustix::fs::statvfs(folder)?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// Refuses an operation that needs more than there is. Where the free space cannot be told, the write itself
/// will.
pub(crate) fn ensure(folder: &Path, needed: u64) -> Result<(), NoSpace> {
    match available(folder) {
        Ok(available) if available < needed => Err(NoSpace { folder: folder.to_owned(), needed, available }),
        _ => Ok(()),
    }
}

/// What a write that failed says about space; `None` where it failed for another reason. A quota and a limit
/// on the size of files run out just as a full disk does.
pub(crate) fn ran_out(error: &io::Error, folder: &Path, needed: u64) -> Option<NoSpace> {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge).then(|| now(folder, needed))
}

/// The same for the last words of a program.
pub(crate) fn ran_out_says(message: &str, folder: &Path, needed: u64) -> Option<NoSpace> {
    ["No space left on device", "Disk quota exceeded", "File too large"]
        .iter()
        .any(|words| message.contains(words))
        .then(|| now(folder, needed))
}

fn now(folder: &Path, needed: u64) -> NoSpace {
    NoSpace { folder: folder.to_owned(), needed, available: available(folder).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_a_person_would() {
        let shown: Vec<String> = [0, 1023, 1024, 1536 << 20, u64::MAX].map(|n| Bytes(n).to_string()).into();
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 GiB", "16384.0 PiB"]);
    }

    #[test]
    fn an_operation_larger_than_any_disk_is_refused_with_both_numbers() {
        let error = ensure(Path::new("/"), u64::MAX).unwrap_err();
        assert_eq!(error.needed, u64::MAX);
        assert!(error.to_string().starts_with("no space left in /: about 16384.0 PiB needed, "), "{error}");
    }
}
