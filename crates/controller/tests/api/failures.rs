//! What goes wrong with pods, as the kubelet says it.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::pods::with_container;
use crate::support::{Cluster, until};

fn ended(exit_code: i32, reason: &str) -> Value {
    json!({ "terminated": { "exitCode": exit_code, "reason": reason, "finishedAt": "2026-01-01T00:00:00Z" } })
}

#[tokio::test]
async fn a_pod_that_fails_for_what_may_pass_is_made_again() {
    let cluster = Cluster::new("again").await;
    let _controller = cluster.controller(&[]);
    let pressure = json!({ "phase": "Failed", "reason": "Evicted",
                           "message": "The node was low on resource: memory." });
    let lost = json!({ "phase": "Unknown", "reason": "NodeLost", "message": "Node n1 is unresponsive" });
    for (name, status, reason) in [
        ("init", with_container(true, "init-rootfs", ended(1, "Error")), "DiskFailed"),
        ("oom", with_container(false, "firecracker-vm", ended(137, "OOMKilled")), "OOMKilled"),
        ("crash", with_container(false, "firecracker-vm", ended(1, "Error")), "VMCrashed"),
        ("pressure", pressure, "Evicted"),
        ("lost", lost, "NodeLost"),
    ] {
        cluster.ask_for(name, json!({})).await;
        let first = cluster.pod(name, None).await.uid().unwrap();
        cluster.phase(name, "Creating").await;
        cluster.set_pod(name, status).await;
        cluster.pod(name, Some(&first)).await;
        let again = cluster
            .session(name, |session| session.status.as_ref().is_some_and(|status| status.restarts == Some(1)))
            .await
            .status
            .unwrap();
        let retry = again.retry.unwrap();
        assert_eq!((retry.pod_uid, retry.attempt), (first, 1), "{name}: {reason}");
        cluster.make_ready(name).await;
        cluster.phase(name, "Running").await;
    }
}

#[tokio::test]
async fn a_session_fails_with_a_reason_where_another_pod_would_fail_too() {
    let cluster = Cluster::new("final").await;
    let _controller = cluster.controller(&["--retries=1"]);
    let too_big = json!({ "phase": "Failed", "reason": "Evicted",
                          "message": "Usage of EmptyDir volume \"vm-kernels\" exceeds the limit \"2Gi\"." });
    let bad_name = json!({ "waiting": { "reason": "InvalidImageName", "message": "couldn't parse image" } });
    for (name, status, reason) in [
        ("too-big", too_big, "DiskLimitExceeded"),
        ("bad-name", with_container(false, "firecracker-vm", bad_name), "InvalidImageName"),
    ] {
        cluster.ask_for(name, json!({})).await;
        cluster.phase(name, "Creating").await;
        cluster.set_pod(name, status).await;
        let failed = cluster.phase(name, "Failed").await.status.unwrap();
        assert_eq!(failed.reason.as_deref(), Some(reason));
    }
    // The same twice over, where one retry is allowed.
    cluster.ask_for("twice", json!({})).await;
    let mut known = None;
    for _ in 0..2 {
        let pod = cluster.pod("twice", known.as_deref()).await.uid();
        cluster.set_pod("twice", with_container(true, "init-rootfs", ended(1, "Error"))).await;
        known = pod;
    }
    let failed = cluster.phase("twice", "Failed").await.status.unwrap();
    assert_eq!(failed.reason.as_deref(), Some("DiskFailed"));
    assert!(failed.message.unwrap().starts_with("2 pods in a row have failed"));
}

#[tokio::test]
async fn what_makes_no_progress_is_given_up() {
    let cluster = Cluster::new("stuck").await;
    let _controller = cluster.controller(&["--retries=0", "--stage-deadline=3s", "--boot-deadline=3s"]);
    let pull = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } });
    let boots = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
    let done = |name: &str| {
        json!({ "name": name, "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
                                    "state": ended(0, "Completed") })
    };
    let mut booting = with_container(false, "firecracker-vm", boots);
    booting["initContainerStatuses"] = json!([done("init-rootfs"), done("network-setup")]);
    for (name, status, reason) in [
        ("pull", with_container(true, "init-rootfs", pull), "ImagePullFailed"),
        ("boot", booting, "VMNotReady"),
        (
            "unschedulable",
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes: Insufficient dozlab.io/kvm" }] }),
            "Unschedulable",
        ),
    ] {
        cluster.ask_for(name, json!({})).await;
        cluster.pod(name, None).await;
        cluster.set_pod(name, status).await;
        let failed = cluster.phase(name, "Failed").await.status.unwrap();
        assert_eq!(failed.reason.as_deref(), Some(reason), "{name}: {:?}", failed.message);
    }
}

