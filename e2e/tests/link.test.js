// The terminal's link: what it opens, what becomes of the secret in it, and who gets in without it.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { TEST, UP } from "../lib/deadlines.js";
import { startLab } from "../lib/lab.js";
import { recordRequests } from "../lib/requests.js";
import { TerminalPage } from "../lib/terminal.js";

const NEEDS_LINK = /needs its link/;

describe("the terminal's link", { timeout: UP + TEST }, () => {
  let lab, browser, profile, terminal, requests;

  before(async () => {
    lab = await startLab();
    browser = await startBrowser();
    profile = await freshProfile(browser);
  }, { timeout: UP });

  after(async () => {
    await browser?.close();
    await lab?.end();
  });

  it("opens a prompt in the machine, where commands can be typed", async () => {
    terminal = new TerminalPage(await profile.newPage(), lab);
    requests = await recordRequests(terminal.page);
    await terminal.page.goto(lab.links.terminal);
    await terminal.waitForPrompt();
    const printed = await terminal.run("echo $((6*7)); id -un; uname -n");
    assert.deepEqual(printed, ["42", lab.user, lab.hostname]);
  });

  it("takes its secret out of the address bar and sends it in no address and no header", async () => {
    assert.equal(terminal.page.url(), lab.address);
    assert.equal(await terminal.page.evaluate(() => location.href + document.referrer), lab.address);
    const urls = requests.flatMap(({ url }) => url ?? []);
    for (const asked of [/\/$/, /\/session$/, /^ws:.*\/ws\?/]) {
      assert.ok(urls.some((url) => asked.test(url)), `${asked} was not seen among ${urls.join(" ")}`);
    }
    assert.ok(requests.some(({ headers }) => headers), "no headers were seen");
    const leaks = requests.filter((request) => JSON.stringify(request).includes(lab.token));
    assert.deepEqual(leaks, []);
  });

  it("leaves a cookie that scripts and foreign pages cannot use", async () => {
    const cookies = await profile.cookies();
    assert.equal(cookies.length, 1);
    const { httpOnly, sameSite, value } = cookies[0];
    assert.deepEqual({ httpOnly, sameSite }, { httpOnly: true, sameSite: "Strict" });
    assert.notEqual(value, lab.token);
    assert.equal(await terminal.page.evaluate(() => document.cookie), "");
  });

  it("is needed once: a page that is loaded again gives a new shell", async () => {
    const [oldShell] = await terminal.run("echo $$");
    await terminal.page.reload();
    await terminal.waitForPrompt();
    const [newShell] = await terminal.run("echo $$");
    assert.match(newShell, /^\d+$/);
    assert.notEqual(newShell, oldShell);
  });

  for (const [who, fragment] of [["without its secret", ""], ["with another secret", "#token=wrong"]]) {
    it(`opens no shell ${who}`, async () => {
      const stranger = await freshProfile(browser);
      const page = await stranger.newPage();
      let sockets = 0;
      page.on("websocket", () => (sockets += 1));
      await page.goto(lab.address + fragment);
      await page.getByRole("alert").filter({ hasText: NEEDS_LINK }).waitFor();
      assert.ok(!(await page.locator("#terminal").isVisible()));
      assert.equal(await page.evaluate(() => typeof window.dozlab), "undefined");
      assert.equal(sockets, 0);
      assert.deepEqual(await stranger.cookies(), []);
      await stranger.close();
    });
  }
});
