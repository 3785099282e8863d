//! The session's way in from outside the cluster by an Ingress. Whatever answers for its class must take the prefix of
//! the paths off. Traefik does so with a middleware, which the Ingress names; other classes are told by their own means.

use std::collections::BTreeMap;

use dozlab_session::id::SessionId;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, ServiceBackendPort,
};

use crate::pod::Lab;
use crate::public_route::{Entrance, Page};

/// By which Traefik is told what to do with a request before it is passed on.
const MIDDLEWARES: &str = "traefik.ingress.kubernetes.io/router.middlewares";

/// The session's Ingress; none where the installation has no public address or a gateway, or the lab no page.
pub(crate) fn ingress(lab: Lab<'_>) -> Option<Ingress> {
    let route = lab.options.route.as_ref()?;
    let Entrance::Ingress { class, middleware } = &route.entrance else { return None };
    let id = &lab.plan.session_id;
    let pages = route.pages(id, lab.options.parts);
    if pages.is_empty() {
        return None;
    }
    let mut metadata = lab.metadata(route.entrance.object_name(id.as_str()));
    metadata.annotations =
        middleware.clone().map(|middleware| BTreeMap::from([(MIDDLEWARES.to_owned(), middleware)]));
    let paths = pages.into_iter().map(|page| to_service(id, page)).collect();
    let rule = IngressRule { host: route.base.host_name(), http: Some(HTTPIngressRuleValue { paths }) };
    let spec =
        IngressSpec { ingress_class_name: class.clone(), rules: Some(vec![rule]), ..IngressSpec::default() };
    Some(Ingress { metadata, spec: Some(spec), status: None })
}

fn to_service(id: &SessionId, page: Page) -> HTTPIngressPath {
    let port = ServiceBackendPort { number: Some(page.port.into()), name: None };
    let service = IngressServiceBackend { name: id.service_name(), port: Some(port) };
    HTTPIngressPath {
        path: Some(page.path),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend { service: Some(service), resource: None },
    }
}
