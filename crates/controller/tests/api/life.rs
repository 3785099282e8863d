//! A session's life without accidents.

use std::time::Duration;

use dozlab_pod::lab_session::ConditionType;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::support::{Cluster, until};

/// The policy of sessions of which nothing special is asked: they carry their image, and reach the internet.
const POLICY: &str = "lab-internet-8080-8081-22";

#[tokio::test]
async fn a_session_is_made_runs_is_extended_expires_and_is_deleted() {
    let cluster = Cluster::new("life").await;
    let _controller = cluster.controller(&["--all-events"]);
    cluster.ask_for("demo", json!({ "timeout": "1h" })).await;
    let creating = cluster.phase("demo", "Creating").await;
    assert_eq!(creating.finalizers(), ["labsession.dozlab.io/finalizer"]);
    let status = creating.status.clone().unwrap();
    assert_eq!(status.stage.as_deref(), Some("scheduling"));
    assert_eq!(status.observed_generation, creating.metadata.generation);
    let (start, end) = (status.start_time.unwrap(), status.expires_at.unwrap());
    assert_eq!(end.0.as_second() - start.0.as_second(), 3600);
    let pod = cluster.pod("demo", None).await;
    assert_eq!(pod.owner_references()[0].uid, creating.uid().unwrap());
    assert_eq!(status.pod_uid, pod.uid());
    until("the service is there", async || {
        cluster.api::<Service>().get_opt("lab-service-demo").await.unwrap()
    })
    .await;
    cluster.api::<Secret>().get("lab-session-demo-ssh").await.unwrap();
    let policy = cluster.api::<NetworkPolicy>().get(POLICY).await.unwrap();
    let selector = policy.spec.unwrap().pod_selector.unwrap().match_labels.unwrap();
    assert!(selector.iter().all(|(label, value)| pod.labels().get(label) == Some(value)), "{selector:?}");

    cluster.make_ready("demo").await;
    let running = cluster.phase("demo", "Running").await;
    let status = running.status.clone().unwrap();
    for kind in ConditionType::ALL {
        assert_eq!(status.condition(kind).unwrap().status, "True", "{}", kind.as_str());
    }
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.2.3"));
    assert_eq!(status.vm_ip.as_deref(), Some("172.16.0.2"));
    let terminal = status.endpoints.unwrap().terminal;
    assert_eq!(terminal.as_deref(), Some("http://lab-service-demo.life.svc:8081/"));

    cluster.change("demo", json!({ "timeout": "2h" })).await;
    let extended = cluster
        .session("demo", |session| {
            session.status.as_ref().is_some_and(|status| {
                let (start, end) = (status.start_time.as_ref().unwrap(), status.expires_at.as_ref().unwrap());
                end.0.as_second() - start.0.as_second() == 7200
            })
        })
        .await;
    assert_eq!(extended.status.unwrap().observed_generation, extended.metadata.generation);

    cluster.change("demo", json!({ "timeout": "1s" })).await;
    let ended = cluster.phase("demo", "Terminated").await.status.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("Expired"));
    assert!(cluster.api::<Pod>().get_opt("lab-session-demo").await.unwrap().is_none());
    assert!(cluster.api::<Service>().get_opt("lab-service-demo").await.unwrap().is_none());
    assert!(cluster.api::<Secret>().get_opt("lab-session-demo-ssh").await.unwrap().is_none());

    cluster.sessions().delete("demo", &DeleteParams::default()).await.unwrap();
    cluster.gone("demo").await;
    let events: Api<Event> = cluster.api();
    let events = events.list(&ListParams::default()).await.unwrap();
    let reasons: Vec<String> = events.iter().filter_map(|event| event.reason.clone()).collect();
    for reason in ["Creating", "Running", "Terminating", "Terminated"] {
        assert!(reasons.iter().any(|known| known == reason), "{reasons:?}");
    }
}

