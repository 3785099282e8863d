// The browser: Debian's Chromium without a window, with a profile of its own that is removed with it.

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox", // the tests may run as root or in a container, and open our own pages only
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** What a page is seen through; the pictures in the documentation have this size. */
export const WINDOW = { width: 1280, height: 800 };

/** Starts the browser. */
export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: FLAGS,
    // lab.js ends this process upon signals, and the browser ends with it.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
}

/** A browser that nobody has logged in with. */
export function freshProfile(browser, options = {}) {
  return browser.newContext({ viewport: WINDOW, ...options });
}