#[tokio::test]
async fn a_running_lab_that_is_not_ready_for_a_while_is_not_thrown_away() {
    let cluster = Cluster::new("unready").await;
    let _controller = cluster.controller(&["--stage-deadline=1s", "--boot-deadline=1s", "--sync-period=1s"]);
    cluster.ask_for("demo", json!({})).await;
    let pod = cluster.pod("demo", None).await.uid();
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    let mut status = crate::support::ready();
    status["conditions"][2]["status"] = json!("False");
    status["containerStatuses"][0]["ready"] = json!(false);
    cluster.set_pod("demo", status).await;
    let is = |session: &dozlab_pod::LabSession, wanted: &str| {
        let status = session.status.clone().unwrap_or_default();
        let ready = status.condition(dozlab_pod::lab_session::ConditionType::Ready).cloned();
        ready.is_some_and(|ready| ready.status == wanted) && status.phase.as_str() == "Running"
    };
    cluster.session("demo", |session| is(session, "False")).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    cluster.make_ready("demo").await;
    cluster.session("demo", |session| is(session, "True")).await;
    assert_eq!(cluster.pod("demo", None).await.uid(), pod);
}

#[tokio::test]
async fn a_machine_that_is_powered_off_ends_its_session() {
    let cluster = Cluster::new("poweroff").await;
    let _controller = cluster.controller(&[]);
    cluster.ask_for("demo", json!({})).await;
    cluster.phase("demo", "Creating").await;
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    let mut status = crate::support::ready();
    status["conditions"][2]["status"] = json!("False");
    status["containerStatuses"][0]["state"] = json!({ "running": null, "terminated": { "exitCode": 0 } });
    cluster.set_pod("demo", status).await;
    let ended = cluster.phase("demo", "Terminated").await.status.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("PoweredOff"));
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_is_made_again_and_so_is_a_secret() {
    let cluster = Cluster::new("by-hand").await;
    let _controller = cluster.controller(&[]);
    cluster.ask_for("demo", json!({})).await;
    let first = cluster.pod("demo", None).await.uid();
    cluster.phase("demo", "Creating").await;
    let secrets = cluster.api::<Secret>();
    secrets.delete("lab-session-demo-ssh", &DeleteParams::default()).await.unwrap();
    let misses =
        json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "secret not found" } });
    cluster.set_pod("demo", with_container(false, "code-server", misses)).await;
    until("the secret is there", async || secrets.get_opt("lab-session-demo-ssh").await.unwrap()).await;

    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
    cluster.api::<Pod>().delete("lab-session-demo", &DeleteParams::default()).await.unwrap();
    cluster.pod("demo", first.as_deref()).await;
    cluster.phase("demo", "Creating").await;
}

#[tokio::test]
async fn a_machine_that_runs_with_the_keys_of_a_lost_secret_is_replaced_with_its_pod() {
    let cluster = Cluster::new("lost-secret").await;
    let _controller = cluster.controller(&[]);
    cluster.ask_for("demo", json!({})).await;
    let first = cluster.pod("demo", None).await.uid();
    cluster.phase("demo", "Creating").await;
    let secrets = cluster.api::<Secret>();
    let lost = secrets.get("lab-session-demo-ssh").await.unwrap();
    secrets.delete("lab-session-demo-ssh", &DeleteParams::default()).await.unwrap();
    let misses = json!({ "waiting": { "reason": "CreateContainerConfigError",
                                      "message": "secret \"lab-session-demo-ssh\" not found" } });
    let mut status = with_container(false, "terminal-sidecar", misses);
    let runs = json!({ "name": "firecracker-vm", "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
                       "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } });
    status["containerStatuses"].as_array_mut().unwrap().push(runs);
    cluster.set_pod("demo", status).await;
    let told = cluster
        .session("demo", |session| session.status.as_ref().is_some_and(|status| status.retry.is_some()))
        .await;
    let told = told.status.unwrap();
    assert_eq!(Some(&told.retry.unwrap().pod_uid), first.as_ref());
    cluster.pod("demo", first.as_deref()).await;
    let new = secrets.get("lab-session-demo-ssh").await.unwrap();
    assert_ne!(new.data.unwrap()["id_ed25519"], lost.data.unwrap()["id_ed25519"]);
    cluster.make_ready("demo").await;
    cluster.phase("demo", "Running").await;
}

#[tokio::test]
async fn a_second_session_of_the_same_id_leaves_the_first_alone() {
    let cluster = Cluster::new("same-id").await;
    let _controller = cluster.controller(&[]);
    cluster.ask_for("demo", json!({})).await;
    let pod = cluster.pod("demo", None).await.uid();
    cluster.phase("demo", "Creating").await;
    cluster.ask_for("other", json!({ "sessionId": "demo" })).await;
    let failed = cluster.phase("other", "Failed").await.status.unwrap();
    assert_eq!(failed.reason.as_deref(), Some("SessionIdInUse"));
    cluster.sessions().delete("other", &DeleteParams::default()).await.unwrap();
    cluster.gone("other").await;
    assert_eq!(cluster.pod("demo", None).await.uid(), pod);
    cluster.api::<Secret>().get("lab-session-demo-ssh").await.unwrap();
}
