//! The rival: the same kernel and image, booted as one does without Dozlab. A busybox initramfs loads the modules,
//! sets the address and hands over to the image's init; the prompt comes from the image's own sshd.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dozlab_boot::KernelStore;

use crate::{KERNEL, MEMORY_MIB, dozlab, ends_with_prompt};

const INIT: &str = r#"#!/busybox sh
/busybox mkdir -p /proc /sys /newroot
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sysfs /sys
/busybox mount -t devtmpfs dev /dev
while read module; do /busybox insmod /modules/$module; done < /modules/order
/busybox ip link set lo up
/busybox ip address add 172.16.0.2/24 dev eth0
/busybox ip link set eth0 up
/busybox ip route add default via 172.16.0.1
until /busybox mount -t ext4 /dev/vda /newroot 2>/dev/null; do /busybox sleep 0.1; done
exec /busybox switch_root /newroot /sbin/init
"#;

/// How long sshd may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(180);

/// Boots the image plainly, and returns the seconds from QEMU's start to a prompt over ssh.
pub(crate) fn seconds_to_prompt(data: &Path) -> f64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kernel = KernelStore::new(data.join("kernels")).find(KERNEL).expect("a lab was started with it");
    let kernel = &kernel.folder;
    let initramfs = folder.path().join("initramfs");
    fs::write(&initramfs, make_initramfs(kernel)).expect("the initramfs is written");
    let key = make_key(folder.path());
    let disk = make_disk(data, folder.path(), &key);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");

    let started = Instant::now();
    let mut qemu = boot(kernel, &initramfs, &disk, port.port());
    let prompt = wait_for_prompt(&key, port.port(), started);
    let _ = qemu.kill();
    let _ = qemu.wait();
    prompt
}

fn make_initramfs(kernel: &Path) -> Vec<u8> {
    let early = kernel.join("early");
    let order = fs::read(early.join("order")).expect("the kernel has a list of modules");
    let busybox = fs::read("/bin/busybox").expect("Debian's package busybox-static is installed");
    let mut files = vec![
        ("dev".to_owned(), 0o040_755, Vec::new()),
        ("modules".to_owned(), 0o040_755, Vec::new()),
        ("busybox".to_owned(), 0o100_755, busybox),
        ("init".to_owned(), 0o100_755, INIT.into()),
        ("modules/order".to_owned(), 0o100_644, order.clone()),
    ];
    for module in String::from_utf8_lossy(&order).lines() {
        files.push((
            format!("modules/{module}"),
            0o100_644,
            fs::read(early.join(module)).expect("the module is there"),
        ));
    }
    let mut archive = Vec::new();
    for (name, mode, content) in files {
        let length = u32::try_from(content.len()).expect("files are small");
        let mut writer = cpio::newc::Builder::new(&name).mode(mode).nlink(1).write(&mut archive, length);
        writer.write_all(&content).expect("memory takes what is written");
        writer.finish().expect("memory takes what is written");
    }
    cpio::newc::trailer(archive).expect("memory takes what is written")
}

fn make_key(folder: &Path) -> std::path::PathBuf {
    let key = folder.join("key");
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(status.expect("ssh-keygen runs").success());
    key
}

/// A copy of the image with the key in it.
fn make_disk(data: &Path, folder: &Path, key: &Path) -> std::path::PathBuf {
    let record =
        fs::read(data.join("images/images/vm.json")).expect("there is an image `vm`: a lab was started");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("a record is JSON");
    let digest = record["digest"].as_str().expect("a record has a digest").replace("sha256:", "");
    let image = data.join(format!("images/blobs/sha256/{digest}.ext4"));
    let disk = folder.join("disk");
    let copied =
        Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&image).arg(&disk).status();
    assert!(copied.expect("cp runs").success());
    let public = key.with_extension("pub");
    let script = format!(
        "mkdir /home/lab/.ssh\nwrite {} /home/lab/.ssh/authorized_keys\n\
         sif /home/lab/.ssh uid 1000\nsif /home/lab/.ssh mode 040700\n\
         sif /home/lab/.ssh/authorized_keys uid 1000\nsif /home/lab/.ssh/authorized_keys mode 0100600\n",
        public.display()
    );
    let commands = folder.join("commands");
    fs::write(&commands, script).expect("the commands are written");
    let changed = Command::new("/sbin/debugfs").args(["-w", "-f"]).arg(&commands).arg(&disk).output();
    assert!(changed.expect("debugfs runs").status.success());
    disk
}

fn boot(kernel: &Path, initramfs: &Path, disk: &Path, port: u16) -> Child {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-machine", "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on,usb=off"]);
    if hypervisor_is_kvm() {
        command.args(["-accel", "kvm", "-cpu", "host"]);
    } else {
        command.args(["-accel", "tcg", "-cpu", "max"]);
    }
    command.args([
        "-m",
        &format!("{MEMORY_MIB}M"),
        "-smp",
        "1",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    command.args(["-display", "none", "-serial", "null"]);
    command.arg("-kernel").arg(kernel.join("vmlinux")).arg("-initrd").arg(initramfs);
    // Without the counter's frequency most emulated boots hang: `microvm` has nothing to measure it with.
    command.args(["-append", &format!("console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz={}", tsc_khz())]);
    command.arg("-drive").arg(format!("id=d,if=none,format=raw,file={}", disk.display()));
    command.args(["-device", "virtio-blk-device,drive=d"]);
    command.args([
        "-netdev",
        &format!("user,id=n,net=172.16.0.0/24,host=172.16.0.1,hostfwd=tcp:127.0.0.1:{port}-172.16.0.2:22"),
    ]);
    command.args(["-device", "virtio-net-device,netdev=n"]);
    command.args(["-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-device,rng=r"]);
    command.stdin(Stdio::null()).spawn().expect("QEMU runs")
}

fn hypervisor_is_kvm() -> bool {
    let checks: serde_json::Value =
        serde_json::from_slice(&dozlab(&["doctor", "--output", "json"])).expect("JSON");
    let checks = checks.as_array().cloned().unwrap_or_default();
    checks.iter().any(|check| check["subject"] == "chosen" && check["found"] == "QEMU with KVM")
}

/// The time-stamp counter's frequency, as the kernel of this machine or its processor's name has it.
fn tsc_khz() -> u64 {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("cpu MHz")).and_then(|line| line.split(':').nth(1));
    line.and_then(|mhz| mhz.trim().parse::<f64>().ok()).map_or(2_500_000, |mhz| (mhz * 1000.0) as u64)
}

/// Logs in again and again until there is a prompt. A try waits for a second, so that sshd is not kept busy by us.
fn wait_for_prompt(key: &Path, port: u16, started: Instant) -> f64 {
    loop {
        assert!(started.elapsed() < PATIENCE, "the plain boot has no prompt after {} s", PATIENCE.as_secs());
        let mut ssh = Command::new("ssh")
            .args(["-tt", "-F", "none", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"])
            .args([
                "-oLogLevel=QUIET",
                "-oConnectTimeout=1",
                "-oIdentitiesOnly=yes",
                "-p",
                &port.to_string(),
                "-i",
            ])
            .arg(key)
            .arg("lab@127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh runs");
        let mut stdout = ssh.stdout.take().expect("standard output was asked to be a pipe");
        let (mut output, mut buffer) = (Vec::new(), [0; 1024]);
        let mut reached = None;
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            output.extend(&buffer[..count]);
            if ends_with_prompt(&output) {
                reached = Some(started.elapsed().as_secs_f64());
                break;
            }
        }
        let _ = ssh.kill();
        let _ = ssh.wait();
        match reached {
            Some(seconds) => return seconds,
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
