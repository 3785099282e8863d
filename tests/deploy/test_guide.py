"""The first session of docs/kubernetes.md, as far as it goes without a kubelet: what the guide names is there."""

import re
import time
import unittest

from cluster import PATIENCE, cluster
from controller import Controller
from objects import ROOT, overlay

GUIDE = (ROOT / "docs" / "kubernetes.md").read_text()


class Guide(unittest.TestCase):
    def test_the_first_session_has_what_the_guide_asks_for(self):
        session = re.search(r"apply -f - <<YAML\n(.*?)    YAML\n", GUIDE, re.DOTALL)[1]
        controller = Controller(overlay("one-node"))
        try:
            controller.works()
            cluster().kubectl("create", "namespace", "labs")
            self.labs("apply", "-f", "-", text=session)
            secret = "lab-session-demo-ssh"
            self.until_there("pod/lab-session-demo", "service/lab-service-demo", f"secret/{secret}")
            for key in self.keys():
                value = self.labs("get", "secret", secret, "-o", f"jsonpath={{.data.{key}}}")
                self.assertTrue(value, key)
            service = ("--name", "demo-ssh", "--type", "NodePort", "--port", "22")
            self.labs("expose", "pod", "lab-session-demo", *service)
            extended = re.search(r"patch labsession demo --type merge -p '(.*)'", GUIDE)[1]
            self.labs("patch", "labsession", "demo", "--type", "merge", "-p", extended)
            self.labs("delete", "labsession/demo", "service/demo-ssh", f"--timeout={PATIENCE}s")
        finally:
            controller.stop()

    def labs(self, *arguments, text=None):
        return cluster().kubectl("-n", "labs", *arguments, text=text)

    def keys(self):
        """What the guide reads of the session's Secret."""
        keys = set(re.findall(r"\$\(secret '?([^')]+)'?\)|secret (\S+) >", GUIDE))
        found = {one or other for one, other in keys}
        self.assertEqual(len(found), 4, found)
        return found

    def until_there(self, *names):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.labs("get", *names)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
