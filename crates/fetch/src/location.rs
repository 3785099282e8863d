//! Where bytes live: a URL or a path, and how it is written in messages.

use std::fmt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use url::Url;

/// A place to fetch from.
///
/// Shown, also by `Debug`, without the parts of a URL that may hold a secret: user, password and query.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of this machine: a path, or a `file://` URL.
    File(PathBuf),
    /// `http://` or `https://`.
    Http(Url),
    /// `s3://BUCKET/KEY`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object in it.
        key: String,
    },
    /// `gs://BUCKET/OBJECT`: Google Cloud Storage.
    Gs {
        /// The bucket.
        bucket: String,
        /// The object in it.
        key: String,
    },
}

/// The text names no place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The scheme is none of those that can be fetched.
    #[error("`{scheme}://` is not supported: there are http, https, file, s3 and gs")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL cannot be read. It is not repeated, for it may hold a password.
    #[error("the {scheme} URL cannot be read: {reason}")]
    Malformed {
        /// Its scheme.
        scheme: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The `file://` URL is none of this machine's.
    #[error("`{url}` is no file of this machine; write `file:///` and an absolute path")]
    NotLocal {
        /// The URL.
        url: String,
    },
    /// Neither a URL nor an absolute path.
    #[error("`{text}` is neither a URL nor an absolute path")]
    Neither {
        /// The text.
        text: String,
    },
}

impl Location {
    /// Reads a URL or an absolute path.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.starts_with('/') {
            return Ok(Self::File(text.into()));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(LocationError::Neither { text: text.to_owned() });
        };
        let scheme = scheme.to_ascii_lowercase();
        let malformed =
            |reason: &str| LocationError::Malformed { scheme: scheme.clone(), reason: reason.into() };
        if !["http", "https", "file", "s3", "gs"].contains(&scheme.as_str()) {
            return Err(LocationError::Scheme { scheme });
        }
        let url = Url::parse(text).map_err(|error| malformed(&error.to_string()))?;
        match scheme.as_str() {
            "file" => {
                let path = url.to_file_path().ok().filter(|path| !path.to_string_lossy().contains('\0'));
                path.map(Self::File).ok_or_else(|| LocationError::NotLocal { url: text.to_owned() })
            }
            "s3" | "gs" => {
                // An object's name is taken as it is written, not percent-decoded: that is what the services' own
                // tools do.
                let rest = text.split_once("://").map_or("", |(_, rest)| rest);
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || key.is_empty() {
                    return Err(malformed("write BUCKET/OBJECT after the scheme"));
                }
                let (bucket, key) = (bucket.to_owned(), key.to_owned());
                Ok(if scheme == "s3" { Self::S3 { bucket, key } } else { Self::Gs { bucket, key } })
            }
            _ => Ok(Self::Http(url)),
        }
    }

    /// SHA-256 of the full location, in hexadecimal: tells locations apart without giving away their secrets. User
    /// and password do not count: they say who asks, not what for.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let full = match self {
            Self::Http(url) => {
                let mut url = url.clone();
                // Neither can fail: the URL has a host.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_fragment(None);
                url.to_string()
            }
            other => other.to_string(),
        };
        Sha256::digest(full).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The last part of its path, which may say what it is; possibly empty.
    #[must_use]
    pub fn file_name(&self) -> String {
        let path = match self {
            Self::File(path) => path.to_string_lossy().into_owned(),
            Self::Http(url) => url.path().to_owned(),
            Self::S3 { key, .. } | Self::Gs { key, .. } => key.clone(),
        };
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Http(url) => formatter.write_str(&without_secrets(url)),
            Self::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}"),
            Self::Gs { bucket, key } => write!(formatter, "gs://{bucket}/{key}"),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Location({self})")
    }
}

/// A URL without user, password, query and fragment.
pub(crate) fn without_secrets(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_or_a_url_of_a_known_scheme() {
        let file = |path: &str| Ok(Location::File(path.into()));
        assert_eq!(Location::parse("/a b"), file("/a b"));
        assert_eq!(Location::parse("file:///a%20b"), file("/a b"));
        assert_eq!(Location::parse("FILE://localhost/a"), file("/a"));
        let s3 = Location::S3 { bucket: "b".into(), key: "c/d e.zst".into() };
        assert_eq!(Location::parse("s3://b/c/d e.zst"), Ok(s3));
        for bad in ["file://server/share", "file:///a%00", "file://a", "s3://b", "gs:///k", "ftp://h/f", "vm"]
        {
            assert!(Location::parse(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let location = Location::parse("https://joe:pass@host:8443/a/b.zst?sig=s3cret#f").unwrap();
        assert_eq!(location.to_string(), "https://host:8443/a/b.zst");
        assert_eq!(format!("{location:?}"), "Location(https://host:8443/a/b.zst)");
        assert_eq!(location.file_name(), "b.zst");
        let error = Location::parse("https://joe:pass@/x y z:1").map(|l| l.to_string());
        assert!(!format!("{error:?}").contains("pass"), "{error:?}");
    }

    #[test]
    fn a_fingerprint_tells_queries_apart_and_not_users() {
        let of = |text: &str| Location::parse(text).unwrap().fingerprint();
        assert_eq!(of("https://joe:pass@host/a?v=1"), of("https://host/a?v=1"));
        assert_ne!(of("https://host/a?v=1"), of("https://host/a?v=2"));
    }
}
