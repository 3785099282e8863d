//! Images that are built from definitions, on the command line and as machines.

use std::fs;

use serde_json::Value;

use super::support::Place;

/// The most bytes that the minimal image may have, compressed.
const SMALL: u64 = 8 << 20;

#[test]
fn the_minimal_image_is_small_and_its_documents_lie_beside_it_and_it_comes_to_a_prompt() {
    let place = Place::new();
    let out = place.path().join("out");
    let folder = out.to_str().unwrap();
    let built = place.ok(&["image", "build", "minimal", "--out", folder, "--output", "json"]);
    let built: Value = serde_json::from_str(&built).unwrap();
    assert_eq!((&built["image"]["name"], &built["image"]["user"]), (&"minimal".into(), &"root".into()));
    let size = fs::metadata(out.join("minimal.ext4.zst")).unwrap().len();
    assert!(size < SMALL && built["published"]["size"] == size, "{built}");
    for name in ["minimal.ext4.zst.sha256", "minimal.provenance.json", "minimal.spdx.json"] {
        assert!(out.join(name).exists(), "{name} is missing");
    }

    let arguments = ["up", "minimal", "--detach", "--name", "one", "--memory", "128", "--disk", "160M"];
    place.ok(&[&arguments[..], &["--no-editor"]].concat());
    assert_eq!(
        place.exec("one", "whoami; cat /etc/os-release"),
        "root\nPRETTY_NAME=\"Dozlab minimal (busybox)\""
    );
    // Its only program, the links to it, and a folder that is writable.
    assert_eq!(place.exec("one", "find /bin -type f; echo x >/root/x && cat /root/x"), "/bin/busybox\nx");
}

#[test]
fn a_definition_that_makes_no_sense_is_told_with_its_line() {
    let place = Place::new();
    let folder = place.path().join("mine");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("image.toml"), "description = 'x'\nbase = { debian = 'bookworm' }\nuser = 7\n")
        .unwrap();
    let error = place.fails(&["image", "build", folder.to_str().unwrap()]);
    assert!(error.contains("line 3") && error.contains("user = 7"), "{error}");
    let error = place.fails(&["image", "build", "wm"]);
    assert!(
        error.contains("no definition of an image `wm`: there are") && error.contains("minimal"),
        "{error}"
    );
}
