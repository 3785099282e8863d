//! The pod beside the manifest that existing lab pods are made from: each field that users of those depend on.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use dozlab_pod::{DiskPolicy, Manifests, Parts, PodOptions, SecretNames, SecurityProfile, SessionSecrets};
use dozlab_session::plan::{Plan, PlanRequest};
use serde_json::{Value, json};

/// The template's variables as the seed's documentation has them.
fn template() -> PlanRequest {
    let variables = [
        ("SESSION_ID", "abc123"),
        ("USER_ID", "user-456"),
        ("ROOTFS_IMAGE_URL", "https://storage.example/dozlab-k8s.ext4"),
        ("VSCODE_PASSWORD", "securepass123"),
    ];
    let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name);
    PlanRequest::from_template(|name| lookup(name).map(|(_, value)| (*value).to_owned())).unwrap()
}

fn manifests(options: &PodOptions) -> Manifests {
    let request = template();
    let plan = Plan::resolve(&request).unwrap();
    let secrets = SessionSecrets::generate(&plan.session_id, request.vscode_password).unwrap();
    Manifests::new(&plan, options, Some(&secrets))
}

fn compat() -> PodOptions {
    PodOptions { profile: SecurityProfile::Compat, ..PodOptions::default() }
}

fn pod(options: &PodOptions) -> Value {
    serde_json::to_value(manifests(options).pod).unwrap()
}

/// The item of a list that has a name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// Checks that all of `expected` is in `actual`: objects may have more fields, lists more items.
fn assert_contains(actual: &Value, expected: &Value, path: &str) {
    match expected {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_contains(&actual[name], value, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) if items.iter().all(|item| item.get("name").is_some()) => {
            for item in items {
                let name = item["name"].as_str().unwrap();
                assert_contains(named(actual, name), item, &format!("{path}[{name}]"));
            }
        }
        _ => assert_eq!(actual, expected, "{path}"),
    }
}

#[test]
fn the_pod_is_the_seeds() {
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "lab-session-abc123",
            "labels": { "app": "lab-environment", "session-id": "abc123", "user-id": "user-456" },
        },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "fsGroup": 1000, "runAsNonRoot": false, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "volumes": [
                // 2Gi in the seed, which cannot hold the 4G disk that it has by default.
                { "name": "vm-kernels", "emptyDir": { "sizeLimit": "8Gi" } },
                { "name": "vm-data", "emptyDir": { "sizeLimit": "5Gi" } },
                { "name": "vscode-data", "emptyDir": { "sizeLimit": "1Gi" } },
                { "name": "shared-config", "emptyDir": { "sizeLimit": "10Mi" } },
            ],
        },
    });
    assert_contains(&pod(&compat()), &expected, "pod");
}

#[test]
fn the_init_containers_are_the_seeds() {
    let expected = json!([
        {
            "name": "init-rootfs",
            "image": "dozman99/dozlab-init:latest",
            "env": [
                { "name": "IMAGE_DOWNLOAD_URL", "value": "https://storage.example/dozlab-k8s.ext4" },
                { "name": "IMAGE_SIZE", "value": "4G" },
                { "name": "IMAGE_PATH", "value": "/srv/vm/kernels/rootfs.ext4" },
            ],
            "resources": {
                "requests": { "memory": "128Mi", "cpu": "100m" }, "limits": { "memory": "256Mi", "cpu": "200m" },
            },
            "volumeMounts": [{ "name": "vm-kernels", "mountPath": "/srv/vm/kernels" }],
        },
        {
            "name": "network-setup",
            "image": "busybox:latest",
            "resources": {
                "requests": { "memory": "32Mi", "cpu": "50m" }, "limits": { "memory": "64Mi", "cpu": "100m" },
            },
            "volumeMounts": [{ "name": "shared-config", "mountPath": "/shared" }],
        },
    ]);
    let pod = pod(&compat());
    let containers = &pod["spec"]["initContainers"];
    assert_contains(containers, &expected, "initContainers");
    let order: Vec<&Value> =
        containers.as_array().unwrap().iter().map(|container| &container["name"]).collect();
    assert_eq!(order, ["init-rootfs", "network-setup"]);
}

/// The four lines, in their order, as a shell writes them.
#[test]
fn the_seeds_network_setup_writes_the_seeds_file() {
    let pod = pod(&compat());
    let command = &named(&pod["spec"]["initContainers"], "network-setup")["command"];
    let script = command[2].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("network-config");
    let script = script.replace("/shared/network-config", file.to_str().unwrap());
    let script = format!("hostname() {{ echo 10.244.1.5; }}; {script}");
    let status = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(status.success());
    let written = std::fs::read_to_string(file).unwrap();
    assert_eq!(written, "GATEWAY_IP=172.16.0.1\nVM_IP=172.16.0.2\nPOD_IP=10.244.1.5\nTAP_DEVICE=tap0\n");
}

