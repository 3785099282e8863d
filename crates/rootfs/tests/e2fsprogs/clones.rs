//! Every way to make a session's disk, on every file system that it may be made on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dozlab_rootfs::disk::{Cloning, Method, PrepareError, Strategy, prepare, prepare_overlay, suited};
use dozlab_rootfs::{NoProgress, Stage, Store};

use super::support::{Lab, Mount, assert_is_sound, debugfs, is_root, tool, write};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 256 * MIB;

/// A folder on a file system, and whether that clones files.
struct Volume {
    folder: PathBuf,
    clones: bool,
    _mount: Option<Mount>,
}

/// As root, a fresh file system of this kind. An ordinary user has the one that is there, each time.
fn volume(lab: &Lab, kind: &str) -> Volume {
    let folder = lab.path(kind);
    if !is_root() {
        fs::create_dir(&folder).unwrap();
        let store = Store::open(&folder.join("probe")).unwrap();
        let clones = suited(&store, &folder).strategy == Strategy::Reflink;
        return Volume { folder, clones, _mount: None };
    }
    let device = lab.path(&format!("{kind}.img"));
    fs::File::create(&device).unwrap().set_len(640 * MIB).unwrap();
    tool(&format!("mkfs.{kind}"), &["-q", device.to_str().unwrap()]);
    let mount = Mount::new(&folder, &["-o", "loop", device.to_str().unwrap()]);
    Volume { folder, clones: kind != "ext4", _mount: Some(mount) }
}

/// An image with a file of 3 MiB in it, in a store on the volume.
async fn store(lab: &Lab, volume: &Volume) -> Store {
    let store = Store::open(&volume.folder.join("store")).unwrap();
    let image = lab.path("with content.ext4");
    tool("mke2fs", &["-q", "-F", "-t", "ext4", image.to_str().unwrap(), "64M"]);
    write(&lab.path("content"), &vec![b'x'; 3 << 20]);
    tool(
        "debugfs",
        &[
            "-w",
            "-R",
            &format!("write \"{}\" content", lab.path("content").display()),
            image.to_str().unwrap(),
        ],
    );
    store.import("image", &image, Default::default(), Arc::new(NoProgress)).await.unwrap();
    store
}

fn assert_is_the_image(disk: &Path, size: u64) {
    assert_is_sound(disk);
    assert_eq!(disk.metadata().unwrap().len(), size);
    assert!(debugfs(disk, "cat /content") == "x".repeat(3 << 20), "the content is another");
}

async fn every_strategy_makes_a_disk_on(kind: &str) {
    let lab = Lab::new();
    let volume = volume(&lab, kind);
    let store = store(&lab, &volume).await;
    let image = store.hold("image").unwrap();
    let before = fs::read(image.path()).unwrap();
    let disk = |name: &str| volume.folder.join(name);

    let expected = if volume.clones { Strategy::Reflink } else { Strategy::Overlay };
    let suited = suited(&store, &volume.folder);
    assert_eq!(suited.strategy, expected, "{kind}: {}", suited.reason);

    let reflink = prepare(&image, &disk("reflink"), SIZE, Cloning::Reflink, &[], Arc::new(NoProgress)).await;
    match reflink {
        Ok(prepared) => {
            assert!(volume.clones && prepared.method == Method::Reflink, "{kind}");
            assert_is_the_image(&disk("reflink"), SIZE);
        }
        Err(error) => assert!(!volume.clones && matches!(error, PrepareError::NoReflink { .. }), "{error}"),
    }
    let copy = prepare(&image, &disk("copy"), SIZE, Cloning::Copy, &[], Arc::new(NoProgress)).await.unwrap();
    assert_eq!(copy.method, Method::SparseCopy, "{kind}");
    // The image was grown for the disk before, so this is a clone and nothing more.
    let stages: Vec<Stage> = copy.steps.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, [Stage::Copy, Stage::Sync]);
    assert_is_the_image(&disk("copy"), SIZE);
    assert!(disk("copy").metadata().unwrap().blocks() * 512 < 32 * MIB, "holes were filled");

    let (base, writable) = (disk("base"), disk("writable"));
    let overlay = prepare_overlay(&image, &base, &writable, SIZE, &[], Arc::new(NoProgress)).await.unwrap();
    assert_eq!((overlay.method, overlay.size), (Method::Overlay, SIZE));
    assert_is_sound(&writable);
    assert_is_the_image(&base, 64 * MIB);
    assert_eq!(base.metadata().unwrap().ino(), image.path().metadata().unwrap().ino(), "a link, not a copy");

    // Nothing that is written to a disk is seen in the image, or in another disk.
    write(&lab.path("more"), &vec![b'y'; 8 << 20]);
    let more = format!("write \"{}\" more", lab.path("more").display());
    tool("debugfs", &["-w", "-R", &more, disk("copy").to_str().unwrap()]);
    if volume.clones {
        tool("debugfs", &["-w", "-R", &more, disk("reflink").to_str().unwrap()]);
    }
    assert!(fs::read(image.path()).unwrap() == before, "{kind}: the image was changed");
    let again =
        prepare(&image, &disk("again"), SIZE, Cloning::Auto, &[], Arc::new(NoProgress)).await.unwrap();
    assert_eq!(again.method == Method::Reflink, volume.clones, "{kind}");
    assert!(!debugfs(&disk("again"), "ls -p /").contains("/more/"));
    assert_is_the_image(&disk("again"), SIZE);
}

#[tokio::test]
async fn every_strategy_makes_a_disk_on_ext4() {
    every_strategy_makes_a_disk_on("ext4").await;
}

#[tokio::test]
async fn every_strategy_makes_a_disk_on_xfs() {
    every_strategy_makes_a_disk_on("xfs").await;
}

#[tokio::test]
async fn every_strategy_makes_a_disk_on_btrfs() {
    every_strategy_makes_a_disk_on("btrfs").await;
}
