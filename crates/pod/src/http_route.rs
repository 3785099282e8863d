//! The session's way in from outside the cluster by a route of a gateway (`gateway.networking.k8s.io/v1`). The route takes
//! the prefix of the paths off by itself.
//!
//! Of the kind `HTTPRoute` this is what a session's needs. What its definition adds by default, an API server adds.

use std::fmt;
use std::str::FromStr;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::pod::Lab;
use crate::public_route::{Entrance, Page};

/// A gateway to which routes are attached, as `NAMESPACE/NAME` or `NAMESPACE/NAME/LISTENER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its namespace. Its listener must allow routes of the sessions' namespaces.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The listener; all of them where there is none.
    pub listener: Option<String>,
}

/// The text names no gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a gateway: it must be NAMESPACE/NAME or NAMESPACE/NAME/LISTENER")]
pub struct GatewayError(String);

impl FromStr for Gateway {
    type Err = GatewayError;

    fn from_str(text: &str) -> Result<Self, GatewayError> {
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| is_name(part)) {
            return Err(GatewayError(text.to_owned()));
        }
        let (namespace, name, listener) = match parts[..] {
            [namespace, name] => (namespace, name, None),
            [namespace, name, listener] => (namespace, name, Some(listener)),
            _ => return Err(GatewayError(text.to_owned())),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            listener: listener.map(str::to_owned),
        })
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)?;
        self.listener.iter().try_for_each(|listener| write!(formatter, "/{listener}"))
    }
}

/// Whether it may be a name: a subdomain of RFC 1123, as Kubernetes has it.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        label.starts_with(plain)
            && label.ends_with(plain)
            && label.chars().all(|letter| plain(letter) || letter == '-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What a route says.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    doc = "A route of a gateway, as far as a session has one."
)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentReference>,
    /// The hosts that it is for; those of the listener where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Where requests go.
    pub rules: Vec<HttpRouteRule>,
}

/// A gateway, or one listener of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Its namespace; the route's own where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The listener's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// Where requests go that match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteRule {
    /// What matches.
    pub matches: Vec<HttpRouteMatch>,
    /// What is changed on the way.
    pub filters: Vec<HttpRouteFilter>,
    /// Where it goes.
    pub backend_refs: Vec<BackendReference>,
}

/// What matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpRouteMatch {
    /// The path.
    pub path: PathMatch,
}

/// A path that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// How it is compared: `PathPrefix` is by whole parts between slashes.
    #[serde(rename = "type")]
    pub kind: String,
    /// With what.
    pub value: String,
}

/// What the definition of the kind has as default: every path.
impl Default for PathMatch {
    fn default() -> Self {
        Self { kind: "PathPrefix".to_owned(), value: "/".to_owned() }
    }
}

/// What is changed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilter {
    /// Which filter it is: `URLRewrite`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The change, of a `URLRewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlRewrite {
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// What a path becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    /// What is replaced: `ReplacePrefixMatch` is what has matched.
    #[serde(rename = "type")]
    pub kind: String,
    /// By what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

/// A service of the route's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReference {
    /// Its name.
    pub name: String,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The session's route; none where the installation has no gateway, or the lab no page.
pub(crate) fn http_route(lab: Lab<'_>) -> Option<HTTPRoute> {
    let route = lab.options.route.as_ref()?;
    let Entrance::Gateway(gateway) = &route.entrance else { return None };
    let id = &lab.plan.session_id;
    let pages = route.pages(id, lab.options.parts);
    if pages.is_empty() {
        return None;
    }
    let parent = ParentReference {
        namespace: Some(gateway.namespace.clone()),
        name: gateway.name.clone(),
        section_name: gateway.listener.clone(),
    };
    let service = id.service_name();
    let spec = HttpRouteSpec {
        parent_refs: vec![parent],
        hostnames: route.base.host_name().into_iter().collect(),
        rules: pages.into_iter().map(|page| to_service(&service, page)).collect(),
    };
    Some(HTTPRoute { metadata: lab.metadata(route.entrance.object_name(id.as_str())), spec })
}

fn to_service(service: &str, page: Page) -> HttpRouteRule {
    let without_prefix =
        PathModifier { kind: "ReplacePrefixMatch".to_owned(), replace_prefix_match: Some("/".to_owned()) };
    let rewrite = HttpRouteFilter {
        kind: "URLRewrite".to_owned(),
        url_rewrite: Some(UrlRewrite { path: Some(without_prefix) }),
    };
    HttpRouteRule {
        matches: vec![HttpRouteMatch { path: PathMatch { kind: "PathPrefix".to_owned(), value: page.path } }],
        filters: vec![rewrite],
        backend_refs: vec![BackendReference { name: service.to_owned(), port: Some(page.port) }],
    }
}

#[cfg(test)]
mod tests;
