//! Each verb, on a lab's way from its start to its end.

use crate::patience::until;
use crate::pods::ready;
use crate::support::{Cluster, ended};

#[tokio::test]
async fn a_lab_is_started_shown_extended_stopped_and_removed() {
    let cluster = Cluster::new("verbs").await;
    let up = cluster.start(
        "up",
        &[
            "https://i.example/vm.ext4",
            "--name",
            "demo",
            "--cpus",
            "2",
            "--memory",
            "2G",
            "--timeout",
            "1h",
            "--detach",
            "--output",
            "json",
        ],
    );
    let starting = cluster.state("demo", "starting").await;
    assert_eq!(
        (&starting["image"], &starting["userId"]),
        (&"https://i.example/vm.ext4".into(), &"local".into())
    );
    cluster.set_pod("demo", ready()).await;
    let up = ended(up).await;
    let said = String::from_utf8(up.stderr).unwrap();
    assert!(up.status.success(), "{said}");
    let access: serde_json::Value = serde_json::from_slice(&up.stdout).unwrap();
    let token = access["token"].as_str().unwrap();
    let terminal = format!("http://lab-service-demo.verbs.svc:8081/#token={token}");
    assert_eq!((token.len(), access["terminal"].as_str()), (32, Some(terminal.as_str())));
    assert_eq!(access["editor"], terminal.replace("/#", "/editor#"));
    assert!(access["editorPassword"].is_string() && access["ssh"].is_null(), "{access}");
    assert!(access["stages"]["scheduling"].is_u64(), "{access}");
    assert!(said.contains("node found"), "the stages are shown as they pass: {said}");

    let labs = cluster.json("ls", &[]).await;
    assert_eq!((labs.as_array().unwrap().len(), &labs[0]["state"]), (1, &"running".into()));
    let table = cluster.ok("ls", &[]).await;
    assert!(table.starts_with("NAME  STATE    IMAGE"), "{table}");
    assert!(!cluster.ok("get", &["demo"]).await.contains(token), "secrets are shown by `open` alone");

    let before = cluster.json("get", &["demo"]).await["endsMs"].as_u64().unwrap();
    let after = cluster.json("extend", &["demo", "30m"]).await["endsMs"].as_u64().unwrap();
    assert_eq!(after - before, 30 * 60_000);
    assert_eq!(cluster.json("get", &[]).await["endsMs"], after, "one lab needs no name");

    let again = cluster.error("up", &["--name", "demo"]).await;
    assert!(again.contains("lab `demo` is there already in namespace verbs, and is running"), "{again}");

    cluster.ok("stop", &["demo"]).await;
    assert_eq!(cluster.state("demo", "stopped").await["phase"], "Terminated");
    cluster.ok("stop", &["demo"]).await;
    let late = cluster.error("extend", &["demo", "1h"]).await;
    assert!(late.contains("lab `demo` has ended"), "{late}");
    cluster.ok("rm", &["--all"]).await;
    assert_eq!(cluster.ok("ls", &[]).await, "no labs; `dozlab --cluster up` starts one\n");
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_one_that_is_interrupted_leaves_nothing() {
    let cluster = Cluster::new("failing").await;
    let up = cluster.start("up", &["--name", "bad"]);
    let no_name =
        serde_json::json!({ "waiting": { "reason": "InvalidImageName", "message": "it has no name" } });
    cluster.set_pod("bad", crate::pods::with_container(false, "firecracker-vm", no_name)).await;
    let up = ended(up).await;
    let said = String::from_utf8(up.stderr).unwrap();
    assert_eq!(up.status.code(), Some(1), "{said}");
    assert!(
        said.contains("InvalidImageName") && said.contains("dozlab --cluster doctor --session bad"),
        "{said}"
    );

    let up = cluster.start("up", &["--name", "gone"]);
    cluster.pod("gone").await;
    let pid = rustix::process::Pid::from_child(&up);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(ended(up).await.status.code(), Some(130));
    until("nothing is left", async || {
        let labs = cluster.json("ls", &[]).await;
        (labs.as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    assert!(cluster.pods().get_opt("lab-session-gone").await.unwrap().is_none());
}
