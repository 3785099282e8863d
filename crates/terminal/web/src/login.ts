// Exchanges the secret of the link for a cookie, and asks what the session is.

import { tokenFromFragment, withoutFragment } from "./fragment.ts";

/** What the server says about the session. */
export interface SessionInfo {
  session: string;
  /** Seconds since the epoch, or null when the session has no end. */
  expiresAt: number | null;
  editor: boolean;
}

/** Takes the secret out of the address bar and logs in with it. False when the server does not know it. */
export async function logInFromFragment(): Promise<boolean> {
  const token = tokenFromFragment(location.hash);
  if (token === undefined) {
    return true;
  }
  history.replaceState(null, "", withoutFragment(location.href));
  const response = await fetch("session", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token }),
  });
  return response.ok;
}

/** The session, or undefined when this browser is not logged in. Throws when the server cannot be asked. */
export async function fetchSession(): Promise<SessionInfo | undefined> {
  const response = await fetch("session");
  if (response.status === 401) {
    return undefined;
  }
  if (!response.ok) {
    throw new Error(`the server answered ${response.status}`);
  }
  return (await response.json()) as SessionInfo;
}
