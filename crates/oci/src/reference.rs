//! What an image is called: the forms that `skopeo` and `podman` know, and `oci://` for a registry.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::distribution::Reference;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReference {
    /// `oci://HOST/NAME[:TAG][@DIGEST]`, or `docker://NAME[:TAG][@DIGEST]` with Docker's defaults: the host
    /// `docker.io`, `library/` before a bare name. The tag is `latest` where there is neither tag nor digest.
    Registry(Reference),
    /// `oci:FOLDER[:TAG]`: a layout.
    Layout {
        /// The layout.
        folder: PathBuf,
        /// The image in it, where there are several.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: a tar of a layout.
    OciArchive {
        /// The tar.
        file: PathBuf,
        /// The image in it, where there are several.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:NAME:TAG]`: what `docker save` writes.
    DockerArchive {
        /// The tar.
        file: PathBuf,
        /// The image in it, where there are several.
        tag: Option<String>,
    },
}

/// The text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It begins with none of the known words.
    #[error(
        "`{}` is no image reference: write oci://HOST/NAME:TAG, docker://NAME:TAG, oci:FOLDER, \
            oci-archive:FILE or docker-archive:FILE",
        .0.escape_debug()
    )]
    Scheme(String),
    /// Nothing follows the word.
    #[error("`{}` names no file or folder", .0.escape_debug())]
    NoPath(String),
    /// The name, tag or digest has the wrong form.
    #[error("`{}` is no image reference: {reason}", text.escape_debug())]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImageReference {
    /// Whether the text begins like one of them.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        ["oci:", "docker://", "oci-archive:", "docker-archive:"].iter().any(|word| text.starts_with(word))
    }

    /// A name for the image where nobody gives one: the last part of its name, or of the path of its file.
    #[must_use]
    pub fn short_name(&self) -> String {
        let path = match self {
            Self::Registry(reference) => {
                let name = reference.repository();
                return name.rsplit('/').next().unwrap_or(name).to_owned();
            }
            Self::Layout { folder, .. } => folder,
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } => file,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut name = name.as_ref();
        for ending in [".zst", ".gz", ".xz", ".tar", ".tgz"] {
            name = name.strip_suffix(ending).unwrap_or(name);
        }
        name.to_owned()
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some(name) = text.strip_prefix("oci://") {
            let host = name.split_once('/').map(|(host, _)| host).unwrap_or_default();
            if !is_host(host) {
                let reason = "the registry's host must come first, as in oci://registry.example.org/name:tag \
                              (a folder is written oci:FOLDER)";
                return Err(ReferenceError::Name { text: text.to_owned(), reason: reason.to_owned() });
            }
            return registry(text, name);
        }
        if let Some(name) = text.strip_prefix("docker://") {
            return registry(text, name);
        }
        if let Some(place) = text.strip_prefix("oci:") {
            let (folder, tag) = path_and_tag(text, place)?;
            return Ok(Self::Layout { folder, tag });
        }
        if let Some(place) = text.strip_prefix("oci-archive:") {
            let (file, tag) = path_and_tag(text, place)?;
            return Ok(Self::OciArchive { file, tag });
        }
        if let Some(place) = text.strip_prefix("docker-archive:") {
            let (file, tag) = path_and_tag(text, place)?;
            return Ok(Self::DockerArchive { file, tag });
        }
        Err(ReferenceError::Scheme(text.to_owned()))
    }
}

fn registry(text: &str, name: &str) -> Result<ImageReference, ReferenceError> {
    let bad = |reason: String| ReferenceError::Name { text: text.to_owned(), reason };
    let reference: Reference = name
        .parse()
        .map_err(|error| bad(format!("{error} (write names in lower case, as in HOST/NAME:TAG)")))?;
    // `oci-spec` takes a first part with a capital letter for a host, or for a name that it would not read again.
    if !is_host(reference.registry()) || reference.whole().parse().as_ref() != Ok(&reference) {
        return Err(bad("write names in lower case, as in HOST/NAME:TAG".to_owned()));
    }
    if reference.digest().is_some_and(|digest| !digest.starts_with("sha256:")) {
        return Err(bad("only sha256 digests are supported".to_owned()));
    }
    Ok(ImageReference::Registry(reference))
}

/// Whether the first part of a name is a registry's host.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// The path ends at the first colon, as it does for `skopeo`.
fn path_and_tag(text: &str, place: &str) -> Result<(PathBuf, Option<String>), ReferenceError> {
    let (path, tag) = place.split_once(':').map_or((place, None), |(path, tag)| (path, Some(tag)));
    if path.is_empty() || path.contains('\0') {
        return Err(ReferenceError::NoPath(text.to_owned()));
    }
    Ok((PathBuf::from(path), tag.filter(|tag| !tag.is_empty()).map(str::to_owned)))
}

/// The form that is read back; a registry's reference is complete.
impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, path, tag) = match self {
            Self::Registry(reference) => return write!(formatter, "oci://{}", reference.whole()),
            Self::Layout { folder, tag } => ("oci", folder, tag),
            Self::OciArchive { file, tag } => ("oci-archive", file, tag),
            Self::DockerArchive { file, tag } => ("docker-archive", file, tag),
        };
        write!(formatter, "{word}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(formatter, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn each_form_is_read_and_written() {
        for (text, shown, name) in [
            ("docker://busybox", "oci://docker.io/library/busybox:latest", "busybox"),
            ("docker://me/lab:1.2", "oci://docker.io/me/lab:1.2", "lab"),
            ("docker://quay.io/a/b/c:x", "oci://quay.io/a/b/c:x", "c"),
            ("oci://localhost/lab", "oci://localhost/lab:latest", "lab"),
            ("oci://127.0.0.1:5000/labs/k8s:v1", "oci://127.0.0.1:5000/labs/k8s:v1", "k8s"),
            ("oci:/srv/layout", "oci:/srv/layout", "layout"),
            ("oci:layout:v1", "oci:layout:v1", "layout"),
            ("oci-archive:a/b.tar.gz", "oci-archive:a/b.tar.gz", "b"),
            ("docker-archive:b.tar:busybox:1.36", "docker-archive:b.tar:busybox:1.36", "b"),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), shown);
            assert_eq!(reference.short_name(), name);
            assert!(ImageReference::is_one(text));
        }
        let by_digest = format!("oci://ghcr.io/a/b@{DIGEST}");
        assert_eq!(by_digest.parse::<ImageReference>().unwrap().to_string(), by_digest);
    }

    #[test]
    fn what_is_no_reference_is_refused_with_what_to_write() {
        for (text, words) in [
            ("busybox", "write oci://"),
            ("oci:", "names no file or folder"),
            ("docker-archive::tag", "names no file or folder"),
            ("oci://busybox:latest", "host must come first"),
            ("oci:///srv/layout", "a folder is written oci:FOLDER"),
            ("docker://UPPER", "lower case"),
            ("docker://Upper/name", "lower case"),
            ("docker://a b", "invalid reference"),
            (&format!("docker://busybox@sha512:{}", "0".repeat(128)), "only sha256"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(text in "(oci://|docker://|oci:|oci-archive:|docker-archive:)[a-z0-9.:/@_-]{0,30}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>(), Ok(reference));
            }
        }
    }
}
