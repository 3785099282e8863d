//! The session's secrets, all made for it alone: two key pairs, the link's token, the editor's password.
//!
//! The learner's key pair opens the VM, the host's key pair proves that it is the VM. Both are Ed25519, in OpenSSH's
//! format.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::distr::Alphanumeric;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

/// A secret could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key could not be made or encoded.
    #[error("cannot make an SSH key: {0}")]
    Generate(#[from] russh::keys::ssh_key::Error),
    /// The file could not be written.
    #[error("cannot write the secret {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An SSH key pair as text.
#[derive(Clone)]
pub(crate) struct KeyPair {
    /// The private key in PEM.
    pub(crate) private: String,
    /// The public key, one line.
    pub(crate) public: String,
}

impl KeyPair {
    /// A new Ed25519 key pair.
    pub(crate) fn generate(comment: &str) -> Result<Self, KeyError> {
        let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF)?.to_string();
        Ok(Self { private, public: key.public_key().to_openssh()? })
    }
}

/// A token of letters and digits with about six bits a character.
pub(crate) fn token(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Random bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: usize) -> String {
    let mut rng = rand::rng();
    (0..bytes).map(|_| format!("{:02x}", rng.random::<u8>())).collect()
}

/// Writes a file that its owner alone may read. It appears whole or not at all.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), KeyError> {
    let failed = |source| KeyError::Write { path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    opened.and_then(|mut file| file.write_all(content.as_bytes())).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_pair_is_its_own_and_reads_back() {
        let (one, other) = (KeyPair::generate("a").unwrap(), KeyPair::generate("a").unwrap());
        assert_ne!(one.public, other.public);
        let read = PrivateKey::from_openssh(&one.private).unwrap();
        assert_eq!(read.public_key().to_openssh().unwrap(), one.public);
        assert!(one.public.starts_with("ssh-ed25519 ") && one.public.ends_with(" a"));
    }

    #[test]
    fn secrets_are_long_enough_and_differ() {
        assert_ne!(token(32), token(32));
        assert_eq!((token(32).len(), hex(16).len()), (32, 32));
    }

    #[test]
    fn a_secret_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_private(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
