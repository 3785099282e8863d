//! The plugin beside a kubelet that a test plays, over real sockets.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use dozlab_device_plugin::api::device_plugin::device_plugin_client::DevicePluginClient;
use dozlab_device_plugin::api::registration::registration_server::{Registration, RegistrationServer};
use dozlab_device_plugin::api::{
    AllocateRequest, ContainerAllocateRequest, Device, Empty, ListAndWatchResponse, RegisterRequest,
};
use dozlab_device_plugin::kubelet::KUBELET_SOCKET;
use dozlab_device_plugin::{Condition, KubeletError, SharedDevice, serve};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A kubelet's registration service, which hands each request to the test.
struct Registrar {
    requests: mpsc::UnboundedSender<RegisterRequest>,
    refusal: Option<&'static str>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        self.requests.send(request.into_inner()).unwrap();
        match self.refusal {
            Some(reason) => Err(Status::invalid_argument(reason)),
            None => Ok(Response::new(Empty {})),
        }
    }
}

/// A kubelet, gone with this value.
struct Kubelet {
    requests: mpsc::UnboundedReceiver<RegisterRequest>,
    _over: DropGuard,
}

impl Kubelet {
    /// Starts as kubelets do: empties the folder, and makes the socket anew.
    fn start(folder: &Path, refusal: Option<&'static str>) -> Self {
        for socket in std::fs::read_dir(folder).unwrap() {
            std::fs::remove_file(socket.unwrap().path()).unwrap();
        }
        let (sender, requests) = mpsc::unbounded_channel();
        let listener = UnixListener::bind(folder.join(KUBELET_SOCKET)).unwrap();
        let over = CancellationToken::new();
        let service = RegistrationServer::new(Registrar { requests: sender, refusal });
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), over.clone().cancelled_owned());
        tokio::spawn(async move { serving.await.unwrap() });
        Self { requests, _over: over.drop_guard() }
    }

    async fn registered(&mut self) -> RegisterRequest {
        timeout(PATIENCE, self.requests.recv()).await.expect("a plugin registers").unwrap()
    }
}

/// A plugin that offers three devices while its condition is good.
struct Plugin {
    folder: PathBuf,
    condition: watch::Sender<Condition>,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), KubeletError>>,
}

impl Plugin {
    fn start(folder: &Path, condition: Condition) -> Self {
        let (sender, receiver) = watch::channel(condition);
        let (shutdown, place) = (CancellationToken::new(), folder.to_owned());
        let token = shutdown.clone();
        let serving = tokio::spawn(async move { serve(SharedDevice::kvm(3), &place, receiver, token).await });
        Self { folder: folder.to_owned(), condition: sender, shutdown, serving }
    }

    /// What a kubelet does once a plugin has registered.
    async fn call(&self, endpoint: &str) -> DevicePluginClient<Channel> {
        let socket = self.folder.join(endpoint);
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        DevicePluginClient::new(channel.connect().await.unwrap())
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.serving).await.expect("the plugin ends").unwrap().unwrap();
        assert!(!self.folder.join("dozlab-kvm.sock").exists(), "its socket is left behind");
    }
}

async fn next(lists: &mut Streaming<ListAndWatchResponse>) -> Vec<Device> {
    timeout(PATIENCE, lists.message()).await.expect("a list").unwrap().expect("the stream goes on").devices
}

#[tokio::test]
async fn a_pod_gets_the_device_that_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::start(folder.path(), None);
    let plugin = Plugin::start(folder.path(), Ok(()));
    let request = kubelet.registered().await;
    assert_eq!((request.version.as_str(), request.resource_name.as_str()), ("v1beta1", "dozlab.io/kvm"));

    let mut client = plugin.call(&request.endpoint).await;
    let options = client.get_device_plugin_options(Empty {}).await.unwrap().into_inner();
    assert!(!options.pre_start_required && !options.get_preferred_allocation_available);
    let mut lists = client.list_and_watch(Empty {}).await.unwrap().into_inner();
    let devices = next(&mut lists).await;
    assert_eq!(devices.len(), 3);
    assert!(devices.iter().all(|device| device.health == "Healthy"), "{devices:?}");

    let container = ContainerAllocateRequest { devices_ids: vec![devices[1].id.clone()] };
    let request = AllocateRequest { container_requests: vec![container.clone(), container] };
    let answer = client.allocate(request).await.unwrap().into_inner();
    assert_eq!(answer.container_responses.len(), 2, "one answer a container");
    let given = &answer.container_responses[0].devices;
    assert_eq!(given.len(), 1);
    assert_eq!((given[0].host_path.as_str(), given[0].container_path.as_str()), ("/dev/kvm", "/dev/kvm"));
    assert_eq!(given[0].permissions, "rw");
    plugin.end().await;
}

#[tokio::test]
async fn a_node_where_nothing_boots_has_no_devices_until_something_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::start(folder.path(), None);
    let plugin = Plugin::start(folder.path(), Err("Linux did not reach our first program".to_owned()));
    let mut client = plugin.call(&kubelet.registered().await.endpoint).await;
    let mut lists = client.list_and_watch(Empty {}).await.unwrap().into_inner();
    assert_eq!(next(&mut lists).await, []);
    let container = ContainerAllocateRequest { devices_ids: vec!["kvm-0".to_owned()] };
    let request = AllocateRequest { container_requests: vec![container] };
    let refusal = client.allocate(request).await.unwrap_err();
    assert!(refusal.message().contains("did not reach our first program"), "{refusal}");

    plugin.condition.send(Ok(())).unwrap();
    assert_eq!(next(&mut lists).await.len(), 3);
    plugin.condition.send(Err("/dev/kvm is gone".to_owned())).unwrap();
    assert_eq!(next(&mut lists).await, []);
    plugin.end().await;
}

#[tokio::test]
async fn a_kubelet_that_restarts_is_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::start(folder.path(), None);
    let plugin = Plugin::start(folder.path(), Ok(()));
    for _ in 0..3 {
        let endpoint = kubelet.registered().await.endpoint;
        let mut client = plugin.call(&endpoint).await;
        let mut lists = client.list_and_watch(Empty {}).await.unwrap().into_inner();
        assert_eq!(next(&mut lists).await.len(), 3);
        // The old kubelet's sockets go, the plugin's among them.
        kubelet = Kubelet::start(folder.path(), None);
    }
    kubelet.registered().await;
    plugin.end().await;
}

#[tokio::test]
async fn a_kubelet_that_leaves_the_folder_alone_is_told_again_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::start(folder.path(), None);
    let plugin = Plugin::start(folder.path(), Ok(()));
    kubelet.registered().await;
    let socket = folder.path().join(KUBELET_SOCKET);
    std::fs::remove_file(&socket).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut other = Kubelet::start(elsewhere.path(), None);
    std::fs::rename(elsewhere.path().join(KUBELET_SOCKET), &socket).unwrap();
    other.registered().await;
    plugin.end().await;
}

#[tokio::test]
async fn a_kubelet_that_comes_late_or_refuses_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(folder.path(), Ok(()));
    let mut kubelet = Kubelet::start(folder.path(), Some("resource already taken"));
    kubelet.registered().await;
    kubelet.registered().await;
    let mut kubelet = Kubelet::start(folder.path(), None);
    kubelet.registered().await;
    plugin.end().await;
}

#[tokio::test]
async fn a_machine_that_is_no_node_is_told_so() {
    let (_condition, receiver) = watch::channel(Ok(()));
    let folder = Path::new("/no/such/folder");
    let error = serve(SharedDevice::tun(1), folder, receiver, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("/no/such/folder is no folder of a kubelet"), "{error}");
}
