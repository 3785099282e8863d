//! Layers of an image: two tars, the first as many blocks long as the first byte says.
#![no_main]

use dozlab_fuzz::{assert_holds_only, folder, repair};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, tars)) = data.split_first() else { return };
    let (lower, upper) = tars.split_at(tars.len().min(usize::from(*first) * 512));
    let folder = folder();
    dozlab_rootfs::fuzzing::layers(&[&repair(lower), &repair(upper)], folder.path());
    assert_holds_only(folder.path(), "tree");
});
