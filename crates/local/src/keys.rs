//! How the session's secrets and its record are kept: in files that their owner alone may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dozlab_keys::KeyPairError;

/// A secret could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key could not be made.
    #[error(transparent)]
    Generate(#[from] KeyPairError),
    /// A file of the session could not be written.
    #[error("cannot write {path}: {source}{}", remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about the system's refusal, where that is known; the end of an error's text.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there (`dozlab image prune` does), or let DOZLAB_DATA_DIR name another place"
        }
        _ => "",
    }
}

/// Writes a file that its owner alone may read. It appears whole or not at all, a sudden loss of power included.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), KeyError> {
    let failed = |source| KeyError::Write { path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let written = opened.and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()
    });
    written.map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_private(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
