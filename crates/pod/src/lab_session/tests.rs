use dozlab_session::plan::{Egress, Plan};
use dozlab_session::size::ByteSize;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::*;
use crate::options::{DiskPolicy, Parts, PodOptions, SecurityProfile};

fn session(spec: Value) -> LabSession {
    let object = json!({
        "apiVersion": "dozlab.io/v1", "kind": "LabSession", "metadata": { "name": "demo" }, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn problems(spec: Value) -> Vec<&'static str> {
    let error = session(spec).request(&PodOptions::default()).unwrap_err();
    error.problems.iter().map(|problem| problem.field).collect()
}

fn schema(pointer: &str) -> Value {
    let crd = serde_json::to_value(LabSession::crd()).unwrap();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
    schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {schema:#}")).clone()
}

#[test]
fn the_resource_has_the_names_of_the_existing_one() {
    let crd = serde_json::to_value(LabSession::crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "labsessions.dozlab.io");
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["ls"]));
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["name"], "v1");
    assert_eq!(version["subresources"], json!({ "status": {} }));
    let columns: Vec<&str> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    for column in ["Phase", "User", "Pod", "Age"] {
        assert!(columns.contains(&column), "{columns:?}");
    }
}

#[test]
fn fields_and_defaults_of_the_existing_resource_are_there() {
    let required = schema("/spec/required");
    assert_eq!(required, json!(["sessionId", "userId"]));
    let defaults = [
        ("/spec/properties/timeout", json!("2h")),
        ("/spec/properties/resources/properties/memory", json!("4Gi")),
        ("/spec/properties/resources/properties/cpu", json!("2")),
        ("/spec/properties/resources/properties/storage", json!("10Gi")),
        ("/spec/properties/config/properties/enableTerminal", json!(true)),
        ("/spec/properties/config/properties/enableVSCode", json!(true)),
        ("/spec/properties/config/properties/enableSSH", json!(true)),
        ("/spec/properties/securityProfile", json!("hardened")),
        ("/spec/properties/egress", json!("internet")),
        ("/spec/properties/diskPolicy", json!("Delete")),
        ("/status/properties/phase", json!("Pending")),
    ];
    for (pointer, default) in defaults {
        assert_eq!(schema(pointer)["default"], default, "{pointer}");
    }
    for field in [
        "config/properties/vsCodePassword",
        "customImages/properties/initImage",
        "customImages/properties/initrdImage",
        "customImages/properties/terminalImage",
        "customImages/properties/vscodeImage",
        "labId",
        "rootfsUrl",
    ] {
        assert_eq!(schema(&format!("/spec/properties/{field}"))["type"], "string", "{field}");
    }
    for field in [
        "message",
        "reason",
        "podName",
        "serviceName",
        "podIP",
        "vmIP",
        "endpoints",
        "createdAt",
        "expiresAt",
        "startTime",
        "lastTransitionTime",
        "observedGeneration",
        "usage",
        "conditions",
    ] {
        schema(&format!("/status/properties/{field}"));
    }
    assert_eq!(schema("/status/properties/createdAt")["format"], "date-time");
    let phases = schema("/status/properties/phase")["enum"].clone();
    assert_eq!(phases, json!(["Pending", "Creating", "Running", "Failed", "Terminating", "Terminated"]));
}

#[test]
fn what_cannot_change_is_ruled_by_the_api_server() {
    let rules = schema("/spec/x-kubernetes-validations");
    let messages: Vec<&str> =
        rules.as_array().unwrap().iter().map(|rule| rule["message"].as_str().unwrap()).collect();
    for subject in ["sessionId", "userId", "image and rootfsUrl", "disk ", "diskPolicy"] {
        assert!(messages.iter().any(|message| message.starts_with(subject)), "{messages:?}");
    }
}

/// The schema's `default`s do not reach an object that was read without an API server.
#[test]
fn an_object_with_only_its_ids_is_a_session_of_the_seeds_size() {
    let request =
        session(json!({ "sessionId": "abc123", "userId": "user-456" })).request(&PodOptions::default());
    let request = request.unwrap();
    let plan = Plan::resolve(&request.plan).unwrap();
    assert_eq!((plan.vcpus.get(), plan.memory, plan.disk), (1, ByteSize::from_gib(1), ByteSize::from_gib(4)));
    assert_eq!(plan.image.as_str(), "file:///app/image.ext4");
    assert_eq!(plan.deadlines.timeout.unwrap().to_string(), "2h");
    assert_eq!(plan.network.egress, Egress::Internet);
    assert_eq!(request.options, PodOptions::default());
}

