//! A namespace on a real API server, a controller for it, and the binary.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::patience::until;
use crate::program::DOZLAB;
use crate::server::Server;

/// Who calls the verbs.
const TRAINER: &str = "trainer";

fn server() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        let server = Server::start("cluster");
        let config = fs::read_to_string(server.kubeconfig()).unwrap();
        let config = config.replace("user: {token:", &format!("user: {{as: {TRAINER}, token:"));
        fs::write(server.folder.join(TRAINER), config).unwrap();
        // As the page for administrators has it, for a server of any age.
        let definition = run(&server, &["crd", "--without-rules"]);
        let mut kubectl = Command::new("kubectl")
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .env("KUBECONFIG", server.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        kubectl.stdin.take().unwrap().write_all(&definition.stdout).unwrap();
        assert!(kubectl.wait().unwrap().success());
        let role = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/base/trainer.yaml");
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["apply", "--server-side", "-f", role]).env("KUBECONFIG", server.kubeconfig());
        assert!(kubectl.stdout(Stdio::null()).status().unwrap().success());
        let established = "--for=condition=Established";
        let waited = Command::new("kubectl")
            .args(["wait", established, "--timeout=30s", "crd/labsessions.dozlab.io"])
            .env("KUBECONFIG", server.kubeconfig())
            .output()
            .unwrap();
        assert!(waited.status.success(), "{waited:?}");
        server
    })
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    let output =
        Command::new(DOZLAB).args(arguments).env("KUBECONFIG", server.kubeconfig()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

/// Lets the user of the verbs do what the role that is installed for them allows, and no more.
async fn allow(client: &Client, namespace: &str) {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": TRAINER },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dozlab-trainer" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": TRAINER }],
    }))
    .unwrap();
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap();
}

/// A namespace, and the controller that looks after it until the test is over.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    namespace: String,
    controller: Option<Child>,
}

impl Cluster {
    pub(crate) async fn new(name: &str) -> Self {
        let mut cluster = Self::without_controller(name).await;
        let log = File::create(server().folder.join(format!("{name}.log"))).unwrap();
        let controller = Command::new(DOZLAB)
            .args(["controller", "--vm-image=vm:1", "--init-image=init:1", "--terminal-image=terminal:1"])
            .args(["--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0"])
            .arg(format!("--namespace={name}"))
            .env("KUBECONFIG", server().kubeconfig())
            .stderr(log)
            .spawn()
            .unwrap();
        cluster.controller = Some(controller);
        cluster
    }

    pub(crate) async fn without_controller(name: &str) -> Self {
        let config = Kubeconfig::read_from(server().kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        allow(&client, name).await;
        Self { client, namespace: name.to_owned(), controller: None }
    }

    /// The administrator's; the verbs are called by somebody who may do less.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        server().kubeconfig()
    }

    /// `dozlab --cluster VERB --namespace …`, with the rest.
    pub(crate) fn command(&self, verb: &str, rest: &[&str]) -> Command {
        let mut command = Command::new(DOZLAB);
        command.args(["--cluster", verb, "--namespace", &self.namespace]).args(rest);
        command.env("KUBECONFIG", server().folder.join(TRAINER)).stdin(Stdio::null());
        command
    }

    /// Starts a command that goes on, with both outputs at hand.
    pub(crate) fn start(&self, verb: &str, rest: &[&str]) -> Child {
        self.command(verb, rest).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a command to its end, which must be a good one. Its standard output.
    pub(crate) async fn ok(&self, verb: &str, rest: &[&str]) -> String {
        let output = tokio::process::Command::from(self.command(verb, rest)).output().await.unwrap();
        assert!(output.status.success(), "{verb} {rest:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn json(&self, verb: &str, rest: &[&str]) -> Value {
        serde_json::from_str(&self.ok(verb, &[rest, &["--output", "json"]].concat()).await).unwrap()
    }

    /// Runs a command that must end badly. What it says.
    pub(crate) async fn error(&self, verb: &str, rest: &[&str]) -> String {
        let output = tokio::process::Command::from(self.command(verb, rest)).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb} {rest:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pod of a lab, once the controller has made it.
    pub(crate) async fn pod(&self, lab: &str) -> Pod {
        let name = format!("lab-session-{lab}");
        until("there is a pod", async || self.pods().get_opt(&name).await.unwrap()).await
    }

    /// Plays the kubelet: the pod's status is this.
    pub(crate) async fn set_pod(&self, lab: &str, status: Value) {
        self.pod(lab).await;
        let patch = Patch::Merge(json!({ "status": status }));
        let name = format!("lab-session-{lab}");
        self.pods().patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until a lab is listed in a state.
    pub(crate) async fn state(&self, lab: &str, wanted: &str) -> Value {
        until(&format!("{lab} is {wanted}"), async || {
            let labs = self.json("ls", &[]).await;
            let is_it = |shown: &&Value| shown["name"] == lab && shown["state"] == wanted;
            labs.as_array().unwrap().iter().find(is_it).cloned()
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(mut controller) = self.controller.take() else { return };
        let _ = controller.kill();
        let _ = controller.wait();
        if std::thread::panicking() {
            let log = server().folder.join(format!("{}.log", self.namespace));
            eprintln!("--- the controller's log\n{}", fs::read_to_string(log).unwrap_or_default());
        }
    }
}

/// Waits for a process that a test has started. What it has said.
pub(crate) async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap()
}
