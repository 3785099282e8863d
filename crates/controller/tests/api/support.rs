//! A real API server for all tests of this program, a controller as a process of its own, and a kubelet that
//! a test plays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dozlab_pod::{LabSession, LabSessionSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, CustomResourceExt as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::proxy::Proxy;

#[path = "patience.rs"]
mod patience;
#[path = "pods.rs"]
pub(crate) mod pods;
#[path = "server.rs"]
mod server;

pub(crate) use patience::{PATIENCE, until};
pub(crate) use pods::ready;
pub(crate) use server::Server;

const SYSTEM: &str = "dozlab-system";
/// Who the controller is, where nothing else is said.
pub(crate) const USER: &str = "system:serviceaccount:dozlab-system:dozlab-controller";

impl Server {
    /// The writes that the API server has recorded of the controller in a namespace: verb and resource.
    pub(crate) fn writes(&self, namespace: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.join("audit.log")).unwrap();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = entries.filter(|entry| {
            entry["impersonatedUser"]["username"]
                .as_str()
                .is_some_and(|name| name.ends_with("dozlab-controller"))
                && entry["objectRef"]["namespace"] == namespace
        });
        ours.map(|entry| {
            let reference = &entry["objectRef"];
            let subresource =
                reference["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
            let code = entry["responseStatus"]["code"].as_u64().unwrap_or(0);
            let verb = entry["verb"].as_str().unwrap_or_default();
            format!("{verb} {}{subresource} {code}", reference["resource"].as_str().unwrap_or_default())
        })
        .collect()
    }
}

/// The server that tests share, each with a namespace of its own.
fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(concat!("api-server-of-", env!("CARGO_CRATE_NAME"))))
}

/// A namespace on an API server, as its administrator has it.
pub(crate) struct Cluster {
    pub(crate) server: &'static Server,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// A namespace of the shared server. `DOZLAB_TEST_KUBECONFIG` is not for tests that read the audit log.
    pub(crate) async fn new(name: &str) -> Self {
        Self::on(shared(), name).await
    }

    pub(crate) async fn on(server: &'static Server, name: &str) -> Self {
        let given = std::env::var_os("DOZLAB_TEST_KUBECONFIG").map(PathBuf::from);
        let kubeconfig = given.unwrap_or_else(|| server.kubeconfig());
        let config = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let cluster = Self { server, client, namespace: name.to_owned(), kubeconfig };
        cluster.make_namespace(SYSTEM).await;
        cluster.make_namespace(name).await;
        cluster.install_crd().await;
        cluster.install_role().await;
        cluster
    }

    async fn make_namespace(&self, name: &str) {
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let created = Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await;
        assert!(created.is_ok() || matches!(created, Err(kube::Error::Api(ref s)) if s.is_already_exists()));
    }

    /// Without the rules in CEL, which a server of this age does not take.
    async fn install_crd(&self) {
        let crd = dozlab_controller::definition(false);
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = LabSession::crd_name();
        let parameters = PatchParams::apply("tests").force();
        crds.patch(name, &parameters, &Patch::Apply(crd)).await.unwrap();
        until("the CRD is established", async || {
            let conditions = crds.get(name).await.ok()?.status?.conditions?;
            conditions.iter().any(|one| one.type_ == "Established" && one.status == "True").then_some(())
        })
        .await;
    }