#[test]
fn older_sizes_count_where_no_newer_ones_are_given() {
    let spec = json!({ "sessionId": "a", "userId": "u", "memory": "1Gi",
                       "resources": { "cpu": "1500m", "storage": "6Gi" } });
    let plan = Plan::resolve(&session(spec).request(&PodOptions::default()).unwrap().plan).unwrap();
    assert_eq!((plan.vcpus.get(), plan.memory, plan.disk), (2, ByteSize::from_gib(1), ByteSize::from_gib(6)));
}

#[test]
fn every_field_arrives() {
    let spec = json!({
        "sessionId": "abc", "userId": "u", "labId": "k8s-basics", "rootfsUrl": "https://images.example/k8s.ext4",
        "vcpus": 4, "memory": "2Gi", "disk": "8Gi", "timeout": "none", "idleStop": "30m", "egress": "open",
        "securityProfile": "compat", "diskPolicy": "Keep", "loginUser": "learner", "hostname": "node",
        "config": { "vsCodePassword": "hush", "enableVSCode": false, "enableSSH": false },
        "customImages": { "initImage": "r.example/init:1", "networkImage": "r.example/net:1",
                          "vmImage": "r.example/vm:1", "terminalImage": "r.example/term:1",
                          "vscodeImage": "r.example/code:1" },
    });
    let request = session(spec).request(&PodOptions::default()).unwrap();
    let plan = Plan::resolve(&request.plan).unwrap();
    assert_eq!(plan.terminal_image.as_str(), "r.example/term:1");
    assert_eq!(request.plan.vscode_password.as_ref().map(|password| password.reveal()), Some("hush"));
    assert_eq!((plan.deadlines.timeout, plan.network.egress), (None, Egress::Open));
    assert_eq!(plan.deadlines.idle_stop.unwrap().to_string(), "30m");
    assert_eq!((plan.hostname.as_str(), plan.login_user.unwrap().as_str()), ("node", "learner"));
    let options = request.options;
    assert_eq!(options.parts, Parts { terminal: true, editor: false, ssh: false });
    assert_eq!((options.profile, options.disk_policy), (SecurityProfile::Compat, DiskPolicy::Keep));
    assert_eq!(options.lab_id.as_deref(), Some("k8s-basics"));
    assert_eq!(options.images.vm.unwrap().as_str(), "r.example/vm:1");
    assert_eq!(options.images.network.unwrap().as_str(), "r.example/net:1");
}

#[test]
fn all_problems_are_told_at_once() {
    let spec = json!({
        "sessionId": "Upper", "userId": "", "image": "a b", "vcpus": 99, "memory": "lots", "disk": "-1",
        "timeout": "soon", "idleStop": "3", "loginUser": "Root", "hostname": "a_b",
        "customImages": { "terminalImage": "-x", "vmImage": "a b" },
    });
    assert_eq!(
        problems(spec),
        [
            "memory",
            "disk",
            "vcpus",
            "sessionId",
            "userId",
            "image",
            "customImages.terminalImage",
            "loginUser",
            "hostname",
            "timeout",
            "idleStop",
            "customImages.vmImage"
        ]
    );
    let both = json!({ "sessionId": "a", "userId": "u", "image": "vm", "rootfsUrl": "https://e.example/k" });
    assert_eq!(problems(both), ["image"]);
}

#[test]
fn a_password_is_not_in_debug_output() {
    let session = session(json!({ "sessionId": "a", "userId": "u", "config": { "vsCodePassword": "hush" } }));
    let request = session.request(&PodOptions::default()).unwrap();
    assert!(!format!("{session:?} {request:?}").contains("hush"));
}

#[test]
fn a_status_with_an_empty_phase_is_read() {
    let status: LabSessionStatus =
        serde_json::from_value(json!({ "phase": "", "podIP": "10.0.0.7" })).unwrap();
    assert_eq!(status, LabSessionStatus { pod_ip: Some("10.0.0.7".into()), ..LabSessionStatus::default() });
}
