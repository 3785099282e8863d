//! The real Firecracker, where `FIRECRACKER_BIN` names one or the `PATH` has one; elsewhere, how its absence
//! is told.

use std::process::Stdio;
use std::time::{Duration, Instant};

use dozlab_process::{BoundChild, Signal};
use dozlab_vm::firecracker::api::Api;
use dozlab_vm::firecracker::configure;
use dozlab_vm::{Firecracker, LaunchError, NetworkBackend};

use crate::lab::Lab;

#[tokio::test]
async fn the_real_firecracker_takes_our_configuration_or_its_absence_names_the_remedy() {
    match Firecracker::new() {
        Ok(firecracker) => configure_for_real(&firecracker).await,
        Err(error) => {
            assert!(matches!(error, LaunchError::Missing { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.starts_with("firecracker is not installed: "), "{message}");
            assert!(message.contains("FIRECRACKER_BIN") && message.contains("PATH"), "{message}");
        }
    }
}

/// Everything but the network, which needs a tap device, and the start, which needs KVM.
async fn configure_for_real(firecracker: &Firecracker) {
    let mut lab = Lab::new("");
    lab.machine.network = NetworkBackend::None;
    // Firecracker opens its files when it is told of them, and a disk has whole sectors.
    std::fs::write(lab.path("disk"), [0; 4096]).unwrap();
    for needed in ["firecracker.log", "firecracker-metrics.json"] {
        std::fs::write(lab.path(needed), "").unwrap();
    }
    let mut command = tokio::process::Command::new(firecracker.program());
    command.args(["--api-sock", "firecracker.sock", "--id", "lab"]).current_dir(&lab.machine.run_folder);
    let mut child = BoundChild::spawn(command.stderr(Stdio::piped()), Signal::KILL).unwrap();
    let api = Api::new(lab.path("firecracker.sock"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while api.get("/").await.is_err() {
        assert!(Instant::now() < deadline, "Firecracker does not answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    configure(&api, &lab.machine).await.unwrap();

    let configured = api.get("/vm/config").await.unwrap();
    let configured: serde_json::Value = serde_json::from_str(&configured).unwrap();
    assert_eq!(configured["machine-config"]["mem_size_mib"], 128);
    assert_eq!(configured["drives"][0]["drive_id"], "rootfs");
    assert_eq!(configured["drives"][0]["is_root_device"], false);
    assert_eq!(configured["vsock"]["guest_cid"], 3);
    let error = api.get("/nope").await.unwrap_err().to_string();
    assert_eq!(error, "Firecracker refused GET /nope: Invalid request method and/or path: GET nope.");
    child.end(Duration::from_secs(5)).await.unwrap();
}
