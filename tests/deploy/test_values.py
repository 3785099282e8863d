"""The chart's schema takes the values that it is given here, and refuses what is wrong with others."""

import copy
import json
import unittest

import yaml
from jsonschema import Draft7Validator

from objects import CHART, OVERLAYS

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

# Where a value is set, and to what. Each is refused.
REFUSED = [
    ("controller.replicas", 0),
    ("controller.replicas", "2"),
    ("controller.replica", 2),
    ("controller.flags", "--all-events"),
    ("controller.flags", ["all-events"]),
    ("controller.resources.limits.memory", "256 MB"),
    ("controller.resources.request", {}),
    ("namespace.name", "Dozlab_System"),
    ("namespace.create", "yes"),
    ("images.registry", "https://registry.example.org"),
    ("images.registry", "registry.example.org/"),
    ("images.tag", "a b"),
    ("images.editor", ""),
    ("images.vm", "dozlab-qemu:1"),
    ("labs.diskSize", "6 GiB"),
    ("labs.loginUser", "Root User"),
    ("labs.storageClass", "Fast!"),
    ("traces.endpoint", "collector:4318"),
    ("traces.endpoint", "http://me:hush@collector:4318"),
    ("traces.port", "4318"),
    ("devicePlugin.enabled", None),
    ("devicePlugin.nodeSelector", {"dozlab.io/labs": True}),
    ("devicePlugin.tolerations", []),
    ("monitoring.enabled", "true"),
    ("monitoring.prometheus", True),
    ("nodeSelector", {}),
]
TAKEN = [
    ("controller.replicas", 3),
    ("controller.flags", ["--namespace=labs", "--all-events"]),
    ("controller.resources.limits.cpu", 2),
    ("images.registry", "registry.example.org:5000/labs"),
    ("images.tag", "0.2.0-rc.1"),
    ("images.vm", "dozlab-qemu"),
    ("images.editor", "registry.example.org/code-server@sha256:0f"),
    ("labs.diskSize", "6Gi"),
    ("traces.endpoint", "https://collector.example.org/otlp"),
    ("global", {"anything": 1}),
]


def merged(under, over):
    both = isinstance(under, dict) and isinstance(over, dict)
    return {**under, **{key: merged(under.get(key), over[key]) for key in over}} if both else over


def with_value(path, value):
    values = copy.deepcopy(DEFAULTS)
    *folders, last = path.split(".")
    place = values
    for folder in folders:
        place = place[folder]
    place[last] = value
    return values


class Schema(unittest.TestCase):
    def setUp(self):
        Draft7Validator.check_schema(SCHEMA)
        self.schema = Draft7Validator(SCHEMA)

    def test_the_values_of_each_overlay_are_taken(self):
        for name, files in OVERLAYS.items():
            values = DEFAULTS
            for path in files:
                values = merged(values, yaml.safe_load(path.read_text()))
            self.assertEqual([error.message for error in self.schema.iter_errors(values)], [], name)

    def test_what_may_be_set_is_taken(self):
        for path, value in TAKEN:
            errors = [error.message for error in self.schema.iter_errors(with_value(path, value))]
            self.assertEqual(errors, [], f"{path}: {value}")

    def test_what_is_wrong_is_refused_where_it_is_wrong(self):
        for path, value in REFUSED:
            with self.subTest(path=path, value=value):
                errors = list(self.schema.iter_errors(with_value(path, value)))
                self.assertEqual(len(errors), 1, errors)
                # A name that is not known is refused by what it is in.
                where = ".".join(str(step) for step in errors[0].absolute_path)
                self.assertTrue(path.startswith(where) or where.startswith(path), where)

    def test_every_value_has_a_default_and_a_place_in_the_schema(self):
        def known(schema):
            return {name: known(below) for name, below in schema.get("properties", {}).items()}

        def given(values, schema):
            named = isinstance(values, dict) and "properties" in schema
            return {name: given(values[name], schema["properties"][name]) for name in values} if named else {}

        declared = known(SCHEMA)
        del declared["global"]
        self.assertEqual(given(DEFAULTS, SCHEMA), declared)
