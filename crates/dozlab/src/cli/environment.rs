//! What the containers' subcommands read from their environment, for their `--help`.

pub(super) const INIT_ROOTFS: &str = "\
Environment:
  IMAGE_DOWNLOAD_URL    where the image comes from: http(s)://…, s3://…, gs://…, file://…, a path, oci://…,
                        docker://…, or a name in IMAGE_STORE_DIR; ext4 or tar, plain or compressed by zstd, gzip or xz
  IMAGE_SHA256          the SHA-256 of what is at that URL, compressed as it is there
  IMAGE_CACHE_DIR       an image store that all sessions of this machine share: each image is fetched once
  IMAGE_BEARER_TOKEN_FILE, IMAGE_HEADER_FILE
                        a token, or lines `Name: value`, that the URL's server gets to see and no other
  IMAGE_STORE_DIR       the image store
  IMAGE_SIZE            the disk's size, 4G (default 1G)
  IMAGE_PATH            the disk (default /srv/vm/kernels/image.ext4)
  DISK_CLONING          how it comes from an image of a store: auto, reflink, copy
  LOCAL_DEV_IMAGE_PATH  the image where no other is named (default /app/image.ext4)
  WRITABLE_DISK_PATH, WRITABLE_DISK_SIZE
                        a disk to lay over the image, which then stays as it is (default none, 1G)
  SSH_AUTHORIZED_KEY, VM_HOSTNAME, SESSION_ID, USER_DATA
                        what cloud-init finds on a disk that is made";

pub(super) const NETWORK_SETUP: &str = "\
Environment:
  NETWORK_MODE          pod: make tap, NAT and firewall in this network namespace; user: write the file only
  NETWORK_CONFIG_PATH   the file to write (default /shared/network-config)
  GATEWAY_IP, VM_IP     the two ends of the machine's network (default 172.16.0.1, 172.16.0.2)
  POD_IP                the pod's own address, where it cannot be read off the uplink
  TAP_DEVICE_NAME       the tap device (default tap0); TAP_OWNER: the user id that may open it
  UPLINK                the interface towards the world (default eth0)
  POD_LOCAL_PORTS       ports of the pod's own containers (default \"8080 8081\")
  EGRESS                what the guest may reach: internet, open, none";

pub(super) const VM: &str = "\
Environment:
  ROOTFS_PATH           the disk that init-rootfs prepared, or the image below WRITABLE_DISK_PATH
  WRITABLE_DISK_PATH    the disk that is laid over ROOTFS_PATH, which is then only read
  KERNEL_PATH           a kernel that `dozlab kernel import` prepared, or any uncompressed vmlinux with initramfs,
                        virtio-mmio, virtio-blk, virtio-net, ext4 (and overlayfs) built in (default /find/vmlinux.bin)
  GUEST_CONFIG          the guest's configuration, with the machine's host key; or, as in a lab pod:
    SESSION_ID, VM_HOSTNAME, SSH_USER, SSH_AUTHORIZED_KEY, SSH_HOST_PRIVATE_KEY, VM_IP, GATEWAY_IP, DNS
                        (defaults lab-SESSION_ID, lab-user, 172.16.0.2, 172.16.0.1, \"1.1.1.1 8.8.8.8\")
  NETWORK_MODE          pod: make the network first, as `dozlab network-setup` does, with its variables
  CPU_COUNT, MEMORY     virtual CPUs (default 1), memory in MiB (default 1024)
  HYPERVISOR            auto, firecracker, qemu, qemu-kvm, qemu-tcg; FIRECRACKER_BIN names a binary
  SOCKET_PATH           where Firecracker listens for its API (default firecracker.sock in RUN_DIR)
  SNAPSHOT_PATH, MEM_FILE_PATH
                        no effect, and a warning: a machine is not saved, it boots from its disk, which is kept
  TAP_DEVICE_NAME       the tap device (default tap0), or SSH_FORWARD=127.0.0.1:PORT for a user-mode network
  EGRESS                what the guest may reach, with a user-mode network: internet, open, none
  RUN_DIR, CACHE_DIR, CONSOLE_LOG, VM_STATUS_PATH
                        where files go (RUN_DIR is /tmp/dozlab by default, which must be this user's alone)
  STOP_GRACE_SECONDS    how long the guest may take to power off (default 15)";

pub(super) const TERMINAL: &str = "\
Environment:
  HOST, PORT            where to listen (default 0.0.0.0, 8081)
  SESSION_ID            the session's id
  SESSION_TOKEN_FILE    a file with the secret of the session's links, or SESSION_TOKEN
  NETWORK_CONFIG_PATH   a file whose line VM_IP= is the machine's address (default /shared/network-config)
  VM_IP, VM_SSH_PORT    the machine's address where that file has none, and its port (default 22)
  SSH_USER              whom to log in as (default lab-user)
  SSH_PRIVATE_KEY_FILE  the session's key, or SSH_PRIVATE_KEY
  SSH_HOST_KEY_FILE     the machine's host key, or SSH_HOST_KEY
  ALLOWED_ORIGINS       other origins whose pages may connect, separated by commas
  EDITOR_URL, EDITOR_PUBLIC_URL, EDITOR_PASSWORD_FILE   the editor to log in to
  EDITOR_FAILURE_FILE          a file that says why the editor will not come, once that is known
  VM_STATUS_PATH, IDLE_FILE, SESSION_EXPIRES_AT         what it reads and tells";

pub(super) const DEVICE_PLUGIN: &str = "\
Environment:
  KERNEL_PATH           the kernel to boot a probe with (default /find/vmlinux.bin)
  DEVICE_PLUGIN_DIR     the kubelet's folder of sockets (default /var/lib/kubelet/device-plugins)
  DEVICE_COUNT          how many containers may have a device at once (default 110)
  CACHE_DIR             where the probe's verdicts are remembered (default /var/cache/dozlab)
  FIRECRACKER_BIN       Firecracker, where it is not on the PATH";
