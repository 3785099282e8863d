//! Controllers that die, that are two, that are cut off, that may not.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

use crate::proxy::End;
use crate::support::{Cluster, Server, USER};

/// The failpoint of a debug build.
const DIES_BEFORE: &str = "DOZLAB_CONTROLLER_DIE_BEFORE_WRITE";

/// How many pods were made in a namespace, as the API server has recorded.
fn pods_made(cluster: &Cluster) -> usize {
    cluster.server.writes(&cluster.namespace).iter().filter(|write| *write == "create pods 201").count()
}

#[tokio::test]
async fn a_controller_killed_before_any_of_its_writes_loses_nothing_and_starts_nothing_twice() {
    let cluster = Cluster::new("killed").await;
    let mut survived_at = None;
    for write in 1..=12 {
        let name = format!("start-{write}");
        let mut mortal = cluster.controller_as(USER, &[], &[(DIES_BEFORE, &write.to_string())]);
        cluster.ask_for(&name, json!({})).await;
        let survives = tokio::select! {
            code = mortal.end() => { assert_eq!(code, None, "it was killed: {}", mortal.log()); false }
            _ = cluster.phase(&name, "Creating") => true,
        };
        if survives {
            survived_at = Some(write);
        }
        mortal.kill();
        let _next = cluster.controller(&[]);
        cluster.phase(&name, "Creating").await;
        cluster.make_ready(&name).await;
        cluster.phase(&name, "Running").await;
        cluster.sessions().delete(&name, &DeleteParams::default()).await.unwrap();
        cluster.gone(&name).await;
        if survives {
            break;
        }
    }
    let sessions = survived_at.expect("a start has less than 12 writes");
    assert_eq!(sessions, 7, "finalizer, secret, policy, pod, service and status come before the seventh");
    assert_eq!(pods_made(&cluster), 7, "one pod a session");
}

#[tokio::test]
async fn a_controller_killed_on_the_way_out_is_followed_by_one_that_finishes() {
    let cluster = Cluster::new("killed-at-the-end").await;
    for write in 1..=5 {
        let name = format!("end-{write}");
        {
            let _controller = cluster.controller(&[]);
            cluster.ask_for(&name, json!({})).await;
            cluster.phase(&name, "Creating").await;
            cluster.make_ready(&name).await;
            cluster.phase(&name, "Running").await;
        }
        cluster.sessions().delete(&name, &DeleteParams::default()).await.unwrap();
        let mut mortal = cluster.controller_as(USER, &[], &[(DIES_BEFORE, &write.to_string())]);
        assert_eq!(mortal.end().await, None, "it was killed: {}", mortal.log());
        let _next = cluster.controller(&[]);
        cluster.gone(&name).await;
    }
}

#[tokio::test]
async fn of_two_controllers_one_works_and_the_other_takes_over() {
    let cluster = Cluster::new("two").await;
    let mut first = cluster.controller(&["--leader-elect"]);
    first.says("the controller works").await;
    let second = cluster.controller(&["--leader-elect=true"]);
    cluster.ask_for("demo", json!({})).await;
    cluster.phase("demo", "Creating").await;
    assert!(!second.log().contains("the controller works"), "{}", second.log());
    first.kill();
    second.says("the controller works").await;
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    assert_eq!(pods_made(&cluster), 1);
}

#[tokio::test]
async fn two_controllers_that_do_not_know_of_each_other_make_one_pod() {
    let cluster = Cluster::new("unelected").await;
    let _one = cluster.controller(&[]);
    let _two = cluster.controller(&[]);
    for name in ["a", "b", "c"] {
        cluster.ask_for(name, json!({})).await;
    }
    for name in ["a", "b", "c"] {
        cluster.phase(name, "Creating").await;
        cluster.make_ready(name).await;
        let running = cluster.phase(name, "Running").await;
        assert_eq!(running.status.unwrap().restarts, None);
    }
    assert_eq!(pods_made(&cluster), 3);
}

#[tokio::test]
async fn an_api_server_that_was_away_is_caught_up_with() {
    let server: &'static Server = Box::leak(Box::new(Server::start("api-server-that-stops")));
    let cluster = Cluster::on(server, "away").await;
    let _controller = cluster.controller(&[]);
    cluster.ask_for("demo", json!({})).await;
    let pod = cluster.pod("demo", None).await.uid();
    cluster.phase("demo", "Creating").await;
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    server.switch("down");
    sleep(Duration::from_secs(2)).await;
    server.switch("up");
    let started = std::time::Instant::now();
    cluster.ask_for("later", json!({})).await;
    cluster.phase("later", "Creating").await;
    assert!(started.elapsed() < Duration::from_secs(15), "it took {:?}", started.elapsed());
    assert_eq!(cluster.pod("demo", None).await.uid(), pod);
    cluster.phase("demo", "Running").await;
}

