// The browser: Debian's Chromium, headless, with a profile of its own that is gone when it closes.

import { chromium } from "playwright-core";

/** The size of a page unless a test wants another; also the pictures' size. */
export const VIEWPORT = { width: 1280, height: 800 };

const FLAGS = [
  "--no-sandbox", // tests run as root too, where Chromium's sandbox refuses to start
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts the browser at `$CHROMIUM`. It ends with `close()`, or with this process. */
export async function launchBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
    timeout: 120_000,
    // Labs have to end on a signal too: `lab.js` sees to that, and the process's end to the browser.
    handleSIGHUP: false,
    handleSIGINT: false,
    handleSIGTERM: false,
  });
}

/** A browser profile: cookies and storage of its own. */
export async function newProfile(browser, options = {}) {
  return browser.newContext({ viewport: VIEWPORT, ...options });
}

/**
 * Notes every address that the page asks for, with the headers and the body that went along: documents, scripts, fetches
 * and WebSockets, as the browser's network stack has them.
 */
export async function recordRequests(page) {
  const requests = [];
  const devTools = await page.context().newCDPSession(page);
  devTools.on("Network.requestWillBeSent", ({ request }) => {
    requests.push({ url: request.url, headers: request.headers, body: request.postData ?? "" });
  });
  devTools.on("Network.requestWillBeSentExtraInfo", ({ headers }) => requests.push({ url: "", headers, body: "" }));
  devTools.on("Network.webSocketCreated", ({ url }) => requests.push({ url, headers: {}, body: "" }));
  devTools.on("Network.webSocketWillSendHandshakeRequest", ({ request }) => {
    requests.push({ url: "", headers: request.headers, body: "" });
  });
  await devTools.send("Network.enable");
  return requests;
}
