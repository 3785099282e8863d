"""The controller as its Deployment starts it: its command, arguments and environment, as its service account
with no more than its role, on a real API server.
"""

import socket
import subprocess
import time
import urllib.error
import urllib.request

import yaml

from cluster import PATIENCE, cluster
from objects import DOZLAB, WORK, only

RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


class Controller:
    """A process of the controller, and its two pages."""

    def __init__(self, objects):
        cluster().install(objects.values())
        cluster().apply([thing for thing in objects.values() if thing["kind"] in RIGHTS])
        deployment = only(objects, "Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        account = only(objects, "ServiceAccount")["metadata"]
        self.ports = {"metrics": free_port(), "probes": free_port()}
        values = {one["name"]: one.get("value", account["namespace"]) for one in container["env"]}
        config = yaml.safe_load(cluster().kubeconfig.read_text())
        config["users"][0]["user"]["as"] = f"system:serviceaccount:{account['namespace']}:{account['name']}"
        kubeconfig = WORK / "controller.kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(yaml.safe_dump(config))
        program, *words = container["command"]
        assert program == "dozlab"
        command = [DOZLAB, *words, *container["args"],
                   f"--metrics-bind-address=127.0.0.1:{self.ports['metrics']}",
                   f"--health-probe-bind-address=127.0.0.1:{self.ports['probes']}"]
        self.log = WORK / "controller.log"
        with self.log.open("w") as log:
            environment = {**values, "KUBECONFIG": str(kubeconfig)}
            self.process = subprocess.Popen(command, env=environment, stderr=log)

    def get(self, port, path, accept="*/*"):
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    def works(self):
        """Waits until it holds the lease and has read everything that it may read."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("probes", "/readyz")
                if "\ndozlab_controller_leader 1\n" in self.get("metrics", "/metrics")[1]:
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"the controller does not work: {self.log.read_text()}")

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
