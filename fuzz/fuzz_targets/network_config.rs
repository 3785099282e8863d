//! The file that the lab pod's containers share: what is read reads back the same when it is written.
#![no_main]

use dozlab_network::NetworkConfig;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = dozlab_fuzz::folder();
    let path = folder.path().join("network-config");
    std::fs::write(&path, data).expect("the folder is ours");
    if let Ok(config) = NetworkConfig::read(&path) {
        config.write(&path).expect("the folder is ours");
        assert_eq!(NetworkConfig::read(&path).expect("it was just written"), config);
    }
});
