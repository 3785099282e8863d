//! Archives of `docker save` and of layouts. The first byte chooses between them.
#![no_main]

use dozlab_fuzz::{assert_holds_only, folder, repair};
use dozlab_oci::archive::{ArchiveKind, unpack};

const MOST_BYTES: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, tar)) = data.split_first() else { return };
    let kind = if first % 2 == 0 { ArchiveKind::Docker } else { ArchiveKind::Oci };
    let folder = folder();
    if let Ok(layout) = unpack(kind, repair(tar).as_slice(), &folder.path().join("layout"), None, MOST_BYTES) {
        let _ = layout.image(None);
    }
    assert_holds_only(folder.path(), "layout");
});
