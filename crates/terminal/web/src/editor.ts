// The editor's page: exchanges the secret of the link for a cookie and goes on to the editor.

import { logInFromFragment } from "./login.ts";

const message = document.getElementById("message");

function show(text: string): void {
  if (message !== null) {
    message.textContent = text;
  }
}

async function start(): Promise<void> {
  if (await logInFromFragment()) {
    location.replace("editor/open");
    return;
  }
  show("This lab needs its link: open the editor by the link that you were given, which holds its secret.");
}

start().catch(() => show("The lab cannot be reached. Load the page again."));
