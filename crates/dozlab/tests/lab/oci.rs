//! A plain container image becomes a lab: no sshd, no init, no `sudo` in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::support::{Place, said};

fn add(layer: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, body: &[u8], target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(body.len() as u64);
    header.set_mtime(1_700_000_000);
    if target.is_empty() {
        layer.append_data(&mut header, path, body).unwrap();
    } else {
        layer.append_link(&mut header, path, target).unwrap();
    }
}

fn file(layer: &mut Builder<Vec<u8>>, path: &str, mode: u32, body: &[u8]) {
    add(layer, path, EntryType::Regular, mode, body, "");
}

/// What `docker save` writes of an image with busybox in its first layer, and in its second a user, a file less and a
/// link to a file of the first.
fn docker_archive(path: &Path) {
    let mut first = Builder::new(Vec::new());
    file(&mut first, "bin/busybox", 0o755, &fs::read("/bin/busybox").unwrap());
    let listed = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in said(&listed).lines().filter(|name| !["busybox", "init", "linuxrc"].contains(name)) {
        add(&mut first, &format!("bin/{name}"), EntryType::Link, 0o755, b"", "bin/busybox");
    }
    file(&mut first, "etc/secret", 0o644, b"of the builder");
    let mut second = Builder::new(Vec::new());
    file(&mut second, "etc/.wh.secret", 0o644, b"");
    file(&mut second, "opt/tool/bin/greet", 0o755, b"#!/bin/sh\necho $GREETING\n");
    file(&mut second, "etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nstudent:x:1000:1000::/tmp:/bin/sh\n");
    add(&mut second, "tmp", EntryType::Directory, 0o1777, b"", "");
    add(&mut second, "usr/bin/env", EntryType::Link, 0o755, b"", "bin/busybox");

    let layers = [first, second].map(|layer| layer.into_inner().unwrap());
    let digest =
        |bytes: &Vec<u8>| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let diff_ids = layers.each_ref().map(|layer| format!("sha256:{}", digest(layer)));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "User": "1000", "Cmd": ["sh"], "Env": ["PATH=/opt/tool/bin:/bin", "GREETING=good morning"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let listing = serde_json::json!([{
        "Config": "config.json", "RepoTags": ["busybox:lab"], "Layers": ["first/layer.tar", "second/layer.tar"],
    }]);
    let mut archive = Builder::new(fs::File::create(path).unwrap());
    for (name, body) in [
        ("first/layer.tar", layers[0].clone()),
        ("second/layer.tar", layers[1].clone()),
        ("config.json", serde_json::to_vec(&config).unwrap()),
        ("manifest.json", serde_json::to_vec(&listing).unwrap()),
    ] {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        archive.append_data(&mut header, name, body.as_slice()).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn a_docker_archive_of_a_plain_image_boots_to_a_prompt_of_its_user() {
    let place = Place::new();
    let archive = tempfile::tempdir().unwrap();
    let archive = archive.path().join("plain.tar");
    docker_archive(&archive);
    place.ok(&["image", "import", &format!("docker-archive:{}", archive.display()), "--name", "from-docker"]);
    let flags = ["--memory", "256", "--disk", "192M", "--no-editor"];
    place.ok(&[&["up", "from-docker", "--detach", "--name", "one"], &flags[..]].concat());
    let answer = place.exec("one", "id -un; pwd; [ -e /etc/secret ] || echo gone");
    assert_eq!(answer, "student\n/tmp\ngone");
    assert_eq!(place.exec("one", "greet"), "good morning");
    assert_eq!(place.exec("one", "stat -c %i /bin/busybox"), place.exec("one", "stat -c %i /usr/bin/env"));
    place.ok(&["rm", "one"]);
    place.ok(&["image", "rm", "from-docker"]);
}
