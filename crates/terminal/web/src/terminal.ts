// The terminal's page: logs in, shows the terminal and the bar above it.

import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal, type ITheme } from "@xterm/xterm";

import { Connection, type State } from "./connection.ts";
import { fetchSession, logInFromFragment, type SessionInfo } from "./login.ts";
import { SOON_SECONDS, describeTimeLeft } from "./time-left.ts";

declare global {
  interface Window {
    /** For tests, and for whoever embeds the page: the terminal, whose buffer can be read. */
    dozlab?: { terminal: Terminal };
  }
}

const NEEDS_LINK = "This lab needs its link: open it by the link that you were given, which holds its secret.";

/**
 * Ends what a lost program may have left: the alternate screen, modes, colours. The scrollback stays. Leaving
 * the alternate screen goes back to the cursor that was saved; saving it first (each screen has its own) keeps it
 * where it is when the normal screen is shown already.
 */
const LEAVE_EVERY_MODE = "\x1b7\x1b[?1049l\x1b[!p\x1b[?1000;1002;1003;1004;1006;2004l\x1b[0m\x1b[?25h";

const LIGHT: ITheme = {
  background: "#ffffff",
  foreground: "#1b1f27",
  cursor: "#1b1f27",
  cursorAccent: "#ffffff",
  selectionBackground: "#b9d6f6",
  black: "#1b1f27",
  red: "#b3261e",
  green: "#12734a",
  yellow: "#8a5300",
  blue: "#0a5fb4",
  magenta: "#8a3ea8",
  cyan: "#0b6e77",
  white: "#6b7280",
  brightBlack: "#535b69",
  brightRed: "#c93b33",
  brightGreen: "#1b8457",
  brightYellow: "#9a6410",
  brightBlue: "#2272c3",
  brightMagenta: "#9c4fba",
  brightCyan: "#1a7f89",
  brightWhite: "#3b424e",
};

const DARK: ITheme = {
  background: "#14171d",
  foreground: "#e6e9ef",
  cursor: "#e6e9ef",
  cursorAccent: "#14171d",
  selectionBackground: "#34507a",
};

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) {
    throw new Error(`the page has no element ${id}`);
  }
  return found as T;
}

const elements = {
  session: element("session"),
  state: element("state"),
  timeLeft: element("time-left"),
  again: element<HTMLButtonElement>("again"),
  screenReader: element<HTMLButtonElement>("screen-reader"),
  editor: element<HTMLAnchorElement>("editor"),
  terminal: element("terminal"),
  message: element("message"),
};

async function start(): Promise<void> {
  const session = (await logInFromFragment()) ? await fetchSession() : undefined;
  if (session === undefined) {
    showNotice(NEEDS_LINK);
    return;
  }
  showSession(session);
  startTerminal(session);
}

/** Instead of the terminal: one sentence. */
function showNotice(text: string): void {
  document.body.dataset.state = "notice";
  document.body.classList.add("notice");
  elements.message.textContent = text;
  elements.message.hidden = false;
}

function showSession(session: SessionInfo): void {
  elements.session.textContent = session.session;
  document.title = session.session;
  elements.editor.hidden = !session.editor;
  const expiresAt = session.expiresAt;
  if (expiresAt !== null) {
    showTimeLeft(expiresAt);
    setInterval(() => showTimeLeft(expiresAt), 1000);
  }
}

function showTimeLeft(expiresAt: number): void {
  const seconds = expiresAt - Date.now() / 1000;
  const text = describeTimeLeft(seconds);
  if (elements.timeLeft.textContent !== text) {
    elements.timeLeft.textContent = text;
  }
  const soon = seconds < SOON_SECONDS;
  elements.timeLeft.classList.toggle("soon", soon);
  elements.timeLeft.ariaLive = soon ? "polite" : "off";
  elements.timeLeft.hidden = false;
}

