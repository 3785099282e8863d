// The terminal as a tool for work: sizes, scripts of the world, floods, Ctrl-C, programs that use the whole screen.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { freshProfile, startBrowser } from "../lib/browser.js";
import { ANSWER, FLOOD, INTERRUPT, TEST, UP, until } from "../lib/deadlines.js";
import { startLab } from "../lib/lab.js";
import { TerminalPage } from "../lib/terminal.js";

/** The longest that the page may not answer, in milliseconds: less than what makes a person reload it. */
const RESPONSIVE = 5000;

/** What the page's scripts may keep, in bytes: a buffer of 10,000 lines is 12 bytes a cell, about 17 MB here. */
const HEAP = 80e6;

describe("the terminal", { timeout: UP + TEST }, () => {
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

  it("has the size of the window, before and after it changes", async () => {
    const before = await terminal.measures();
    assert.deepEqual(await terminal.run("stty size"), [`${before.rows} ${before.cols}`]);
    const { width, height } = terminal.page.viewportSize();
    await terminal.page.setViewportSize({ width: 900, height: 500 });
    await terminal.waitFor("new size", (cols) => window.dozlab.terminal.cols !== cols, { argument: before.cols });
    const smaller = await terminal.measures();
    assert.ok(smaller.cols < before.cols && smaller.rows < before.rows);
    assert.deepEqual(await terminal.run("stty size"), [`${smaller.rows} ${smaller.cols}`]);
    await terminal.page.setViewportSize({ width, height });
    await terminal.waitFor("old size", (cols) => window.dozlab.terminal.cols === cols, { argument: before.cols });
    assert.deepEqual(await terminal.run("stty size"), [`${before.rows} ${before.cols}`]);
  });

  it("carries 日本語 🚀 both ways, each wide character in two cells", async () => {
    const text = "日本語 🚀";
    assert.deepEqual(await terminal.run(`echo ${text} | tee wide`), [text]);
    assert.equal(await lab.sh("cat wide"), `${text}\n`);
    const widths = await terminal.page.evaluate(() => {
      const line = window.dozlab.terminal.buffer.active.getLine(window.command.line + 1);
      return Array.from({ length: 9 }, (_, column) => line.getCell(column).getWidth());
    });
    // The second cell of a wide character has no width of its own.
    assert.deepEqual(widths, [2, 0, 2, 0, 2, 0, 1, 2, 0]);
    await terminal.start("cat");
    // What is typed before `cat` reads is not echoed: the shell has the echo off while it edits a line.
    await until("cat runs", ANSWER, () => lab.sh("pgrep -x cat || true"));
    await terminal.type(text);
    await terminal.press("Enter");
    await terminal.waitFor(
      "echo",
      (wanted) => {
        const buffer = window.dozlab.terminal.buffer.active;
        const row = window.command.line + 1;
        return [row, row + 1].every((each) => buffer.getLine(each)?.translateToString(true) === wanted);
      },
      { argument: text },
    );
    await terminal.press("Control+d");
    await terminal.waitForPrompt();
  });

  it("shows 200,000 lines to the last, answers meanwhile, and keeps no more than its scrollback", async (t) => {
    const end = `200000\n${lab.prompt}`;
    await terminal.start("seq 1 200000");
    const finished = terminal.waitForPrompt(FLOOD).then(() => true);
    let answers = 0;
    let slowest = 0;
    for (let done = false; !done; ) {
      const asked = performance.now();
      await terminal.page.locator("#terminal").click({ position: { x: 200, y: 200 } });
      const lastLines = (await terminal.screen()).slice(-2).join("\n");
      slowest = Math.max(slowest, performance.now() - asked);
      answers += lastLines.startsWith(end) ? 0 : 1;
      done = await Promise.race([finished, new Promise((resolve) => setImmediate(resolve, false))]);
    }
    t.diagnostic(`${answers} clicks answered while it ran, the slowest in ${Math.round(slowest)} ms`);
    assert.ok(answers > 0, "nothing was asked while the lines came");
    assert.ok(slowest < RESPONSIVE, `the page did not answer for ${Math.round(slowest)} ms`);
    const lines = (await terminal.screen()).map((line) => line.trimEnd()).filter((line) => line !== "");
    assert.deepEqual(lines.slice(-3), ["199999", "200000", lab.prompt]);
    const { length, rows, scrollback } = await terminal.measures();
    assert.equal(length, scrollback + rows);
    const debug = await terminal.page.context().newCDPSession(terminal.page);
    await debug.send("HeapProfiler.collectGarbage");
    const { usedSize, embedderHeapUsedSize = 0, backingStorageSize = 0 } = await debug.send("Runtime.getHeapUsage");
    const kept = usedSize + embedderHeapUsedSize + backingStorageSize;
    t.diagnostic(`the page keeps ${Math.round(kept / 1e6)} MB`);
    assert.ok(kept < HEAP, `the page keeps ${Math.round(kept / 1e6)} MB`);
  });

  it("stops `yes` by Ctrl-C", async () => {
    await terminal.run("clear");
    await terminal.start("yes");
    await terminal.waitFor("screen full of y", () => {
      const { buffer, rows } = window.dozlab.terminal;
      const above = Array.from({ length: rows - 1 }, (_, row) => buffer.active.getLine(buffer.active.baseY + row));
      return above.every((line) => line.translateToString(true) === "y");
    });
    await terminal.press("Control+c");
    await terminal.waitForPrompt(INTERRUPT);
    assert.deepEqual(await terminal.run("echo $?"), ["130"]);
  });

  it("stops `sleep 1000` by Ctrl-C", async () => {
    await terminal.start("sleep 1000");
    await until("sleep runs", ANSWER, () => lab.sh("pgrep -x sleep || true"));
    await terminal.press("Control+c");
    await terminal.waitForPrompt(INTERRUPT);
    assert.deepEqual(await terminal.run("echo $?"), ["130"]);
    assert.equal(await lab.sh("pgrep -x sleep || true"), "");
  });

  it("edits a file with vim and has its screen back afterwards", async () => {
    await terminal.run("clear");
    await terminal.run("echo seen before vim");
    const before = await terminal.screen();
    await terminal.start("vim poem");
    await terminal.waitFor("alternate screen", () => window.dozlab.terminal.buffer.active.type === "alternate");
    await terminal.waitForText('"poem" [New]');
    await terminal.type("i");
    await terminal.waitForText("-- INSERT --");
    await terminal.type("Über allen Gipfeln");
    await terminal.press("Enter");
    await terminal.type("ist Ruh");
    await terminal.waitForText("ist Ruh");
    await terminal.press("Escape");
    await terminal.type(":wq");
    await terminal.waitForText(":wq");
    await terminal.press("Enter");
    await terminal.waitForPrompt();
    const after = await terminal.screen();
    const promptRow = before.findIndex((line, row) => row > 0 && line.trimEnd() === lab.prompt);
    assert.deepEqual(after.slice(0, promptRow), before.slice(0, promptRow));
    assert.ok(before.includes("seen before vim"));
    assert.deepEqual(await terminal.run("cat poem"), ["Über allen Gipfeln", "ist Ruh"]);
    assert.equal(await lab.sh("cat poem"), "Über allen Gipfeln\nist Ruh\n");
  });
});
