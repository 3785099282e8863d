"""A real API server, with what must be there before the objects: see scripts/kube-apiserver.

It is Debian's, of Kubernetes 1.20. Two things of today it does not know, and both are submitted as it would
have them: rules in CEL in the definition of LabSession are left out, and the PodDisruptionBudget is
policy/v1beta1 instead of policy/v1; their fields are the same. ServiceMonitor and PrometheusRule are no kinds
of Kubernetes: definitions with no more fields than ours use stand in for those of the Prometheus operator.
"""

import atexit
import copy
import subprocess
import time
from functools import lru_cache

import yaml

from objects import ROOT, WORK, run

RULES = "x-kubernetes-validations"
# The kinds that are defined here, as the server's OpenAPI names them.
PUBLISHED = ("com.coreos.monitoring.v1.ServiceMonitor", "com.coreos.monitoring.v1.PrometheusRule",
             "io.dozlab.v1.LabSession")
# How long anything may take, in seconds.
PATIENCE = 60

STRING = {"type": "string"}
STRINGS = {"type": "object", "additionalProperties": STRING}


def fields(**properties):
    return {"type": "object", "properties": properties}


def definition(kind, plural, spec):
    """A definition of the Prometheus operator's group; kubectl refuses fields that are not in it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True,
                          "schema": {"openAPIV3Schema": fields(spec=spec)}}],
        },
    }


SERVICE_MONITOR = definition("ServiceMonitor", "servicemonitors", fields(
    selector=fields(matchLabels=STRINGS),
    endpoints={"type": "array", "items": fields(port=STRING)},
))
RULE = fields(alert=STRING, expr=STRING, labels=STRINGS, annotations=STRINGS, **{"for": STRING})
PROMETHEUS_RULE = definition("PrometheusRule", "prometheusrules", fields(
    groups={"type": "array", "items": fields(name=STRING, rules={"type": "array", "items": RULE})},
))


def as_the_server_knows_it(thing):
    """The object as a server of 1.20 takes it."""
    thing = copy.deepcopy(thing)
    if thing["kind"] == "CustomResourceDefinition":
        remove_rules(thing)
    if thing["kind"] == "PodDisruptionBudget" and thing["apiVersion"] == "policy/v1":
        thing["apiVersion"] = "policy/v1beta1"
    return thing


def remove_rules(value):
    if isinstance(value, dict):
        value.pop(RULES, None)
        for below in value.values():
            remove_rules(below)
    elif isinstance(value, list):
        for below in value:
            remove_rules(below)


class Cluster:
    def __init__(self):
        folder = WORK / "api-server"
        subprocess.run(["rm", "-rf", folder], check=True)
        self.process = subprocess.Popen([ROOT / "scripts" / "kube-apiserver", "run", folder],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.stop)
        assert self.process.stdout.readline().strip() == "ready", f"see {folder}"
        self.kubeconfig = folder / "kubeconfig"

    def stop(self):
        """Closing its input ends it."""
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def kubectl(self, *arguments, text=None):
        # What kubectl remembers of another server on the same port would be wrong.
        cache = self.kubeconfig.parent / "kubectl-cache"
        return run("kubectl", "--cache-dir", cache, *arguments, text=text,
                   environment={"KUBECONFIG": str(self.kubeconfig)})

    def apply(self, things, *flags):
        """Applies objects, with kubectl's check for fields that the server does not know."""
        stream = yaml.safe_dump_all([as_the_server_knows_it(thing) for thing in things])
        return self.kubectl("apply", "--validate=true", *flags, "-f", "-", text=stream)

    def install(self, things):
        """Namespaces and definitions, for real: what all other objects need to be looked at."""
        first = [thing for thing in things if thing["kind"] in ("Namespace", "CustomResourceDefinition")]
        self.apply([*first, SERVICE_MONITOR, PROMETHEUS_RULE])
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        # What kubectl checks fields against comes a moment later.
        deadline = time.monotonic() + PATIENCE
        while not all(kind in self.kubectl("get", "--raw", "/openapi/v2") for kind in PUBLISHED):
            assert time.monotonic() < deadline, f"the server does not publish the fields of {PUBLISHED}"
            time.sleep(0.2)


@lru_cache
def cluster():
    """The one that the tests share; it ends with them."""
    return Cluster()
