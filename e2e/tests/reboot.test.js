// A machine that restarts under an open page.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { REBOOT, TEST, UP } from "../lib/deadlines.js";
import { startLab } from "../lib/lab.js";
import { TerminalPage } from "../lib/terminal.js";

const BOOT_ID = "cat /proc/sys/kernel/random/boot_id";

describe("`reboot` in the machine", { timeout: UP + TEST }, () => {
  let lab, browser, terminal;

  before(async () => {
    lab = await startLab();
    browser = await startBrowser();
    terminal = await TerminalPage.open(await freshProfile(browser), lab);
  }, { timeout: UP });

  after(async () => {
    await browser?.close();
    await lab?.end();
  });

  /** Reboots by the command that a person would type, and follows the page until it has a prompt again. */
  async function reboot(t) {
    let sockets = 0;
    terminal.page.on("websocket", () => (sockets += 1));
    await terminal.page.evaluate(() => {
      window.observer?.disconnect();
      window.states = [];
      const note = () => window.states.push(document.body.dataset.state);
      window.observer = new MutationObserver(note);
      window.observer.observe(document.body, { attributeFilter: ["data-state"] });
    });
    await terminal.run("date > kept");
    const [kept] = await terminal.run("cat kept");
    const [firstBoot] = await terminal.run(BOOT_ID);
    await terminal.start("sudo reboot");
    await terminal.waitFor("word of it", () => window.states.includes("restarting"), { deadline: REBOOT });
    await terminal.waitFor("new shell", () => window.states.at(-1) === "connected", { deadline: REBOOT });
    await terminal.waitForText("— a new shell —");
    await terminal.waitForPrompt();
    const [secondBoot] = await terminal.run(BOOT_ID);
    assert.match(secondBoot, /^[0-9a-f-]{36}$/);
    assert.notEqual(secondBoot, firstBoot);
    assert.deepEqual(await terminal.run("cat kept"), [kept]);
    t.diagnostic(`the page said: ${(await terminal.page.evaluate(() => window.states)).join(", ")}`);
    assert.equal(sockets, 0, "the page has connected again");
  }

  it("is told by the page, which gives a prompt on the same disk by the same connection", async (t) => {
    await lab.waitForInit();
    await reboot(t);
  });

  it("works from the first prompt on, while the image's init is still starting", async (t) => {
    await reboot(t);
  });
});
