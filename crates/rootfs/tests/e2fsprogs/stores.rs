//! The store: names, digests, holders, several processes, crashes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dozlab_rootfs::Store;
use dozlab_rootfs::store::{RemovedBlob, StoreError};

use super::support::{Entry, Lab, program, run_program, tar, write};

#[tokio::test]
async fn images_are_found_by_name_and_by_the_beginning_of_their_digest() {
    let lab = Lab::new();
    let record = lab.import("one", &lab.ext4("one.ext4", 16)).await.unwrap();
    assert_eq!(lab.store.list().unwrap(), std::slice::from_ref(&record));
    assert_eq!(lab.store.get("one").unwrap(), record);
    let digest = record.digest.to_string();
    assert_eq!(lab.store.get(&digest).unwrap(), record);
    assert_eq!(lab.store.get(&record.digest.digits()[..12]).unwrap(), record);
    assert!(lab.store.get(&record.digest.digits()[..3]).is_err(), "three digits name no image");
    let error = lab.store.get("two").unwrap_err().to_string();
    assert_eq!(error, "there is no image `two`: there are one");
    assert_eq!(fs::metadata(lab.path("store")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn an_image_goes_with_its_last_name_unless_somebody_holds_it() {
    let lab = Lab::new();
    let source = lab.ext4("source.ext4", 16);
    let record = lab.import("one", &source).await.unwrap();
    lab.import("two", &source).await.unwrap();
    let held = lab.store.hold("two").unwrap();

    assert_eq!(lab.store.remove("one").unwrap().blob, RemovedBlob::StillNamed(vec!["two".into()]));
    assert_eq!(lab.store.remove("two").unwrap().blob, RemovedBlob::InUse);
    assert!(held.path().exists());
    Store::open(lab.store.folder()).unwrap();
    assert!(held.path().exists(), "a sweep removed an image that is held");
    drop(held);
    Store::open(lab.store.folder()).unwrap();
    assert!(!lab.blob(&record).exists());
    assert!(matches!(lab.store.remove("two"), Err(StoreError::NoSuchImage { .. })));
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn a_name_that_is_given_anew_lets_go_of_its_former_image() {
    let lab = Lab::new();
    let former = lab.import("x", &lab.ext4("one.ext4", 16)).await.unwrap();
    let new = lab.import("x", &lab.ext4("two.ext4", 20)).await.unwrap();
    assert!(!lab.blob(&former).exists() && lab.blob(&new).exists());
    assert_eq!(lab.store.list().unwrap(), [new]);
}

#[test]
fn many_processes_may_import_one_name_at_once() {
    let lab = Lab::new();
    let body = vec![3; 1 << 20];
    write(&lab.path("a.tar"), &tar(&[Entry::file("body", &body), Entry::file("a", b"a")]));
    write(&lab.path("b.tar"), &tar(&[Entry::file("body", &body), Entry::file("b", b"b")]));
    let start = |source: &str| {
        let mut command = Command::new(program());
        command.arg("import").arg(lab.path("store")).arg("x").arg(lab.path(source));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = ["a.tar", "b.tar", "a.tar", "b.tar", "a.tar", "b.tar"].map(start).into();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let records = lab.store.list().unwrap();
    assert_eq!(records.len(), 1);
    let blobs: Vec<_> = fs::read_dir(lab.path("store/blobs/sha256")).unwrap().collect();
    assert_eq!(blobs.len(), 1);
    assert!(lab.blob(&records[0]).exists());
}

#[test]
fn an_import_killed_at_any_stage_leaves_only_what_the_next_open_sweeps() {
    let lab = Lab::new();
    let body = vec![3; 4 << 20];
    write(&lab.path("a.tar"), &tar(&[Entry::file("body", &body)]));
    for stage in ["unpack", "make file system", "compute digest"] {
        let mut command = Command::new(program());
        command.arg("import").arg(lab.path("store")).arg("x").arg(lab.path("a.tar"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with(&format!("stage: {stage}")) {
            line.clear();
            assert!(
                std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0,
                "{stage} was never reached"
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(lab.store.list().unwrap(), []);
        // The lock on the folder goes with the process; a program it ran may take a moment to follow it.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            Store::open(lab.store.folder()).unwrap();
            if fs::read_dir(lab.path("store/tmp")).unwrap().next().is_none() {
                break;
            }
            assert!(Instant::now() < deadline, "the folder of a dead import was not swept");
        }
        lab.assert_store_is_empty();
    }
}

#[test]
fn running_out_of_space_is_said_plainly_and_leaves_nothing() {
    // A limit on the size of files is to a program what a full disk is, and needs no root.
    let lab = Lab::new();
    let body: Vec<u8> = (0..4_u32 << 18).flat_map(u32::to_le_bytes).collect();
    write(&lab.path("a.tar"), &tar(&[Entry::file("body", &body)]));
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$@\"";
    let (output, said) = run_program(
        Command::new("bash")
            .args(["-c", script, "bash"])
            .arg(program())
            .arg("import")
            .arg(lab.path("store"))
            .arg("x")
            .arg(lab.path("a.tar")),
    );
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("error: no space left in ") && said.contains("needed"), "{said}");
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn a_damaged_record_is_named_and_costs_no_image() {
    let lab = Lab::new();
    let record = lab.import("one", &lab.ext4("one.ext4", 16)).await.unwrap();
    write(&lab.path("store/images/one.json"), b"{\"name\":");
    let error = lab.store.list().unwrap_err().to_string();
    assert!(error.contains("images/one.json is damaged"), "{error}");
    let _ = Store::open(lab.store.folder());
    assert!(lab.blob(&record).exists(), "an image was lost for its record");
}
