//! Images to serve, and the process that makes disks of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::server::{Answer, Server};

/// A folder for one test.
pub(crate) struct Lab(tempfile::TempDir);

impl Lab {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An ext4 image of so many MiB with one file of so many bytes that do not compress.
    pub(crate) fn image(&self, mib: u32, bytes: usize) -> Vec<u8> {
        let (folder, image) = (self.path("content"), self.path("content.ext4"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), super::server::content(bytes)).unwrap();
        let _ = fs::remove_file(&image);
        let size = format!("{mib}M");
        let (folder, image) = (folder.to_str().unwrap(), image.to_str().unwrap());
        tool("mke2fs", &["-q", "-t", "ext4", "-b", "4096", "-d", folder, image, &size]);
        fs::read(image).unwrap()
    }

    /// `init-rootfs` with its disk in this folder.
    pub(crate) fn init(&self, url: &str) -> Command {
        let mut command = Command::new(program());
        command.arg("init").env("IMAGE_DOWNLOAD_URL", url).env("IMAGE_PATH", self.path("disk"));
        command.env("IMAGE_SIZE", "64M").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command
    }

    /// The disk holds the image's file system, sound and grown, with its file.
    pub(crate) fn assert_disk_is_right(&self, disk: &str, file_bytes: usize) {
        let disk = self.path(disk);
        tool("e2fsck", &["-fn", disk.to_str().unwrap()]);
        assert_eq!(fs::metadata(&disk).unwrap().len(), 64 << 20);
        let copy = self.path("dumped");
        let dump = format!("dump /file {}", copy.display());
        tool("debugfs", &["-R", &dump, disk.to_str().unwrap()]);
        assert!(fs::read(copy).unwrap() == super::server::content(file_bytes), "the file is another one");
    }
}

/// A server that has this one file, and is honest.
pub(crate) fn serve(body: Vec<u8>) -> Server {
    Server::new(move |request, _| match request.path.split('?').next() {
        Some("/image") => Answer::file(request, &body, "\"v1\""),
        _ => Answer::new(404, b""),
    })
}

pub(crate) fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

pub(crate) fn succeed(command: &mut Command) -> String {
    let (output, said) = run(command);
    assert!(output.status.success(), "{said}");
    said
}

pub(crate) fn fail(command: &mut Command) -> String {
    let (output, said) = run(command);
    assert!(!output.status.success(), "{said}");
    said
}

/// The program of `examples/rootfs.rs`, which is built together with the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(Path::parent).unwrap().join("examples/rootfs");
    assert!(program.exists(), "{} is not built: run the tests of the whole package", program.display());
    program
}

pub(crate) fn tool(program: &str, arguments: &[&str]) {
    tool_says(program, arguments);
}

/// What a program of e2fsprogs prints on standard output.
pub(crate) fn tool_says(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let (output, said) = run(Command::new(program).args(arguments).env("PATH", path));
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
