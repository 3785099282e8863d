use dozlab_session::plan::{Plan, PlanRequest};
use serde_json::{Value, json};

use super::*;
use crate::{Manifests, Parts, PodOptions, PublicRoute};

fn objects(gateway: &str, base: &str, parts: Parts) -> Vec<Value> {
    let variables = |name: &str| match name {
        "SESSION_ID" => Some("demo".to_owned()),
        "USER_ID" => Some("me".to_owned()),
        "ROOTFS_IMAGE_URL" => Some("https://images.example/vm.ext4".to_owned()),
        _ => None,
    };
    let request = PlanRequest::from_template(variables).unwrap();
    let entrance = Entrance::Gateway(gateway.parse().unwrap());
    let options = PodOptions {
        route: Some(PublicRoute { base: base.parse().unwrap(), entrance }),
        namespace: Some("labs".to_owned()),
        parts,
        ..PodOptions::default()
    };
    Manifests::new(&Plan::resolve(&request).unwrap(), &options, None).objects()
}

fn route(gateway: &str, base: &str, parts: Parts) -> Option<Value> {
    objects(gateway, base, parts).into_iter().find(|object| object["kind"] == "HTTPRoute")
}

#[test]
fn a_session_has_a_rule_for_each_page_that_takes_the_prefix_off() {
    let route = route("infra/public/https", "https://labs.example", Parts::default()).unwrap();
    assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(route["metadata"]["name"], "lab-route-demo");
    assert_eq!(route["metadata"]["namespace"], "labs");
    assert_eq!(route["metadata"]["labels"]["app"], "lab-environment");
    let rule = |path: &str, port: u16| {
        json!({
            "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
            "filters": [{
                "type": "URLRewrite",
                "urlRewrite": { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } },
            }],
            "backendRefs": [{ "name": "lab-service-demo", "port": port }],
        })
    };
    let spec = json!({
        "parentRefs": [{ "namespace": "infra", "name": "public", "sectionName": "https" }],
        "hostnames": ["labs.example"],
        "rules": [rule("/sessions/demo/vscode", 8080), rule("/sessions/demo/terminal", 8081)],
    });
    assert_eq!(route["spec"], spec);
}

#[test]
fn a_gateway_without_a_listener_and_an_address_without_a_name_are_left_out() {
    let spec = route("infra/public", "http://192.0.2.7", Parts::default()).unwrap()["spec"].clone();
    assert_eq!(spec["parentRefs"], json!([{ "namespace": "infra", "name": "public" }]));
    assert!(spec.get("hostnames").is_none(), "{spec}");
}

#[test]
fn a_gateway_means_no_ingress_and_no_page_no_route() {
    let all = objects("infra/public", "https://labs.example", Parts::default());
    assert!(all.iter().all(|object| object["kind"] != "Ingress"));
    let no_page = Parts { terminal: false, editor: false, ssh: true };
    assert_eq!(route("infra/public", "https://labs.example", no_page), None);
}

#[test]
fn what_an_api_server_adds_by_default_is_read_past() {
    let mut route = route("infra/public", "https://labs.example", Parts::default()).unwrap();
    route["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(1);
    route["spec"]["parentRefs"][0]["kind"] = json!("Gateway");
    route["status"] = json!({ "parents": [] });
    serde_json::from_value::<HTTPRoute>(route).unwrap();
    let others = json!({ "metadata": { "name": "another" }, "spec": { "rules": [{ "matches": [{ "method": "GET" }] }] } });
    serde_json::from_value::<HTTPRoute>(others).unwrap();
}

#[test]
fn a_gateway_is_a_namespace_and_a_name_and_perhaps_a_listener() {
    for text in ["infra/public", "infra/public/https", "infra/public.example/web-1"] {
        assert_eq!(text.parse::<Gateway>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "public",
        "/public",
        "infra/",
        "infra/public/",
        "a/b/c/d",
        "Infra/public",
        "infra/pub lic",
        "a/-b",
    ] {
        assert!(text.parse::<Gateway>().unwrap_err().to_string().contains("NAMESPACE/NAME"), "{text}");
    }
}
