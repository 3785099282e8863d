// Two labs side by side in one browser: each has a loopback address of its own, because cookies do not know ports.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { TEST, UP } from "../lib/deadlines.js";
import { EditorPage } from "../lib/editor.js";
import { startLab } from "../lib/lab.js";
import { TerminalPage } from "../lib/terminal.js";

describe("two labs in one browser", { timeout: 2 * UP + TEST }, () => {
  const labs = [];
  const terminals = [];
  const editors = [];
  let browser, profile;

  before(async () => {
    labs.push(await startLab({ editor: true }), await startLab({ editor: true }));
    browser = await startBrowser();
    profile = await freshProfile(browser);
  }, { timeout: 2 * UP });

  after(async () => {
    await browser?.close();
    await Promise.all(labs.map((lab) => lab.end()));
  });

  it("have addresses of their own", () => {
    const hosts = labs.map((lab) => new URL(lab.address).hostname);
    assert.notEqual(hosts[0], hosts[1]);
    assert.ok(hosts.every((host) => host.startsWith("127.")), hosts.join(" "));
  });

  it("open both terminals, each in its own machine", async () => {
    for (const lab of labs) {
      terminals.push(await TerminalPage.open(profile, lab));
    }
    for (const terminal of terminals) {
      assert.deepEqual(await terminal.run("uname -n"), [terminal.lab.hostname]);
    }
  });

  it("open both editors, each with its own machine's shell", async () => {
    for (const lab of labs) {
      editors.push(await EditorPage.open(profile, lab));
    }
    for (const editor of editors) {
      await editor.page.bringToFront();
      assert.equal(await editor.runInTerminal("uname -n"), `${editor.lab.hostname}\n`);
    }
  });

  it("stay logged in, all four, when their pages are loaded again", async () => {
    for (const terminal of terminals) {
      await terminal.page.bringToFront();
      await terminal.page.goto(terminal.lab.address);
      await terminal.waitForPrompt();
      assert.deepEqual(await terminal.run("uname -n"), [terminal.lab.hostname]);
    }
    for (const editor of editors) {
      await editor.page.bringToFront();
      editor.visited.length = 0;
      await editor.page.reload();
      await editor.waitForWorkbench();
      assert.deepEqual(editor.visited.filter((address) => address.includes("/login")), []);
    }
  });
});
