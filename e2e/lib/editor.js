// The editor's page: code-server's workbench, opened by the lab's link.

import { randomUUID } from "node:crypto";

import { ANSWER, EDITOR, until } from "./deadlines.js";

export class EditorPage {
  /** The addresses that the page went to on the way to the workbench, without queries. */
  visited = [];

  /** Opens the lab's editor by its link, or by another address, and waits for the workbench. */
  static async open(profile, lab, address = lab.links.editor) {
    const editor = new EditorPage(await profile.newPage(), lab);
    await editor.page.goto(address, { timeout: EDITOR });
    await editor.waitForWorkbench();
    return editor;
  }

  constructor(page, lab) {
    this.page = page;
    this.lab = lab;
    page.on("framenavigated", (frame) => {
      if (frame === page.mainFrame()) {
        this.visited.push(frame.url().split(/[?#]/, 1)[0]);
      }
    });
  }

  /** Waits until the workbench has its files and its status bar, and takes keys. */
  async waitForWorkbench() {
    for (const part of [".monaco-workbench", ".explorer-folders-view", ".statusbar-item"]) {
      await this.page.locator(part).first().waitFor({ timeout: EDITOR });
    }
  }

  /** Opens the integrated terminal and types there from now on; what its shell is too slow for waits for it. */
  async openTerminal() {
    const terminal = this.page.locator(".terminal.xterm");
    await until("the integrated terminal", EDITOR, async () => {
      // The key closes an open terminal. The workbench is drawn before it knows its keys.
      if (!(await terminal.isVisible())) {
        await this.page.keyboard.press("Control+Backquote");
      }
      return terminal.waitFor({ timeout: 10_000 }).then(() => true, () => false);
    });
    await this.page.locator(".xterm-helper-textarea").focus();
  }

  /** Runs a command in the integrated terminal, and returns what it has printed. */
  async runInTerminal(command) {
    const file = `from-editor-${randomUUID()}`;
    await this.openTerminal();
    await this.type(`${command} > ${file}.part; mv ${file}.part ${file}`);
    await this.press("Enter");
    await until(`the editor's terminal has run ${command}`, ANSWER, () => this.lab.sh(`ls ${file} || true`));
    return this.lab.sh(`cat ${file}`);
  }

  /** Waits until two looks at the page show the same: its terminal draws on a canvas, which does not tell its text. */
  async waitUntilStill() {
    let last = Buffer.alloc(0);
    await until("a page that does not change", ANSWER, async () => {
      const seen = await this.page.screenshot({ animations: "disabled" });
      const still = seen.equals(last);
      last = seen;
      return still;
    });
  }

  /** Opens a file of the editor's folder. */
  async openFile(name) {
    await this.page.locator(".explorer-folders-view .monaco-list-row", { hasText: name }).dblclick({ timeout: EDITOR });
    await this.page.locator(".monaco-editor .view-line").first().waitFor({ timeout: ANSWER });
  }

  type(text) {
    return this.page.keyboard.type(text);
  }

  press(key) {
    return this.page.keyboard.press(key);
  }
}
