"""Prometheus takes the alerts and the controller's page."""

import re
import unittest

import yaml

from controller import Controller
from objects import ROOT, WORK, only, overlay, run


def promtool():
    return run(ROOT / "scripts" / "promtool").strip()


class Monitoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        controller = Controller(overlay("many-nodes"))
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
