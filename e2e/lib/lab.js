// Labs for the tests. They are started, used and ended by the `dozlab` program, as a script of anybody's would.
//
// The environment names the program (DOZLAB) and the folders with the image, the kernel and the editor
// (DOZLAB_DATA_DIR, DOZLAB_CACHE_DIR); they are shared with the other tests of whole labs and live in `target`.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { ANSWER, END, INSTALL, REBOOT, UP, until } from "./deadlines.js";

const target = fileURLToPath(new URL("../../target", import.meta.url));
const program = resolve(process.env.DOZLAB || `${target}/debug/dozlab`);
const environment = {
  ...process.env,
  DOZLAB_DATA_DIR: resolve(process.env.DOZLAB_DATA_DIR || `${target}/lab-tests/data`),
  DOZLAB_CACHE_DIR: resolve(process.env.DOZLAB_CACHE_DIR || `${target}/lab-tests/cache`),
};

/** The names of labs that were started and not ended. */
const running = new Set();

// Whatever ends this process, the labs end too.
process.on("exit", () => {
  for (const name of running) {
    spawnSync(program, ["rm", name], { env: environment, timeout: END });
  }
});
for (const [signal, number] of [["SIGHUP", 1], ["SIGINT", 2], ["SIGTERM", 15]]) {
  process.on(signal, () => process.exit(128 + number));
}

/** A lab that has a prompt. */
export class Lab {
  constructor(answer) {
    this.name = answer.name;
    /** The links, as `dozlab up` prints them. */
    this.links = { terminal: answer.terminal, editor: answer.editor };
    /** The secret in the links. */
    this.token = answer.token;
    this.user = answer.ssh.user;
    this.hostname = `lab-${answer.name}`;
    /** What the shell writes before each command, without the space after it. */
    this.prompt = `${this.user}@${this.hostname}:~$`;
  }

  /** The terminal's address without the secret. */
  get address() {
    return this.links.terminal.split("#")[0];
  }

  /** Where the editor's files are on this computer. */
  get editorFolder() {
    return `${environment.DOZLAB_DATA_DIR}/sessions/${this.name}/vm-data`;
  }

  /** Runs a line of shell in the machine, and returns what it printed. */
  sh(line) {
    return dozlab(["exec", this.name, "--", "sh", "-c", line], ANSWER);
  }

  /** Waits until the image's init has started everything; a prompt does not wait for that. */
  async waitForInit() {
    // The word is `degraded` where a unit failed; that is settled too.
    const settled = "systemctl is-system-running | grep -xE 'running|degraded' || true";
    await until(`${this.name} has started`, REBOOT, () => this.sh(settled));
  }

  /** Ends the lab, and checks that nothing of it is left. */
  async end() {
    await dozlab(["rm", this.name], END);
    running.delete(this.name);
    assert.ok(!(await labNames()).includes(this.name), `${this.name} is still listed`);
    assert.deepEqual(processesThatName(this.name), [], `${this.name} has left processes behind`);
  }
}

/** Starts a lab and waits for its prompt. */
export async function startLab({ editor = false, name = `e2e-${randomBytes(4).toString("hex")}` } = {}) {
  mkdirSync(environment.DOZLAB_DATA_DIR, { recursive: true });
  mkdirSync(environment.DOZLAB_CACHE_DIR, { recursive: true });
  if (editor) {
    await dozlab(["editor", "install"], INSTALL);
  }
  // It is ended with this process, so that it had better be ours.
  assert.ok(!(await labNames()).includes(name), `there is a lab ${name} already: \`dozlab rm ${name}\` removes it`);
  running.add(name);
  const flags = ["--detach", "--output", "json", "--name", name, ...(editor ? [] : ["--no-editor"])];
  return new Lab(JSON.parse(await dozlab(["up", ...flags], UP)));
}

async function labNames() {
  return JSON.parse(await dozlab(["ls", "--output", "json"], ANSWER)).map(({ name }) => name);
}

/** Runs the program and returns its standard output. */
function dozlab(words, deadline) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { env: environment, stdio: ["ignore", "pipe", "pipe"], timeout: deadline });
    let output = "";
    let errors = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
    child.on("error", (error) => reject(new Error(`cannot run ${program}: ${error.message}; DOZLAB names it`)));
    child.on("close", (status, signal) => {
      if (status === 0) {
        resolve(output);
        return;
      }
      const how = signal === null ? `exit status ${status}` : `${signal} after at most ${deadline / 1000} s`;
      reject(new Error(`dozlab ${words.join(" ")}: ${how}\n${errors}`));
    });
  });
}

/** The processes with this name in their command line or environment: all of a lab's have it. */
function processesThatName(name) {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return ["cmdline", "environ"].some((file) => readFileSync(`/proc/${pid}/${file}`, "utf8").includes(name));
      } catch {
        return false; // it has ended, or is another user's
      }
    });
}
