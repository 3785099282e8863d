//! A path inside the image, proven to stay inside it.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest path in bytes: with the staging folder before it, it must fit the kernel's 4096, and with each
/// quote doubled, `debugfs`'s line of 8192.
const LONGEST_PATH: usize = 3072;
/// The longest name in a folder, ext4's limit.
const LONGEST_NAME: usize = 255;

/// A path relative to the image's root, its parts joined by `/`, without `.`, `..`, NUL or line breaks. Empty
/// for the root itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryPath(Vec<u8>);

impl EntryPath {
    pub(super) const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path of an archive; the error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.is_empty() {
            return Err("its name is empty");
        }
        if bytes.starts_with(b"/") {
            return Err("its path is absolute");
        }
        let mut path = Vec::with_capacity(bytes.len());
        for part in bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            check_name(part)?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        if path.len() > LONGEST_PATH {
            return Err("its path is longer than 3072 bytes");
        }
        Ok(Self(path))
    }

    /// The path of `name` in this folder.
    pub(super) fn join(&self, name: &[u8]) -> Result<Self, &'static str> {
        check_name(name)?;
        let separator: &[u8] = if self.0.is_empty() { b"" } else { b"/" };
        Self::parse(&[&self.0, separator, name].concat())
    }

    /// The folder that holds it; `None` for the root.
    pub(super) fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// Its last part; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where it lies when the image's root is `folder`.
    pub(super) fn under(&self, folder: &Path) -> std::path::PathBuf {
        folder.join(OsStr::from_bytes(&self.0))
    }
}

/// Its bytes have the same order, and so a range of a map can begin at bytes that are no path, like `folder/`.
impl Borrow<[u8]> for EntryPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for EntryPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name == b".." {
        return Err("its path leads out by `..`");
    }
    if name.len() > LONGEST_NAME {
        return Err("it has a name longer than 255 bytes");
    }
    if name.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
        return Err("its name has a NUL or a line break");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_brought_to_one_form() {
        for (written, form) in [("./a//b/", "a/b"), ("a/./b", "a/b"), ("./", ""), (".", ""), ("...", "...")] {
            assert_eq!(EntryPath::parse(written.as_bytes()).unwrap().as_bytes(), form.as_bytes());
        }
        let path = EntryPath::parse(b"a/b").unwrap();
        assert_eq!((path.name(), path.parent().unwrap().as_bytes()), (&b"b"[..], &b"a"[..]));
        assert_eq!(EntryPath::parse(b"a").unwrap().parent(), Some(EntryPath::root()));
        assert_eq!(EntryPath::root().parent(), None);
    }

    #[test]
    fn paths_that_could_leave_the_image_or_a_line_are_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a/..", "a\nb", "a\0b", "a\rb"] {
            assert!(EntryPath::parse(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        assert!(EntryPath::parse("x".repeat(256).as_bytes()).is_err());
        assert!(EntryPath::parse("xy/".repeat(1100).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_below_the_root(bytes in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), Just(b'\n'), Just(0), any::<u8>()], 0..40)) {
            if let Ok(path) = EntryPath::parse(&bytes) {
                let below = path.under(Path::new("/root"));
                prop_assert!(below.starts_with("/root"));
                prop_assert!(below.components().all(|part| part != std::path::Component::ParentDir));
                prop_assert!(!path.as_bytes().iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')));
                let again = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
                prop_assert_eq!(EntryPath::parse(again), Ok(path.clone()));
            }
        }
    }
}
