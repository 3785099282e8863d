// The pictures in the documentation. They are taken by every run, so that they can be; `UPDATE_SCREENSHOTS=1` puts them
// into `docs/images`. Look at them before they are committed.

import assert from "node:assert/strict";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { ANSWER, TEST, UP, until } from "../lib/deadlines.js";
import { EditorPage } from "../lib/editor.js";
import { startLab } from "../lib/lab.js";
import { TerminalPage } from "../lib/terminal.js";

const update = process.env.UPDATE_SCREENSHOTS === "1";
const folder = fileURLToPath(new URL(update ? "../../docs/images" : "../test-results", import.meta.url));

/** The largest picture, in bytes: the README is read on slow lines too. */
const LARGEST = 300_000;

const PROGRAM = `"""Primes by the sieve of Eratosthenes."""


def primes(limit):
    """Yields the primes below the limit."""
    composite = set()
    for number in range(2, limit):
        if number not in composite:
            yield number
            composite.update(range(number * number, limit, number))


if __name__ == "__main__":
    print(*primes(60))
`;

describe("pictures", { timeout: UP + TEST }, () => {
  let lab, browser, profile;

  before(async () => {
    await mkdir(folder, { recursive: true });
    // The name is in the pictures; other runs at the same time must not need it.
    lab = await startLab(update ? { editor: true, name: "demo" } : { editor: true });
    await lab.waitForInit();
    await lab.sh(`mkdir -p primes/tests; cat > primes/sieve.py <<'END'\n${PROGRAM}END`);
    await lab.sh("chmod +x primes/sieve.py; ln -s sieve.py primes/main.py");
    browser = await startBrowser();
    profile = await freshProfile(browser, { colorScheme: "light" });
  }, { timeout: UP });

  after(async () => {
    await browser?.close();
    await lab?.end();
  });

  async function takePicture(page, name) {
    const path = `${folder}/${name}.png`;
    await page.screenshot({ path, animations: "disabled" });
    const { size } = await stat(path);
    assert.ok(size < LARGEST, `${path} has ${size} bytes`);
  }

  it("show the terminal", async () => {
    const terminal = await TerminalPage.open(profile, lab);
    await terminal.run("uname -srm; systemctl is-system-running; ip -brief -color address");
    await terminal.run("ls -l --color primes");
    assert.match((await terminal.run("python3 primes/sieve.py")).join(), /^2 3 5 7/);
    await terminal.run("systemctl --no-pager --type service --state running");
    await takePicture(terminal.page, "terminal");
    await terminal.page.close();
  });

  it("show the editor, with a file and the machine's shell", async () => {
    await writeFile(`${lab.editorFolder}/sieve.py`, PROGRAM);
    const editor = await EditorPage.open(profile, lab);
    await editor.openFile("sieve.py");
    await editor.runInTerminal("uname -n");
    await editor.type("clear");
    await editor.press("Enter");
    await editor.type("uname -srn; python3 primes/sieve.py | tee primes.txt");
    await editor.press("Enter");
    await until("the program has run", ANSWER, () => lab.sh("cat primes.txt 2>/dev/null || true"));
    const toast = editor.page.locator(".notifications-toasts .notification-toast");
    await toast.waitFor({ state: "hidden", timeout: ANSWER });
    await editor.waitUntilStill();
    await takePicture(editor.page, "editor");
  });
});
