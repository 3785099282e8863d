//! `doctor --session`: the causes that a cluster can show without a node.

use serde_json::{Value, json};

use crate::patience::until;
use crate::pods::{ready, with_container};
use crate::support::Cluster;

/// What the doctor says of a lab, once it has come to this cause.
async fn told(cluster: &Cluster, lab: &str, cause: &str) -> Value {
    until(cause, async || {
        let command = cluster.command("doctor", &["--session", lab, "--output", "json"]);
        let output = tokio::process::Command::from(command).output().await.unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let bad = told["verdict"] == "bad";
        assert_eq!(output.status.code(), Some(i32::from(bad)), "{told}");
        (told["cause"] == cause).then_some(told)
    })
    .await
}

#[tokio::test]
async fn the_doctor_names_the_cause_and_what_to_do() {
    let cluster = Cluster::new("doctor").await;
    let up = cluster.start("up", &["--name", "demo", "--detach"]);
    cluster.pod("demo").await;
    let nodes = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient dozlab.io/kvm." }] });
    cluster.set_pod("demo", nodes).await;
    let scheduling = told(&cluster, "demo", "Unschedulable").await;
    assert!(scheduling["remedy"].as_str().unwrap().contains("device-plugin"), "{scheduling}");

    let failed =
        json!({ "terminated": { "exitCode": 1, "message": "error: the server answered 404 Not Found" } });
    cluster.set_pod("demo", with_container(true, "init-rootfs", failed)).await;
    // The controller gives the pod up and makes another one; either way the cause is known.
    until("the disk is to blame", async || {
        let shown = cluster.json("get", &["demo"]).await;
        (shown["reason"] == "DiskFailed").then_some(())
    })
    .await;
    let disk = told(&cluster, "demo", "ImageRefused").await;
    assert!(disk["remedy"].as_str().unwrap().contains("spec.image"), "{disk}");

    cluster.pod("demo").await;
    cluster.set_pod("demo", ready()).await;
    assert_eq!(told(&cluster, "demo", "Ready").await["verdict"], "good");
    assert!(crate::support::ended(up).await.status.success());
}

#[tokio::test]
async fn a_lab_that_nobody_looks_after_is_told_from_a_young_one() {
    let cluster = Cluster::without_controller("nobody").await;
    let mut up = cluster.start("up", &["--name", "demo", "--detach"]);
    until("it is asked for", async || {
        let labs = cluster.json("ls", &[]).await;
        (labs.as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    assert_eq!(told(&cluster, "demo", "New").await["verdict"], "waiting");
    assert_eq!(told(&cluster, "demo", "NoController").await["verdict"], "bad");
    up.kill().unwrap();
    up.wait().unwrap();
}