#[test]
fn the_vms_container_is_the_seeds() {
    let expected = json!([{
        "name": "firecracker-vm",
        "image": "dozman99/dozlab-firecracker:latest",
        "securityContext": { "capabilities": { "add": ["NET_ADMIN", "SYS_ADMIN", "SYS_RESOURCE"] } },
        "env": [
            { "name": "SESSION_ID", "value": "abc123" },
            { "name": "ROOTFS_PATH", "value": "/srv/vm/kernels/rootfs.ext4" },
            { "name": "KERNEL_PATH", "value": "/find/vmlinux.bin" },
            { "name": "CPU_COUNT", "value": "1" },
            { "name": "MEMORY", "value": "1024" },
            { "name": "GATEWAY_IP", "value": "172.16.0.1" },
            { "name": "VM_IP", "value": "172.16.0.2" },
            { "name": "TAP_DEVICE_NAME", "value": "tap0" },
        ],
        "ports": [{ "name": "vm-ssh", "containerPort": 22 }],
        "resources": {
            "requests": { "memory": "1Gi", "cpu": "500m" }, "limits": { "memory": "2Gi", "cpu": "1500m" },
        },
        "livenessProbe": {
            "tcpSocket": { "port": 22 },
            "initialDelaySeconds": 30, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
        },
        "readinessProbe": {
            "tcpSocket": { "port": 22 }, "initialDelaySeconds": 20, "periodSeconds": 5, "failureThreshold": 3,
        },
        "volumeMounts": [
            { "name": "vm-kernels", "mountPath": "/srv/vm/kernels" },
            { "name": "vm-data", "mountPath": "/vm-data" },
            { "name": "shared-config", "mountPath": "/shared", "readOnly": true },
        ],
    }]);
    let pod = pod(&compat());
    assert_contains(&pod["spec"]["containers"], &expected, "containers");
    let security = &named(&pod["spec"]["containers"], "firecracker-vm")["securityContext"];
    assert_eq!(security.as_object().unwrap().len(), 1, "the capabilities and nothing else: {security}");
}

#[test]
fn the_sidecars_are_the_seeds() {
    let expected = json!([
        {
            "name": "terminal-sidecar",
            "image": "dozman99/dozlab-terminal:latest",
            "env": [
                { "name": "SESSION_ID", "value": "abc123" },
                { "name": "VM_IP", "value": "172.16.0.2" },
                { "name": "VM_SSH_PORT", "value": "22" },
                { "name": "SSH_USER", "value": "root" },
            ],
            "ports": [{ "name": "terminal", "containerPort": 8081 }],
            "resources": {
                "requests": { "memory": "128Mi", "cpu": "100m" }, "limits": { "memory": "256Mi", "cpu": "250m" },
            },
            "livenessProbe": {
                "httpGet": { "path": "/health", "port": 8081 }, "initialDelaySeconds": 10, "periodSeconds": 10,
            },
            "readinessProbe": {
                "httpGet": { "path": "/ready", "port": 8081 }, "initialDelaySeconds": 5, "periodSeconds": 5,
            },
            "volumeMounts": [
                { "name": "vm-data", "mountPath": "/vm-data", "readOnly": true },
                { "name": "shared-config", "mountPath": "/shared", "readOnly": true },
            ],
        },
        {
            "name": "code-server",
            "image": "codercom/code-server:latest",
            "command": [
                "code-server", "--bind-addr", "0.0.0.0:8080", "--auth", "password", "--disable-telemetry",
                "--disable-update-check", "/workspace",
            ],
            "env": [
                {
                    "name": "PASSWORD",
                    "valueFrom": { "secretKeyRef": {
                        "name": "lab-session-abc123-secrets", "key": "vscode-password", "optional": false,
                    } },
                },
                { "name": "SESSION_ID", "value": "abc123" },
                { "name": "DOCKER_HOST", "value": "tcp://172.16.0.2:2375" },
            ],
            "ports": [{ "name": "vscode", "containerPort": 8080 }],
            "resources": {
                "requests": { "memory": "512Mi", "cpu": "250m" }, "limits": { "memory": "1Gi", "cpu": "500m" },
            },
            "securityContext": { "runAsUser": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false },
            "livenessProbe": {
                "httpGet": { "path": "/healthz", "port": 8080 }, "initialDelaySeconds": 30, "periodSeconds": 10,
            },
            "readinessProbe": {
                "httpGet": { "path": "/healthz", "port": 8080 }, "initialDelaySeconds": 15, "periodSeconds": 5,
            },
            "volumeMounts": [
                { "name": "vscode-data", "mountPath": "/home/coder" },
                { "name": "vm-data", "mountPath": "/workspace", "readOnly": true },
                { "name": "shared-config", "mountPath": "/shared", "readOnly": true },
            ],
        },
    ]);
    assert_contains(&pod(&compat())["spec"]["containers"], &expected, "containers");
}

