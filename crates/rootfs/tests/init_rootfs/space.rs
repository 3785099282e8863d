//! A file system that is full at one moment or another: said in words, nothing left behind.

use std::path::Path;
use std::process::Command;

use super::support::{Lab, program, run, serve};

/// Runs `init-rootfs` where `folder` is a file system of so many KiB, which ends with the process; returns what it said
/// and what it left there. A user namespace makes that possible for anybody.
fn with_space(kib: u32, url: &str, folder: &Path, cache: bool) -> String {
    let script =
        "exec 2>&1; mount -t tmpfs -o size=$1k none \"$2\" && { [ -z \"$3\" ] || export IMAGE_CACHE_DIR=\"$2/cache\"; }
        IMAGE_PATH=\"$2/disk\" \"$0\" init; echo \"ended with $?\"; find \"$2\" -type f -size +64k";
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script]).arg(program()).arg(kib.to_string()).arg(folder);
    command.arg(if cache { "cache" } else { "" }).env("IMAGE_DOWNLOAD_URL", url).env("IMAGE_SIZE", "64M");
    let (output, said) = run(&mut command);
    assert!(output.status.success(), "{said}");
    said
}

/// Tries file systems of several sizes, with and without a store in them; returns how often it fitted.
fn try_sizes(body: Vec<u8>, sizes: &[u32]) -> usize {
    let lab = Lab::new();
    let folder = lab.path("small");
    std::fs::create_dir(&folder).unwrap();
    let server = serve(body);
    let mut succeeded = 0;
    for kib in sizes {
        for cache in [false, true] {
            let said = with_space(*kib, &server.url("/image"), &folder, cache);
            let (before, after) = said.split_once("ended with ").unwrap_or_else(|| panic!("{said}"));
            if after.starts_with('0') {
                succeeded += 1;
                continue;
            }
            assert!(before.contains("no space left in "), "{kib} KiB, cache {cache}: {said}");
            // What the store holds complete is of use to the next session.
            let is_whole = |path: &str| {
                path.ends_with(".ext4") && (path.contains("/blobs/") || path.contains("/grown/"))
            };
            assert!(after.lines().skip(1).all(is_whole), "{kib} KiB, left behind: {said}");
        }
    }
    succeeded
}

#[test]
fn a_full_disk_at_each_stage_is_said_and_leaves_nothing() {
    let image = Lab::new().image(32, 12 << 20);
    // Nothing fits; not what the superblock says; just that, but not the store beside it; everything.
    let sizes = [64, 12 << 10, 18 << 10, 19 << 10, 20 << 10, 22 << 10, 28 << 10, 64 << 10];
    let succeeded = try_sizes(zstd::encode_all(&*image, 1).unwrap(), &sizes);
    assert!((2..2 * sizes.len()).contains(&succeeded), "it fitted {succeeded} times");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_transfer_is_said_and_leaves_nothing() {
    // Nobody can tell from its few compressed bytes how large this becomes.
    let mut tar = tar::Builder::new(Vec::new());
    let text = vec![b'a'; 12 << 20];
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", text.as_slice()).unwrap();
    let body = zstd::encode_all(&*tar.into_inner().unwrap(), 1).unwrap();
    assert_eq!(try_sizes(body, &[4 << 10, 14 << 10, 26 << 10]), 0);
}
