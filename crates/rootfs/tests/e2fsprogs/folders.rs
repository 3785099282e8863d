//! A folder becomes an image.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::support::{Lab, assert_is_sound, debugfs, inode, is_root, program, run_program, tool, write};

fn fill(folder: &Path) {
    fs::create_dir_all(folder.join("etc/private")).unwrap();
    write(&folder.join("etc/hostname"), b"lab\n");
    fs::set_permissions(folder.join("etc/hostname"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(folder.join("etc/hostname"), folder.join("etc/again")).unwrap();
    symlink("/nowhere/at/all", folder.join("etc/dangling")).unwrap();
    std::os::unix::net::UnixListener::bind(folder.join("etc/socket")).unwrap();
    tool("mkfifo", &[folder.join("etc/pipe").to_str().unwrap()]);
    tool("touch", &["-h", "-d", "@1500000000", folder.join("etc/hostname").to_str().unwrap()]);
}

#[tokio::test]
async fn everything_but_sockets_is_in_the_image_and_the_folder_is_as_it_was() {
    let lab = Lab::new();
    let folder = lab.path("tree");
    fill(&folder);

    let image = lab.image(&folder).await;

    assert_is_sound(&image);
    assert_eq!(inode(&image, "/etc/hostname"), "regular 04755 0 0 2 4 1500000000");
    assert_eq!(inode(&image, "/etc/again"), "regular 04755 0 0 2 4 1500000000");
    assert!(inode(&image, "/etc/pipe").starts_with("FIFO"));
    assert!(debugfs(&image, "stat /etc/dangling").contains("Fast link dest: \"/nowhere/at/all\""));
    assert!(!debugfs(&image, "ls /etc").contains("socket"));
    assert_eq!(fs::read(folder.join("etc/again")).unwrap(), b"lab\n");
}

/// Run by root this is another user, run by an ordinary user it is that user: in both cases nobody special.
#[test]
fn what_belongs_to_an_ordinary_user_belongs_to_root_in_their_image() {
    const NOBODY: &str = "65534";
    let lab = Lab::new();
    let folder = lab.path("tree");
    fill(&folder);
    let mut command;
    if is_root() {
        fs::set_permissions(lab.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // A copy, for the build's own folder may be closed to others.
        fs::copy(program(), lab.path("rootfs")).unwrap();
        fs::create_dir(lab.path("theirs")).unwrap();
        for path in [&folder, &lab.path("theirs")] {
            tool("chown", &["-R", &format!("{NOBODY}:{NOBODY}"), path.to_str().unwrap()]);
        }
        // Changing the owner took it away.
        tool("chmod", &["4755", folder.join("etc/hostname").to_str().unwrap()]);
        // What is somebody else's stays so.
        tool("chown", &["0:7", folder.join("etc/private").to_str().unwrap()]);
        command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(lab.path("rootfs"));
    } else {
        fs::create_dir(lab.path("theirs")).unwrap();
        command = Command::new(program());
    }
    let (output, said) =
        run_program(command.arg("import").arg(lab.path("theirs/store")).arg("x").arg(&folder));
    assert!(output.status.success(), "{said}");

    let blobs = fs::read_dir(lab.path("theirs/store/blobs/sha256")).unwrap();
    let image = blobs.last().unwrap().unwrap().path();
    assert_is_sound(&image);
    assert_eq!(
        inode(&image, "/etc/hostname").split(' ').take(4).collect::<Vec<_>>(),
        ["regular", "04755", "0", "0"]
    );
    assert!(inode(&image, "/").starts_with("directory 0755 0 0"), "{}", inode(&image, "/"));
    if is_root() {
        assert!(inode(&image, "/etc/private").starts_with("directory 0755 0 7"));
    }
}

#[tokio::test]
async fn a_folder_whose_name_cannot_be_part_of_an_image_is_refused() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("tree/bad\nname")).unwrap();
    let error = lab.import("x", &lab.path("tree")).await.unwrap_err().to_string();
    assert!(error.contains("bad\\nname") && error.contains("line break"), "{error}");
    lab.assert_store_is_empty();
}
