//! What the session's pod may reach, and who may reach it: a NetworkPolicy that denies what it does not name.
//!
//! It is the second fence. The first is inside the pod: the firewall that `network-setup` makes keeps the *guest* to its
//! egress policy. This one holds for every process of the pod, and so still holds for one that broke out of the VM.
//!
//! A policy knows pods, not containers, so what `init-rootfs` needs to fetch an image is open to the whole pod: the
//! cluster's name server, and the image's port in the public internet. An image server inside the cluster needs a
//! NetworkPolicy of its own for pods with the label `app: lab-environment`; policies add up.
//!
//! Hardly anything in a policy is the session's own. So the controller makes one for all sessions of a namespace that
//! come to the same. Its name says what it allows, and pods carry the name as a label.

use std::collections::BTreeMap;

use dozlab_network::egress::{NEVER, Network, PRIVATE};
use dozlab_session::image::ImageRef;
use dozlab_session::plan::Egress;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::Lab;

const DNS_PORT: u16 = 53;

/// The label by which pods name a policy that they share.
pub const POLICY_LABEL: &str = "dozlab.io/network-policy";

/// The session's policy. It has the pod's name, or one that says what it allows if it is shared.
pub(crate) fn network_policy(lab: Lab<'_>) -> NetworkPolicy {
    let ports: Vec<_> = lab.ports().into_iter().map(|(_, number)| port("TCP", number)).collect();
    let from_anybody = NetworkPolicyIngressRule { from: None, ports: Some(ports) };
    let (metadata, selector) = match shared_name(lab) {
        Some(name) => shared(lab, name),
        None => (lab.metadata(lab.plan.session_id.pod_name()), lab.selector()),
    };
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labelled(selector)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            // A rule without ports would be one for all of them.
            ingress: Some(if lab.ports().is_empty() { Vec::new() } else { vec![from_anybody] }),
            egress: Some(egress(lab)),
        }),
    }
}

/// The name of the policy that the session shares, made of all that its rules depend on: `lab-internet-dns-8080-8081-22`.
/// None if it has one of its own.
pub(crate) fn shared_name(lab: Lab<'_>) -> Option<String> {
    if !lab.options.shared_policy {
        return None;
    }
    let egress = lab.plan.network.egress;
    let image = match (download_port(&lab.plan.image), egress) {
        (None, _) => String::new(),
        (Some(number), Egress::None) => format!("-image-{number}"),
        (Some(_), Egress::Internet | Egress::Open) => "-dns".to_owned(),
    };
    let ports: String = lab.ports().into_iter().map(|(_, number)| format!("-{number}")).collect();
    Some(format!("lab-{}{image}{ports}", egress.as_str()))
}

fn shared(lab: Lab<'_>, name: String) -> (ObjectMeta, BTreeMap<String, String>) {
    let app = lab.selector().into_iter().filter(|(label, _)| label == "app");
    let labels: BTreeMap<_, _> = app.chain([(POLICY_LABEL.to_owned(), name.clone())]).collect();
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: lab.options.namespace.clone(),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    (metadata, labels)
}

fn egress(lab: Lab<'_>) -> Vec<NetworkPolicyEgressRule> {
    let image_port = download_port(&lab.plan.image);
    let public = || anywhere_but(NEVER.iter().chain(&PRIVATE));
    let policy = match lab.plan.network.egress {
        Egress::Internet => Some((public(), None)),
        Egress::Open => Some((anywhere_but(NEVER.iter()), None)),
        Egress::None => image_port.map(|number| (public(), Some(vec![port("TCP", number)]))),
    };
    let policy = policy.map(|(peer, ports)| NetworkPolicyEgressRule { to: Some(vec![peer]), ports });
    policy.into_iter().chain(image_port.map(|_| name_server())).collect()
}

/// The port that the image is downloaded from; `None` where nothing is downloaded.
fn download_port(image: &ImageRef) -> Option<u16> {
    let (scheme, place) = image.as_str().split_once("://")?;
    let usual = match scheme {
        "file" => return None,
        "http" => 80,
        _ => 443,
    };
    let authority = place.split(['/', '?', '#']).next().unwrap_or(place);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // The last colon of an IPv6 address without a port is inside the brackets.
    let named = host.rsplit_once(':').and_then(|(_, number)| number.parse().ok());
    Some(named.unwrap_or(usual))
}

/// The cluster's own name server, by the labels that it has in every distribution.
fn name_server() -> NetworkPolicyEgressRule {
    let label = |name: &str, value: &str| labelled([(name.to_owned(), value.to_owned())].into());
    let peer = NetworkPolicyPeer {
        namespace_selector: Some(label("kubernetes.io/metadata.name", "kube-system")),
        pod_selector: Some(label("k8s-app", "kube-dns")),
        ip_block: None,
    };
    NetworkPolicyEgressRule {
        to: Some(vec![peer]),
        ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]),
    }
}

/// Every IPv4 address but those in some networks. IPv6 stays denied: the VM has none.
fn anywhere_but<'a>(networks: impl Iterator<Item = &'a Network>) -> NetworkPolicyPeer {
    let except = networks.map(ToString::to_string).collect();
    let block = IPBlock { cidr: "0.0.0.0/0".to_owned(), except: Some(except) };
    NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number.into())),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_image_is_read_off_its_url() {
        let port = |image: &str| download_port(&image.parse().unwrap());
        assert_eq!(port("https://images.example/k8s.ext4"), Some(443));
        assert_eq!(port("http://images.example/k8s.ext4?token=a:9"), Some(80));
        assert_eq!(port("http://user:pass@images.example:8000/k8s.ext4"), Some(8000));
        assert_eq!(port("oci://registry.example:5000/labs/k8s:1.30"), Some(5000));
        assert_eq!(port("https://[2001:db8::1]/k8s.ext4"), Some(443));
        assert_eq!((port("file:///app/image.ext4"), port("vm")), (None, None));
    }
}
