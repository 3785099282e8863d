//! The values of an `image.toml`, each checked where it is read, so that a mistake is told with its line.

use std::path::{Component, Path, PathBuf};

use dozlab_oci::{ImageReference, ReferenceError};
use serde::Deserialize;

use super::FILE;

/// The reference of an OCI image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OciText(ImageReference);

/// A Debian suite: `bookworm`, `trixie`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Suite(String);

/// A Debian package: `vim`, or with its version, `vim=2:9.0.1378-2`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PackageName(String);

/// An absolute path with shell wildcards, as `path-exclude` in `dpkg.cfg(5)` has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PathPattern(String);

/// An absolute path inside the image, without its leading slash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TargetPath(String);

/// A path below the definition's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BesidePath(PathBuf);

/// A mode in octal: `"0440"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileMode(u32);

/// A file's name, without a folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileName(String);

impl TryFrom<String> for Suite {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte);
        if text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(fits) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is no Debian suite, such as `bookworm`"))
    }
}

impl TryFrom<String> for PackageName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, version) = text.split_once('=').unwrap_or((&text, "1"));
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        let is_name = name.len() >= 2 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(fits);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:~".contains(&byte);
        if is_name && !version.is_empty() && version.bytes().all(fits) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is no Debian package, such as `vim` or `vim=2:9.0.1378-2`"))
    }
}

impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') && !text.contains(char::is_control) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is no pattern of absolute paths, such as `/usr/share/doc/*`"))
    }
}

impl TryFrom<String> for TargetPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("{text:?} is no absolute path in the image"));
        };
        let path = path.trim_end_matches('/');
        let is_plain = |part: &str| !["", ".", ".."].contains(&part);
        if (path.is_empty() || path.split('/').all(is_plain)) && !path.contains(char::is_control) {
            return Ok(Self(path.to_owned()));
        }
        Err(format!("{text:?} is no plain path: `.`, `..`, empty parts and control characters are refused"))
    }
}

impl TryFrom<String> for BesidePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_below = Path::new(&text).components().all(|part| matches!(part, Component::Normal(_)));
        if is_below && !text.is_empty() {
            return Ok(Self(text.into()));
        }
        Err(format!("{text:?} is no path below the folder of {FILE}"))
    }
}

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self(mode)),
            _ => Err(format!("{text:?} is no mode in octal, such as \"0440\"")),
        }
    }
}

impl TryFrom<String> for FileName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        if !text.is_empty() && !text.starts_with('.') && text.bytes().all(fits) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is no plain name of a file"))
    }
}

impl TryFrom<String> for OciText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: ReferenceError| error.to_string())
    }
}

macro_rules! read_as_text {
    ($($name:ident),*) => {
        $(impl $name {
            pub(in crate::build) fn as_str(&self) -> &str {
                &self.0
            }
        })*
    };
}

read_as_text!(Suite, PackageName, PathPattern, TargetPath, FileName);

impl BesidePath {
    pub(in crate::build) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl OciText {
    pub(in crate::build) fn reference(&self) -> &ImageReference {
        &self.0
    }
}

impl FileMode {
    pub(in crate::build) fn bits(self) -> u32 {
        self.0
    }
}
