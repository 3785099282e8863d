//! Kernel images. What is taken out of one is an ELF file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(kernel) = dozlab_boot::extract_elf(data) {
        assert!(kernel.starts_with(b"\x7fELF"));
    }
});