    async fn install_role(&self) {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base/rbac.yaml");
        let kubectl = tokio::process::Command::new("kubectl")
            .args(["apply", "--server-side", "--force-conflicts", "-f"])
            .arg(manifest)
            .env("KUBECONFIG", &self.kubeconfig)
            .output();
        let output = kubectl.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn sessions(&self) -> Api<LabSession> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Asks for a session whose id is its name.
    pub(crate) async fn ask_for(&self, name: &str, more: Value) -> LabSession {
        let mut spec = json!({ "sessionId": name, "userId": "learner" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: LabSessionSpec = serde_json::from_value(spec).unwrap();
        let session = LabSession::new(name, spec);
        self.sessions().create(&PostParams::default(), &session).await.unwrap()
    }

    pub(crate) async fn change(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.sessions().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Lets the controllers of this namespace reach the API server through a proxy only.
    pub(crate) async fn behind_a_proxy(&mut self) -> Proxy {
        let proxy = Proxy::start(self.client.clone()).await;
        let config = fs::read_to_string(&self.kubeconfig).unwrap();
        let (before, rest) = config.split_once("server: \"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        self.kubeconfig = self.server.folder.join(format!("{}-proxied", self.namespace));
        fs::write(&self.kubeconfig, format!("{before}server: \"http://{}\"{after}", proxy.address)).unwrap();
        proxy
    }

    /// Waits until a session's status fulfils a condition.
    pub(crate) async fn session(&self, name: &str, wanted: impl Fn(&LabSession) -> bool) -> LabSession {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(session) = self.sessions().get_opt(name).await.ok().flatten() {
                if wanted(&session) {
                    return session;
                }
                last = Some(session);
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "session {name} did not come to what was waited for; its status: {:#?}",
            last.map(|last| last.status)
        );
    }

    pub(crate) async fn phase(&self, name: &str, phase: &str) -> LabSession {
        self.session(name, |session| {
            session.status.as_ref().is_some_and(|status| status.phase.as_str() == phase)
        })
        .await
    }

    pub(crate) async fn gone(&self, name: &str) {
        until("the session is gone", async || {
            self.sessions().get_opt(name).await.ok()?.is_none().then_some(())
        })
        .await;
    }

    /// The session's pod, other than one that is known.
    pub(crate) async fn pod(&self, name: &str, other_than: Option<&str>) -> Pod {
        let pods: Api<Pod> = self.api();
        until("there is a pod", async || {
            let pod = pods.get_opt(&format!("lab-session-{name}")).await.ok()??;
            (pod.uid().as_deref() != other_than && pod.metadata.deletion_timestamp.is_none()).then_some(pod)
        })
        .await
    }

    /// Plays the kubelet: the pod's status is this.
    pub(crate) async fn set_pod(&self, name: &str, status: Value) {
        let pods: Api<Pod> = self.api();
        let patch = Patch::Merge(json!({ "status": status }));
        pods.patch_status(&format!("lab-session-{name}"), &PatchParams::default(), &patch).await.unwrap();
    }

    pub(crate) async fn make_ready(&self, name: &str) {
        self.set_pod(name, ready()).await;
    }

    /// Starts a controller for this namespace.
    pub(crate) fn controller(&self, arguments: &[&str]) -> Controller {
        self.controller_as(USER, arguments, &[])
    }

    /// Starts a controller that is somebody, with more variables in its environment.
    pub(crate) fn controller_as(
        &self,
        user: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Controller {
        let mut config = fs::read_to_string(&self.kubeconfig).unwrap();
        config = config.replace("user: {token:", &format!("user: {{as: \"{user}\", token:"));
        let folder = self.server.folder.join(format!("{}-{}", self.namespace, next()));
        fs::create_dir_all(&folder).unwrap();
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config).unwrap();
        let log = folder.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller-under-test"));
        command
            .args(["--vm-image=vm:1", "--init-image=init:1", "--terminal-image=terminal:1"])
            .args(["--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0"])
            .args([&format!("--namespace={}", self.namespace), "--retry-delay=500ms"])
            .args(arguments)
            .env("KUBECONFIG", &kubeconfig)
            .env("POD_NAMESPACE", SYSTEM)
            .envs(variables.iter().copied())
            .stderr(fs::File::create(&log).unwrap());
        Controller { child: command.spawn().unwrap(), log }
    }
}

fn next() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A controller's process; it is killed when the test is done with it.
pub(crate) struct Controller {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Controller {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) async fn says(&self, text: &str) {
        until(text, async || self.log().contains(text).then_some(())).await;
    }

    /// Waits for its end. Its exit code, or none if a signal killed it.
    pub(crate) async fn end(&mut self) -> Option<i32> {
        until("the controller ends", async || self.child.try_wait().unwrap()).await.code()
    }

    /// Asks it to end, as a kubelet does.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the controller's log\n{}", self.log());
        }
    }
}
