// One terminal's WebSocket: keeps it connected, carries bytes both ways under flow control, and tells how
// things stand.

import { Backoff } from "./backoff.ts";
import { Acknowledger, InputPacer } from "./flow.ts";
import { afterClose, describeExit, parseNotice, type MachineState } from "./protocol.ts";

/** How the terminal is: the machine's state, or what became of the connection. */
export type State = MachineState | "connecting" | "disconnected" | "ended" | "refused";

/** What the connection needs of the page. */
export interface Page {
  /** Draws bytes, and calls back when that is done. */
  draw(bytes: Uint8Array, done: () => void): void;
  /** Shows how things stand. */
  show(state: State, message: string): void;
  /** A new shell begins; the last one was `lost`, if it was. */
  began(lost: boolean): void;
  /** The terminal's size, in characters. */
  size(): { cols: number; rows: number };
  /** Asks whether this browser is still logged in; called when connecting fails. */
  stillLoggedIn(): Promise<boolean>;
}

export class Connection {
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hadShell = false;
  #error: string | undefined;
  readonly #backoff = new Backoff();
  readonly #acknowledger = new Acknowledger((bytes) => this.#say({ type: "ack", bytes }));
  readonly #pacer = new InputPacer((bytes) => this.#socket?.send(bytes));

  constructor(private readonly page: Page) {
    addEventListener("online", () => this.#retryNow());
  }

  /** Connects, unless it is connected. */
  open(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#socket !== undefined) {
      return;
    }
    this.#error = undefined;
    this.#acknowledger.reset();
    this.#pacer.reset();
    this.page.show("connecting", "Connecting…");
    const { cols, rows } = this.page.size();
    const address = new URL(`ws?cols=${cols}&rows=${rows}`, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => this.#receive(event.data);
    socket.onclose = (event) => void this.#closed(event);
    socket.onopen = () => this.#backoff.reset();
    this.#socket = socket;
  }

  /** Sends what the learner typed. */
  type(bytes: Uint8Array): void {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#pacer.push(bytes);
    }
  }

  /** Tells the terminal's new size. */
  resize(cols: number, rows: number): void {
    this.#say({ type: "resize", cols, rows });
  }

  #say(message: object): void {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(message));
    }
  }

  #receive(data: ArrayBuffer | string): void {
    if (typeof data !== "string") {
      const socket = this.#socket;
      const bytes = new Uint8Array(data);
      this.page.draw(bytes, () => {
        if (socket === this.#socket) {
          this.#acknowledger.drawn(bytes.length);
        }
      });
      return;
    }
    const notice = parseNotice(data);
    switch (notice?.type) {
      case "status":
        if (notice.state === "connected") {
          this.#pacer.reset();
          this.page.began(this.#hadShell);
          this.#hadShell = true;
        }
        this.page.show(notice.state, sentence(notice.message));
        break;
      case "ack":
        this.#pacer.acknowledged(notice.bytes);
        break;
      case "exit":
        this.#error = describeExit(notice);
        this.#hadShell = false;
        break;
      case "error":
        this.#error = sentence(notice.message);
        break;
    }
  }

  async #closed(event: CloseEvent): Promise<void> {
    this.#socket = undefined;
    if (afterClose(event.code) === "new-shell-on-request") {
      const ended = event.code === 1000;
      const message = this.#error ?? sentence(event.reason || "the terminal was closed");
      this.page.show(ended ? "ended" : "refused", message);
      return;
    }
    const ended = event.code === 1001 && event.reason !== "";
    const message = ended ? "The session has ended, or restarts." : "The connection was lost. Reconnecting…";
    this.page.show("disconnected", message);
    this.#timer = setTimeout(() => void this.#reconnect(), this.#backoff.next());
  }

  async #reconnect(): Promise<void> {
    // A WebSocket that is refused does not say why; a request does.
    const loggedIn = await this.page.stillLoggedIn().catch(() => undefined);
    if (loggedIn === false) {
      return;
    }
    this.open();
  }

  #retryNow(): void {
    if (this.#timer !== undefined) {
      this.open();
    }
  }
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.…!?]$/.test(first) ? first : `${first}.`;
}
