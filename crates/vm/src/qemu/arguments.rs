//! QEMU's command line for a microVM.
//!
//! The machine is `microvm`: virtio over MMIO, a serial port, ACPI for powering off, and nothing else that a
//! guest could attack. It has a CMOS clock (`rtc=on`) although the host passes the time: without one, Linux
//! waits twice for a second for it to answer (measured: 4.2 s to the first line without, 2.0 s with).

use std::ffi::OsString;
use std::path::Path;

use crate::machine::{Disk, GUEST_MAC, Machine, NetworkBackend};
use crate::probe::Accelerator;

/// The control socket's name in the run folder.
pub(super) const QMP_SOCKET: &str = "qmp.sock";

/// The most that TCG may use to keep translated code, in MiB. QEMU's own default is 1 GiB, which a container
/// that holds the guest's memory and little more does not have.
const TRANSLATION_CACHE_MIB: u32 = 256;

/// Puts the arguments together. QEMU runs in the machine's run folder, so sockets have short, relative names.
pub(super) fn arguments(machine: &Machine, accelerator: Accelerator, command_line: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: OsString| {
        arguments.push(flag.into());
        arguments.push(value);
    };
    add("-machine", "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on,usb=off,memory-backend=ram".into());
    match accelerator {
        Accelerator::Kvm => {
            add("-accel", "kvm".into());
            add("-cpu", "host".into());
        }
        Accelerator::Tcg => {
            add("-accel", format!("tcg,tb-size={TRANSLATION_CACHE_MIB}").into());
            add("-cpu", "max".into());
        }
    }
    let memory = machine.memory_mib;
    add("-m", format!("{memory}M").into());
    add("-object", format!("memory-backend-ram,id=ram,size={memory}M").into());
    add("-smp", machine.vcpus.to_string().into());
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        arguments.push(flag.into());
    }
    let mut add = |flag: &str, value: OsString| {
        arguments.push(flag.into());
        arguments.push(value);
    };
    // What a guest that broke out of its virtual machine could do is narrowed by QEMU's own seccomp filter.
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    add("-display", "none".into());
    add("-serial", "stdio".into());
    add("-qmp", format!("unix:{QMP_SOCKET},server=on,wait=off").into());
    add("-kernel", machine.kernel.clone().into());
    add("-initrd", machine.initramfs.clone().into());
    add("-append", command_line.into());
    for Disk { name, path, is_read_only } in machine.disks() {
        let mode = if is_read_only { "readonly=on" } else { "discard=unmap,cache=writeback" };
        add("-drive", option(&format!("id={name},if=none,format=raw,{mode},file="), path));
        add("-device", format!("virtio-blk-device,drive={name}").into());
    }
    add("-object", "rng-random,id=rng,filename=/dev/urandom".into());
    add("-device", "virtio-rng-device,rng=rng".into());
    for (flag, value) in network(&machine.network) {
        add(flag, value.into());
    }
    arguments
}

/// In QEMU's options a comma ends the value, and two stand for one.
fn option(prefix: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut option = prefix.as_bytes().to_vec();
    for &byte in path.as_os_str().as_bytes() {
        option.push(byte);
        if byte == b',' {
            option.push(b',');
        }
    }
    OsString::from_vec(option)
}

fn network(backend: &NetworkBackend) -> Vec<(&'static str, String)> {
    let device = ("-device", format!("virtio-net-device,netdev=net,mac={GUEST_MAC}"));
    match backend {
        NetworkBackend::None => Vec::new(),
        NetworkBackend::Tap { name } => {
            vec![("-netdev", format!("tap,id=net,ifname={name},script=no,downscript=no")), device]
        }
        NetworkBackend::User { gateway, resolver, vm, ssh_forward } => {
            let (from_guest, to_network) = (NetworkBackend::FROM_GUEST, NetworkBackend::TO_NETWORK);
            let user = format!(
                "user,id=net,ipv6=off,net={gateway}/24,host={gateway},dns={resolver},dhcpstart={vm},\
                 hostfwd=tcp:{}:{}-{vm}:22",
                ssh_forward.ip(),
                ssh_forward.port(),
            );
            vec![
                ("-netdev", user),
                device,
                ("-chardev", format!("socket,id=from-guest,path={from_guest}")),
                ("-chardev", format!("socket,id=to-network,path={to_network}")),
                // `rx` is the direction in which the network's back end receives: from the guest.
                (
                    "-object",
                    "filter-redirector,id=egress,netdev=net,queue=rx,outdev=from-guest,indev=to-network"
                        .into(),
                ),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn machine(network: NetworkBackend) -> Machine {
        Machine {
            kernel: "/k/vmlinux".into(),
            initramfs: "/run/initramfs".into(),
            disk: Some("/disks/a,b.ext4".into()),
            writable_disk: None,
            modules_disk: None,
            vcpus: 2,
            memory_mib: 1024,
            network,
            kernel_parameters: vec![],
            run_folder: "/run".into(),
        }
    }

    fn joined(machine: &Machine, accelerator: Accelerator) -> String {
        let arguments = arguments(machine, accelerator, "quiet");
        arguments.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_comma_in_a_path_adds_no_option() {
        let line = joined(&machine(NetworkBackend::None), Accelerator::Kvm);
        assert!(line.contains("file=/disks/a,,b.ext4 "), "{line}");
        assert!(line.contains("-accel kvm -cpu host"));
    }

    #[test]
    fn an_image_below_a_writable_disk_is_only_read() {
        let mut machine = machine(NetworkBackend::None);
        machine.writable_disk = Some("/disks/b.ext4".into());
        machine.modules_disk = Some("/k/modules.ext4".into());
        let line = joined(&machine, Accelerator::Tcg);
        let drives: Vec<&str> =
            line.split("-drive ").skip(1).filter_map(|drive| drive.split(' ').next()).collect();
        assert_eq!(
            drives,
            [
                "id=rootfs,if=none,format=raw,readonly=on,file=/disks/a,,b.ext4",
                "id=overlay,if=none,format=raw,discard=unmap,cache=writeback,file=/disks/b.ext4",
                "id=modules,if=none,format=raw,readonly=on,file=/k/modules.ext4",
            ]
        );
    }

    #[test]
    fn the_guests_frames_always_pass_the_filter_in_user_mode() {
        let user = NetworkBackend::User {
            gateway: Ipv4Addr::new(172, 16, 0, 1),
            resolver: Ipv4Addr::new(172, 16, 0, 3),
            vm: Ipv4Addr::new(172, 16, 0, 2),
            ssh_forward: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2222),
        };
        let line = joined(&machine(user), Accelerator::Tcg);
        assert!(line.contains("hostfwd=tcp:127.0.0.1:2222-172.16.0.2:22"), "{line}");
        assert!(line.contains("filter-redirector,id=egress,netdev=net,queue=rx"));
    }
}