#[test]
fn the_service_and_the_secrets_are_the_seeds() {
    let manifests = manifests(&compat());
    let expected = json!({
        "metadata": { "name": "lab-service-abc123" },
        "spec": {
            "type": "ClusterIP",
            "selector": { "session-id": "abc123" },
            "ports": [
                { "name": "vscode", "port": 8080 }, { "name": "terminal", "port": 8081 },
                { "name": "vm-ssh", "port": 22 },
            ],
        },
    });
    assert_contains(&serde_json::to_value(manifests.service.unwrap()).unwrap(), &expected, "service");

    let [session, ssh] = manifests.secrets.try_into().unwrap();
    assert_eq!(session.metadata.name.as_deref(), Some("lab-session-abc123-secrets"));
    assert_eq!(session.data.unwrap()["vscode-password"].0, b"securepass123");
    assert_eq!(ssh.metadata.name.as_deref(), Some("lab-session-abc123-ssh"));
    assert_eq!(ssh.type_.as_deref(), Some("Opaque"));
    let keys: Vec<String> = ssh.data.unwrap().into_keys().collect();
    assert_eq!(keys, ["id_ed25519", "id_ed25519.pub", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]);
}

#[test]
fn one_secret_can_hold_everything() {
    let plan = Plan::resolve(&template()).unwrap();
    let names = SecretNames::in_one(&plan.session_id);
    let options = PodOptions { secret_names: Some(names), ..PodOptions::default() };
    let secrets = SessionSecrets::generate(&plan.session_id, None).unwrap();
    let manifests = Manifests::new(&plan, &options, Some(&secrets));
    let [secret] = manifests.secrets.try_into().unwrap();
    assert_eq!(secret.metadata.name.as_deref(), Some("lab-session-abc123-ssh"));
    assert_eq!(secret.data.unwrap().len(), 6);
    let pod = serde_json::to_string(&manifests.pod).unwrap();
    assert!(!pod.contains("lab-session-abc123-secrets"), "{pod}");
}

#[test]
fn the_templates_limits_arrive() {
    let mut request = template();
    request.vm_data_limit = Some(dozlab_session::size::ByteSize::from_gib(7));
    request.terminal_image = Some("registry.example/terminal:3".parse().unwrap());
    let plan = Plan::resolve(&request).unwrap();
    let pod = serde_json::to_value(Manifests::new(&plan, &compat(), None).pod).unwrap();
    assert_eq!(named(&pod["spec"]["volumes"], "vm-data")["emptyDir"]["sizeLimit"], "7Gi");
    let terminal = named(&pod["spec"]["containers"], "terminal-sidecar");
    assert_eq!(terminal["image"], "registry.example/terminal:3");
}

#[test]
fn parts_that_a_lab_does_not_have_are_nowhere() {
    let parts = Parts { terminal: true, editor: false, ssh: false };
    let manifests = manifests(&PodOptions { parts, ..PodOptions::default() });
    let pod = serde_json::to_value(&manifests.pod).unwrap();
    assert!(!pod.to_string().contains("vscode") && !pod.to_string().contains("EDITOR"), "{pod:#}");
    let service = serde_json::to_value(manifests.service.unwrap()).unwrap();
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1);
    let policy = serde_json::to_value(manifests.network_policy).unwrap();
    assert_eq!(policy["spec"]["ingress"][0]["ports"], json!([{ "protocol": "TCP", "port": 8081 }]));

    let none = Parts { terminal: false, editor: false, ssh: false };
    let manifests = self::manifests(&PodOptions { parts: none, ..PodOptions::default() });
    assert!(manifests.service.is_none());
    assert_eq!(manifests.network_policy.spec.unwrap().ingress, Some(Vec::new()));
}

#[test]
fn disks_that_are_kept_are_claims() {
    let options = PodOptions {
        disk_policy: DiskPolicy::Keep,
        storage_class: Some("fast".into()),
        ..PodOptions::default()
    };
    let manifests = manifests(&options);
    let claims: Vec<(String, String)> = manifests
        .claims
        .iter()
        .map(|claim| {
            let spec = claim.spec.as_ref().unwrap();
            assert_eq!(spec.storage_class_name.as_deref(), Some("fast"));
            let size = &spec.resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"];
            (claim.metadata.name.clone().unwrap(), size.0.clone())
        })
        .collect();
    let expected = [("vm-kernels-abc123", "8Gi"), ("vm-data-abc123", "5Gi"), ("vscode-data-abc123", "1Gi")];
    assert_eq!(claims, expected.map(|(name, size)| (name.to_owned(), size.to_owned())));
    let pod = serde_json::to_value(manifests.pod).unwrap();
    for name in ["vm-kernels", "vm-data", "vscode-data"] {
        let volume = named(&pod["spec"]["volumes"], name);
        assert_eq!(volume["persistentVolumeClaim"]["claimName"], format!("{name}-abc123"));
        assert!(volume.get("emptyDir").is_none());
    }
}
