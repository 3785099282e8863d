// The editor, by its link.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { ANSWER, EDITOR, TEST, UP, until } from "../lib/deadlines.js";
import { EditorPage } from "../lib/editor.js";
import { startLab } from "../lib/lab.js";
import { recordRequests } from "../lib/requests.js";

describe("the editor", { timeout: UP + TEST }, () => {
  let lab, browser, editor, requests;

  before(async () => {
    lab = await startLab({ editor: true });
    browser = await startBrowser();
  }, { timeout: UP });

  after(async () => {
    await browser?.close();
    await lab?.end();
  });

  it("opens by its link at the workbench, with no login to fill in", async () => {
    const profile = await freshProfile(browser);
    editor = new EditorPage(await profile.newPage(), lab);
    requests = await recordRequests(editor.page);
    await editor.page.goto(lab.links.editor, { timeout: EDITOR });
    await editor.waitForWorkbench();
    assert.equal(await editor.page.locator("input[type=password]").count(), 0);
    assert.deepEqual(editor.visited.filter((address) => address.includes("/login")), []);
    assert.match(editor.page.url(), /\?folder=.*\/vm-data$/);
  });

  it("gets the secret in no address and no header", () => {
    assert.ok(requests.some(({ url }) => url?.startsWith("ws:")), "the workbench's connection was not seen");
    assert.deepEqual(requests.filter((request) => JSON.stringify(request).includes(lab.token)), []);
  });

  it("has the machine's shell as its terminal", async () => {
    assert.equal(await editor.runInTerminal("uname -n"), `${lab.hostname}\n`);
  });

  it("edits a file in the lab's folder", async () => {
    const path = `${lab.editorFolder}/notes.txt`;
    await writeFile(path, "one line\n");
    await editor.openFile("notes.txt");
    await editor.page.locator(".monaco-editor .view-line", { hasText: "one line" }).click();
    await editor.press("Control+End");
    await editor.type("日本語 too");
    await editor.press("Control+s");
    await until("the saved file", ANSWER, async () => (await readFile(path, "utf8")) === "one line\n日本語 too");
  });

  it("lets no stranger in, neither by the lab's address nor by its own", async () => {
    const stranger = await freshProfile(browser);
    const page = await stranger.newPage();
    await page.goto(lab.links.editor.split("#")[0]);
    await page.waitForURL(/\/editor\/open$/, { timeout: ANSWER });
    assert.match(await page.locator("body").innerText(), /open the lab by its link/);
    await page.goto(new URL(editor.page.url()).origin);
    await page.locator("input[type=password]").waitFor({ timeout: ANSWER });
    assert.equal(await page.locator(".monaco-workbench").count(), 0);
    await stranger.close();
  });
});
