//! Our client of Firecracker's API against what a real Firecracker answered, byte by byte, and against a
//! model of its machine that is itself held to the recording.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/api_server.rs"]
mod api_server;
#[path = "support/background_api.rs"]
mod background_api;
#[path = "support/machine_model.rs"]
mod machine_model;
#[path = "support/recording.rs"]
mod recording;

use std::io;
use std::path::{Path, PathBuf};

use api_server::Request;
use background_api::ApiServer;
use dozlab_vm::firecracker::api::Api;
use dozlab_vm::firecracker::configure;
use dozlab_vm::firecracker::resources::{Action, ActionType, Drive, VmPatch, VmPatchState};
use dozlab_vm::{ControlError, Machine, NetworkBackend};
use machine_model::{Host, MachineModel};
use recording::{Exchange, Replay, exchanges};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The host of the recording had nothing but these files.
const RECORDED_HOST: Host = Host { exists: |path| path.starts_with("/run/lab"), bind: |_| Ok(()) };

/// Has every file that it is asked about.
const WHOLE_HOST: Host = Host { exists: |_| true, bind: |_| Ok(()) };

struct Socket {
    _folder: TempDir,
    path: PathBuf,
}

fn socket() -> Socket {
    let folder = tempfile::tempdir().unwrap();
    Socket { path: folder.path().join("api.sock"), _folder: folder }
}

fn machine() -> Machine {
    Machine {
        kernel: "/kernels/vmlinux".into(),
        initramfs: "/run/s/initramfs".into(),
        disk: Some("/disks/s.ext4".into()),
        writable_disk: None,
        modules_disk: Some("/kernels/modules.ext4".into()),
        vcpus: 2,
        memory_mib: 1024,
        network: NetworkBackend::Tap { name: "tap0".into() },
        kernel_parameters: vec!["lab=yes".into()],
        run_folder: "/run/s".into(),
    }
}

