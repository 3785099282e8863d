//! What goes wrong, said so that a person can act on it.

use std::fs;
use std::process::Command;

use crate::program::DOZLAB;
use crate::server::Server;
use crate::support::Cluster;

/// What `dozlab --cluster ARGUMENTS` says with a kubeconfig.
fn said(kubeconfig: &str, arguments: &[&str]) -> String {
    let output = Command::new(DOZLAB).args(arguments).env("KUBECONFIG", kubeconfig).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn who_asks_what_cannot_be_is_told_what_can() {
    let cluster = Cluster::without_controller("errors").await;
    let missing = cluster.error("get", &["nobody"]).await;
    assert!(missing.contains("there is no lab `nobody` in namespace errors; there are none"), "{missing}");
    let local = cluster.error("up", &["--hypervisor", "qemu", "--ssh-port", "22"]).await;
    assert!(local.contains("--hypervisor, --ssh-port has no meaning on a cluster"), "{local}");
    let contradiction = cluster.error("up", &["--timeout", "1h", "--idle-stop", "2h"]).await;
    assert!(contradiction.contains("1h") && contradiction.contains("2h"), "{contradiction}");
    let nameless = cluster.error("doctor", &[]).await;
    assert!(nameless.contains("say which lab"), "{nameless}");

    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let context = said(kubeconfig, &["--cluster", "elsewhere", "ls"]);
    assert!(context.contains("the kubeconfig has no context `elsewhere`; there are test"), "{context}");
    let command = said(kubeconfig, &["--cluster", "image", "ls"]);
    assert!(command.contains("this command is about this machine"), "{command}");
    let namespace = said(kubeconfig, &["ls", "--namespace", "errors"]);
    assert!(namespace.contains("say `--cluster` too"), "{namespace}");
    let extend = said(kubeconfig, &["extend", "demo", "1h"]);
    assert!(extend.contains("only one on a cluster can be extended"), "{extend}");
}

#[tokio::test]
async fn who_may_not_or_cannot_get_through_is_told_so() {
    let cluster = Cluster::without_controller("access").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let nobody = file("nobody", &config.replace("user: {token:", "user: {as: nobody, token:"));
    let forbidden = said(&nobody, &["--cluster", "ls", "--namespace", "access"]);
    assert!(
        forbidden.contains("you may not list LabSessions: ") && forbidden.contains("a role"),
        "{forbidden}"
    );

    let (before, after) = config.split_once("token: ").unwrap();
    let stranger = file("stranger", &format!("{before}token: wrong{}", &after[after.find('}').unwrap()..]));
    let unknown = said(&stranger, &["--cluster", "ls"]);
    assert!(unknown.contains("does not let you in: ") && unknown.contains("log in again"), "{unknown}");

    let none = said(folder.path().join("none").to_str().unwrap(), &["--cluster", "ls"]);
    assert!(none.contains("there is no cluster to talk to: ") && none.contains("set KUBECONFIG"), "{none}");

    // Nobody listens at a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (before, after) = config.split_once("server: \"").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let nowhere = file("nowhere", &format!("{before}server: \"https://127.0.0.1:{port}\"{after}"));
    let unreachable = said(&nowhere, &["--cluster", "ls"]);
    let expected = format!("the cluster at https://127.0.0.1:{port} does not answer: Connection refused");
    assert!(unreachable.contains(&expected), "{unreachable}");
}

#[test]
fn a_cluster_without_dozlab_is_told_from_one_without_labs() {
    let bare = Server::start("bare-cluster");
    let kubeconfig = bare.kubeconfig();
    for arguments in [&["--cluster", "ls"][..], &["--cluster", "get", "demo"], &["--cluster", "up"]] {
        let error = said(kubeconfig.to_str().unwrap(), arguments);
        assert!(error.contains("has no LabSession resource: install Dozlab there"), "{arguments:?}: {error}");
    }
}
