//! A small machine to boot: Debian's kernel, and a disk with busybox whose `/sbin/init` is a test's own
//! script.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dozlab_boot::{Kernel, KernelStore, write_probe_initramfs};
use dozlab_process::Tool;
use dozlab_session::guest_config::{GuestConfig, GuestNetwork};
use dozlab_vm::{Machine, Settings};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::OnceCell;

/// Long enough for a machine that is emulated on a computer with other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Debian's kernel, downloaded by the first run of these tests and kept beside the build.
pub(crate) async fn kernel() -> Kernel {
    static KERNEL: OnceCell<Kernel> = OnceCell::const_new();
    let prepare = async || {
        let store = KernelStore::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels"));
        let kernel = match store.current() {
            Ok(kernel) => kernel,
            Err(_) => store.import_debian(&|step| println!("{step}")).await.unwrap(),
        };
        // With another guest program than last time its initramfs is made anew: once, not by each test.
        let folder = tempfile::tempdir().unwrap();
        write_probe_initramfs(&kernel, &folder.path().join("initramfs")).unwrap();
        kernel
    };
    KERNEL.get_or_init(prepare).await.clone()
}

/// A lab's machine with its files, ready to be launched.
pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) ssh: SocketAddrV4,
}

impl Lab {
    /// A machine whose disk holds busybox, and this script's text as the body of `/sbin/init`.
    pub(crate) async fn with_init(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.ext4");
        make_disk(&folder.path().join("tree"), &disk, script).await;
        Self::with_disk(folder, disk).await
    }

    /// A machine whose disk has this content.
    pub(crate) async fn with_disk_content(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.ext4");
        fs::write(&disk, content).unwrap();
        Self::with_disk(folder, disk).await
    }

    async fn with_disk(folder: TempDir, disk: PathBuf) -> Self {
        let kernel = kernel().await;
        let config = folder.path().join("guest.json");
        fs::write(&config, serde_json::to_vec(&guest_config()).unwrap()).unwrap();
        let ssh = free_port();
        let variables = BTreeMap::from([
            ("ROOTFS_PATH", disk),
            ("KERNEL_PATH", kernel.vmlinux()),
            ("GUEST_CONFIG", config),
            ("RUN_DIR", folder.path().join("run")),
            ("SSH_FORWARD", ssh.to_string().into()),
            ("MEMORY", "256".into()),
            // The most that a guest may be allowed; what is out of its reach then is so with any policy.
            ("EGRESS", "open".into()),
            ("STOP_GRACE_SECONDS", "5".into()),
        ]);
        let lookup = |name: &str| Some(variables.get(name)?.to_str()?.to_owned());
        let settings = Settings::from_env(lookup).unwrap();
        settings.make_run_folder().unwrap();
        let machine = settings.prepare(&kernel).unwrap();
        Self { folder, settings, machine, ssh }
    }

    /// What the guest said on its console, so far as it was kept.
    pub(crate) fn console_log(&self) -> String {
        fs::read_to_string(&self.settings.console_log).unwrap_or_default()
    }

    /// The hypervisor's processes: those that stand in the run folder.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let run_folder = self.folder.path().join("run");
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            (fs::read_link(format!("/proc/{pid}/cwd")).ok()? == run_folder).then_some(pid)
        });
        processes.collect()
    }
}

/// A port of the loopback that nobody listens on.
pub(crate) fn free_port() -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port())
}

async fn make_disk(tree: &Path, disk: &Path, script: &str) {
    for folder in ["bin", "sbin", "etc", "dev", "proc", "sys", "tmp", "run", "root"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
    let busybox = busybox.expect("busybox is not installed: run `apt-get install busybox-static`");
    fs::copy(busybox, tree.join("bin/busybox")).unwrap();
    for applet in
        ["sh", "cat", "echo", "ip", "mount", "nc", "poweroff", "reboot", "sleep", "sync", "tftp", "timeout"]
    {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    let init = tree.join("sbin/init");
    fs::write(&init, format!("#!/bin/sh\nPATH=/bin\nmount -t proc proc /proc 2>/dev/null\n{script}"))
        .unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let make = ["-q", "-t", "ext4", "-d"].map(Into::into).into_iter();
    let make = make.chain([tree.into(), disk.into(), "32M".into()]).collect::<Vec<std::ffi::OsString>>();
    Tool { program: "mke2fs", package: "e2fsprogs" }.run(make).await.unwrap();
}

fn guest_config() -> GuestConfig {
    let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let entropy: [u8; 32] = rand::random();
    GuestConfig {
        session_id: "test".into(),
        hostname: "lab".into(),
        user: "root".into(),
        authorized_key: key().public_key().to_openssh().unwrap(),
        host_key: key().to_openssh(LineEnding::LF).unwrap().to_string(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        entropy: entropy.iter().map(|byte| format!("{byte:02x}")).collect(),
        network: GuestNetwork {
            address: Ipv4Addr::new(172, 16, 0, 2),
            prefix: 24,
            gateway: Ipv4Addr::new(172, 16, 0, 1),
            dns: vec![Ipv4Addr::new(172, 16, 0, 3)],
        },
        root_device: "/dev/vda".into(),
        overlay_device: None,
        modules_device: None,
    }
}

/// The guest's console, line by line.
pub(crate) struct ConsoleLines {
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
}

impl ConsoleLines {
    pub(crate) fn new(console: ChildStdout) -> Self {
        Self { lines: BufReader::new(console).lines(), said: Vec::new() }
    }

    /// The next line, `None` where none comes within that time, or the console has ended.
    pub(crate) async fn next(&mut self, patience: Duration) -> Option<String> {
        let line = tokio::time::timeout(patience, self.lines.next_line()).await.ok()?;
        let line = line.unwrap()?.trim_end().to_owned();
        self.said.push(line.clone());
        Some(line)
    }

    /// Reads on until a line holds this text, and returns the lines on the way, that one the last.
    pub(crate) async fn until(&mut self, text: &str) -> Vec<String> {
        let from = self.said.len();
        loop {
            match self.next(PATIENCE).await {
                Some(line) if line.contains(text) => return self.said[from..].to_vec(),
                Some(_) => {}
                None => panic!("no line of the console holds `{text}`; it said:\n{}", self.said.join("\n")),
            }
        }
    }
}
