// A learner at the terminal of one lab.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { launchBrowser, newProfile, recordRequests } from "../browser.js";
import { until, within } from "../deadline.js";
import { Lab } from "../lab.js";
import { TerminalPage } from "../terminal-page.js";

/** What Ctrl-C may take: the machine may have 200 kB of output on its way that nobody wants any more. */
const INTERRUPT_SECONDS = 10;

/** The page's own setting. */
const SCROLLBACK = 10_000;

describe("the terminal", () => {
  let lab;
  let browser;
  let profile;

  before(async () => {
    browser = await launchBrowser();
    lab = await Lab.start("terminal");
  });
  after(async () => {
    await browser?.close();
    await lab?.remove();
  });
  beforeEach(async () => {
    profile = await newProfile(browser);
  });
  afterEach(async () => {
    await profile.close();
  });

  test("opens by its link and is a shell of the learner's user on the lab's machine", async () => {
    const terminal = await TerminalPage.open(profile, lab.terminalLink);

    assert.deepEqual(await terminal.run("echo $((6*7)); id -un; uname -n"), ["42", lab.user, lab.hostname]);
  });

  test("keeps the link's secret out of every address, header and log", async () => {
    const page = await profile.newPage();
    const requests = await recordRequests(page);
    await page.goto(lab.terminalLink);
    const terminal = new TerminalPage(page);
    await terminal.run("true");

    const { origin } = new URL(lab.terminalLink);
    assert.equal(page.url(), `${origin}/`);
    assert.equal(await page.evaluate(() => location.href), `${origin}/`);
    const told = requests.filter((request) => JSON.stringify(request).includes(lab.token));
    assert.deepEqual(told.map(({ url }) => url), [`${origin}/session`], "the secret is exchanged for a cookie, once");
    assert.deepEqual(JSON.parse(told[0].body), { token: lab.token });
    assert.ok(!JSON.stringify(told[0].headers).includes(lab.token), "the secret is in the body alone");
    assert.ok(requests.some(({ url }) => url.startsWith("ws://")), "the WebSocket was seen too");
    assert.ok(!(await lab.logs()).includes(lab.token), "the logs do not tell the secret");
  });

  test("is logged in by a cookie that no script and no foreign page gets to use", async () => {
    await TerminalPage.open(profile, lab.terminalLink);

    const cookies = await profile.cookies();
    assert.deepEqual(
      cookies.map(({ name, path, httpOnly, sameSite }) => ({ name, path, httpOnly, sameSite })),
      [{ name: `dozlab-${lab.name}`, path: "/", httpOnly: true, sameSite: "Strict" }],
    );
    assert.ok(!cookies[0].value.includes(lab.token), "the cookie does not hold the secret itself");
  });
});
