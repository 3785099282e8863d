"""The objects that the overlays and the chart come to, and what is compared of them."""

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart" / "dozlab"
WORK = ROOT / "target" / "deploy-tests"
DOZLAB = os.environ.get("DOZLAB", str(ROOT / "target" / "release" / "dozlab"))

# Each overlay, and the files of values by which the chart comes to the same.
OVERLAYS = {
    "one-node": [],
    "many-nodes": [CHART / "values-many-nodes.yaml"],
}


def run(*command, text=None, environment=None):
    """Runs a program and returns what it printed; a failure shows what it said."""
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True,
                          env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


@lru_cache
def overlay(name):
    return parsed(run("kubectl", "kustomize", DEPLOY / "overlays" / name))


def chart(values=()):
    """The chart's objects: by helm where it is on the PATH, otherwise by render.go."""
    if shutil.which("helm"):
        named = [word for path in values for word in ("--values", path)]
        text = run("helm", "template", "dozlab", CHART, "--include-crds", "--kube-version", "1.33", *named)
    else:
        text = run(renderer(), CHART, *values)
    return parsed(text)


def chart_tool():
    return "helm" if shutil.which("helm") else "Go's text/template with sprig (there is no helm)"


@lru_cache
def renderer():
    """Builds render.go from Debian's packages; no module is downloaded."""
    WORK.mkdir(parents=True, exist_ok=True)
    program = WORK / "render"
    source = Path(__file__).with_name("render.go")
    packages = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}
    environment = {**packages, "GOCACHE": str(WORK / "go-build")}
    run("/usr/lib/go-1.19/bin/go", "build", "-o", program, source, environment=environment)
    return program


def parsed(text):
    """Objects by kind, namespace and name. That there are two of one name is an error."""
    found = {}
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        metadata = document["metadata"]
        key = (document["apiVersion"], document["kind"], metadata.get("namespace"), metadata["name"])
        assert key not in found, f"there are two of {key}"
        found[key] = document
    return found


def only(objects, kind, name=None):
    """The one object of a kind, or of a kind and name."""
    of_kind = [value for key, value in objects.items() if key[1] == kind and name in (None, key[3])]
    assert len(of_kind) == 1, f"{len(of_kind)} objects of the kind {kind}"
    return of_kind[0]
