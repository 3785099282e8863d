//! What cannot be done is said with its remedy, and leaves nothing behind.

use std::fs;
use std::net::TcpListener;

use crate::support::{Place, said};

#[test]
fn an_unknown_image_says_how_to_get_one() {
    let place = Place::new();
    let error = place.fails(&["up", "no-such-image", "--no-editor"]);
    assert!(error.contains("no-such-image") && error.contains("dozlab image import"), "{error}");
    place.assert_nothing_left();
}

#[test]
fn a_disk_smaller_than_its_image_is_refused_with_the_numbers() {
    let place = Place::new();
    let error = place.fails(&["up", "tiny", "--disk", "16M", "--no-editor"]);
    assert!(error.contains("16Mi") && error.contains("--disk "), "{error}");
    place.assert_nothing_left();
}

#[test]
fn numbers_that_make_no_sense_are_a_usage_error() {
    let place = Place::new();
    for (flag, value) in [
        ("--cpus", "33"),
        ("--memory", "lots"),
        ("--disk", "-1"),
        ("--name", "No Good"),
        ("--hypervisor", "xen"),
    ] {
        let output = place.run(&["up", "tiny", &format!("{flag}={value}")]);
        assert_eq!(output.status.code(), Some(2), "{flag}={value}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(flag));
    }
    let error = place.fails(&["up", "tiny", "--memory", "32", "--no-editor"]);
    assert!(error.contains("32Mi") && error.contains("128Mi"), "{error}");
}

#[test]
fn a_port_that_is_taken_names_the_flag() {
    let place = Place::new();
    // Whichever address a lab gets.
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--terminal-port", "--ssh-port"] {
        let error = place.fails(&["up", "tiny", "--disk", "192M", "--no-editor", flag, &port]);
        assert!(error.contains(&port) && error.contains(flag), "{error}");
        place.assert_nothing_left();
    }
}

#[test]
fn the_name_of_a_lab_that_runs_is_taken() {
    let place = Place::new();
    place.up("one", &[]);
    let error = place.fails(&["up", "tiny", "--disk", "192M", "--no-editor", "--name", "one"]);
    assert!(error.contains("running already") && error.contains("dozlab stop one"), "{error}");
    assert_eq!(place.exec("one", "uname -n"), "lab-one");
}

#[test]
fn a_lab_that_is_not_there_says_which_are() {
    let place = Place::new();
    for command in [&["stop", "x"][..], &["rm", "x"], &["logs", "x"], &["exec", "x", "--", "true"]] {
        let error = place.fails(command);
        assert!(error.contains("there is no session `x`"), "{error}");
    }
}

#[test]
fn a_stopped_lab_says_how_to_start_it() {
    let place = Place::new();
    place.up("one", &[]);
    place.ok(&["stop", "one"]);
    let error = place.fails(&["exec", "one", "--", "true"]);
    assert!(error.contains("dozlab up --name one"), "{error}");
}

#[test]
fn files_that_are_no_images_are_refused_and_the_store_stays_as_it_was() {
    let place = Place::new();
    // A store of its own: this test counts what is in it.
    let own = tempfile::tempdir().unwrap();
    let import = |path: &std::path::Path| {
        let mut command = place.command(&["image", "import", path.to_str().unwrap(), "--name", "bad"]);
        command.env("DOZLAB_DATA_DIR", own.path()).output().unwrap()
    };
    let text = own.path().join("text.ext4");
    fs::write(&text, "no file system").unwrap();
    let whole = own.path().join("whole.ext4");
    fs::write(&whole, vec![0; 16 << 20]).unwrap();
    let made =
        std::process::Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(&whole).status().unwrap();
    assert!(made.success());
    let cut = own.path().join("cut.ext4");
    let bytes = fs::read(&whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    for (path, word) in
        [(&text, "file system"), (&cut, "cut short"), (&own.path().join("none.ext4"), "none.ext4")]
    {
        let output = import(path);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(word), "{error}");
    }
    let listed = place
        .command(&["image", "ls", "--output", "json"])
        .env("DOZLAB_DATA_DIR", own.path())
        .output()
        .unwrap();
    assert_eq!(said(&listed).trim(), "[]");
}

#[test]
fn a_missing_hypervisor_names_its_package_and_the_doctor_says_no() {
    let place = Place::new();
    let empty = tempfile::tempdir().unwrap();
    // The programs that are needed before a hypervisor is looked for are in /sbin, which is searched in any case.
    let cache = empty.path().join("cache");
    let run = |arguments: &[&str]| {
        place.command(arguments).env("PATH", empty.path()).env("DOZLAB_CACHE_DIR", &cache).output().unwrap()
    };
    let output = run(&["up", "tiny", "--disk", "192M", "--no-editor"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("apt-get install qemu-system-x86"), "{error}");
    place.assert_nothing_left();

    let doctor = run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(said(&doctor).contains("apt-get install qemu-system-x86"), "{}", said(&doctor));
    assert_eq!(place.run(&["doctor"]).status.code(), Some(0));
}

#[test]
fn a_full_disk_is_said_plainly_and_leaves_nothing() {
    let place = Place::new();
    // A user namespace of our own may mount a small file system without being root.
    let script = r#"mount -t tmpfs -o size=6m none "$1/sessions" &&
        "$2" up tiny --disk 192M --memory 256 --no-editor --disk-mode copy --name one; code=$?
        ls "$1/sessions"; exit $code"#;
    fs::create_dir(place.path().join("sessions")).unwrap();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(place.path())
        .arg(crate::program::DOZLAB);
    command.env("DOZLAB_DATA_DIR", place.path()).env("DOZLAB_CACHE_DIR", place.path().join("cache"));
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    // Whichever write comes first to the end of the space says so.
    assert!(error.to_lowercase().contains("no space left"), "{error}");
    assert!(error.contains("make room") || error.contains("free some"), "{error}");
    place.wait_until_quiet();
    // Within the namespace, where the lab would be.
    assert_eq!(said(&output), "");
}
