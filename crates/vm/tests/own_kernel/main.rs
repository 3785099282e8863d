//! Kernels of our own, from Debian's source: one is built and booted.
//!
//! The slim kernel takes too long for a test. So its configuration is checked against the real source, and a very small
//! kernel is built by the same code.

use std::path::{Path, PathBuf};
use std::time::Instant;

use dozlab_boot::{BuildError, Fragment, KernelBuilder, KernelKind, KernelStore};
use dozlab_vm::probe::{HypervisorKind, Prober};
use tokio::sync::Mutex;

/// One at a time: they share the source.
static WORK: Mutex<()> = Mutex::const_new(());

/// A builder whose source stays beside the build for the other tests.
fn builder() -> KernelBuilder {
    KernelBuilder::new(beside_the_build("kernel-build")).keep(true)
}

fn beside_the_build(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn tell(step: &str) {
    println!("{step}");
}

#[tokio::test]
async fn debians_source_has_every_symbol_of_the_slim_kernel() {
    let _alone = WORK.lock().await;
    builder().check(&tell).await.unwrap();
}

#[tokio::test]
async fn symbols_that_cannot_be_had_are_named() {
    let _alone = WORK.lock().await;
    let text = "CONFIG_64BIT=y\nCONFIG_OVERLAY_FS=m\nCONFIG_NO_SUCH_THING=y\nCONFIG_NR_CPUS=7\n";
    let fragment = Fragment::parse(text.into()).unwrap();
    let error = builder().fragment(fragment).check(&tell).await.unwrap_err();
    let BuildError::Unmet(unmet) = error else { panic!("{error}") };
    let symbols: Vec<_> = unmet.iter().map(|unmet| unmet.symbol.as_str()).collect();
    assert_eq!(symbols, ["CONFIG_OVERLAY_FS", "CONFIG_NO_SUCH_THING", "CONFIG_NR_CPUS"]);
}

#[tokio::test]
async fn a_kernel_is_built_once_and_boots_to_the_guests_first_line() {
    let _alone = WORK.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let store = KernelStore::new(folder.path().join("kernels"));
    let builder = builder().fragment(Fragment::parse(include_str!("tiny.config").into()).unwrap());

    let built = builder.build(&store, &tell).await.unwrap();

    assert!(built.anew);
    let kernel = built.kernel;
    assert_eq!(kernel.kind, KernelKind::Slim);
    assert_eq!(kernel.modules_disk(), None);
    assert_eq!(store.current().unwrap(), kernel);
    let prober = Prober::new(&kernel, folder.path(), true);
    let verdict = prober.verdict(HypervisorKind::QemuTcg).await.unwrap();
    assert!(verdict.first_line.is_ok(), "{verdict:?}");

    let again = Instant::now();
    let known = builder.build(&store, &|step| assert!(!step.contains("compiling"), "{step}")).await.unwrap();
    println!("found again in {:.1} s", again.elapsed().as_secs_f64());
    assert!(!known.anew);
    assert_eq!(known.kernel, kernel);
}
