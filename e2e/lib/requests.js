// What a page asks of servers, as the browser's own debugger sees it: with the headers that were really sent.

/** Records every request of the page, WebSockets too. Returns a list that grows. */
export async function recordRequests(page) {
  const debug = await page.context().newCDPSession(page);
  const requests = [];
  // The fragment, which is not sent, is kept apart from `url` by the debugger.
  debug.on("Network.requestWillBeSent", ({ request }) => requests.push({ url: request.url }));
  debug.on("Network.requestWillBeSentExtraInfo", ({ headers }) => requests.push({ headers }));
  debug.on("Network.webSocketCreated", ({ url }) => requests.push({ url }));
  debug.on("Network.webSocketWillSendHandshakeRequest", ({ request }) => requests.push({ headers: request.headers }));
  await debug.send("Network.enable");
  return requests;
}
