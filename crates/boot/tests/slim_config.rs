//! The slim kernel's configuration against Debian's real source. Building it takes too long for a test: `make
//! bench-kernel` does that, and boots it.

use std::path::{Path, PathBuf};

use dozlab_boot::{BuildError, Fragment, KernelBuilder};
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