function showState(state: State, message: string): void {
  document.body.dataset.state = state;
  elements.state.textContent = message;
  elements.again.hidden = state !== "ended" && state !== "refused";
}

function startTerminal(session: SessionInfo): void {
  const terminal = new Terminal({
    allowProposedApi: true, // the Unicode addon registers itself through it
    cursorBlink: true,
    fontFamily: "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
    fontSize: 15,
    minimumContrastRatio: 4.5, // of text, by WCAG 2 level AA: a program's dark blue is readable on the dark page
    scrollback: 10_000,
    screenReaderMode: localStorage.getItem("screen-reader") === "on",
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.loadAddon(new WebLinksAddon());
  terminal.loadAddon(new Unicode11Addon());
  terminal.unicode.activeVersion = "11";
  terminal.open(elements.terminal);
  fit.fit();
  window.dozlab = { terminal };

  const connection = new Connection({
    draw: (bytes, done) => terminal.write(bytes, done),
    show: showState,
    began: (lost) => {
      if (lost) {
        terminal.write(`${LEAVE_EVERY_MODE}\r\n\x1b[2m— a new shell —\x1b[0m\r\n`);
      }
      connection.resize(terminal.cols, terminal.rows);
    },
    size: () => ({ cols: terminal.cols, rows: terminal.rows }),
    stillLoggedIn: async () => {
      const loggedIn = (await fetchSession()) !== undefined;
      if (!loggedIn) {
        showNotice(NEEDS_LINK);
      }
      return loggedIn;
    },
  });
  const encoder = new TextEncoder();
  terminal.onData((text) => connection.type(encoder.encode(text)));
  // Mouse reports of the old kind: each character is one byte.
  terminal.onBinary((text) => connection.type(Uint8Array.from(text, (character) => character.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => connection.resize(cols, rows));
  terminal.onTitleChange((title) => {
    document.title = title === "" ? session.session : `${title} – ${session.session}`;
  });
  followSize(fit);
  followColours(terminal);
  handleKeys(terminal, connection);
  connection.open();
  terminal.focus();
}

function followSize(fit: FitAddon): void {
  let frame = 0;
  const observer = new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => fit.fit());
  });
  observer.observe(elements.terminal);
}

function followColours(terminal: Terminal): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (): void => {
    terminal.options.theme = dark.matches ? DARK : LIGHT;
  };
  dark.addEventListener("change", apply);
  apply();
}

function handleKeys(terminal: Terminal, connection: Connection): void {
  const again = (): void => {
    elements.again.hidden = true;
    connection.open();
    terminal.focus();
  };
  elements.again.addEventListener("click", again);
  elements.screenReader.addEventListener("click", () => {
    const on = !terminal.options.screenReaderMode;
    terminal.options.screenReaderMode = on;
    localStorage.setItem("screen-reader", on ? "on" : "off");
    elements.screenReader.ariaPressed = String(on);
    terminal.focus();
  });
  elements.screenReader.ariaPressed = String(terminal.options.screenReaderMode);
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown") {
      return true;
    }
    if (event.key === "Enter" && !elements.again.hidden) {
      again();
      return false;
    }
    const shortcut = event.ctrlKey && event.shiftKey && !event.altKey;
    if (shortcut && event.code === "KeyC" && terminal.hasSelection()) {
      event.preventDefault();
      void copy(terminal.getSelection());
      return false;
    }
    // The browser's own paste arrives in the terminal's hidden text field.
    return !(shortcut && event.code === "KeyV");
  });
}

/** Browsers give the clipboard to pages that came by TLS or from this machine; elsewhere the old way works. */
async function copy(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) {
    await navigator.clipboard.writeText(text);
  } else {
    document.execCommand("copy");
  }
}

start().catch((error: unknown) => {
  const reason = error instanceof Error ? error.message : String(error);
  showNotice(`The lab cannot be reached (${reason}). Load the page again.`);
});
