// Labs for the tests, made and ended with the `dozlab` program as a script would.
//
// The program is `$DOZLAB`. Its data folder holds the image `vm`, a kernel and code-server, which `dozlab up` makes where
// they are missing; by default it is shared with the tests of the command line, so that they are made once. A lab ends
// with its test: by `remove()`, or when this process ends for whatever reason that leaves it a word.

import { execFile, execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { until } from "./deadline.js";

const run = promisify(execFile);
const inRepository = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

const DOZLAB = process.env.DOZLAB || inRepository("target/debug/dozlab");
const ENVIRONMENT = {
  ...process.env,
  DOZLAB_DATA_DIR: process.env.DOZLAB_DATA_DIR || inRepository("target/lab-tests/data"),
  DOZLAB_CACHE_DIR: process.env.DOZLAB_CACHE_DIR || inRepository("target/lab-tests/cache"),
};

/** The image and code-server may have to be made first: Debian packages are downloaded and unpacked for that. */
const UP_MINUTES = 15;
const COMMAND_MINUTES = 3;

/** The labs that this process has started and not removed, by name. */
const running = new Set();

process.on("exit", () => {
  for (const name of running) {
    execFileSync(DOZLAB, ["rm", name], { env: ENVIRONMENT, stdio: "ignore" });
  }
});
for (const [signal, number] of [["SIGHUP", 1], ["SIGINT", 2], ["SIGTERM", 15]]) {
  process.once(signal, () => process.exit(128 + number));
}

/** Runs `dozlab` and returns what it printed. A failure is thrown with what it said. */
async function dozlab(words, minutes = COMMAND_MINUTES) {
  const { stdout } = await run(DOZLAB, words, {
    env: ENVIRONMENT,
    timeout: minutes * 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

/** Installs the editor where it is missing, so that no test waits for that. */
export async function installEditor() {
  await dozlab(["editor", "install"], UP_MINUTES);
}

/** A running lab, as `dozlab up --output json` describes it. */
export class Lab {
  #details;

  /**
   * Starts a lab of the image `vm`.
   *
   * @param {string} purpose part of its name
   * @param {{ name?: string, editor?: boolean }} options a name of its own; whether it has an editor
   */
  static async start(purpose, { name = `e2e-${purpose}-${process.pid}`, editor = false } = {}) {
    const lab = new Lab(name);
    running.add(name);
    try {
      const words = ["up", "--detach", "--output", "json", "--name", name];
      lab.#details = JSON.parse(await dozlab(editor ? words : [...words, "--no-editor"], UP_MINUTES));
    } catch (error) {
      await lab.remove().catch(() => undefined); // it may never have come to be; the first error says why
      throw error;
    }
    return lab;
  }

  constructor(name) {
    this.name = name;
  }

  /** The machine's host name, where none was asked for. */
  get hostname() {
    return `lab-${this.name}`;
  }

  /** The learner's user in the machine. */
  get user() {
    return this.#details.ssh.user;
  }

  /** The link to the terminal, with the secret in its fragment. */
  get terminalLink() {
    return this.#details.terminal;
  }

  /** The link to the editor, with the secret in its fragment. */
  get editorLink() {
    return this.#details.editor;
  }

  /** The session's secret. */
  get token() {
    return this.#details.token;
  }

  /** Runs a command in the machine, past the browser, and returns its output. */
  async exec(...words) {
    return dozlab(["exec", this.name, "--", ...words]);
  }

  /** Whether a command in the machine succeeds. */
  async succeeds(...words) {
    return this.exec(...words).then(() => true, () => false);
  }

  /** Waits until systemd has started everything; a learner need not. */
  async waitForSystemd() {
    // Its exit status tells `degraded` from `running`; here only the word counts.
    const settled = "systemctl is-system-running | grep -qxE 'running|degraded'";
    await until(`${this.name}: systemd has started everything`, 180, () => this.succeeds("bash", "-c", settled));
  }

  /** What its components and its console have said. */
  async logs() {
    return dozlab(["logs", this.name]);
  }

  /** Where its files are on this machine. */
  async folder() {
    const labs = JSON.parse(await dozlab(["ls", "--output", "json"]));
    return labs.find((lab) => lab.name === this.name).folder;
  }

  /** Ends the lab and everything of it. */
  async remove() {
    await dozlab(["rm", this.name]);
    running.delete(this.name);
  }
}
