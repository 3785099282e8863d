"""The `kubectl` lines that users of existing lab pods know mean the same pod and containers here."""

import unittest

from cluster import cluster
from objects import DOZLAB, run

VARIABLES = {
    "SESSION_ID": "abc123",
    "USER_ID": "user-456",
    "ROOTFS_IMAGE_URL": "https://images.example.org/dozlab-k8s.ext4",
    "VSCODE_PASSWORD": "securepass123",
    "DISK_SIZE": "1G",
    "VM_CPU": "1",
    "VM_MEMORY": "1024",
}


class Lines(unittest.TestCase):
    def test_they_work_as_written(self):
        for profile in ("compat", "hardened"):
            with self.subTest(profile=profile):
                rendered = run(DOZLAB, "render", "--profile", profile, environment=VARIABLES)
                cluster().kubectl("create", "namespace", profile)
                cluster().kubectl("-n", profile, "apply", "-f", "-", text=rendered)
                described = cluster().kubectl("-n", profile, "describe", "pod", "lab-session-abc123")
                self.assertIn("session-id=abc123", described)
                for container in ("init-rootfs", "firecracker-vm"):
                    # On no node, so the log is empty; but the pod has such a container.
                    cluster().kubectl("-n", profile, "logs", "lab-session-abc123", "-c", container)
                with self.assertRaisesRegex(AssertionError, "container nobody is not valid"):
                    cluster().kubectl("-n", profile, "logs", "lab-session-abc123", "-c", "nobody")
