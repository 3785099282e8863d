//! What cloud-init finds in the disk: the NoCloud seed, written into the image where no disk lies over it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::{Lab, fail, serve, succeed, tool_says};

const FOLDER: &str = "/var/lib/cloud/seed/nocloud";

fn seeded(command: &mut Command) -> &mut Command {
    command
        .env("SSH_AUTHORIZED_KEY", "ssh-ed25519 AAAA key")
        .env("SESSION_ID", "s1")
        .env("VM_HOSTNAME", "lab")
}

fn debugfs(disk: &Path, request: &str) -> String {
    tool_says("debugfs", &["-R", request, disk.to_str().unwrap()])
}

fn assert_is_seeded(disk: &Path) {
    assert_eq!(
        debugfs(disk, &format!("cat {FOLDER}/meta-data")),
        "instance-id: \"dozlab-s1\"\nlocal-hostname: \"lab\"\n"
    );
    assert!(debugfs(disk, &format!("cat {FOLDER}/user-data")).contains("- \"ssh-ed25519 AAAA key\""));
    let status = debugfs(disk, &format!("stat {FOLDER}/user-data"));
    assert!(status.contains("Mode:  0600") && status.contains("User:     0"), "{status}");
}

#[test]
fn the_seed_is_in_a_disk_that_was_fetched_and_in_a_clone_of_the_cached_image_alike() {
    let lab = Lab::new();
    let server = serve(lab.image(16, 100_000));
    succeed(seeded(&mut lab.init(&server.url("/image"))));
    lab.assert_disk_is_right("disk", 100_000);
    assert_is_seeded(&lab.path("disk"));

    for disk in ["cached", "again"] {
        let mut command = lab.init(&server.url("/image"));
        command.env("IMAGE_PATH", lab.path(disk)).env("IMAGE_CACHE_DIR", lab.path("cache"));
        succeed(seeded(&mut command));
        lab.assert_disk_is_right(disk, 100_000);
        assert_is_seeded(&lab.path(disk));
    }
    // The image that sessions share has no session's key.
    let mut command = lab.init(&server.url("/image"));
    succeed(command.env("IMAGE_PATH", lab.path("bare")).env("IMAGE_CACHE_DIR", lab.path("cache")));
    assert!(!debugfs(&lab.path("bare"), &format!("stat {FOLDER}")).contains("Inode:"));
    let left = fs::read_dir(lab.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains(".seed")).count(), 0);
}

#[test]
fn a_seed_that_the_image_brings_is_replaced_and_its_folders_stay_as_they_are() {
    let lab = Lab::new();
    let folder = lab.path("content/var/lib/cloud/seed/nocloud");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("user-data"), "#cloud-config\npassword: baked-in\n").unwrap();
    fs::write(folder.join("vendor-data"), "#cloud-config\n").unwrap();
    let server = serve(lab.image(16, 1000));
    succeed(seeded(&mut lab.init(&server.url("/image"))));
    lab.assert_disk_is_right("disk", 1000);
    assert_is_seeded(&lab.path("disk"));
    assert_eq!(debugfs(&lab.path("disk"), &format!("cat {FOLDER}/vendor-data")), "#cloud-config\n");
}

#[test]
fn an_image_with_something_else_in_the_seeds_place_gets_no_disk() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("content")).unwrap();
    std::os::unix::fs::symlink("/etc", lab.path("content/var")).unwrap();
    let server = serve(lab.image(16, 1000));
    let said = fail(seeded(&mut lab.init(&server.url("/image"))));
    assert!(said.contains("something else at /var"), "{said}");
    let left = fs::read_dir(lab.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("disk")).collect();
    assert_eq!(left, [""; 0]);
    // Without a seed it is a disk like any other.
    succeed(&mut lab.init(&server.url("/image")));
    lab.assert_disk_is_right("disk", 1000);
}
