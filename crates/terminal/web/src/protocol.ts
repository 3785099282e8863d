// The text frames of the terminal's WebSocket, and what its close codes mean. Binary frames are the
// terminal's bytes.

/** How the machine is, as the server says it. */
export type MachineState = "booting" | "waiting" | "connected" | "restarting" | "stopped" | "failed";

/** What the server says about the terminal. */
export type Notice =
  | { type: "status"; state: MachineState; message: string }
  | { type: "ack"; bytes: number }
  | { type: "exit"; status: number | null; signal: string | null }
  | { type: "error"; message: string };

/** Reads a text frame; undefined for what a newer server may say and this page does not understand. */
export function parseNotice(text: string): Notice | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("type" in value)) {
    return undefined;
  }
  const known = ["status", "ack", "exit", "error"];
  return known.includes(String(value.type)) ? (value as Notice) : undefined;
}

/** What to do when the WebSocket has closed. */
export type AfterClose = "new-shell-on-request" | "reconnect";

/** The server's close codes: see `End` in the server's `terminal.rs`. */
export function afterClose(code: number): AfterClose {
  switch (code) {
    case 1000: // the shell ended
    case 1007: // we said something that the server does not understand
    case 1009: // we said too much at once
    case 1013: // too many terminals are open
    case 4001: // the machine is not ours, or refuses us
      return "new-shell-on-request";
    case 1001: // the session ended, or the server restarts
    default: // the network dropped
      return "reconnect";
  }
}

/** How a shell ended, for the learner. */
export function describeExit(notice: { status: number | null; signal: string | null }): string {
  if (notice.signal !== null) {
    return `The shell was killed by SIG${notice.signal}.`;
  }
  return notice.status ? `The shell ended with status ${notice.status}.` : "The shell ended.";
}
