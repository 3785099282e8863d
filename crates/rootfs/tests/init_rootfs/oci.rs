//! Images from a registry: by tag and by digest, with and without a password, into a cache and straight into a disk.

use std::fs;
use std::path::Path;

use super::registry::{PASSWORD, Registry, USER, several, single};
use super::support::{Lab, fail, succeed, tool_says};

/// A layer with one file, `/etc/motd`.
fn layer(motd: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(motd.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/motd", motd.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

fn assert_says(disk: &Path, motd: &str) {
    let disk = disk.to_str().unwrap();
    tool_says("e2fsck", &["-fn", disk]);
    assert_eq!(tool_says("debugfs", &["-R", "cat /etc/motd", disk]), motd);
    assert_eq!(fs::metadata(disk).unwrap().len(), 256 << 20);
}

#[test]
fn an_image_of_a_registry_becomes_a_disk() {
    let registry = Registry::start(false);
    let lab = Lab::new();
    let digest = single(&lab.path("layout"), &layer("hello"));
    registry.push(&lab.path("layout"), "labs/one:v1");
    let by_digest = format!("oci://{}/labs/one@{digest}", registry.address);
    for (disk, url) in [("tag", format!("oci://{}/labs/one:v1", registry.address)), ("digest", by_digest)] {
        succeed(lab.init(&url).env("IMAGE_PATH", lab.path(disk)).env("IMAGE_SIZE", "256M"));
        assert_says(&lab.path(disk), "hello");
    }
    // What was pulled for these disks alone is gone.
    assert!(!lab.path("tag.import").exists() && !lab.path("digest.import").exists());
    let said = fail(&mut lab.init(&format!("docker://{}/labs/none:v1", registry.address)));
    assert!(said.contains("labs/none:v1"), "{said}");
    assert!(!lab.path("disk").exists());
}

#[test]
fn a_registry_with_a_password_gets_it_from_the_usual_file_and_a_cache_keeps_the_image() {
    let registry = Registry::start(true);
    let lab = Lab::new();
    several(
        &lab.path("layout"),
        &[("s390x", &layer("other")), ("amd64", &layer("this")), ("arm64", &layer("this"))],
    );
    registry.push(&lab.path("layout"), "labs/many:v1");
    let url = format!("docker://{}/labs/many:v1", registry.address);
    let said = fail(lab.init(&url).env("DOCKER_CONFIG", lab.path("nothing")).env("HOME", lab.path("nobody")));
    assert!(said.contains("not authorized") && said.contains("docker login"), "{said}");

    fs::create_dir(lab.path("docker")).unwrap();
    let login =
        format!(r#"{{"auths":{{"{}":{{"username":"{USER}","password":"{PASSWORD}"}}}}}}"#, registry.address);
    fs::write(lab.path("docker/config.json"), login).unwrap();
    let init = |disk: &str| {
        let mut command = lab.init(&url);
        command.env("DOCKER_CONFIG", lab.path("docker")).env("IMAGE_PATH", lab.path(disk));
        command.env("IMAGE_CACHE_DIR", lab.path("cache")).env("IMAGE_SIZE", "256M");
        command
    };
    for disk in ["first", "second"] {
        let said = succeed(&mut init(disk));
        assert!(!said.contains(PASSWORD), "{said}");
        assert_says(&lab.path(disk), "this");
    }
}
