//! The question which hypervisor can boot Linux here, asked of this machine, and remembered.

use std::fs;
use std::path::{Path, PathBuf};

use dozlab_boot::Kernel;
use dozlab_vm::probe::{Prober, Verdict};
use dozlab_vm::{Choice, HypervisorKind};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::kernel;

/// Sooner than any machine can boot: a verdict with this number was remembered, not asked for.
const PLANTED: u64 = 7;

fn cache() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hypervisors.json");
    (folder, cache)
}

/// Puts [`PLANTED`] into all remembered verdicts.
fn plant(cache: &Path) {
    let mut remembered: Value = serde_json::from_slice(&fs::read(cache).unwrap()).unwrap();
    for verdict in remembered.as_object_mut().unwrap().values_mut() {
        verdict["firstLine"] = json!({ "Ok": PLANTED });
    }
    fs::write(cache, remembered.to_string()).unwrap();
}

fn first_line(verdict: &Verdict) -> u64 {
    assert!(verdict.probed);
    *verdict.first_line.as_ref().expect("the machine boots")
}

#[tokio::test]
async fn a_verdict_is_remembered_until_the_kernel_or_the_binary_changes() {
    let kernel = kernel().await;
    let (folder, cache) = cache();
    let kind = HypervisorKind::QemuTcg;
    let ask = async |kernel: &Kernel, fresh: bool| {
        first_line(&Prober::new(kernel, folder.path(), fresh).verdict(kind).await.unwrap())
    };

    assert!(ask(&kernel, false).await > PLANTED, "Linux needs longer");
    plant(&cache);
    assert_eq!(ask(&kernel, false).await, PLANTED, "what is remembered is not asked again");

    let other = Kernel { release: "6.1.0-other".into(), ..kernel.clone() };
    assert!(ask(&other, false).await > PLANTED, "a verdict is about one kernel");
    plant(&cache);
    assert_eq!(ask(&other, false).await, PLANTED);
    assert_eq!(ask(&kernel, false).await, PLANTED, "one kernel's verdict does not displace the other's");

    // As if QEMU, or the kernel, had been another file when it was asked.
    for file in [dozlab_vm::qemu::QEMU.find().unwrap(), kernel.vmlinux()] {
        let length = fs::metadata(&file).unwrap().len().to_string();
        let remembered = fs::read_to_string(&cache).unwrap();
        assert!(remembered.contains(&length), "{remembered}");
        fs::write(&cache, remembered.replace(&length, "1")).unwrap();
        assert!(ask(&kernel, false).await > PLANTED, "a verdict is about {}", file.display());
        plant(&cache);
    }
    let remembered = fs::read_to_string(&cache).unwrap();
    fs::write(&cache, remembered.replace(&kernel.initramfs_checksum(), "0")).unwrap();
    assert!(ask(&kernel, false).await > PLANTED, "a verdict is about one initramfs");

    plant(&cache);
    assert!(ask(&kernel, true).await > PLANTED, "who asks anew gets a new answer");
}

#[tokio::test]
async fn a_damaged_memory_is_no_verdict() {
    let kernel = kernel().await;
    let (folder, cache) = cache();
    fs::write(&cache, "{\"qemu-tcg").unwrap();
    let prober = Prober::new(&kernel, folder.path(), false);
    first_line(&prober.verdict(HypervisorKind::QemuTcg).await.unwrap());
    plant(&cache);
    assert_eq!(first_line(&prober.verdict(HypervisorKind::QemuTcg).await.unwrap()), PLANTED);
}

/// `/dev/kvm` may be missing, work, or open and never boot Linux; in any case what is chosen has booted.
#[tokio::test]
async fn what_is_chosen_has_booted_and_what_was_passed_over_has_a_reason() {
    let kernel = kernel().await;
    let (folder, _) = cache();
    let prober = Prober::new(&kernel, folder.path(), false);

    let chosen = prober.choose(Choice::Auto, false).await.unwrap();

    for kind in HypervisorKind::ALL {
        let verdict = prober.verdict(kind).await.unwrap();
        if kind == chosen {
            assert!(first_line(&verdict) > PLANTED, "{verdict:?}");
            break;
        }
        let reason = verdict.first_line.expect_err("a better one that boots would have been chosen");
        assert!(reason.len() > 20, "{kind}: {reason}");
        let kvm = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if kind == HypervisorKind::QemuKvm && kvm.is_ok() {
            assert!(verdict.probed, "a /dev/kvm that opens is believed nothing, and is tried");
            let said =
                ["Linux did not reach our first program within", "it ended before", "ended as soon as"];
            assert!(said.iter().any(|said| reason.contains(said)), "{reason}");
        }
    }
    let with_user_network = prober.choose(Choice::Auto, true).await.unwrap();
    assert!(with_user_network.has_user_network());
    assert!(with_user_network >= chosen);
}

#[tokio::test]
async fn a_choice_that_cannot_be_is_refused_with_what_to_do() {
    let kernel = kernel().await;
    let (folder, cache) = cache();
    let prober = Prober::new(&kernel, folder.path(), false);
    let firecracker = Choice::Only(HypervisorKind::Firecracker);
    let error = prober.choose(firecracker, true).await.unwrap_err().to_string();
    let expected = "Firecracker needs a tap device: use `--network pod` as root, or `--hypervisor qemu`";
    assert_eq!(error, expected);
    assert!(!cache.exists(), "nothing was booted");
}
