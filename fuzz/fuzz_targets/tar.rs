//! A tar of a root file system.
#![no_main]

use dozlab_fuzz::{assert_holds_only, folder, repair};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = folder();
    dozlab_rootfs::fuzzing::tar(&repair(data), folder.path());
    assert_holds_only(folder.path(), "tree");
});
