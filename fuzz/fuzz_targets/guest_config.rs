//! The guest's configuration, which must not show its secrets.
#![no_main]

use dozlab_session::guest_config::GuestConfig;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(config) = serde_json::from_slice::<GuestConfig>(data) {
        let written = serde_json::to_vec(&config).expect("it has only strings and numbers");
        assert!(serde_json::from_slice::<GuestConfig>(&written).expect("it was just written") == config);
        let _ = format!("{config:?}");
    }
});
