//! The session's way in from outside the cluster, where the installation has one: paths below one public address.
//!
//! `/sessions/ID/terminal` leads to the terminal and `/sessions/ID/vscode` to the editor, as the existing controller has
//! it. Both serve themselves at `/`, so whatever answers for the Ingress class must take the prefix off. Traefik does so
//! with a middleware, which the Ingress names; other classes are told by their own means.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dozlab_session::defaults;
use dozlab_session::id::SessionId;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, ServiceBackendPort,
};
use url::{Host, Url};

use crate::options::Parts;
use crate::pod::Lab;

/// By which Traefik is told what to do with a request before it is passed on.
const MIDDLEWARES: &str = "traefik.ingress.kubernetes.io/router.middlewares";

/// How sessions are reached from outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicRoute {
    /// The address below which they are.
    pub base: PublicUrl,
    /// The Ingress class; the cluster's default where there is none.
    pub class: Option<String>,
    /// Traefik's middleware that takes the prefix off, as `NAMESPACE-NAME@kubernetescrd`.
    pub middleware: Option<String>,
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

    /// The host, if it is a name: an Ingress takes no addresses.
    fn host_name(&self) -> Option<String> {
        match self.0.host() {
            Some(Host::Domain(name)) => Some(name.to_owned()),
            _ => None,
        }
    }
}

/// The session's Ingress; none where the installation has no public address, or the lab no page.
pub(crate) fn ingress(lab: Lab<'_>) -> Option<Ingress> {
    let route = lab.options.route.as_ref()?;
    let Parts { terminal, editor, .. } = lab.options.parts;
    let id = &lab.plan.session_id;
    let pages = [(editor, EDITOR, defaults::EDITOR_PORT), (terminal, TERMINAL, defaults::TERMINAL_PORT)];
    let paths: Vec<_> = pages
        .into_iter()
        .filter(|(wanted, ..)| *wanted)
        .map(|(_, part, port)| to_service(id, part, port))
        .collect();
    if paths.is_empty() {
        return None;
    }
    let mut metadata = lab.metadata(format!("lab-ingress-{id}"));
    metadata.annotations =
        route.middleware.clone().map(|middleware| BTreeMap::from([(MIDDLEWARES.to_owned(), middleware)]));
    let rule = IngressRule { host: route.base.host_name(), http: Some(HTTPIngressRuleValue { paths }) };
    let spec = IngressSpec {
        ingress_class_name: route.class.clone(),
        rules: Some(vec![rule]),
        ..IngressSpec::default()
    };
    Some(Ingress { metadata, spec: Some(spec), status: None })
}

fn to_service(id: &SessionId, part: &str, port: u16) -> HTTPIngressPath {
    let port = ServiceBackendPort { number: Some(port.into()), name: None };
    let service = IngressServiceBackend { name: id.service_name(), port: Some(port) };
    HTTPIngressPath {
        path: Some(path(id, part)),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend { service: Some(service), resource: None },
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
    fn only_names_are_hosts_of_an_ingress() {
        let host = |base: &str| base.parse::<PublicUrl>().unwrap().host_name();
        assert_eq!(host("https://labs.example:8443").as_deref(), Some("labs.example"));
        assert_eq!(host("https://10.0.0.1"), None);
    }
}
