//! The session's service: one address for the lab's ports.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::Lab;

/// The session's service; none where no part of the lab is reached from outside.
pub(crate) fn service(lab: Lab<'_>) -> Option<Service> {
    let ports: Vec<ServicePort> = lab
        .ports()
        .into_iter()
        .map(|(name, number)| ServicePort {
            name: Some(name.to_owned()),
            port: number.into(),
            target_port: Some(IntOrString::Int(number.into())),
            protocol: Some("TCP".to_owned()),
            ..ServicePort::default()
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    Some(Service {
        metadata: lab.metadata(lab.plan.session_id.service_name()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(lab.selector()),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}
