//! A place for the labs of one test, and what is asked about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::DOZLAB;

/// How long anything may take before a test gives up. Machines are emulated, and tests run beside each other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The kernel and the images that all tests use.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("labs");
        fs::create_dir_all(&folder).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = Command::new(DOZLAB);
            command
                .args(arguments)
                .env("DOZLAB_DATA_DIR", &folder)
                .env("DOZLAB_CACHE_DIR", folder.join("cache"));
            command
        };
        if !said(&succeeded(command(&["kernel", "ls"]).output().unwrap())).contains("amd64") {
            succeeded(command(&["kernel", "import"]).output().unwrap());
        }
        let tree = folder.join("tree");
        make_busybox_tree(&tree);
        succeeded(command(&["image", "import", tree.to_str().unwrap(), "--name", "tiny"]).output().unwrap());
        // The verdict about hypervisors is found once, not by each test.
        succeeded(command(&["doctor"]).output().unwrap());
        folder
    })
}

/// A root file system of one static program and the names it is called by.
fn make_busybox_tree(tree: &Path) {
    let _ = fs::remove_dir_all(tree);
    for folder in ["bin", "etc", "root", "tmp", "proc", "sys", "dev", "run", "var"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("Debian's package busybox-static is installed");
    let listed = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in said(&listed).lines().filter(|name| !["busybox", "init", "linuxrc"].contains(name)) {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(tree.join("etc/group"), "root:x:0:\n").unwrap();
}

/// The labs of one test, gone with it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let shared = shared();
        let folder = tempfile::Builder::new().prefix("dozlab-test-").tempdir().unwrap();
        for part in ["images", "kernels"] {
            std::os::unix::fs::symlink(shared.join(part), folder.path().join(part)).unwrap();
        }
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder }
    }

    /// The same, with a store that no other test uses.
    pub(crate) fn with_images_of_its_own() -> Self {
        let place = Self::new();
        fs::remove_file(place.path().join("images")).unwrap();
        let tree = shared().join("tree");
        place.ok(&["image", "import", tree.to_str().unwrap(), "--name", "tiny"]);
        place
    }

    /// The same, with the store of whoever runs the tests: it has the image `vm`, which takes minutes to build.
    pub(crate) fn with_the_users_images() -> Self {
        let listed =
            Command::new(DOZLAB).args(["image", "inspect", "vm", "--output", "json"]).output().unwrap();
        let found: Value = serde_json::from_slice(&succeeded(listed).stdout).unwrap();
        // IMAGES/blobs/sha256/DIGEST
        let images = Path::new(found["path"].as_str().unwrap()).ancestors().nth(3).unwrap().to_owned();
        let place = Self::new();
        fs::remove_file(place.path().join("images")).unwrap();
        std::os::unix::fs::symlink(images, place.path().join("images")).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(DOZLAB);
        command.args(arguments).stdin(Stdio::null());
        command.env("DOZLAB_DATA_DIR", self.path()).env("DOZLAB_CACHE_DIR", shared().join("cache"));
        command.env("TMPDIR", self.path().join("tmp"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        said(&succeeded(self.run(arguments)))
    }

    /// Runs a command that must fail with exit code 1, and returns its standard error.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} said {error}");
        error
    }

    /// Starts a lab of the tiny image in the background.
    pub(crate) fn up(&self, name: &str, more: &[&str]) -> Value {
        let mut arguments = vec!["up", "tiny", "--detach", "--output", "json", "--name", name];
        arguments.extend(["--memory", "256", "--disk", "192M", "--no-editor"]);
        arguments.extend(more);
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    /// Runs a shell command in a lab's machine, and returns what it printed.
    pub(crate) fn exec(&self, name: &str, script: &str) -> String {
        self.ok(&["exec", name, "--", "sh", "-c", script]).trim_end().to_owned()
    }

    pub(crate) fn record(&self, name: &str) -> Value {
        let text = fs::read(self.path().join("sessions").join(name).join("session.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub(crate) fn vm_status(&self, name: &str) -> Value {
        let path = self.path().join("sessions").join(name).join("shared/vm-status.json");
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        let listed: Value = serde_json::from_str(&self.ok(&["ls", "--output", "json"])).unwrap();
        let found = listed.as_array().unwrap().iter().find(|lab| lab["name"] == name);
        found.map_or_else(|| "gone".into(), |lab| lab["state"].as_str().unwrap().to_owned())
    }

    /// The processes that work for this place: those whose command line or environment names its folder.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let mark = self.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let read = |file: &str| {
                String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default())
                    .replace('\0', " ")
            };
            let command = read("cmdline");
            if command.contains(&mark) || read("environ").contains(&mark) {
                found.push((pid, command));
            }
        }
        found
    }

    /// Waits for a process of this place that runs a program of this name, and returns its pid.
    pub(crate) fn wait_for_process(&self, program: &str) -> u32 {
        wait_for(program, || {
            let mut processes = self.processes().into_iter();
            processes.find(|(_, command)| command.contains(program)).map(|(pid, _)| pid)
        })
    }

    /// Waits until no process works for this place.
    pub(crate) fn wait_until_quiet(&self) {
        wait_for("all processes to end", || self.processes().is_empty().then_some(()));
    }

    /// That nothing of any lab is left: no process, no mount, no session, no half-made file.
    pub(crate) fn assert_nothing_left(&self) {
        self.wait_until_quiet();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mark = self.path().to_str().unwrap();
        let left: Vec<_> = mounts.lines().filter(|mount| mount.contains(mark)).collect();
        assert!(left.is_empty(), "left mounted: {left:?}");
        for part in ["sessions", "tmp"] {
            let left = entries(&self.path().join(part));
            assert!(left.is_empty(), "left in {part}: {left:?}");
        }
        let known = ["cache", "images", "kernels", "sessions", "sessions.lock", "tmp"];
        let left = entries(self.path());
        assert!(left.iter().all(|part| known.contains(&part.as_str())), "{left:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all"]);
        let _ = self.run(&["gc"]);
        if !std::thread::panicking() {
            self.wait_until_quiet();
        }
    }
}

/// The names in a folder, none where it is not there.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to one process.
pub(crate) fn kill(pid: u64, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "cannot send {signal} to {pid}");
}
