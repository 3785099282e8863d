//! The serial console, where the guest is free to write anything: what is shown of it has no control characters.
#![no_main]

use dozlab_vm::console::Console;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
    runtime.block_on(async {
        let mut console = Console::new(data, None).expect("there is no log to open");
        while console.next().await.is_some() {}
        for line in console.last_lines() {
            assert!(!line.contains(|each: char| each.is_control() && each != '\t'), "{line:?}");
        }
    });
});
