//! What is to be run: the root file system of the VM, and the container image of the terminal.
//!
//! Both are only names here. Fetching what they name is the business of the image store and of the kubelet.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{checked_text, displayed_as_is};

/// Where the VM's root file system comes from: a URL, or the name of an image in the image store (`vm`,
/// `debian:12`).
///
/// Signed download links carry their signature in the query, others a password before the host. `Display` and
/// `Debug` leave both out, so that a reference can be logged; [`ImageRef::as_str`] and JSON have the whole.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef(String);

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// There was no text.
    #[error("the image is empty: give the name of an image in the store, or a URL")]
    Empty,
    /// The text is a path on this machine.
    #[error(
        "the image {0:?} is a path: import the file into the image store and give its name there, or write a \
         file:// URL"
    )]
    Path(String),
    /// A URL without scheme or without anything after it, or with spaces.
    #[error(
        "the image is no valid URL: it needs a scheme, a place and no spaces, like \
         https://example.org/lab.ext4"
    )]
    Url,
    /// A name with a character that names do not have, or with an empty or dotted part.
    #[error(
        "{0:?} cannot be the name of an image: names are letters, digits, `.`, `_`, `-`, `:`, `@` and single \
         `/` between parts, and each part starts with a letter or digit"
    )]
    Name(String),
}

checked_text!(ImageRef, ImageRefError);

impl ImageRef {
    fn check(text: &str) -> Result<(), ImageRefError> {
        if text.is_empty() {
            return Err(ImageRefError::Empty);
        }
        if let Some((scheme, place)) = text.split_once("://") {
            let scheme_is_valid = scheme.starts_with(|c: char| c.is_ascii_lowercase())
                && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'+');
            let place_is_valid =
                !place.is_empty() && !place.contains(|c: char| c.is_whitespace() || c.is_control());
            return if scheme_is_valid && place_is_valid { Ok(()) } else { Err(ImageRefError::Url) };
        }
        if text.starts_with(['/', '.', '~']) {
            return Err(ImageRefError::Path(text.to_owned()));
        }
        if !is_image_name(text) {
            return Err(ImageRefError::Name(text.to_owned()));
        }
        Ok(())
    }

    /// Whether this is a URL rather than a name in the image store.
    #[must_use]
    pub fn is_url(&self) -> bool {
        self.0.contains("://")
    }
}

/// The reference without password and query.
impl fmt::Display for ImageRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, place)) = self.0.split_once("://") else {
            return formatter.write_str(&self.0);
        };
        let end = place.find(['?', '#']).unwrap_or(place.len());
        let (place, query) = place.split_at(end);
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let query = if query.is_empty() { "" } else { "?…" };
        write!(formatter, "{scheme}://{host}{path}{query}")
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ImageRef({self})")
    }
}

/// The image of a container of the lab pod, for example `dozman99/dozlab-terminal:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerImage(String);

/// The text names no container image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container image, like registry.example.org/dozlab-terminal:1.2")]
pub struct ContainerImageError(String);

checked_text!(ContainerImage, ContainerImageError);
displayed_as_is!(ContainerImage);

impl ContainerImage {
    fn check(text: &str) -> Result<(), ContainerImageError> {
        if is_image_name(text) { Ok(()) } else { Err(ContainerImageError(text.to_owned())) }
    }

    /// The terminal's image where nobody asked for another.
    pub(crate) fn default_terminal() -> Self {
        Self(crate::defaults::TERMINAL_IMAGE.to_owned())
    }
}

/// `part/part:tag@sha256:digest`. Looser than a registry's own grammar; strict enough that a name is neither
/// an option on a command line nor a way out of a folder.
fn is_image_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@');
    let is_part =
        |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.bytes().all(allowed);
    text.len() <= 512 && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_urls_are_told_apart() {
        for (text, is_url) in [
            ("vm", false),
            ("debian:12", false),
            ("registry.example.org:5000/labs/k8s@sha256:0123", false),
            ("https://storage.googleapis.com/bucket/dozlab-k8s.ext4", true),
            ("file:///srv/lab.ext4", true),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().is_url(), is_url, "{text}");
        }
    }

    #[test]
    fn what_names_no_image_is_refused_with_a_remedy() {
        let refusal = |text: &str| text.parse::<ImageRef>().unwrap_err();
        assert_eq!(refusal(""), ImageRefError::Empty);
        for path in ["/srv/lab.ext4", "./lab.ext4", "../lab", "~/lab.ext4"] {
            assert_eq!(refusal(path), ImageRefError::Path(path.into()));
        }
        for url in ["https://", "://x", "HTTPS://x", "https://a b", "-o://x"] {
            assert_eq!(refusal(url), ImageRefError::Url);
        }
        for name in ["a b", "-o", "a//b", "a/../b", "a/", "a\nb", "lab?"] {
            assert_eq!(refusal(name), ImageRefError::Name(name.into()));
        }
        assert!("".parse::<ContainerImage>().is_err());
        assert_eq!(
            ContainerImage::default_terminal().as_str().parse(),
            Ok(ContainerImage::default_terminal())
        );
    }

    #[test]
    fn a_logged_url_shows_neither_password_nor_signature() {
        let image: ImageRef = "https://me:geheim@example.org/lab.ext4?sig=geheim#geheim".parse().unwrap();
        assert_eq!(image.to_string(), "https://example.org/lab.ext4?…");
        assert_eq!(format!("{image:?}"), "ImageRef(https://example.org/lab.ext4?…)");
        assert!(image.as_str().contains("sig=geheim"));
    }

    proptest! {
        #[test]
        fn checking_and_showing_never_panic(text in "[a-z]{0,5}(://)?.{0,40}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(image.as_str(), &text);
                prop_assert!(!image.to_string().is_empty());
            }
        }
    }
}
