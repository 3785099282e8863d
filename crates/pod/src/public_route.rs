//! The session's way in from outside the cluster, where the installation has one: paths below one public address.
//!
//! `/sessions/ID/terminal` leads to the terminal and `/sessions/ID/vscode` to the editor, as the existing controller has
//! it. Both serve themselves at `/`, so the prefix is taken off on the way: by the [Ingress](mod@crate::ingress)'s class,
//! or by the [route](mod@crate::http_route) of a gateway.

use std::fmt;
use std::str::FromStr;

use dozlab_session::defaults;
use dozlab_session::id::SessionId;
use url::{Host, Url};

use crate::http_route::Gateway;
use crate::options::Parts;

/// How sessions are reached from outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicRoute {
    /// The address below which they are.
    pub base: PublicUrl,
    /// What leads from there to a session.
    pub entrance: Entrance,
}

/// What leads from the public address to a session; each has an object of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// An Ingress.
    Ingress {
        /// The Ingress class; the cluster's default where there is none.
        class: Option<String>,
        /// Traefik's middleware that takes the prefix off, as `NAMESPACE-NAME@kubernetescrd`.
        middleware: Option<String>,
    },
    /// An `HTTPRoute` of this gateway.
    Gateway(Gateway),
}

impl Entrance {
    /// The name of a session's object.
    #[must_use]
    pub fn object_name(&self, id: &str) -> String {
        match self {
            Self::Ingress { .. } => format!("lab-ingress-{id}"),
            Self::Gateway(_) => format!("lab-route-{id}"),
        }
    }
}

/// A page of a session, as its object has it.
pub(crate) struct Page {
    /// The prefix of its paths, without a slash at the end.
    pub(crate) path: String,
    /// Its port of the session's service.
    pub(crate) port: u16,
}

impl PublicRoute {
    /// The terminal's URL.
    #[must_use]
    pub fn terminal(&self, id: &SessionId) -> String {
        self.base.below(&path(id, TERMINAL))
    }

    /// The editor's URL.
    #[must_use]
    pub fn editor(&self, id: &SessionId) -> String {
        self.base.below(&path(id, EDITOR))
    }

    /// The pages of a session that has these parts.
    pub(crate) fn pages(&self, id: &SessionId, parts: Parts) -> Vec<Page> {
        let pages = [
            (parts.editor, EDITOR, defaults::EDITOR_PORT),
            (parts.terminal, TERMINAL, defaults::TERMINAL_PORT),
        ];
        let wanted = pages.into_iter().filter(|(wanted, ..)| *wanted);
        wanted.map(|(_, part, port)| Page { path: path(id, part), port }).collect()
    }
}

/// The last part of the terminal's path.
const TERMINAL: &str = "terminal";
/// The last part of the editor's path.
const EDITOR: &str = "vscode";

fn path(id: &SessionId, part: &str) -> String {
    format!("/sessions/{id}/{part}")
}

/// An address that browsers can open, without anything but host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(Url);

/// The text is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address like https://labs.example.org: {reason}")]
pub struct PublicUrlError {
    text: String,
    reason: String,
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let refused = |reason: &str| PublicUrlError { text: text.to_owned(), reason: reason.to_owned() };
        let url: Url = text.parse().map_err(|error: url::ParseError| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("it must begin with http:// or https://"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(refused("it must have no user, query or fragment"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl PublicUrl {
    fn below(&self, path: &str) -> String {
        format!("{self}{path}/")
    }

    /// The host, if it is a name: neither an Ingress nor a route takes addresses.
    pub(crate) fn host_name(&self) -> Option<String> {
        match self.0.host() {
            Some(Host::Domain(name)) => Some(name.to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_has_a_host_and_perhaps_a_path() {
        let below = |base: &str| base.parse::<PublicUrl>().map(|base| base.below("/sessions/a/terminal"));
        assert_eq!(below("https://labs.example").unwrap(), "https://labs.example/sessions/a/terminal/");
        assert_eq!(
            below("http://10.0.0.1:8000/labs/").unwrap(),
            "http://10.0.0.1:8000/labs/sessions/a/terminal/"
        );
        for bad in
            ["labs.example", "ftp://labs.example", "https://me@labs.example", "https://labs.example/?a=b"]
        {
            assert!(below(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn only_names_are_hosts() {
        let host = |base: &str| base.parse::<PublicUrl>().unwrap().host_name();
        assert_eq!(host("https://labs.example:8443").as_deref(), Some("labs.example"));
        assert_eq!(host("https://10.0.0.1"), None);
    }
}
