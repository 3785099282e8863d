//! What an image may be called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in characters.
const LONGEST: usize = 64;

/// An image's name: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 64 of them.
/// So it is a file name on every file system, and never a path, an option or a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// The text cannot be an image's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no image name: use up to 64 letters, digits, `.`, `_`, `-`, the first a letter or \
    digit", .0.escape_debug())]
pub struct BadName(pub String);

impl ImageName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A file's name without the endings that say what kind of file it is: `rootfs` of `rootfs.tar.zst`.
    #[must_use]
    pub fn stem(file_name: &str) -> &str {
        let mut name = file_name;
        for ending in [".zst", ".gz", ".xz", ".tar", ".tgz", ".ext4", ".img"] {
            name = name.strip_suffix(ending).unwrap_or(name);
        }
        name
    }

    /// A name made of a file's and a version, whatever characters the file's has.
    pub(crate) fn suggested(file_name: &str, version: &str) -> Self {
        let clean = |each: &char| each.is_ascii_alphanumeric() || "._-".contains(*each);
        let stem: String = Self::stem(file_name).chars().filter(clean).collect();
        let stem = stem.trim_start_matches(['.', '_', '-']);
        let stem = &stem[..stem.len().min(LONGEST - 1 - version.len())];
        Self(if stem.is_empty() { format!("image-{version}") } else { format!("{stem}-{version}") })
    }
}

impl FromStr for ImageName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_clean = text.chars().all(|each| each.is_ascii_alphanumeric() || "._-".contains(each));
        if !begins_well || !is_clean || text.len() > LONGEST {
            return Err(BadName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ImageName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_name_is_always_one() {
        for (file, name) in
            [("vm.ext4.zst", "vm-12"), ("../é", "image-12"), (".a b", "ab-12"), ("", "image-12")]
        {
            let suggested = ImageName::suggested(file, "12");
            assert_eq!((suggested.as_str(), suggested.as_str().parse().as_ref()), (name, Ok(&suggested)));
        }
        assert_eq!(ImageName::suggested(&"x".repeat(99), "12").as_str().len(), LONGEST);
    }

    #[test]
    fn names_that_could_be_a_path_an_option_or_a_hidden_file_are_refused() {
        for bad in ["", ".", "..", "-f", "a/b", "a\n", "é", ".hidden", &"x".repeat(65)] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?} was taken");
        }
        for good in ["vm", "debian-12.5_amd64", "9p", &"x".repeat(64)] {
            assert_eq!(good.parse::<ImageName>().unwrap().as_str(), good);
        }
    }
}
