//! The secrets of one session, all made for it alone: SSH key pairs, tokens, the seed of a machine's randomness.
//!
//! The learner's key pair opens the VM, the host's key pair proves that it is the VM. Both are Ed25519, in OpenSSH's
//! format. Whoever asks for a secret keeps it: in files of the session's folder, or in a Secret of Kubernetes.

#![forbid(unsafe_code)]

use std::fmt;

use rand::RngExt;
use rand::distr::Alphanumeric;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

/// A key pair could not be made or encoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an SSH key: {0}")]
pub struct KeyPairError(#[from] russh::keys::ssh_key::Error);

/// An SSH key pair as text.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key in PEM.
    pub private: String,
    /// The public key, one line.
    pub public: String,
}

/// Shows the public half.
impl fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new Ed25519 key pair.
    ///
    /// # Errors
    /// [`KeyPairError`].
    pub fn generate(comment: &str) -> Result<Self, KeyPairError> {
        let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF)?.to_string();
        Ok(Self { private, public: key.public_key().to_openssh()? })
    }
}

/// A token of letters and digits with about six bits a character.
#[must_use]
pub fn token(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Random bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: usize) -> String {
    let mut rng = rand::rng();
    (0..bytes).map(|_| format!("{:02x}", rng.random::<u8>())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_its_own_and_reads_back() {
        let (one, other) = (KeyPair::generate("a").unwrap(), KeyPair::generate("a").unwrap());
        assert_ne!(one.public, other.public);
        let read = PrivateKey::from_openssh(&one.private).unwrap();
        assert_eq!(read.public_key().to_openssh().unwrap(), one.public);
        assert!(one.public.starts_with("ssh-ed25519 ") && one.public.ends_with(" a"));
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn secrets_are_long_enough_and_differ() {
        assert_ne!(token(32), token(32));
        assert_eq!((token(32).len(), hex(16).len()), (32, 32));
    }
}
