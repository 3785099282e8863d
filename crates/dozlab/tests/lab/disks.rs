//! Labs whose disk lies over the image.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{Place, wait_for};

#[test]
fn a_lab_on_an_overlay_fills_its_disk_reboots_and_leaves_the_image_as_it_was() {
    let place = Place::with_images_of_its_own();
    place.up("one", &["--disk-mode", "overlay"]);
    let folder = place.path().join("sessions/one");
    let image = || fs::read(folder.join("base.ext4")).unwrap();
    let before = image();
    assert!(fs::metadata(folder.join("overlay.ext4")).unwrap().blocks() * 512 < 8 << 20);

    // What is full is the lab's own disk, and it says so.
    let filled =
        "dd if=/dev/zero of=/root/big bs=64k 2>&1 | grep -c 'No space left'; echo x > /root/y || echo no";
    assert_eq!(place.exec("one", filled), "1\nno");
    // A file system may give back a block that it had set aside.
    assert_eq!(place.exec("one", "uname -n; df -k / | awk 'END {print ($4 < 64)}'"), "lab-one\n1");
    place.run(&["exec", "one", "--", "reboot"]);
    wait_for("the second boot", || {
        let status = place.vm_status("one");
        (status["boot"] == 2 && status["state"] == "ready").then_some(())
    });
    let emptied = "rm /root/big && echo kept > /root/kept; sync; ls -d /rom/bin/sh /rom/overlay/upper";
    assert_eq!(place.exec("one", emptied), "/rom/bin/sh\n/rom/overlay/upper");

    // Stopped or not, its image stays: nobody else needs it, and the store is to take nothing.
    let prune = || place.ok(&["image", "prune", "--keep", "0"]);
    assert!(prune().contains("kept tiny: it is in use"));
    place.ok(&["stop", "one"]);
    assert!(prune().contains("kept tiny: it is in use"));
    place.up("one", &[]);
    assert_eq!(place.exec("one", "cat /root/kept"), "kept");
    assert!(image() == before, "the image was written");
    place.ok(&["rm", "one"]);
    assert!(prune().contains("removed tiny"));
}