#[tokio::test]
async fn a_deleted_session_takes_its_parts_with_it() {
    let cluster = Cluster::new("deleted").await;
    let _controller = cluster.controller(&["--sync-period=1s"]);
    cluster.ask_for("demo", json!({})).await;
    cluster.phase("demo", "Creating").await;
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    cluster.sessions().delete("demo", &DeleteParams::default()).await.unwrap();
    cluster.gone("demo").await;
    let everything = ListParams::default();
    assert!(cluster.api::<Pod>().list(&everything).await.unwrap().items.is_empty());
    assert!(cluster.api::<Service>().list(&everything).await.unwrap().items.is_empty());
    assert!(cluster.api::<Secret>().list(&everything).await.unwrap().items.is_empty());
    until("the namespace's policy is removed with its last session", async || {
        cluster.api::<NetworkPolicy>().list(&everything).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_somebody_deletes_or_changes_is_put_right() {
    let cluster = Cluster::new("policy").await;
    let _controller = cluster.controller(&[]);
    for name in ["one", "two"] {
        cluster.ask_for(name, json!({})).await;
        cluster.phase(name, "Creating").await;
    }
    let policies = cluster.api::<NetworkPolicy>();
    let made = policies.get(POLICY).await.unwrap();
    assert_eq!(policies.list(&ListParams::default()).await.unwrap().items.len(), 1, "sessions share it");
    let open = Patch::Merge(json!({ "spec": { "egress": [{}] } }));
    policies.patch(POLICY, &PatchParams::default(), &open).await.unwrap();
    until("the change is undone", async || {
        (policies.get(POLICY).await.ok()?.spec == made.spec).then_some(())
    })
    .await;
    policies.delete(POLICY, &DeleteParams::default()).await.unwrap();
    until("it is there again", async || policies.get_opt(POLICY).await.ok()?).await;
    let restricted = json!({ "egress": "none", "image": "vm", "config": { "enableSSH": false } });
    cluster.ask_for("three", restricted).await;
    cluster.phase("three", "Creating").await;
    policies.get("lab-none-8080-8081").await.unwrap();
}

#[tokio::test]
async fn a_public_address_gives_each_session_an_ingress_and_its_urls() {
    let cluster = Cluster::new("public").await;
    let _controller = cluster.controller(&[
        "--public-base-url=https://labs.example/",
        "--ingress-class=traefik",
        "--ingress-middleware=labs-strip@kubernetescrd",
    ]);
    cluster.ask_for("demo", json!({ "config": { "enableSSH": false } })).await;
    let endpoints = cluster.phase("demo", "Creating").await.status.unwrap().endpoints.unwrap();
    assert_eq!(endpoints.terminal.as_deref(), Some("https://labs.example/sessions/demo/terminal/"));
    assert_eq!(endpoints.vscode.as_deref(), Some("https://labs.example/sessions/demo/vscode/"));
    let ingresses = cluster.api::<Ingress>();
    let ingress = ingresses.get("lab-ingress-demo").await.unwrap();
    let annotation = &ingress.annotations()["traefik.ingress.kubernetes.io/router.middlewares"];
    assert_eq!(annotation, "labs-strip@kubernetescrd");
    let spec = serde_json::to_value(ingress.spec.unwrap()).unwrap();
    assert_eq!(spec["ingressClassName"], "traefik");
    assert_eq!(spec["rules"][0]["host"], "labs.example");
    let backend =
        |port: u16| json!({ "service": { "name": "lab-service-demo", "port": { "number": port } } });
    let path = |path: &str, port| json!({ "path": path, "pathType": "Prefix", "backend": backend(port) });
    let paths = json!([path("/sessions/demo/vscode", 8080), path("/sessions/demo/terminal", 8081)]);
    assert_eq!(spec["rules"][0]["http"]["paths"], paths);
    let editor = serde_json::to_value(cluster.pod("demo", None).await.spec.unwrap()).unwrap();
    assert!(
        editor.to_string().contains("https://labs.example/sessions/demo/vscode/"),
        "the terminal's page links to it"
    );

    ingresses.delete("lab-ingress-demo", &DeleteParams::default()).await.unwrap();
    until("it is made again", async || ingresses.get_opt("lab-ingress-demo").await.ok()?).await;
    cluster.sessions().delete("demo", &DeleteParams::default()).await.unwrap();
    cluster.gone("demo").await;
    assert!(ingresses.get_opt("lab-ingress-demo").await.unwrap().is_none());
}

#[tokio::test]
async fn bad_objects_are_refused_and_contradictions_are_explained() {
    let cluster = Cluster::new("bad").await;
    for spec in [
        json!({ "userId": "u" }),
        json!({ "sessionId": "Upper", "userId": "u" }),
        json!({ "sessionId": "a", "userId": "u", "timeout": "soon" }),
        json!({ "sessionId": "a", "userId": "u", "egress": "everywhere" }),
    ] {
        let object = json!({ "apiVersion": "dozlab.io/v1", "kind": "LabSession",
                             "metadata": { "name": "bad" }, "spec": spec });
        let object: kube::core::DynamicObject = serde_json::from_value(object).unwrap();
        let resource = kube::core::ApiResource::erase::<dozlab_pod::LabSession>(&());
        let api: Api<kube::core::DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
        let refusal = api.create(&PostParams::default(), &object).await.unwrap_err();
        assert!(matches!(&refusal, kube::Error::Api(status) if status.is_invalid()), "{spec}: {refusal}");
    }
    let _controller = cluster.controller(&[]);
    cluster.ask_for("odd", json!({ "timeout": "10m", "idleStop": "20m" })).await;
    let failed = cluster.phase("odd", "Failed").await.status.unwrap();
    assert_eq!(failed.reason.as_deref(), Some("InvalidSpec"));
    assert!(failed.message.unwrap().contains("20m"));
    // Put right, it runs.
    cluster.change("odd", json!({ "timeout": "1h" })).await;
    cluster.phase("odd", "Creating").await;
    cluster.pod("odd", None).await;
}

#[tokio::test]
async fn an_idle_session_is_stopped_by_what_its_terminal_says() {
    let cluster = Cluster::new("idle").await;
    // The pod's address is this machine's, and its terminal is ours.
    let listener = TcpListener::bind("127.0.0.77:8081").await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let body = r#"{"status":"ok","sessions":0,"uptime":99,"idleSeconds":3600}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let _controller = cluster.controller(&["--sync-period=1s"]);
    cluster.ask_for("unused", json!({ "timeout": "1h", "idleStop": "2s" })).await;
    cluster.ask_for("unknown", json!({ "timeout": "1h", "idleStop": "2s" })).await;
    for (name, address) in [("unused", "127.0.0.77"), ("unknown", "127.0.0.78")] {
        cluster.phase(name, "Creating").await;
        let mut status = crate::support::ready();
        status["podIP"] = json!(address);
        cluster.set_pod(name, status).await;
    }
    let ended = cluster.phase("unused", "Terminated").await.status.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("Idle"));
    // A terminal that does not answer ends nothing.
    sleep(Duration::from_secs(3)).await;
    cluster.phase("unknown", "Running").await;
}

#[tokio::test]
async fn a_pod_whose_session_is_gone_is_removed() {
    let cluster = Cluster::new("orphans").await;
    let mut controller = cluster.controller(&[]);
    cluster.ask_for("demo", json!({})).await;
    cluster.phase("demo", "Creating").await;
    controller.kill();
    // Somebody takes the finalizer off by hand, and there is no garbage collector.
    let patch = kube::api::Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    cluster.sessions().patch("demo", &Default::default(), &patch).await.unwrap();
    cluster.sessions().delete("demo", &DeleteParams::default()).await.unwrap();
    cluster.gone("demo").await;
    assert!(cluster.api::<Pod>().get_opt("lab-session-demo").await.unwrap().is_some());
    let _controller = cluster.controller(&["--sync-period=1s"]);
    until("the pod is removed", async || {
        cluster.api::<Pod>().get_opt("lab-session-demo").await.unwrap().is_none().then_some(())
    })
    .await;
}