/// A user who may what the controller may, but for some verbs on one resource.
pub(crate) async fn user_without(cluster: &Cluster, user: &str, verbs: &[&str], resource: &str) {
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let mut role = roles.get("dozlab-controller").await.unwrap();
    role.metadata = Default::default();
    role.metadata.name = Some(user.into());
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.as_ref().is_some_and(|resources| resources.contains(&resource.to_owned())) {
            rule.verbs.retain(|verb| !verbs.contains(&verb.as_str()));
        }
    }
    let apply = PatchParams::apply("tests").force();
    roles.patch(user, &apply, &Patch::Apply(&role)).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }],
    }))
    .unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client.clone());
    bindings.create(&PostParams::default(), &binding).await.unwrap();
}

#[tokio::test]
async fn a_verb_that_is_missing_is_named_in_the_log_and_in_the_status() {
    let cluster = Cluster::new("short").await;
    user_without(&cluster, "short", &["create"], "pods").await;
    let controller = cluster.controller_as("short", &[], &[]);
    cluster.ask_for("demo", json!({})).await;
    controller.says("the controller's role lacks the verb create on pods").await;
    let told = cluster
        .session("demo", |session| {
            let status = session.status.clone().unwrap_or_default();
            status.reason.as_deref() == Some("ControllerNotAllowed")
        })
        .await;
    assert_eq!(told.finalizers().len(), 1);
    assert!(told.status.unwrap().message.unwrap().contains("create on pods"));
}

#[tokio::test]
async fn a_controller_that_may_not_look_says_at_what_and_ends() {
    let cluster = Cluster::new("blind").await;
    user_without(&cluster, "blind", &["list", "watch"], "services").await;
    let mut controller = cluster.controller_as("blind", &["--cache-sync-timeout=5s"], &[]);
    controller.says("the controller's role lacks list or watch on services").await;
    assert_eq!(controller.end().await, Some(1));
    assert!(controller.log().contains("could not be listed within 5 s"), "{}", controller.log());
}

#[tokio::test]
async fn what_happens_while_a_watch_is_cut_or_has_expired_is_noticed() {
    let mut cluster = Cluster::new("cut").await;
    let proxy = cluster.behind_a_proxy().await;
    let controller = cluster.controller(&[]);
    controller.says("the controller works").await;
    cluster.ask_for("demo", json!({})).await;
    cluster.phase("demo", "Creating").await;
    let mut known = cluster.pod("demo", None).await.uid();
    for (round, end) in [End::Cut, End::Gone].into_iter().enumerate() {
        cluster.make_ready("demo").await;
        cluster.phase("demo", "Running").await;
        let lists = proxy.lists();
        proxy.end_watches(end);
        let pods: Api<Pod> = cluster.api();
        pods.delete("lab-session-demo", &DeleteParams::default().grace_period(0)).await.unwrap();
        let name = format!("later-{round}");
        cluster.ask_for(&name, json!({})).await;
        sleep(Duration::from_millis(300)).await;
        assert!(pods.get_opt("lab-session-demo").await.unwrap().is_none(), "nobody watches");
        proxy.let_watch();
        known = cluster.pod("demo", known.as_deref()).await.uid();
        cluster.phase("demo", "Creating").await;
        cluster.phase(&name, "Creating").await;
        // A watch that was cut goes on where it was; one that has expired begins with a list.
        assert_eq!(proxy.lists() > lists, end == End::Gone, "{end:?}: {lists} lists, then {}", proxy.lists());
    }
    assert_eq!(pods_made(&cluster), 5);
}

#[tokio::test]
async fn a_status_that_was_decided_on_an_older_object_is_refused_and_decided_anew() {
    let mut cluster = Cluster::new("conflict").await;
    let proxy = cluster.behind_a_proxy().await;
    let _controller = cluster.controller(&[]);
    let held = proxy.hold("PATCH", "/labsessions/demo/status");
    cluster.ask_for("demo", json!({ "timeout": "1h" })).await;
    let release = held.await.unwrap();
    cluster.change("demo", json!({ "timeout": "2h" })).await;
    release.send(()).unwrap();
    let status = cluster.phase("demo", "Creating").await.status.unwrap();
    let (start, end) = (status.start_time.unwrap(), status.expires_at.unwrap());
    assert_eq!(end.0.as_second() - start.0.as_second(), 7200, "the newer object counts");
    let writes = cluster.server.writes("conflict");
    let written = |wanted: &str| writes.iter().filter(|write| *write == wanted).count();
    assert_eq!((written("patch labsessions/status 409"), written("patch labsessions/status 200")), (1, 1));
    assert_eq!(pods_made(&cluster), 1);
}
