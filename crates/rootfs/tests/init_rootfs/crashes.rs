//! Killed at any moment: the next run makes the right disk, and nothing piles up.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::server::{Answer, Server};
use super::support::{Lab, serve, succeed};

const FILE: usize = 3 << 20;
const KILLS: u32 = 100;

/// Kills `init-rootfs` after times spread over how long it takes, and then lets it finish.
fn survives_kills(with_cache: bool) {
    let lab = Lab::new();
    let server = serve(zstd::encode_all(&*lab.image(16, FILE), 1).unwrap());
    let url = server.url("/image");
    let command = || {
        let mut command = lab.init(&url);
        if with_cache {
            command.env("IMAGE_CACHE_DIR", lab.path("cache"));
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let started = Instant::now();
    succeed(&mut command());
    let whole = started.elapsed();
    for kill in 0..KILLS {
        let _ = std::fs::remove_file(lab.path("disk"));
        // With a cache, what there is to interrupt is mostly the first run. Runs killed early have not made one.
        if with_cache && kill % 2 == 0 && lab.path("cache").exists() {
            std::fs::remove_dir_all(lab.path("cache")).unwrap();
        }
        let mut child = command().spawn().unwrap();
        std::thread::sleep(whole.min(Duration::from_millis(400)) * kill / KILLS);
        child.kill().unwrap();
        child.wait().unwrap();
        if lab.path("disk").exists() {
            lab.assert_disk_is_right("disk", FILE);
        }
    }
    let _ = std::fs::remove_file(lab.path("disk"));
    succeed(&mut command());
    lab.assert_disk_is_right("disk", FILE);
    assert!(!lab.path("disk.partial").exists());
    if with_cache {
        let left: Vec<_> = std::fs::read_dir(lab.path("cache/tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_hundred_kills_and_then_a_right_disk() {
    survives_kills(false);
}

#[test]
fn a_hundred_kills_with_a_cache_and_then_a_right_disk() {
    survives_kills(true);
}

#[test]
fn asked_to_end_in_the_middle_of_a_transfer_it_leaves_nothing() {
    let lab = Lab::new();
    let image = lab.image(16, FILE);
    let server =
        Server::new(move |request, _| Answer::file(request, &image, "\"v1\"").cut_at(600_000).stalling());
    let mut child = lab.init(&server.url("/image")).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !lab.path("disk.partial").exists() || server.requests().is_empty() {
        assert!(Instant::now() < deadline, "it has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!lab.path("disk").exists() && !lab.path("disk.partial").exists());
}
