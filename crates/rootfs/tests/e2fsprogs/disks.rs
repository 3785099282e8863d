//! A disk: cloned, grown, in place only when complete.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dozlab_rootfs::disk::{Cloning, Method, PrepareError, Prepared, prepare_file};
use dozlab_rootfs::{NoProgress, Progress, Stage, Update};

use super::support::{Lab, Mount, assert_is_sound, is_root, program, run_program, tool, write};

const MIB: u64 = 1 << 20;

async fn prepare_quietly(image: &Path, disk: &Path, size: u64) -> Result<Prepared, PrepareError> {
    prepare_file(image, disk, size, Cloning::Auto, &[], Arc::new(NoProgress)).await
}

fn assert_nothing_at(disk: &Path) {
    assert!(!disk.exists(), "the disk is there");
    assert!(!Path::new(&format!("{}.partial", disk.display())).exists(), "the partial disk is there");
}

#[tokio::test]
async fn a_disk_is_the_image_grown_to_its_size_and_mostly_holes() {
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 64), lab.path("disk"));
    let before = fs::read(&image).unwrap();

    let prepared = prepare_quietly(&image, &disk, 4096 * MIB + 1000).await.unwrap();

    assert_eq!(prepared.size, 4096 * MIB);
    let stages: Vec<Stage> = prepared.steps.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, [Stage::Copy, Stage::Check, Stage::Grow, Stage::Sync]);
    let metadata = disk.metadata().unwrap();
    assert_eq!(metadata.len(), 4096 * MIB);
    assert!(metadata.blocks() * 512 < 64 * MIB, "it takes {} bytes", metadata.blocks() * 512);
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_is_sound(&disk);
    let header = tool("dumpe2fs", &["-h", disk.to_str().unwrap()]);
    assert!(header.contains("Block count:              1048576\n"), "{header}");
    assert!(fs::read(&image).unwrap() == before, "the image was changed");
}

#[tokio::test]
async fn a_complete_disk_is_kept_and_anything_else_in_its_place_too() {
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 16), lab.path("disk"));
    prepare_quietly(&image, &disk, 32 * MIB).await.unwrap();
    OpenOptions::new().write(true).open(&disk).unwrap().write_all_at(b"learner's", 20 * MIB).unwrap();
    let before = fs::read(&disk).unwrap();
    let prepared = prepare_quietly(&lab.path("no image needed"), &disk, 64 * MIB).await.unwrap();
    assert_eq!((prepared.method, prepared.size), (Method::Kept, 32 * MIB));
    assert!(fs::read(&disk).unwrap() == before);

    write(&disk, b"something else");
    let error = prepare_quietly(&image, &disk, 32 * MIB).await.unwrap_err();
    assert!(matches!(error, PrepareError::Occupied { .. }), "{error}");
    assert_eq!(fs::read(&disk).unwrap(), b"something else");
}

#[tokio::test]
async fn images_that_cannot_become_the_disk_are_refused() {
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 64), lab.path("disk"));
    let error = prepare_quietly(&image, &disk, 63 * MIB).await.unwrap_err();
    assert!(
        matches!(error, PrepareError::TooSmall { asked, minimum } if (asked, minimum) == (63 * MIB, 64 * MIB))
    );
    assert_eq!(
        error.to_string(),
        "a disk of 63.0 MiB (66060288 bytes) cannot hold the image, which needs 64.0 MiB (67108864 bytes)"
    );

    write(&lab.path("noise"), &[5; 8192]);
    let error = prepare_quietly(&lab.path("noise"), &disk, 64 * MIB).await.unwrap_err();
    assert!(matches!(error, PrepareError::NotAFileSystem { .. }), "{error}");
    let error = prepare_quietly(&lab.path("absent"), &disk, 64 * MIB).await.unwrap_err();
    assert!(matches!(error, PrepareError::Unreadable { .. }), "{error}");

    OpenOptions::new().write(true).open(&image).unwrap().set_len(10 * MIB).unwrap();
    let error = prepare_quietly(&image, &disk, 64 * MIB).await.unwrap_err();
    assert!(matches!(error, PrepareError::CutShort { .. }), "{error}");
    assert_nothing_at(&disk);
}

