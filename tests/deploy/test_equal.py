"""The overlays and the chart come to the same objects, one by one."""

import tempfile
import tomllib
import unittest
from pathlib import Path

import yaml

from objects import CHART, DEPLOY, OVERLAYS, ROOT, chart, only, overlay, parsed, run


class Equal(unittest.TestCase):
    maxDiff = None

    def test_the_chart_comes_to_the_objects_of_each_overlay(self):
        for name, values in OVERLAYS.items():
            with self.subTest(overlay=name):
                by_kustomize, by_chart = overlay(name), chart(values)
                self.assertEqual(sorted(map(str, by_kustomize)), sorted(map(str, by_chart)))
                for key, wanted in by_kustomize.items():
                    self.assertEqual(wanted, by_chart[key], key)

    def test_what_is_applied_by_default_is_the_overlay_for_one_node(self):
        self.assertEqual(parsed(run("kubectl", "kustomize", DEPLOY)), overlay("one-node"))

    def test_the_images_and_the_chart_have_the_version_of_the_programs(self):
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        described = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual((described["version"], described["appVersion"]), (version, version))
        for name in OVERLAYS:
            ours = [image for image in images(overlay(name)) if image.startswith("dozlab-")]
            self.assertEqual({image.rpartition(":")[2] for image in ours}, {version})
            names = {image.rpartition(":")[0].removeprefix("dozlab-") for image in ours}
            self.assertEqual(names, {"controller", "init", "network", "firecracker", "terminal"})


class Values(unittest.TestCase):
    """What the overlays leave at its default does what it says, too."""

    def chart(self, **values):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            return chart([Path(file.name)])

    def test_a_registry_and_a_tag_are_those_of_all_our_images(self):
        changed = self.chart(images={"registry": "registry.example.org/labs", "tag": "1.0"})
        ours = [image for image in images(changed) if "code-server" not in image]
        self.assertEqual(len(ours), 6)
        for image in ours:
            self.assertRegex(image, r"^registry\.example\.org/labs/dozlab-[a-z]+:1\.0$")

    def test_namespaces_are_where_they_are_wanted(self):
        changed = self.chart(namespace={"name": "labs-system", "create": False}, monitoring={"enabled": True},
                             devicePlugin={"enabled": False})
        self.assertEqual({key[2] for key in changed} - {None}, {"labs-system"})
        self.assertEqual({key[1] for key in changed} & {"Namespace", "DaemonSet"}, set())
        self.assertEqual(only(changed, "ClusterRoleBinding")["subjects"][0]["namespace"], "labs-system")
        self.assertEqual(only(changed, "RoleBinding")["subjects"][0]["namespace"], "labs-system")

    def test_flags_and_what_sessions_default_to_reach_the_controller(self):
        changed = self.chart(controller={"flags": ["--all-events"]},
                             labs={"loginUser": "student", "diskSize": "6Gi", "storageClass": "fast"})
        container = only(changed, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(container["args"], ["--leader-elect", "--all-events"])
        variables = {one["name"]: one.get("value") for one in container["env"]}
        self.assertEqual(variables["DOZLAB_SSH_USER"], "student")
        self.assertEqual(variables["DOZLAB_VM_DISK_SIZE"], "6Gi")
        self.assertEqual(variables["DOZLAB_STORAGE_CLASS"], "fast")

    def test_a_collector_is_named_to_the_controller_and_can_be_reached(self):
        changed = self.chart(traces={"endpoint": "http://collector.monitoring:4318"})
        container = only(changed, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        variables = {one["name"]: one.get("value") for one in container["env"]}
        self.assertEqual(variables["OTEL_EXPORTER_OTLP_ENDPOINT"], "http://collector.monitoring:4318")
        policies = [thing for (_, kind, _, name), thing in changed.items()
                    if (kind, name) == ("NetworkPolicy", "dozlab-controller")]
        self.assertEqual(policies[0]["spec"]["egress"][-1], {"ports": [{"port": 4318, "protocol": "TCP"}]})


def images(objects):
    """The images of all containers, and those that the controller is told."""
    found = []
    for (_, kind, _, _), thing in objects.items():
        if kind in ("Deployment", "DaemonSet"):
            for container in thing["spec"]["template"]["spec"]["containers"]:
                found.append(container["image"])
                found += [one["value"] for one in container.get("env", []) if one["name"].endswith("_IMAGE")]
    return found
