//! What a transfer sends along, and how patient it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

/// Headers that only the server which was named gets to see, never one that it redirects to.
#[derive(Clone, Default)]
pub struct Secrets {
    pub(crate) headers: HeaderMap,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.headers.keys()).finish()
    }
}

/// The secrets cannot be read. None of them is repeated.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{variable}: cannot read {}: {source}", path.display())]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Both forms of the token are given.
    #[error("IMAGE_BEARER_TOKEN and IMAGE_BEARER_TOKEN_FILE are both set; keep one, better the file")]
    TwoTokens,
    /// The token has characters that no header can have.
    #[error("{variable}: the token is empty, or has characters that no HTTP header can have")]
    BadToken {
        /// The variable.
        variable: &'static str,
    },
    /// A line of the header file is none.
    #[error("IMAGE_HEADER_FILE: line {line} of {} is no `Name: value`", path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Secrets {
    /// Reads `IMAGE_BEARER_TOKEN_FILE` or `IMAGE_BEARER_TOKEN` (sent as `Authorization: Bearer …`), and
    /// `IMAGE_HEADER_FILE` (lines `Name: value`; empty ones and those with `#` first are passed over).
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let mut headers = HeaderMap::new();
        if let Some(path) = lookup("IMAGE_HEADER_FILE") {
            let path = PathBuf::from(path);
            for (index, line) in read("IMAGE_HEADER_FILE", &path)?.lines().enumerate() {
                if line.trim().is_empty() || line.starts_with('#') {
                    continue;
                }
                let header = parse_header(line)
                    .ok_or_else(|| SettingsError::BadHeader { path: path.clone(), line: index + 1 })?;
                headers.append(header.0, header.1);
            }
        }
        let token = match (lookup("IMAGE_BEARER_TOKEN"), lookup("IMAGE_BEARER_TOKEN_FILE")) {
            (Some(_), Some(_)) => return Err(SettingsError::TwoTokens),
            (Some(token), None) => Some(("IMAGE_BEARER_TOKEN", token)),
            (None, Some(path)) => {
                let variable = "IMAGE_BEARER_TOKEN_FILE";
                Some((variable, read(variable, Path::new(&path))?))
            }
            (None, None) => None,
        };
        if let Some((variable, token)) = token {
            headers.insert(AUTHORIZATION, bearer(&token).ok_or(SettingsError::BadToken { variable })?);
        }
        Ok(Self { headers })
    }
}

/// `Bearer …`, marked as not to be shown.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

fn read(variable: &'static str, path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        variable,
        path: path.to_owned(),
        source,
    })
}

fn parse_header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// How patient a transfer is.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How often a request that fails is made in all, without a byte in between. Default: 8.
    pub attempts: usize,
    /// The wait before the second attempt; it doubles with each, and some of it is chance. Default: 500 ms.
    pub first_wait: Duration,
    /// The longest wait between two attempts, and the longest that a server may ask for. Default: 2 minutes.
    pub longest_wait: Duration,
    /// How long nothing may arrive before a connection counts as stalled. Default: 30 s.
    pub stall: Duration,
    /// How long a connection may take to be made. Default: 10 s.
    pub connect: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            connect: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_variables(variables: &[(&str, &str)]) -> Result<Secrets, SettingsError> {
        Secrets::from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn secrets_are_read_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (token, headers) = (folder.path().join("token"), folder.path().join("headers"));
        std::fs::write(&token, "s3cret\n").unwrap();
        std::fs::write(&headers, "# who\n\nX-Api-Key: k3y\n").unwrap();
        let secrets = read_variables(&[
            ("IMAGE_BEARER_TOKEN_FILE", token.to_str().unwrap()),
            ("IMAGE_HEADER_FILE", headers.to_str().unwrap()),
        ])
        .unwrap();
        assert_eq!(secrets.headers[AUTHORIZATION], "Bearer s3cret");
        assert_eq!(secrets.headers["x-api-key"], "k3y");
        let shown = format!("{secrets:?} {:?}", secrets.headers);
        assert!(!shown.contains("s3cret") && !shown.contains("k3y"), "{shown}");
    }

    #[test]
    fn secrets_that_cannot_be_sent_are_refused_without_being_repeated() {
        let error = read_variables(&[("IMAGE_BEARER_TOKEN", "a\nb")]).unwrap_err();
        assert!(matches!(error, SettingsError::BadToken { .. }) && !error.to_string().contains("a\nb"));
        let both = [("IMAGE_BEARER_TOKEN", "a"), ("IMAGE_BEARER_TOKEN_FILE", "/b")];
        assert!(matches!(read_variables(&both), Err(SettingsError::TwoTokens)));
    }
}
