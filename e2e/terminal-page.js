// The terminal's page, as a learner uses it: keys go in, and what is on the screen is read from the terminal's buffer.

import { DeadlineError, until, within } from "./deadline.js";

/** A shell answers within this many seconds on a machine that emulates its processor and is busy otherwise. */
const ANSWER_SECONDS = 60;

/** A page connects, its machine's boot included. */
const CONNECT_SECONDS = 180;

export class TerminalPage {
  /** Opens the terminal at this address in a new tab, and waits for the prompt. */
  static async open(profile, address) {
    const terminal = new TerminalPage(await profile.newPage());
    await terminal.page.goto(address);
    await terminal.waitForPrompt();
    return terminal;
  }

  constructor(page) {
    this.page = page;
  }

  /**
   * What the page's bar says, and what is in the terminal's buffer; its lines only where they are asked for. `entered` is
   * the line of the command that was entered last, -1 when it has left the scrollback.
   */
  async look({ lines = false } = {}) {
    return this.page.evaluate((withLines) => {
      const { state } = document.body.dataset;
      const message = document.getElementById("state").textContent;
      if (window.dozlab === undefined) {
        return { state, message, lines: [], beforeCursor: "" };
      }
      const { buffer, cols, rows } = window.dozlab.terminal;
      const { type, length, baseY, cursorX, cursorY } = buffer.active;
      const cursorLine = baseY + cursorY;
      const beforeCursor = buffer.active.getLine(cursorLine).translateToString(false, 0, cursorX);
      const entered = window.entered?.line ?? -1;
      const text = (index) => buffer.active.getLine(index).translateToString(true);
      const lines = withLines ? Array.from({ length }, (_, index) => text(index)) : [];
      return { state, message, cols, rows, screen: type, length, cursorLine, beforeCursor, entered, lines };
    }, lines);
  }

  /** Waits until a look at the page is as it should be. The error shows what was there instead. */
  async waitUntil(what, probe, { seconds = ANSWER_SECONDS, lines = false } = {}) {
    try {
      return await until(what, seconds, async () => {
        const seen = await this.look({ lines });
        return probe(seen) ? seen : undefined;
      });
    } catch (error) {
      if (!(error instanceof DeadlineError)) {
        throw error;
      }
      const { state, message, lines: shown } = await within("a look at the page", 30, this.look({ lines: true }));
      const screen = shown.join("\n").trimEnd().split("\n").slice(-30).join("\n");
      throw new DeadlineError(`${error.message}\nstate: ${state} (${message})\nscreen:\n${screen}`);
    }
  }

  /** Waits for a shell's prompt with nothing typed at it. */
  async waitForPrompt(seconds = CONNECT_SECONDS) {
    const prompted = ({ state, beforeCursor }) => state === "connected" && isPrompt(beforeCursor);
    return this.waitUntil("there is a prompt", prompted, { seconds });
  }

  /** Types text, as a keyboard does where it has the keys, and as an input method does where not. */
  async type(text) {
    await this.page.keyboard.type(text);
  }

  /** Presses a key. */
  async press(key) {
    await this.page.keyboard.press(key);
  }

  /** Types a command at a prompt, and has it started when it is shown. */
  async enter(command) {
    await this.waitForPrompt();
    await this.type(command);
    await this.waitUntil(`the typed ${command} is shown`, ({ beforeCursor }) => beforeCursor.endsWith(command));
    await this.page.evaluate(() => {
      window.entered = window.dozlab.terminal.registerMarker(0);
    });
    await this.press("Enter");
  }

  /** Waits for the prompt that comes after the command that was entered last. */
  async waitForReturn(seconds = ANSWER_SECONDS) {
    const returned = ({ beforeCursor, cursorLine, entered }) => isPrompt(beforeCursor) && cursorLine > entered;
    return this.waitUntil("the prompt is back", returned, { seconds });
  }

  /** Runs a command, and returns the lines it printed. */
  async run(command, seconds = ANSWER_SECONDS) {
    await this.enter(command);
    await this.waitForReturn(seconds);
    return this.output();
  }

  /** The lines from the command that was entered last to the prompt. */
  async output() {
    const { lines, cursorLine, entered } = await this.look({ lines: true });
    return lines.slice(entered + 1, cursorLine);
  }

  /** The size of the terminal's window as the page has it, in the words of `stty size`. */
  async size() {
    const { rows, cols } = await this.look();
    return `${rows} ${cols}`;
  }

  async close() {
    await this.page.close();
  }
}

function isPrompt(beforeCursor) {
  return /^\S+@\S+:\S+[$#] $/.test(beforeCursor);
}
