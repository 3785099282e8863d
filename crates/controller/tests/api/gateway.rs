//! The way in by a route of a gateway: on a server that has the kind, and on one that has not.

use dozlab_pod::{HTTPRoute, LabSession};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{Cluster, until};

/// The kind as far as sessions use it: fields that are not here are refused.
fn definition() -> CustomResourceDefinition {
    let text = json!({ "type": "string" });
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let typed = |more: Value| {
        let mut properties = more;
        properties["type"] = text.clone();
        object(properties)
    };
    let rule = object(json!({
        "matches": list(object(json!({ "path": typed(json!({ "value": text })) }))),
        "filters": list(typed(json!({
            "urlRewrite": object(json!({ "path": typed(json!({ "replacePrefixMatch": text })) })),
        }))),
        "backendRefs": list(object(json!({
            "name": text, "port": { "type": "integer" }, "weight": { "type": "integer", "default": 1 },
        }))),
    }));
    let parent = json!({
        "name": text, "namespace": text, "sectionName": text, "kind": { "type": "string", "default": "Gateway" },
    });
    let spec =
        object(json!({ "parentRefs": list(object(parent)), "hostnames": list(text), "rules": list(rule) }));
    serde_json::from_value(json!({
        "metadata": {
            "name": "httproutes.gateway.networking.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "unapproved, for tests of this program" },
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": { "kind": "HTTPRoute", "listKind": "HTTPRouteList", "plural": "httproutes", "singular": "httproute" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": object(json!({ "spec": spec })) },
            }],
        },
    }))
    .unwrap()
}

const PUBLIC: [&str; 2] = ["--public-base-url=https://labs.example/", "--gateway=infra/public/https"];

// One test, because all tests share a server: what it has is the first thing that is looked at.
#[tokio::test]
async fn a_gateway_gives_each_session_a_route_where_the_server_has_the_kind() {
    let cluster = Cluster::new("gateway").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let mut controller = cluster.controller(&[PUBLIC[0], PUBLIC[1], "--cache-sync-timeout=3s"]);
    controller.says("the API server knows no httproutes").await;
    assert_eq!(controller.end().await, Some(1));
    assert!(controller.log().contains("HTTPRoute too where there is a gateway"), "{}", controller.log());

    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let routes = cluster.api::<HTTPRoute>();
    until("the kind is served", async || routes.list(&Default::default()).await.ok()).await;
    let _controller = cluster.controller(&PUBLIC);
    let session = cluster.ask_for("demo", json!({})).await;
    let endpoints = cluster.phase("demo", "Creating").await.status.unwrap().endpoints.unwrap();
    assert_eq!(endpoints.terminal.as_deref(), Some("https://labs.example/sessions/demo/terminal/"));
    assert_eq!(endpoints.vscode.as_deref(), Some("https://labs.example/sessions/demo/vscode/"));

    let route = until("there is a route", async || routes.get_opt("lab-route-demo").await.unwrap()).await;
    assert_eq!(Some(&route.owner_references()[0].uid), session.metadata.uid.as_ref());
    assert_eq!(route.spec.hostnames, ["labs.example"]);
    let parents = serde_json::to_value(&route.spec.parent_refs).unwrap();
    assert_eq!(parents, json!([{ "namespace": "infra", "name": "public", "sectionName": "https" }]));
    let rules = serde_json::to_value(&route.spec.rules).unwrap();
    assert_eq!(
        rules[1]["matches"][0]["path"],
        json!({ "type": "PathPrefix", "value": "/sessions/demo/terminal" })
    );
    assert_eq!(rules[1]["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"], "/");
    assert_eq!(rules[1]["backendRefs"], json!([{ "name": "lab-service-demo", "port": 8081 }]));
    let writes = cluster.server.writes("gateway");
    assert!(writes.iter().all(|write| !write.contains("ingresses")), "{writes:?}");
    assert_eq!(writes.iter().filter(|write| write.contains("httproutes")).count(), 1, "{writes:?}");

    // What somebody else adds stays; what somebody deletes is made again.
    let label = Patch::Merge(json!({ "metadata": { "labels": { "theirs": "yes" } } }));
    routes.patch("lab-route-demo", &PatchParams::default(), &label).await.unwrap();
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    assert_eq!(routes.get("lab-route-demo").await.unwrap().labels()["theirs"], "yes");
    routes.delete("lab-route-demo", &DeleteParams::default()).await.unwrap();
    until("it is made again", async || routes.get_opt("lab-route-demo").await.ok()?).await;

    cluster.sessions().delete("demo", &DeleteParams::default()).await.unwrap();
    cluster.gone("demo").await;
    assert!(routes.get_opt("lab-route-demo").await.unwrap().is_none());

    definitions.delete(&definition().name_any(), &DeleteParams::default()).await.unwrap();
    until("the kind is gone", async || routes.list(&Default::default()).await.err()).await;
    cluster.ask_for("later", json!({})).await;
    let told = cluster.session("later", |session| reason(session) == Some("KindNotInstalled")).await;
    assert!(told.status.unwrap().message.unwrap().contains("knows no httproutes"));
}

fn reason(session: &LabSession) -> Option<&str> {
    session.status.as_ref()?.reason.as_deref()
}
