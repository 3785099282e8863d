"""A real API server takes each object, and what the objects say of each other is so."""

import unittest

import yaml

from cluster import cluster
from objects import OVERLAYS, chart, only, overlay

EACH = [overlay(name) for name in OVERLAYS]


class Server(unittest.TestCase):
    def test_each_object_is_taken(self):
        for name, values in OVERLAYS.items():
            for source, objects in (("kustomize", overlay(name)), ("chart", chart(values))):
                with self.subTest(overlay=name, source=source):
                    cluster().install(objects.values())
                    said = cluster().apply(objects.values(), "--dry-run=server").splitlines()
                    self.assertEqual(len(said), len(objects), said)
                    self.assertTrue(all(line.endswith("(server dry run)") for line in said), said)

    def test_a_field_that_nobody_knows_is_refused(self):
        cluster().install(overlay("many-nodes").values())
        for kind, path in (("Deployment", ["spec", "template", "spec"]), ("ServiceMonitor", ["spec"])):
            thing = yaml.safe_load(yaml.safe_dump(only(overlay("many-nodes"), kind)))
            place = thing
            for step in path:
                place = place[step]
            place["colour"] = "green"
            with self.assertRaisesRegex(AssertionError, "unknown field.*colour|colour.*unknown field"):
                cluster().apply([thing], "--dry-run=server")


class References(unittest.TestCase):
    """What an API server does not look at."""

    def test_every_namespace_is_there(self):
        for objects in EACH:
            there = {key[3] for key in objects if key[1] == "Namespace"}
            self.assertEqual({key[2] for key in objects} - {None}, there)

    def test_every_selector_means_the_pods_that_there_are(self):
        for objects in EACH:
            controller = only(objects, "Deployment")
            labels = controller["spec"]["template"]["metadata"]["labels"]
            policy = only(objects, "NetworkPolicy", "dozlab-controller")
            selectors = [controller["spec"]["selector"]["matchLabels"],
                         policy["spec"]["podSelector"]["matchLabels"]]
            if controller["spec"]["replicas"] > 1:
                selectors.append(only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
                for constraint in controller["spec"]["template"]["spec"]["topologySpreadConstraints"]:
                    selectors.append(constraint["labelSelector"]["matchLabels"])
                selectors.append(only(objects, "Service")["spec"]["selector"])
            for selector in selectors:
                self.assertLessEqual(selector.items(), labels.items())
            plugin = only(objects, "DaemonSet")["spec"]
            self.assertLessEqual(plugin["selector"]["matchLabels"].items(),
                                 plugin["template"]["metadata"]["labels"].items())

    def test_every_port_has_its_name_on_the_container(self):
        for objects in EACH:
            container = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
            named = {port["name"] for port in container["ports"]}
            asked = {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")}
            for rule in only(objects, "NetworkPolicy", "dozlab-controller")["spec"]["ingress"]:
                asked |= {port["port"] for port in rule["ports"]}
            self.assertEqual(asked, named)

    def test_prometheus_finds_the_service(self):
        objects = overlay("many-nodes")
        service, monitor = only(objects, "Service"), only(objects, "ServiceMonitor")
        self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(),
                             service["metadata"]["labels"].items())
        ports = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
        container = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        for endpoint in monitor["spec"]["endpoints"]:
            self.assertIn(ports[endpoint["port"]], {port["name"] for port in container["ports"]})

    def test_the_roles_are_those_of_the_controllers_account(self):
        for objects in EACH:
            account = only(objects, "ServiceAccount")["metadata"]
            used = only(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
            self.assertEqual(account["name"], used)
            for kind, role in (("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")):
                binding = only(objects, kind)
                self.assertEqual(binding["roleRef"]["kind"], role)
                only(objects, role, binding["roleRef"]["name"])
                subjects = [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]]
                self.assertEqual(subjects, [("ServiceAccount", account["namespace"], account["name"])])


class Privileges(unittest.TestCase):
    def test_the_controllers_namespace_is_restricted_and_its_pod_keeps_to_that(self):
        for objects in EACH:
            labels = only(objects, "Namespace", "dozlab-system")["metadata"]["labels"]
            self.assertEqual(labels["pod-security.kubernetes.io/enforce"], "restricted")
            pod = only(objects, "Deployment")["spec"]["template"]["spec"]
            self.assertEqual({"hostNetwork", "hostPID", "hostIPC", "volumes"} & set(pod), set())
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertGreater(pod["securityContext"]["runAsUser"], 0)
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            for container in pod["containers"]:
                self.assertEqual(container["securityContext"], {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                })
                self.assertEqual(set(container["resources"]["requests"]), {"cpu", "memory"})

    def test_what_is_privileged_is_alone_in_its_namespace_without_a_token_or_a_network(self):
        for objects in EACH:
            inside = {key[1] for key in objects if key[2] == "dozlab-devices"}
            self.assertEqual(inside, {"DaemonSet", "NetworkPolicy"})
            pod = only(objects, "DaemonSet")["spec"]["template"]["spec"]
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertEqual({"hostNetwork", "hostPID", "hostIPC"} & set(pod), set())
            paths = {one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
            self.assertEqual(paths, {"/dev", "/var/lib/kubelet/device-plugins"})
            policy = [value for key, value in objects.items()
                      if key[1:3] == ("NetworkPolicy", "dozlab-devices")][0]["spec"]
            self.assertEqual(policy, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})

    def test_no_role_has_a_wildcard_and_only_trainers_read_secrets_by_name(self):
        for objects in EACH:
            roles = [value for key, value in objects.items() if key[1] in ("ClusterRole", "Role")]
            self.assertEqual(len(roles), 3)
            for role in roles:
                for rule in role["rules"]:
                    self.assertNotIn("*", rule["verbs"] + rule["resources"] + rule["apiGroups"])
                    if "secrets" in rule["resources"]:
                        read = {"get"} if role["metadata"]["name"] == "dozlab-trainer" else set()
                        self.assertEqual(set(rule["verbs"]) & {"get", "list", "watch"}, read)

    def test_the_role_of_trainers_is_bound_to_nobody(self):
        for objects in EACH:
            bound = {value["roleRef"]["name"] for key, value in objects.items() if key[1].endswith("RoleBinding")}
            self.assertNotIn("dozlab-trainer", bound)
            only(objects, "ClusterRole", "dozlab-trainer")
