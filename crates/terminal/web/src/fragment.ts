// The session's secret in the link: `…/#token=SECRET`. A fragment never leaves the browser, so it is in no
// log.

/** The secret in a location's fragment, if there is one. */
export function tokenFromFragment(fragment: string): string | undefined {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("token") || undefined;
}

/** The address without its fragment, for the address bar and the history. */
export function withoutFragment(address: string): string {
  return address.split("#", 1)[0] ?? address;
}
