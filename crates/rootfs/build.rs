//! Builds anew when a file is added to the definitions of images: `include_dir!` itself notices changes only.

fn main() {
    println!("cargo::rerun-if-changed=../../images");
}
