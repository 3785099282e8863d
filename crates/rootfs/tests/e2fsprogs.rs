//! The crate against the real e2fsprogs: what goes in is compared with what `debugfs` finds in the image.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod e2fsprogs {
    mod building;
    mod clones;
    mod definitions;
    mod disks;
    mod ext4_files;
    mod folders;
    mod hostile_tars;
    mod init_rootfs;
    mod oci_images;
    mod overlays;
    mod pruning;
    mod stores;
    mod support;
    mod tars;
}
