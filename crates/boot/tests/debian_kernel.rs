//! Fetches Debian's kernel with the real apt and prepares it with the real tools.

use dozlab_boot::KernelStore;

#[tokio::test]
async fn debians_kernel_becomes_an_elf_file_with_modules() {
    let folder = tempfile::tempdir().unwrap();
    let store = KernelStore::new(folder.path().join("kernels"));
    let kernel = store.import_debian(&|step| println!("{step}")).await.unwrap();

    assert_eq!(store.current().unwrap(), kernel);
    assert!(std::fs::read(kernel.vmlinux()).unwrap().starts_with(b"\x7fELF"));
    let order = std::fs::read_to_string(kernel.folder.join("early/order")).unwrap();
    let at = |name: &str| {
        order.lines().position(|line| line == name).unwrap_or_else(|| panic!("{name} in {order}"))
    };
    assert!(at("virtio_ring.ko") < at("virtio_blk.ko"));
    assert!(at("net_failover.ko") < at("virtio_net.ko"));
    let disk = kernel.modules_disk().unwrap();
    let listed = dozlab_process::Tool { program: "debugfs", package: "e2fsprogs" }
        .run(["-R".as_ref(), "stat modules.dep.bin".as_ref(), disk.as_os_str()])
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("Type: regular"));
    // Nothing but the finished kernel is left in the store.
    let left: Vec<_> = std::fs::read_dir(folder.path().join("kernels")).unwrap().collect();
    assert_eq!(left.len(), 1);
}
