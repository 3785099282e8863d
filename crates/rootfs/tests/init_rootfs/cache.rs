//! `IMAGE_CACHE_DIR`: one download for many, and what is known of a URL afterwards.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::server::{Answer, Server};
use super::support::{Lab, fail, serve, succeed};

const FILE: usize = 3 << 20;
/// Requests that one download of the image takes: 16 MiB by 1 MiB.
const DOWNLOAD: usize = 16;

fn cached<'a>(lab: &Lab, command: &'a mut Command, disk: &str) -> &'a mut Command {
    command.env("IMAGE_CACHE_DIR", lab.path("cache")).env("IMAGE_PATH", lab.path(disk))
}

#[test]
fn twenty_at_once_make_one_download() {
    let lab = Lab::new();
    let server = serve(lab.image(16, FILE));
    let url = server.url("/image");
    let children: Vec<_> = (0..20)
        .map(|index| {
            let disk = format!("disk{index}");
            (cached(&lab, &mut lab.init(&url), &disk).spawn().unwrap(), disk)
        })
        .collect();
    for (mut child, disk) in children {
        assert!(child.wait().unwrap().success(), "{disk} failed");
        lab.assert_disk_is_right(&disk, FILE);
    }
    let requests = server.requests();
    let conditional = requests.iter().filter(|request| request.header("if-none-match").is_some()).count();
    // Who came after the download was over may have asked whether it still holds.
    assert_eq!(requests.len() - conditional, DOWNLOAD, "of {} requests", requests.len());
}

#[test]
fn a_known_digest_needs_no_server_and_a_known_version_one_question() {
    let lab = Lab::new();
    let image = lab.image(16, FILE);
    let digest: String = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
    let server = serve(image);
    let url = server.url("/image");
    succeed(cached(&lab, &mut lab.init(&url), "disk1"));
    assert_eq!(server.requests().len(), DOWNLOAD);

    succeed(cached(&lab, &mut lab.init(&url), "disk2"));
    assert_eq!(server.requests().len(), DOWNLOAD + 1);
    assert_eq!(server.requests()[DOWNLOAD].header("if-none-match"), Some("\"v1\""));

    succeed(
        cached(&lab, &mut lab.init("http://127.0.0.1:1/elsewhere"), "disk3").env("IMAGE_SHA256", &digest),
    );
    assert_eq!(server.requests().len(), DOWNLOAD + 1);
    lab.assert_disk_is_right("disk3", FILE);
}

#[test]
fn a_server_that_fails_does_not_keep_a_session_from_what_is_known_but_a_refusal_does() {
    let lab = Lab::new();
    let image = lab.image(16, FILE);
    let status = Arc::new(AtomicUsize::new(200));
    let now = Arc::clone(&status);
    let server = Server::new(move |request, _| match now.load(Ordering::SeqCst) {
        200 => Answer::file(request, &image, "\"v1\""),
        // Longer than anybody waits.
        503 => Answer::new(503, b"").with("retry-after", "3600"),
        other => Answer::new(u16::try_from(other).unwrap(), b""),
    });
    let url = server.url("/image");
    succeed(cached(&lab, &mut lab.init(&url), "disk1"));

    status.store(503, Ordering::SeqCst);
    succeed(cached(&lab, &mut lab.init(&url), "disk2"));
    lab.assert_disk_is_right("disk2", FILE);
    for refusal in [401, 404] {
        status.store(refusal, Ordering::SeqCst);
        let said = fail(cached(&lab, &mut lab.init(&url), "disk3"));
        assert!(said.contains(&refusal.to_string()), "{said}");
    }
}

#[test]
fn a_new_version_is_fetched_and_the_image_below_a_writable_disk_is_the_stores() {
    let lab = Lab::new();
    let (old, new) = (lab.image(16, FILE), lab.image(16, 2 * FILE));
    let version = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&version);
    let server = Server::new(move |request, _| match now.load(Ordering::SeqCst) {
        0 => Answer::file(request, &old, "\"v1\""),
        _ => Answer::file(request, &new, "\"v2\""),
    });
    let url = server.url("/image");
    succeed(cached(&lab, &mut lab.init(&url), "disk1"));
    version.store(1, Ordering::SeqCst);
    succeed(cached(&lab, &mut lab.init(&url), "disk2"));
    lab.assert_disk_is_right("disk1", FILE);
    lab.assert_disk_is_right("disk2", 2 * FILE);

    let writable = lab.path("writable");
    let mut command = lab.init(&url);
    command.env("WRITABLE_DISK_PATH", &writable).env("WRITABLE_DISK_SIZE", "96M");
    let said = succeed(cached(&lab, &mut command, "base"));
    assert!(said.contains("method: Overlay"), "{said}");
    assert_eq!(writable.metadata().unwrap().len(), 96 << 20);
    assert_eq!(lab.path("base").metadata().unwrap().len(), 16 << 20);
}
