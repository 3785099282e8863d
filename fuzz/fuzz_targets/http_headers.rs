//! What a server answers about versions, ranges and waiting; the same text as an image's location.
#![no_main]

use dozlab_fetch::Location;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dozlab_fetch::fuzzing::headers(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Location::parse(text);
    }
});
