//! Builds `dozlab-guest` as a static program, so that it can be embedded in the host's binary.
//!
//! The guest program runs in an initramfs without any library, whatever the host's own build links against. Cargo
//! cannot yet express "this crate embeds that binary, built for another target", so this runs Cargo once more with a
//! target folder of its own (two builds in one folder would wait for each other).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Naming the target keeps the flags below away from build scripts and macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let crates = manifest.parent().expect("the crate stands in the workspace's `crates` folder");
    for input in ["guest/src", "guest/Cargo.toml", "session/src", "session/Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", crates.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=DOZLAB_GUEST_BINARY");

    // A packager may bring a guest program that was built elsewhere.
    let guest = match env::var_os("DOZLAB_GUEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build_guest(&crates.join("guest/Cargo.toml")),
    };
    println!("cargo::rustc-env=DOZLAB_GUEST={}", guest.display());
}

fn build_guest(manifest: &Path) -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // OUT_DIR is TARGET_DIR/PROFILE/build/NAME-HASH/out; the guest is the same for all profiles.
    let target_dir = out.ancestors().nth(4).expect("OUT_DIR lies four levels deep").join("guest");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--bin", "dozlab-guest"])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target_dir)
        // Flags and wrappers meant for the host's build (coverage, clippy) are not meant for the guest's.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "dozlab-guest could not be built: see cargo's messages above");
    target_dir.join(TARGET).join("release/dozlab-guest")
}
