//! What can be at a URL, and what is said of what cannot.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::server::{Answer, Server};
use super::support::{Lab, fail, serve, succeed};

const FILE: usize = 3 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_image_comes_plain_or_compressed_and_as_a_tar() {
    let lab = Lab::new();
    let image = lab.image(16, FILE);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(lab.path("content/file"), "file").unwrap();
    let tar = tar.into_inner().unwrap();
    for body in [image.clone(), zstd::encode_all(&*image, 1).unwrap(), gzip(&image), gzip(&tar), tar] {
        let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        let server = serve(body);
        let said =
            succeed(lab.init(&server.url("/image")).env("IMAGE_SHA256", &digest).env("IMAGE_SIZE", "256M"));
        assert!(said.contains("stage: download"), "{said}");
        let asked = server.requests().len();
        // It is there: nobody is asked, and it stays what it is.
        assert!(succeed(&mut lab.init(&server.url("/image"))).contains("method: Kept"));
        assert_eq!(server.requests().len(), asked);
        let disk = lab.path("disk");
        assert_eq!(disk.metadata().unwrap().len(), 256 << 20);
        super::support::tool("e2fsck", &["-fn", disk.to_str().unwrap()]);
        std::fs::remove_file(disk).unwrap();
    }
    let left: Vec<_> =
        std::fs::read_dir(lab.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only what the test made is left: {left:?}");
}

#[test]
fn what_is_no_image_or_too_large_or_cut_short_leaves_no_disk() {
    let lab = Lab::new();
    let image = lab.image(16, FILE);
    let mut said = Vec::new();
    let mut try_body = |body: &[u8], size: &str| {
        let server = serve(body.to_vec());
        said.push(fail(lab.init(&server.url("/image?secret=1")).env("IMAGE_SIZE", size)));
    };
    try_body(b"<!DOCTYPE html><title>Sign in</title>", "64M");
    try_body(&gzip(b"just text"), "64M");
    try_body(&gzip(&gzip(&image)), "64M");
    try_body(&image[..8 << 20], "64M");
    try_body(&gzip(&image)[..1 << 20], "64M");
    try_body(&image, "12M");
    let words = [
        "is a web page",
        "holds no file system",
        "compressed twice",
        "cut short",
        "decompressed",
        "16.0 MiB",
    ];
    for (said, words) in said.iter().zip(words) {
        assert!(said.contains(words) && !said.contains("secret"), "{words}: {said}");
    }
    assert!(!lab.path("disk").exists() && !lab.path("disk.partial").exists());
}

#[test]
fn a_broken_transfer_becomes_the_right_disk() {
    let lab = Lab::new();
    let image = lab.image(16, FILE);
    let server = Server::new(move |request, number| {
        let answer = Answer::file(request, &image, "\"v1\"");
        match number % 5 {
            0 => answer.cut_at(300_000),
            _ => answer,
        }
    });
    succeed(&mut lab.init(&server.url("/image")));
    lab.assert_disk_is_right("disk", FILE);
}

#[test]
fn memory_does_not_depend_on_the_image() {
    let lab = Lab::new();
    let peak = |said: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut peaks = Vec::new();
    for (mib, bytes) in [(16, FILE), (240, 200 << 20)] {
        let server = serve(zstd::encode_all(&*lab.image(mib, bytes), 3).unwrap());
        peaks.push(peak(&succeed(lab.init(&server.url("/image")).env("IMAGE_SIZE", "256M"))));
        std::fs::remove_file(lab.path("disk")).unwrap();
    }
    assert!(peaks.iter().all(|kib| *kib <= 32 << 10), "KiB at most: {peaks:?}");
}
