// A machine that restarts under an open page.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { REBOOT, TEST, UP } from "../lib/deadlines.js";
import { startLab } from "../lib/lab.js";
import { TerminalPage } from "../lib/terminal.js";

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

  it("is told by the page, which gives a prompt on the same disk by the same connection", async (t) => {
    let sockets = 0;
    terminal.page.on("websocket", () => (sockets += 1));
    await terminal.page.evaluate(() => {
      window.states = [];
      const note = () => window.states.push(document.body.dataset.state);
      new MutationObserver(note).observe(document.body, { attributeFilter: ["data-state"] });
    });
    await terminal.run("echo written before > kept");
    const [firstBoot] = await terminal.run("cat /proc/sys/kernel/random/boot_id");
    await terminal.start("sudo reboot");
    await terminal.waitFor("word of it", () => window.states.includes("restarting"), { deadline: REBOOT });
    await terminal.waitFor("new shell", () => window.states.at(-1) === "connected", { deadline: REBOOT });
    await terminal.waitForText("— a new shell —");
    await terminal.waitForPrompt();
    const [secondBoot] = await terminal.run("cat /proc/sys/kernel/random/boot_id");
    assert.match(secondBoot, /^[0-9a-f-]{36}$/);
    assert.notEqual(secondBoot, firstBoot);
    assert.deepEqual(await terminal.run("cat kept"), ["written before"]);
    const states = await terminal.page.evaluate(() => window.states);
    t.diagnostic(`the page said: ${states.join(", ")}`);
    assert.equal(sockets, 0, "the page has connected again");
  });
});
