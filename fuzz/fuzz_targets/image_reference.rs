//! Image references: what is read is shown in a form that reads back the same.
#![no_main]

use dozlab_oci::ImageReference;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ImageReference>() {
        let _ = reference.short_name();
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
});
