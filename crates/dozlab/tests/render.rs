//! `dozlab render` as a person calls it.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use std::process::{Command, Output};

#[path = "program/program.rs"]
mod program;

/// Runs it with these variables and no other that it reads.
fn render(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(program::DOZLAB);
    for name in dozlab_session::template::VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).arg("render").args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    let (text, error) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    String::from_utf8(text.clone()).unwrap()
}

const SEED: [(&str, &str); 4] = [
    ("SESSION_ID", "abc123"),
    ("USER_ID", "user-456"),
    ("ROOTFS_IMAGE_URL", "https://storage.example/dozlab-k8s.ext4"),
    ("VSCODE_PASSWORD", "securepass123"),
];

#[test]
fn the_seeds_variables_make_the_seeds_objects() {
    let yaml = printed(&render(&SEED, &["--profile", "compat"]));
    assert_eq!(yaml.split("---\n").count(), 5);
    for expected in [
        "name: lab-session-abc123\n",
        "name: lab-service-abc123\n",
        "name: lab-session-abc123-secrets\n",
        "- SYS_ADMIN\n",
        "user-id: user-456\n",
    ] {
        assert!(yaml.contains(expected), "no {expected:?} in\n{yaml}");
    }
    assert!(!printed(&render(&SEED, &[])).contains("SYS_ADMIN"), "the default is hardened");
}

#[test]
fn what_contradicts_itself_is_refused_with_the_numbers() {
    let variables =
        [&SEED[..], &[("DISK_SIZE", "8G"), ("KERNEL_SIZE_LIMIT", "2Gi"), ("VM_MEMORY_LIMIT", "1Gi")]];
    let output = render(&variables.concat(), &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(error.contains("a disk of 8Gi does not fit the 2Gi limit of the volume vm-kernels"), "{error}");
    assert!(error.contains("does not fit the 1Gi memory limit"), "every problem is told: {error}");
}

#[test]
fn a_lab_session_is_read_flags_replace_its_fields_and_secrets_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("session.yaml");
    let text = "apiVersion: dozlab.io/v1\nkind: LabSession\nmetadata:\n  name: a\nspec:\n  sessionId: mine\n  \
                userId: u\n  image: vm\n  memory: 2Gi\n  egress: none\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let yaml =
        printed(&render(&SEED, &[file, "--secrets", "omit", "--ssh-secret-name", "keys", "--cpus", "3"]));
    assert!(yaml.contains("name: lab-session-mine\n") && !yaml.contains("abc123"), "{yaml}");
    assert!(!yaml.contains("kind: Secret\n") && yaml.contains("name: keys\n"), "{yaml}");
    assert!(yaml.contains("name: CPU_COUNT\n") && yaml.contains("2048"), "{yaml}");

    let missing = render(&[], &["--image", "vm"]);
    assert!(String::from_utf8(missing.stderr).unwrap().contains("the session has no id"));
}
