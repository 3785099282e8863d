//! Ways in for the fuzz targets, which are there under `--cfg fuzzing` alone.

/// The digest of these bytes, as documents write it.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    crate::blob::sha256(bytes).to_string()
}
