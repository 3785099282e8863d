//! What a store keeps, what it lets go, and what it is to those who may only read it.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dozlab_rootfs::disk::{Cloning, prepare, prepare_overlay};
use dozlab_rootfs::{ImageRecord, NoProgress, Store};

use super::support::{Lab, Mount, assert_is_sound, is_root, program, run_program};

const MIB: u64 = 1 << 20;

/// Imports an image that was last used so many hours ago.
async fn image(lab: &Lab, name: &str, mib: u32, hours: u64) -> ImageRecord {
    let record = lab.import(name, &lab.ext4(&format!("{name}.ext4"), mib)).await.unwrap();
    used(&lab.blob(&record), hours);
    record
}

fn used(file: &Path, hours: u64) {
    let when = SystemTime::now() - Duration::from_secs(hours * 3600);
    fs::File::open(file).unwrap().set_modified(when).unwrap();
}

fn grown(lab: &Lab) -> usize {
    fs::read_dir(lab.path("store/grown")).unwrap().count()
}

#[tokio::test]
async fn pruning_takes_what_was_not_used_for_longest_and_grown_images_first() {
    let lab = Lab::new();
    let old = image(&lab, "old", 16, 3).await;
    let used_again = image(&lab, "used-again", 20, 9).await;
    let new = image(&lab, "new", 24, 1).await;
    let held = lab.store.hold("used-again").unwrap();
    prepare(&held, &lab.path("disk"), 32 * MIB, Cloning::Auto, &[], Arc::new(NoProgress)).await.unwrap();
    drop(held);
    assert_eq!(grown(&lab), 1);

    let everything = lab.store.prune(u64::MAX).unwrap();
    assert_eq!((everything.freed, everything.images.len(), everything.grown), (0, 0, 0));
    let pruned = lab.store.prune(everything.kept - 1).unwrap();
    assert_eq!((pruned.grown, pruned.images.len()), (1, 0), "{pruned:?}");
    let pruned = lab.store.prune(pruned.kept - 1).unwrap();
    assert_eq!(pruned.images, ["old"]);
    assert!(!lab.blob(&old).exists() && lab.blob(&used_again).exists() && lab.blob(&new).exists());
    let pruned = lab.store.prune(0).unwrap();
    assert_eq!((pruned.images, pruned.kept), (vec!["new".to_owned(), "used-again".to_owned()], 0));
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn an_image_under_a_session_outlives_pruning_and_goes_after_the_session() {
    let lab = Lab::new();
    let record = image(&lab, "base", 16, 3).await;
    let held = lab.store.hold("base").unwrap();
    // One session is on the store's file system, one on another.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_ne!(elsewhere.path().metadata().unwrap().dev(), lab.path("store").metadata().unwrap().dev());
    let (here, there) = (lab.path("here"), elsewhere.path().join("there"));
    for folder in [&here, &there] {
        fs::create_dir(folder).unwrap();
        let (base, disk) = (folder.join("base"), folder.join("disk"));
        prepare_overlay(&held, &base, &disk, 16 * MIB, &[], Arc::new(NoProgress)).await.unwrap();
        assert!(fs::read(&base).unwrap() == fs::read(held.path()).unwrap());
    }
    assert!(!here.join("base").is_symlink() && there.join("base").is_symlink());
    drop(held);

    let used = lab.store.inspect("base").unwrap();
    assert_eq!((used.linked, used.leased, used.is_held), (1, vec![there.join("base")], false));
    let pruned = lab.store.prune(0).unwrap();
    assert_eq!((pruned.images.len(), pruned.in_use.as_slice()), (0, ["base".to_owned()].as_slice()));
    // However a session goes, its claim goes with it.
    fs::remove_dir_all(&here).unwrap();
    assert_eq!(lab.store.prune(0).unwrap().in_use, ["base"]);
    Store::open(lab.store.folder()).unwrap();
    assert!(there.join("base").exists());
    fs::remove_dir_all(&there).unwrap();
    assert_eq!(lab.store.prune(0).unwrap().images, ["base"]);
    assert!(!lab.blob(&record).exists());
}

#[tokio::test]
async fn a_name_may_go_while_a_session_lies_over_the_image() {
    let lab = Lab::new();
    image(&lab, "base", 16, 3).await;
    let held = lab.store.hold("base").unwrap();
    let bytes = fs::read(held.path()).unwrap();
    let base = lab.path("base");
    held.attach(&base).unwrap();
    held.attach(&base).unwrap();
    drop(held);
    lab.store.remove("base").unwrap();
    assert!(fs::read(&base).unwrap() == bytes);
}

#[tokio::test]
async fn a_store_that_may_only_be_read_can_be_read() {
    let lab = Lab::new();
    image(&lab, "base", 16, 3).await;
    let view = lab.path("view");
    // Permissions do not bind root, a read-only mount does.
    let (_mount, view) = if is_root() {
        let store = lab.path("store");
        (Some(Mount::new(&view, &["-o", "bind,ro", store.to_str().unwrap()])), view)
    } else {
        fs::set_permissions(lab.path("store"), fs::Permissions::from_mode(0o500)).unwrap();
        (None, lab.path("store"))
    };
    let store = Store::open(&view).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    let held = store.hold("base").unwrap();
    let disk = lab.path("disk");
    prepare(&held, &disk, 32 * MIB, Cloning::Auto, &[], Arc::new(NoProgress)).await.unwrap();
    assert_is_sound(&disk);
    assert_eq!(disk.metadata().unwrap().len(), 32 * MIB);
    if is_root() {
        // The other side sees the hold.
        assert_eq!(lab.store.prune(0).unwrap().in_use, ["base"]);
    }
    assert!(store.inspect("base").is_ok());
    let error = store.import("new", &lab.path("base.ext4"), Default::default(), Arc::new(NoProgress)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("cannot make a folder in "), "{error}");
    fs::set_permissions(lab.path("store"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn damage_to_an_image_or_a_grown_one_is_found() {
    let lab = Lab::new();
    let record = image(&lab, "base", 16, 3).await;
    let held = lab.store.hold("base").unwrap();
    prepare(&held, &lab.path("disk"), 32 * MIB, Cloning::Auto, &[], Arc::new(NoProgress)).await.unwrap();
    drop(held);
    let verified = lab.store.verify("base", Arc::new(NoProgress)).await.unwrap();
    assert!(verified.is_sound() && verified.removed_grown == 0);

    let damage = |file: &Path| {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        // The block group descriptors.
        fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[0xa5; 512], 4096).unwrap();
    };
    let kept = fs::read_dir(lab.path("store/grown")).unwrap().next().unwrap().unwrap().path();
    damage(&kept);
    let verified = lab.store.verify("base", Arc::new(NoProgress)).await.unwrap();
    assert!(verified.is_sound() && verified.removed_grown == 1 && !kept.exists());
    damage(&lab.blob(&record));
    assert!(!lab.store.verify("base", Arc::new(NoProgress)).await.unwrap().is_sound());
}

#[tokio::test]
async fn of_many_sessions_at_once_one_grows_the_image() {
    let lab = Lab::new();
    image(&lab, "base", 64, 3).await;
    let start = |index: u32| {
        let mut command = Command::new(program());
        command.arg("session").arg(lab.path("store")).arg("base").arg(lab.path(&format!("disk-{index}")));
        command.arg((256 * MIB).to_string()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..8).map(|index| (index, start(index))).collect();
    let mut growers = 0;
    for (index, child) in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        growers += said.matches("stage: grow").count();
        assert_is_sound(&lab.path(&format!("disk-{index}")));
    }
    assert_eq!((growers, grown(&lab)), (1, 1));
}

#[tokio::test]
async fn killed_at_any_moment_a_preparation_leaves_a_store_that_works() {
    let lab = Lab::new();
    image(&lab, "base", 64, 3).await;
    let disk = lab.path("disk");
    for milliseconds in (0..60).map(|step| step * 2) {
        let mut command = Command::new(program());
        command.arg("session").arg(lab.path("store")).arg("base").arg(&disk).arg((256 * MIB).to_string());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        if disk.exists() {
            assert_is_sound(&disk);
            fs::remove_file(&disk).unwrap();
        }
        // What was grown to the end stays grown; half of the time it has to be done again.
        if milliseconds % 4 == 0 {
            for grown in fs::read_dir(lab.path("store/grown")).unwrap() {
                fs::remove_file(grown.unwrap().path()).unwrap();
            }
        }
    }
    let (output, said) = run_program(
        Command::new(program())
            .arg("session")
            .arg(lab.path("store"))
            .arg("base")
            .arg(&disk)
            .arg((256 * MIB).to_string()),
    );
    assert!(output.status.success(), "{said}");
    assert_is_sound(&disk);
    Store::open(lab.store.folder()).unwrap();
    let left: Vec<_> = fs::read_dir(lab.path("store/grown"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.len() == 1 && left[0].ends_with(".ext4"), "{left:?}");
}
