//! How the binary is linked.
//!
//! A lab is several processes of it, and each reads all relocations when it starts. In the packed form (glibc 2.36, as
//! Debian 12 has it) they take a fiftieth: less to read, and less resident in each process.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
