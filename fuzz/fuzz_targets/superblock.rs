//! The superblock of an ext4 file, and what tells kinds of sources apart.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dozlab_rootfs::fuzzing::source(data, dozlab_fuzz::folder().path()));
