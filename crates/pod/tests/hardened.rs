//! What the containers of a hardened pod may do, which secrets each of them has, and what holds for every plan.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use dozlab_pod::{DiskPolicy, ImageCache, Manifests, POLICY_LABEL, Parts, PodOptions, SecurityProfile};
use dozlab_session::cpu::Vcpus;
use dozlab_session::defaults;
use dozlab_session::plan::{Egress, Plan, PlanRequest};
use dozlab_session::size::ByteSize;
use proptest::prelude::*;
use serde_json::{Value, json};

fn request() -> PlanRequest {
    PlanRequest {
        session_id: Some("abc123".parse().unwrap()),
        image: Some("https://storage.example/dozlab-k8s.ext4".parse().unwrap()),
        ..PlanRequest::default()
    }
}

fn manifests(request: &PlanRequest, options: &PodOptions) -> Manifests {
    Manifests::new(&Plan::resolve(request).unwrap(), options, None)
}

fn pod_spec(options: &PodOptions) -> Value {
    serde_json::to_value(manifests(&request(), options).pod.spec).unwrap()
}

fn containers(spec: &Value) -> Vec<&Value> {
    let lists = [&spec["initContainers"], &spec["containers"]];
    lists.iter().flat_map(|list| list.as_array().unwrap()).collect()
}

#[test]
fn no_container_has_more_than_it_needs() {
    let spec = pod_spec(&PodOptions::default());
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["enableServiceLinks"], false);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert!(spec["securityContext"].get("sysctls").is_none(), "needs no kubelet that allows unsafe sysctls");
    for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(spec.get(forbidden).is_none());
    }
    assert_eq!(containers(&spec).len(), 5);
    for container in containers(&spec) {
        let name = container["name"].as_str().unwrap();
        let security = &container["securityContext"];
        assert!(security.get("privileged").is_none(), "{name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(security["seccompProfile"], json!({ "type": "RuntimeDefault" }), "{name}");
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
        if name == "network-setup" {
            assert_eq!(security["capabilities"]["add"], json!(["NET_ADMIN"]));
            assert_eq!((&security["runAsUser"], &security["runAsNonRoot"]), (&json!(0), &json!(false)));
            continue;
        }
        assert!(security["capabilities"].get("add").is_none(), "{name}");
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert!(security["runAsUser"].as_u64().unwrap() >= 1000, "{name}");
    }
}

#[test]
fn the_tap_device_belongs_to_the_user_of_the_vm() {
    let spec = pod_spec(&PodOptions::default());
    let find = |name: &str| *containers(&spec).iter().find(|container| container["name"] == name).unwrap();
    let variables = find("network-setup")["env"].as_array().unwrap();
    let owner = variables.iter().find(|variable| variable["name"] == "TAP_OWNER").unwrap();
    let user = find("firecracker-vm")["securityContext"]["runAsUser"].to_string();
    assert_eq!(owner["value"], user);
    let disk_user = find("init-rootfs")["securityContext"]["runAsUser"].to_string();
    assert_eq!(disk_user, user, "the disk is the VM's");
}

#[test]
fn a_nodes_images_are_written_by_who_prepares_the_disk_and_only_read_by_the_vm() {
    let cache: ImageCache = "/var/lib/dozlab/images".parse().unwrap();
    let with_cache = PodOptions { image_cache: Some(cache), ..PodOptions::default() };
    let kept = PodOptions { disk_policy: DiskPolicy::Keep, ..with_cache.clone() };
    for (options, expected) in [
        (PodOptions::default(), [(None, None), (None, None)]),
        (
            with_cache,
            [
                (Some(false), Some("/srv/vm/kernels/overlay.ext4")),
                (Some(true), Some("/srv/vm/kernels/overlay.ext4")),
            ],
        ),
        // Its disk may be found again on another node, so it is whole.
        (kept, [(Some(false), None), (None, None)]),
    ] {
        let spec = pod_spec(&options);
        let volume =
            spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "image-cache");
        let host_path = volume.map(|volume| volume["hostPath"].clone());
        let wanted =
            options.image_cache.as_ref().map(|cache| json!({ "path": cache.path(), "type": "Directory" }));
        assert_eq!(host_path, wanted);
        for container in containers(&spec) {
            let named = |list: &str, name: &str| {
                container[list].as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned()
            };
            let mount = named("volumeMounts", "image-cache");
            let read_only = mount.map(|mount| mount["readOnly"].as_bool().unwrap_or(false));
            let overlay = named("env", "WRITABLE_DISK_PATH").map(|variable| variable["value"].clone());
            let found = (read_only, overlay.as_ref().and_then(Value::as_str));
            let wanted = match container["name"].as_str().unwrap() {
                "init-rootfs" => expected[0],
                "firecracker-vm" => expected[1],
                _ => (None, None),
            };
            assert_eq!(found, wanted, "{}", container["name"]);
        }
    }
    for bad in ["", "/", "images", "/var/../etc"] {
        assert!(bad.parse::<ImageCache>().is_err(), "{bad}");
    }
}

