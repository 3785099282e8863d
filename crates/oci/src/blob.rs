//! Blobs are read by digest: whoever has read one to its end has read what was meant, or has an error.

use std::io::{self, Read};

use oci_spec::image::{Descriptor, Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256};

/// Reads a blob, and fails where it turns out not to be the one that its descriptor names.
///
/// What was read before the end is not verified yet: use nothing of it that cannot be taken back.
#[derive(Debug)]
pub struct VerifiedReader<R> {
    inner: R,
    hasher: Sha256,
    expected: Digest,
    size: u64,
    read: u64,
}

impl<R: Read> VerifiedReader<R> {
    /// A reader of what `descriptor` describes. Its digest must be a SHA-256.
    pub(crate) fn new(inner: R, descriptor: &Descriptor) -> Self {
        let (expected, size) = (descriptor.digest().clone(), descriptor.size());
        Self { inner, hasher: Sha256::new(), expected, size, read: 0 }
    }

    fn damaged(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("the blob {} is damaged: {what}", self.expected))
    }

    fn verify(&self) -> io::Result<()> {
        if self.read != self.size {
            return Err(self.damaged(&format!("it has {} bytes and should have {}", self.read, self.size)));
        }
        let actual = sha256_digits(&self.hasher.clone().finalize().into());
        if actual != self.expected.digest() {
            return Err(self.damaged(&format!("what is there has the digest sha256:{actual}")));
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.verify()?;
            return Ok(0);
        }
        self.read += count as u64;
        if self.read > self.size {
            return Err(self.damaged(&format!("it has more than the {} bytes it should have", self.size)));
        }
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Whether the digest is one that we compute.
pub(crate) fn is_sha256(digest: &Digest) -> bool {
    *digest.algorithm() == DigestAlgorithm::Sha256
}

/// The digest of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    from_hash(&Sha256::digest(bytes).into())
}

/// A hash as the digest it is.
pub(crate) fn from_hash(hash: &[u8; 32]) -> Digest {
    format!("sha256:{}", sha256_digits(hash)).parse().expect("64 hexadecimal digits are a SHA-256 digest")
}

fn sha256_digits(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::MediaType;

    fn read(bytes: &[u8], descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        VerifiedReader::new(bytes, descriptor).read_to_end(&mut read).map(|_| read)
    }

    #[test]
    fn only_the_right_bytes_can_be_read_to_their_end() {
        let descriptor = Descriptor::new(MediaType::ImageLayer, 4, sha256(b"blob"));
        assert_eq!(read(b"blob", &descriptor).unwrap(), b"blob");
        for (bytes, reason) in [
            (&b"blub"[..], "has the digest sha256:"),
            (b"blo", "has 3 bytes and should have 4"),
            (b"blobs", "more than the 4 bytes"),
        ] {
            let error = read(bytes, &descriptor).unwrap_err().to_string();
            assert!(error.contains("is damaged") && error.contains(reason), "{error}");
        }
    }
}