#[tokio::test]
async fn small_damage_is_repaired_in_the_disk_and_not_in_the_image() {
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 64), lab.path("disk"));
    tool("debugfs", &["-w", "-R", "set_super_value free_blocks_count 5", image.to_str().unwrap()]);
    let before = fs::read(&image).unwrap();
    prepare_quietly(&image, &disk, 128 * MIB).await.unwrap();
    assert_is_sound(&disk);
    assert!(fs::read(&image).unwrap() == before);
}

#[tokio::test]
async fn two_preparations_of_one_disk_do_not_meet() {
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 64), lab.path("disk"));
    let (one, other) =
        tokio::join!(prepare_quietly(&image, &disk, 128 * MIB), prepare_quietly(&image, &disk, 128 * MIB));
    let error = [one, other].into_iter().find_map(Result::err).expect("one of the two comes second");
    assert!(matches!(error, PrepareError::Busy { .. }), "{error}");
    assert_is_sound(&disk);
}

#[tokio::test]
async fn dropping_the_preparation_at_any_stage_removes_the_partial_disk() {
    struct Waker(Stage, tokio::sync::Notify);
    impl Progress for Waker {
        fn update(&self, update: Update<'_>) {
            if update.stage == self.0 {
                self.1.notify_one();
            }
        }
    }
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 64), lab.path("disk"));
    for stage in [Stage::Check, Stage::Grow] {
        let progress = Arc::new(Waker(stage, tokio::sync::Notify::new()));
        tokio::select! {
            biased;
            () = progress.1.notified() => {}
            result = prepare_file(&image, &disk, 128 * MIB, Cloning::Auto, &[], progress.clone()) => panic!("not dropped in time: {result:?}"),
        }
        assert_nothing_at(&disk);
    }
}

#[test]
fn a_preparation_killed_at_any_stage_leaves_no_disk_and_the_next_makes_a_correct_one() {
    let lab = Lab::new();
    let image = lab.ext4("image.ext4", 64);
    for stage in ["check", "grow", "write through"] {
        let disk = lab.path(&format!("disk {stage}"));
        let mut command = Command::new(program());
        command.arg("prepare").arg(&image).arg(&disk).arg((256 * MIB).to_string());
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
        if disk.exists() {
            // The kill came after the rename: then it must be whole.
            assert_eq!(stage, "write through");
            assert_is_sound(&disk);
        }
        let (output, said) = run_program(
            Command::new(program()).arg("prepare").arg(&image).arg(&disk).arg((256 * MIB).to_string()),
        );
        assert!(output.status.success(), "{said}");
        assert_is_sound(&disk);
        assert_eq!(disk.metadata().unwrap().len(), 256 * MIB);
    }
}

#[test]
fn running_out_of_space_is_said_plainly_and_leaves_nothing() {
    let lab = Lab::new();
    let (image, disk) = (lab.ext4("image.ext4", 64), lab.path("disk"));
    // Less than the image: the copy fails. More than it, less than the disk: the growing fails.
    for blocks in [32 * 1024, 96 * 1024] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash"]).arg(program()).arg("prepare").arg(&image).arg(&disk);
        let (output, said) = run_program(command.arg((128 * MIB).to_string()));
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("error: no space left in ") && said.contains("available"), "{said}");
        assert_nothing_at(&disk);
    }
}

#[tokio::test]
async fn a_full_file_system_is_noticed_before_it_is_filled() {
    let lab = Lab::new();
    let image = lab.ext4("image.ext4", 64);
    OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&vec![1; 20 << 20], 40 * MIB).unwrap();
    // Only root can mount a small one; to others the small one is the image itself, larger than any disk.
    if is_root() {
        let small = lab.path("small");
        let _mount = Mount::new(&small, &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        let error = prepare_quietly(&image, &small.join("disk"), 128 * MIB).await.unwrap_err();
        let PrepareError::NoSpace(no_space) = error else { panic!("{error}") };
        assert!(no_space.needed > 20 * MIB && no_space.available <= 4 * MIB, "{no_space:?}");
        assert_nothing_at(&small.join("disk"));
    } else {
        let error = prepare_quietly(&image, &lab.path("disk"), u64::MAX).await.unwrap_err();
        assert!(matches!(error, PrepareError::NoSpace(_) | PrepareError::Write { .. }), "{error}");
        assert_nothing_at(&lab.path("disk"));
    }
}