/// Sends bytes as they are, and returns all that comes until the server closes, or has answered so many
/// bytes.
async fn raw(socket: &Path, bytes: &str, expected: usize) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = vec![0; expected];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn as_http(request: &Request) -> String {
    let Request { method, path, body } = request;
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Whether the model knows what a real Firecracker answers with such a request.
fn is_modelled(request: &Request) -> bool {
    let resource = request.path.split('/').nth(1).unwrap();
    let known = match request.method.as_str() {
        "GET" => matches!(request.path.as_str(), "/" | "/vm" | "/nope" | "/drives/data"),
        "PUT" => {
            matches!(
                resource,
                "boot-source" | "drives" | "machine-config" | "network-interfaces" | "vsock" | "entropy"
            ) || matches!(resource, "logger" | "metrics" | "actions")
        }
        "PATCH" => resource == "vm",
        _ => false,
    };
    // An answer about a processor template says besides that those are deprecated.
    known && !request.body.contains("cpu_template")
}

/// Paths in the recording are shorter than they were, so the columns in its complaints about JSON do not fit.
fn without_column(answer: &str) -> &str {
    answer.split(" at line 1 column ").next().unwrap()
}

/// The words of a refusal, read from the recording without any JSON parser of ours.
fn recorded_fault(exchange: &Exchange) -> String {
    let quoted = exchange.body().strip_prefix(r#"{"fault_message":"#).unwrap().strip_suffix('}').unwrap();
    serde_json::from_str(quoted).unwrap()
}

/// What our client makes of a request; `None` for what it cannot send at all.
async fn ask(api: &Api, request: &Request) -> Option<Result<String, ControlError>> {
    let body = serde_json::from_str::<Value>(&request.body);
    match (request.method.as_str(), body) {
        ("GET", _) => Some(api.get(&request.path).await),
        ("PUT", Ok(body)) => Some(api.put(&request.path, &body).await.map(|()| String::new())),
        ("PATCH", Ok(body)) => Some(api.patch(&request.path, &body).await.map(|()| String::new())),
        _ => None,
    }
}

#[test]
fn the_recording_is_read_whole() {
    let exchanges = exchanges();
    assert!(exchanges.len() > 100, "{}", exchanges.len());
    assert_eq!(exchanges.iter().filter(|exchange| exchange.second_process).count(), 28);
    let statuses = exchanges.iter().map(Exchange::status);
    assert!(statuses.clone().all(|status| [200, 204, 400].contains(&status)));
    assert!(statuses.filter(|status| *status == 400).count() > 45);
}

#[tokio::test]
async fn every_recorded_answer_is_replayed_byte_for_byte() {
    let socket = socket();
    let _server = ApiServer::start(&socket.path, Replay::new());
    for exchange in exchanges() {
        let answer = raw(&socket.path, &as_http(&exchange.request), exchange.answer.len()).await;
        assert_eq!(answer, exchange.answer, "{:?}", exchange.request);
    }
}

#[tokio::test]
async fn the_model_answers_like_the_recording() {
    let (first, second) = (socket(), socket());
    let _first = ApiServer::start(&first.path, MachineModel::new("lab", RECORDED_HOST));
    let _second = ApiServer::start(&second.path, MachineModel::new("loop", RECORDED_HOST));
    let mut compared = 0;
    for exchange in exchanges().into_iter().filter(|exchange| is_modelled(&exchange.request)) {
        let socket = if exchange.second_process { &second } else { &first };
        let answer = raw(&socket.path, &as_http(&exchange.request), exchange.answer.len()).await;
        assert_eq!(without_column(&answer), without_column(&exchange.answer), "{:?}", exchange.request);
        compared += 1;
    }
    assert!(compared > 65, "only {compared} exchanges were compared");
}

#[tokio::test]
async fn our_client_understands_every_recorded_answer_and_reports_each_refusal_in_firecrackers_words() {
    let socket = socket();
    let _server = ApiServer::start(&socket.path, Replay::new());
    let api = Api::new(socket.path.clone());
    let (mut taken, mut refused) = (0, 0);
    for exchange in exchanges() {
        let Some(result) = ask(&api, &exchange.request).await else { continue };
        let Request { method, path, .. } = &exchange.request;
        if exchange.status() != 400 {
            assert_eq!(result.unwrap(), exchange.body(), "{method} {path}");
            taken += 1;
            continue;
        }
        let error = result.unwrap_err();
        let fault = recorded_fault(&exchange);
        assert_eq!(error.to_string(), format!("Firecracker refused {method} {path}: {fault}"));
        assert!(matches!(error, ControlError::Refused { .. }));
        refused += 1;
    }
    assert!(taken > 50 && refused > 45, "{taken} taken, {refused} refused");
}

/// The fields are those of Firecracker's published API description, version 1.16.
#[tokio::test]
async fn a_whole_machine_is_configured_in_the_documented_order_and_taken() {
    let socket = socket();
    let server = ApiServer::start(&socket.path, MachineModel::new("lab", WHOLE_HOST));
    let api = Api::new(socket.path.clone());

    configure(&api, &machine()).await.unwrap();
    api.put("/actions", &Action { action_type: ActionType::InstanceStart }).await.unwrap();

    let requests = server.requests();
    let boot_args = serde_json::from_str::<Value>(&requests[2].body).unwrap()["boot_args"].clone();
    let words: Vec<&str> = boot_args.as_str().unwrap().split(' ').collect();
    for word in ["console=ttyS0", "panic=-1", "reboot=k", "pci=off", "lab=yes"] {
        assert!(words.contains(&word), "{boot_args}");
    }
    assert!(words.last().unwrap().starts_with("dozlab.time="));
    let drive = |id: &str, path: &str, is_read_only: bool| {
        json!({
            "drive_id": id,
            "path_on_host": path,
            "is_root_device": false,
            "is_read_only": is_read_only,
        })
    };
    let expected = [
        ("/logger", json!({"log_path": "firecracker.log", "level": "Warning", "show_level": true})),
        ("/metrics", json!({"metrics_path": "firecracker-metrics.json"})),
        (
            "/boot-source",
            json!({
                "kernel_image_path": "/kernels/vmlinux",
                "initrd_path": "/run/s/initramfs",
                "boot_args": boot_args,
            }),
        ),
        ("/drives/rootfs", drive("rootfs", "/disks/s.ext4", false)),
        ("/drives/modules", drive("modules", "/kernels/modules.ext4", true)),
        ("/machine-config", json!({"vcpu_count": 2, "mem_size_mib": 1024, "smt": false})),
        (
            "/network-interfaces/eth0",
            json!({"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "fe:05:ac:10:00:02"}),
        ),
        ("/entropy", json!({})),
        ("/vsock", json!({"guest_cid": 3, "uds_path": "vsock.sock"})),
        ("/actions", json!({"action_type": "InstanceStart"})),
    ];
    assert_eq!(requests.len(), expected.len());
    for (request, (path, body)) in requests.iter().zip(expected) {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", path));
        assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap(), body, "{path}");
    }
}

#[tokio::test]
async fn what_a_machine_does_not_have_is_not_configured() {
    let socket = socket();
    let server = ApiServer::start(&socket.path, MachineModel::new("lab", WHOLE_HOST));
    let bare = Machine { disk: None, modules_disk: None, network: NetworkBackend::None, ..machine() };
    configure(&Api::new(socket.path.clone()), &bare).await.unwrap();
    let paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/logger", "/metrics", "/boot-source", "/machine-config", "/entropy", "/vsock"]);
}

#[tokio::test]
async fn the_first_refusal_ends_the_configuration() {
    let socket = socket();
    let host = Host { exists: |path| path != "/disks/s.ext4", ..WHOLE_HOST };
    let server = ApiServer::start(&socket.path, MachineModel::new("lab", host));
    let error = configure(&Api::new(socket.path.clone()), &machine()).await.unwrap_err().to_string();
    assert!(error.starts_with("Firecracker refused PUT /drives/rootfs: Drive config error: "), "{error}");
    assert!(error.ends_with("No such file or directory (os error 2) /disks/s.ext4"), "{error}");
    assert_eq!(server.requests().last().unwrap().path, "/drives/rootfs");
}

#[tokio::test]
async fn a_running_machine_is_paused_resumed_and_told_to_restart() {
    let socket = socket();
    let server = ApiServer::start(&socket.path, MachineModel::new("lab", WHOLE_HOST));
    let api = Api::new(socket.path.clone());
    let pause = VmPatch { state: VmPatchState::Paused };
    let error = api.patch("/vm", &pause).await.unwrap_err().to_string();
    assert!(error.ends_with("not supported before starting the microVM."), "{error}");

    configure(&api, &machine()).await.unwrap();
    api.put("/actions", &Action { action_type: ActionType::InstanceStart }).await.unwrap();
    api.patch("/vm", &pause).await.unwrap();
    assert!(api.get("/").await.unwrap().contains(r#""state":"Paused""#));
    api.patch("/vm", &VmPatch { state: VmPatchState::Resumed }).await.unwrap();
    api.put("/actions", &Action { action_type: ActionType::FlushMetrics }).await.unwrap();
    api.put("/actions", &Action { action_type: ActionType::SendCtrlAltDel }).await.unwrap();

    let error = configure(&api, &machine()).await.unwrap_err().to_string();
    assert!(error.contains("refused PUT /metrics") || error.contains("after starting"), "{error}");
    let bodies: Vec<_> = server.requests().into_iter().map(|request| request.body).collect();
    for body in [
        r#"{"state":"Paused"}"#,
        r#"{"state":"Resumed"}"#,
        r#"{"action_type":"FlushMetrics"}"#,
        r#"{"action_type":"SendCtrlAltDel"}"#,
    ] {
        assert!(bodies.iter().any(|sent| sent == body), "{body}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_in_words_although_their_json_is_invalid() {
    let socket = socket();
    let server = ApiServer::start(&socket.path, MachineModel::new("lab", WHOLE_HOST));
    let api = Api::new(socket.path.clone());
    // As long as it may be, but for what stands around it: it arrives, and is refused for what it says.
    let path_on_host = "x".repeat(51_200 - 80);
    let drive =
        Drive { drive_id: "d", path_on_host: &path_on_host, is_root_device: false, is_read_only: true };
    api.put("/drives/d", &drive).await.unwrap();
    assert_eq!(server.requests().len(), 1);

    let path_on_host = "x".repeat(60_000);
    let error = api.put("/drives/d", &Drive { path_on_host: &path_on_host, ..drive }).await.unwrap_err();
    let words = "is larger than the limit of 51200 allowed by server. \
                 All previous unanswered requests will be dropped.";
    let error = error.to_string();
    assert!(error.starts_with("Firecracker refused PUT /drives/d: Request payload with size 60"), "{error}");
    assert!(error.ends_with(words), "{error}");
    assert_eq!(server.requests().len(), 1, "the server does not read it");
}

/// The stand-in enforces what was recorded, so that a client that broke a rule would fail these tests.
#[tokio::test]
async fn chunks_strange_methods_and_missing_lengths_are_refused() {
    let socket = socket();
    let server = ApiServer::start(&socket.path, MachineModel::new("lab", WHOLE_HOST));
    for (request, answer) in [
        ("PUT /entropy HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "\"Invalid request.\n"),
        (
            "POST /entropy HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
            "\"Invalid HTTP Method: Unsupported HTTP method.\n",
        ),
    ] {
        let answered = raw(&socket.path, request, 180).await;
        assert!(answered.starts_with("HTTP/1.1 400 \r\n") && answered.contains(answer), "{answered}");
    }
    assert_eq!(server.requests(), []);
    let empty = exchanges().into_iter().find(|exchange| exchange.body().contains("Empty PUT")).unwrap();
    let answered = raw(&socket.path, "PUT /entropy HTTP/1.1\r\n\r\n{}", empty.answer.len()).await;
    assert_eq!(answered, empty.answer);
}

#[tokio::test]
async fn a_server_that_closes_amid_its_answer_is_an_error_that_says_so() {
    for answer in ["", "HTTP/1.1 20", "HTTP/1.1 200 \r\nContent-Length: 84\r\n\r\n{\"id\":"] {
        let socket = socket();
        let listener = UnixListener::bind(&socket.path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let error = Api::new(socket.path.clone()).get("/version").await.unwrap_err();
        server.await.unwrap();
        assert!(matches!(error, ControlError::Socket { .. }), "{error:?}");
        assert!(error.to_string().starts_with("cannot talk to Firecracker about GET /version: "), "{error}");
    }
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_an_error_of_that_kind() {
    let error = Api::new(socket().path).get("/").await.unwrap_err();
    let ControlError::Socket { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_after_its_deadline() {
    let socket = socket();
    let _silent = UnixListener::bind(&socket.path).unwrap();
    let started = tokio::time::Instant::now();
    let error = Api::new(socket.path.clone()).get("/").await.unwrap_err();
    assert_eq!(error.to_string(), "Firecracker did not answer GET / within 10 s");
    assert_eq!(started.elapsed().as_secs(), 10);
}
