//! Index, manifest and configuration of a layout, one line each; the index can name the others by their digests.
#![no_main]

use std::fs;
use std::io::Read;

use dozlab_oci::Layout;
use dozlab_oci::fuzzing::digest_of;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = dozlab_fuzz::folder();
    let layout = folder.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("the folder is new");
    // From the last to the first, so that each can name those behind it: `%0`, `%1`, `%2` stand for their digests.
    let mut documents: Vec<Vec<u8>> = Vec::new();
    for part in data.split(|byte| *byte == b'\n').take(4).collect::<Vec<_>>().into_iter().rev() {
        let mut text = part.to_vec();
        for (number, document) in documents.iter().enumerate() {
            let mark = format!("%{number}");
            if let Some(at) = text.windows(2).position(|pair| pair == mark.as_bytes()) {
                text.splice(at..at + 2, digest_of(document).bytes());
            }
        }
        let digest = digest_of(&text);
        fs::write(blobs.join(&digest["sha256:".len()..]), &text).expect("the folder is ours");
        documents.push(text);
    }
    fs::write(layout.join("index.json"), documents.last().expect("a split has a part")).expect("as above");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("as above");
    let Ok(image) = Layout::open(&layout).expect("its version is right").image(None) else { return };
    for layer in image.layers() {
        if let Ok(mut blob) = image.layout().open_blob(&layer.descriptor) {
            let _ = blob.read_to_end(&mut Vec::new());
        }
    }
});