#[test]
fn each_container_has_the_secrets_that_it_needs_and_no_other() {
    let expected: [(&str, &[&str]); 5] = [
        ("init-rootfs", &[]),
        ("network-setup", &[]),
        ("firecracker-vm", &["id_ed25519.pub", "ssh_host_ed25519_key"]),
        (
            "terminal-sidecar",
            &["id_ed25519", "ssh_host_ed25519_key.pub", "terminal-token", "vscode-password"],
        ),
        ("code-server", &["vscode-password"]),
    ];
    let spec = pod_spec(&PodOptions::default());
    for (name, keys) in expected {
        let container = *containers(&spec).iter().find(|container| container["name"] == name).unwrap();
        let variables = container["env"].as_array().unwrap().iter();
        let mut given: Vec<&str> = variables
            .filter_map(|variable| variable.pointer("/valueFrom/secretKeyRef/key")?.as_str())
            .collect();
        given.sort_unstable();
        assert_eq!(given, keys, "{name}");
    }
    let volumes = spec["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume.get("secret").is_none() && volume.get("hostPath").is_none()));
}

#[test]
fn devices_are_asked_for_where_they_are_opened() {
    let devices = |options: &PodOptions| -> Vec<(String, Vec<String>)> {
        let spec = pod_spec(options);
        let devices_of = |container: &Value| {
            let limits = container["resources"]["limits"].as_object().unwrap();
            let names = limits.keys().filter(|name| name.starts_with("dozlab.io/")).cloned().collect();
            (container["name"].as_str().unwrap().to_owned(), names)
        };
        containers(&spec)
            .into_iter()
            .map(devices_of)
            .filter(|(_, names): &(_, Vec<_>)| !names.is_empty())
            .collect()
    };
    let both = vec!["dozlab.io/kvm".to_owned(), "dozlab.io/tun".to_owned()];
    let tun = vec!["dozlab.io/tun".to_owned()];
    let of = |list: &[(&str, &Vec<String>)]| -> Vec<(String, Vec<String>)> {
        list.iter().map(|(name, devices)| ((*name).to_owned(), (*devices).clone())).collect()
    };
    assert_eq!(devices(&PodOptions::default()), of(&[("network-setup", &tun), ("firecracker-vm", &both)]));
    let emulated = PodOptions { emulated: true, ..PodOptions::default() };
    assert_eq!(devices(&emulated), of(&[("network-setup", &tun), ("firecracker-vm", &tun)]));
    let compat = PodOptions { profile: SecurityProfile::Compat, ..PodOptions::default() };
    assert_eq!(devices(&compat), of(&[("firecracker-vm", &both)]));
}

#[test]
fn the_network_policy_denies_what_it_does_not_name() {
    let policy = |egress: Egress, image: &str| {
        let request = PlanRequest { egress: Some(egress), image: Some(image.parse().unwrap()), ..request() };
        let policy = manifests(&request, &PodOptions::default()).network_policy;
        serde_json::to_value(policy.spec).unwrap()
    };
    let internet = policy(Egress::Internet, "https://storage.example/k8s.ext4");
    assert_eq!(internet["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(internet["podSelector"]["matchLabels"]["session-id"], "abc123");
    let ports: Vec<u64> = internet["ingress"][0]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["port"].as_u64().unwrap())
        .collect();
    assert_eq!(ports, [8080, 8081, 22]);
    let block = &internet["egress"][0]["to"][0]["ipBlock"];
    assert_eq!(block["cidr"], "0.0.0.0/0");
    for network in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"] {
        assert!(block["except"].as_array().unwrap().contains(&json!(network)), "{network} in {block}");
    }
    let name_server = &internet["egress"][1];
    assert_eq!(name_server["to"][0]["podSelector"]["matchLabels"], json!({ "k8s-app": "kube-dns" }));

    let open = policy(Egress::Open, "vm");
    let except = &open["egress"][0]["to"][0]["ipBlock"]["except"];
    assert!(except.as_array().unwrap().contains(&json!("169.254.0.0/16")), "metadata stays out of reach");
    assert!(!except.as_array().unwrap().contains(&json!("10.0.0.0/8")));

    assert_eq!(policy(Egress::None, "vm")["egress"], json!([]));
    let download_only = policy(Egress::None, "https://storage.example:8443/k8s.ext4");
    assert_eq!(download_only["egress"][0]["ports"], json!([{ "protocol": "TCP", "port": 8443 }]));
    assert_eq!(download_only["egress"][0]["to"][0]["ipBlock"]["except"], *block.get("except").unwrap());
}

#[test]
fn sessions_that_may_the_same_share_a_policy_and_others_do_not() {
    let with = |id: &str, egress: Egress, image: &str, parts: Parts| {
        let request = PlanRequest {
            session_id: Some(id.parse().unwrap()),
            egress: Some(egress),
            image: Some(image.parse().unwrap()),
            ..PlanRequest::default()
        };
        manifests(&request, &PodOptions { parts, shared_policy: true, ..PodOptions::default() })
    };
    let image = "https://storage.example/k8s.ext4";
    let one = with("one", Egress::Internet, image, Parts::default());
    let two = with("two", Egress::Internet, "http://elsewhere.example:8000/vm.ext4", Parts::default());
    assert_eq!(one.network_policy, two.network_policy, "an image's port counts only where it is let through");
    let name = one.network_policy.metadata.name.clone().unwrap();
    assert_eq!(name, "lab-internet-dns-8080-8081-22");
    let selector = one.network_policy.spec.unwrap().pod_selector.unwrap().match_labels.unwrap();
    let labels = one.pod.metadata.labels.unwrap();
    assert!(
        selector.iter().all(|(label, value)| labels.get(label) == Some(value)),
        "{selector:?} {labels:?}"
    );
    assert_eq!(selector[POLICY_LABEL], name);
    assert!(!selector.contains_key("session-id"));

    let no_ssh = Parts { ssh: false, ..Parts::default() };
    let names = [
        with("a", Egress::Internet, "vm", Parts::default()),
        with("a", Egress::Open, image, Parts::default()),
        with("a", Egress::None, image, Parts::default()),
        with("a", Egress::None, "https://storage.example:8443/k8s.ext4", Parts::default()),
        with("a", Egress::Internet, image, no_ssh),
    ]
    .map(|manifests| manifests.network_policy.metadata.name.unwrap());
    assert_eq!(
        names,
        [
            "lab-internet-8080-8081-22",
            "lab-open-dns-8080-8081-22",
            "lab-none-image-443-8080-8081-22",
            "lab-none-image-8443-8080-8081-22",
            "lab-internet-dns-8080-8081",
        ]
    );
}

fn amount(resources: &Value, kind: &str, name: &str) -> u64 {
    let text = resources[kind][name].as_str().unwrap_or_else(|| panic!("no {kind} of {name}: {resources}"));
    ByteSize::from_quantity(text).unwrap().as_bytes()
}

proptest! {
    #[test]
    fn whatever_the_plan_its_amounts_hold_in_the_pod(
        memory_mib in 64u32..20_000,
        disk_mib in 1u32..200_000,
        vcpus in 1u32..33,
        kernels_gib in proptest::option::of(1u32..64),
        limit_gib in proptest::option::of(1u32..32),
        compat in any::<bool>(),
    ) {
        let request = PlanRequest {
            memory: Some(ByteSize::from_mib(memory_mib)),
            disk: Some(ByteSize::from_mib(disk_mib)),
            vcpus: Some(Vcpus::try_from(vcpus).unwrap()),
            vm_kernels_limit: kernels_gib.map(ByteSize::from_gib),
            vm_memory_limit: limit_gib.map(ByteSize::from_gib),
            ..request()
        };
        let Ok(plan) = Plan::resolve(&request) else { return Ok(()) };
        let profile = if compat { SecurityProfile::Compat } else { SecurityProfile::Hardened };
        let manifests = Manifests::new(&plan, &PodOptions { profile, ..PodOptions::default() }, None);
        let spec = serde_json::to_value(manifests.pod.spec).unwrap();
        let vm = *containers(&spec).iter().find(|container| container["name"] == "firecracker-vm").unwrap();

        let volumes = spec["volumes"].as_array().unwrap();
        let limit_of = |name: &str| {
            let volume = volumes.iter().find(|volume| volume["name"] == name).unwrap();
            ByteSize::from_quantity(volume["emptyDir"]["sizeLimit"].as_str().unwrap()).unwrap().as_bytes()
        };
        prop_assert!(plan.disk.as_bytes() + defaults::VM_KERNELS_SLACK.as_bytes() <= limit_of("vm-kernels"));
        let storage = amount(&vm["resources"], "requests", "ephemeral-storage");
        prop_assert!(storage > plan.disk.as_bytes(), "the node sets aside what the disk can grow to");
        let beside_the_guest = defaults::HYPERVISOR_MEMORY_OVERHEAD.as_bytes();
        let memory_limit = amount(&vm["resources"], "limits", "memory");
        prop_assert!(memory_limit >= plan.memory.as_bytes() + beside_the_guest);
        prop_assert!(limit_of("vm-run") < beside_the_guest, "its files in memory count for the container");
        for container in containers(&spec) {
            for name in ["cpu", "memory"] {
                prop_assert!(container["resources"]["requests"][name].is_string());
                prop_assert!(container["resources"]["limits"][name].is_string());
            }
            amount(&container["resources"], "requests", "ephemeral-storage");
            let [request, limit] = ["requests", "limits"].map(|kind| amount(&container["resources"], kind, "memory"));
            prop_assert!(request <= limit);
        }
    }
}

#[test]
fn an_emulated_vm_has_room_for_its_emulator() {
    let request = PlanRequest { memory: Some(ByteSize::from_gib(4)), ..request() };
    let spec = manifests(&request, &PodOptions { emulated: true, ..PodOptions::default() }).pod.spec;
    let spec = serde_json::to_value(spec).unwrap();
    let vm = *containers(&spec).iter().find(|container| container["name"] == "firecracker-vm").unwrap();
    assert_eq!(amount(&vm["resources"], "limits", "memory"), ByteSize::from_mib(4096 + 512).as_bytes());
}
