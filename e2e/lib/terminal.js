// The terminal's page, used as a person uses it: by keys. What it shows is read from the terminal's buffer, which the
// page offers as `window.dozlab.terminal`.

import { ANSWER } from "./deadlines.js";

/** Often enough for a person's patience; animation frames, the default, stand still in a page that is not in front. */
const polling = 50;

export class TerminalPage {
  constructor(page, lab) {
    this.page = page;
    this.lab = lab;
  }

  /** Opens the lab's terminal by its link, and waits for a prompt. */
  static async open(profile, lab) {
    const terminal = new TerminalPage(await profile.newPage(), lab);
    await terminal.page.goto(lab.links.terminal);
    await terminal.waitForPrompt();
    return terminal;
  }

  type(text) {
    return this.page.keyboard.type(text);
  }

  press(key) {
    return this.page.keyboard.press(key);
  }

  /** Waits for a prompt below the command that was started last. */
  waitForPrompt(deadline = ANSWER) {
    return this.waitFor(
      "a prompt",
      (prompt) => {
        const buffer = window.dozlab?.terminal.buffer.active;
        if (buffer?.type !== "normal") {
          return false;
        }
        const row = buffer.baseY + buffer.cursorY;
        const below = row > (window.command?.line ?? -1);
        // After a flood the kernel may echo Ctrl-C late, when the shell has begun the prompt's line already.
        const line = buffer.getLine(row).translateToString(false, 0, buffer.cursorX).replace(/^\^C/, "");
        return below && line === `${prompt} `;
      },
      { argument: this.lab.prompt, deadline },
    );
  }

  /** Types a command at the prompt and starts it. */
  async start(command) {
    await this.page.evaluate(() => {
      // A marker stays with its line while the screen scrolls.
      window.command = window.dozlab.terminal.registerMarker(0);
    });
    await this.type(command);
    await this.press("Enter");
  }

  /** Runs a command to its end and returns the lines that it printed, as far as they are still in the buffer. */
  async run(command, deadline = ANSWER) {
    await this.start(command);
    await this.waitForPrompt(deadline);
    return this.page.evaluate(() => {
      const buffer = window.dozlab.terminal.buffer.active;
      const lines = [];
      for (let row = window.command.line + 1; row < buffer.baseY + buffer.cursorY; row += 1) {
        const line = buffer.getLine(row);
        const text = line.translateToString(true);
        if (line.isWrapped && lines.length > 0) {
          lines.push(lines.pop() + text);
        } else if (!line.isWrapped) {
          lines.push(text);
        } // else it is still the command
      }
      return lines;
    });
  }

  /** The lines on the screen. */
  screen() {
    return this.page.evaluate(() => {
      const { buffer, rows } = window.dozlab.terminal;
      const lines = Array.from({ length: rows }, (_, row) => buffer.active.getLine(buffer.active.baseY + row));
      return lines.map((line) => line?.translateToString(true) ?? "");
    });
  }

  /** Waits until a text is on the screen. */
  waitForText(text, deadline = ANSWER) {
    return this.waitFor(
      `\`${text}\` on the screen`,
      (wanted) => {
        const { buffer, rows } = window.dozlab.terminal;
        const lines = Array.from({ length: rows }, (_, row) => buffer.active.getLine(buffer.active.baseY + row));
        return lines.some((line) => line?.translateToString(true).includes(wanted));
      },
      { argument: text, deadline },
    );
  }

  /** Waits until a condition holds in the page. A failure shows what the page showed. */
  async waitFor(what, condition, { argument, deadline = ANSWER } = {}) {
    try {
      await this.page.waitForFunction(condition, argument, { timeout: deadline, polling });
    } catch (error) {
      const state = await this.page.locator("#state").textContent({ timeout: 1000 }).catch(() => "?");
      const screen = await this.screen().catch(() => ["(there is no terminal)"]);
      const shown = screen.join("\n").trimEnd();
      throw new Error(`no ${what} within ${deadline / 1000} s; the page says "${state}" and shows:\n${shown}`, {
        cause: error,
      });
    }
  }

  /** The terminal's size and how much is in its buffer. */
  measures() {
    return this.page.evaluate(() => {
      const { buffer, cols, rows, options } = window.dozlab.terminal;
      return { cols, rows, length: buffer.normal.length, scrollback: options.scrollback };
    });
  }
}
