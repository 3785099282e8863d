"""Prometheus takes the alerts and the controller's page.

The controller is started as the Deployment starts it: its command, arguments and environment, as its service
account with no more than its role, on a real API server.
"""

import re
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request

import yaml

from cluster import PATIENCE, cluster
from objects import DOZLAB, ROOT, WORK, only, overlay, run


def promtool():
    return run(ROOT / "scripts" / "promtool").strip()


class Controller:
    """A process of the controller, and its two pages."""

    def __init__(self, objects):
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


class Monitoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        objects = overlay("many-nodes")
        cluster().install(objects.values())
        rights = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
        cluster().apply([thing for thing in objects.values() if thing["kind"] in rights])
        controller = Controller(objects)
        try:
            controller.works()
            cls.classic = controller.get("metrics", "/metrics")
            cls.open_metrics = controller.get("metrics", "/metrics", "application/openmetrics-text")
        finally:
            cls.exit_code = controller.stop()

    def test_the_controller_ends_in_order(self):
        self.assertEqual(self.exit_code, 0)

    def test_promtool_finds_nothing_in_the_controllers_page(self):
        kind, page = self.classic
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"), kind)
        run(promtool(), "check", "metrics", text=page)
        with self.assertRaisesRegex(AssertionError, "no help text"):
            run(promtool(), "check", "metrics", text="dozlab_sessions 1\n")

    def test_prometheus_gets_the_same_as_open_metrics(self):
        kind, page = self.open_metrics
        self.assertTrue(kind.startswith("application/openmetrics-text; version=1.0.0"), kind)
        self.assertTrue(page.endswith("# EOF\n"))
        families = [names(text) for text in (page, self.classic[1])]
        self.assertEqual(families[0], families[1])

    def test_promtool_takes_the_alerts(self):
        rules = WORK / "alerts.yaml"
        rules.write_text(yaml.safe_dump(only(overlay("many-nodes"), "PrometheusRule")["spec"]))
        said = run(promtool(), "check", "rules", rules)
        self.assertRegex(said, r"SUCCESS: [1-9]\d* rules found")
        rules.write_text(rules.read_text().replace("histogram_quantile(", "histogram_quantil("))
        with self.assertRaisesRegex(AssertionError, "unknown function"):
            run(promtool(), "check", "rules", rules)


def names(page):
    """The families on a page, without the ending that one of the formats gives to counters."""
    return {name.removesuffix("_total") for name in re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE)}
