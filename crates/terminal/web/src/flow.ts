// Flow control in both directions. The server sends at most 256 KiB that we have not acknowledged; we send at
// most 64 KiB that it has not acknowledged. Either side can so be slow without anything piling up, and
// neither's acknowledgements are ever stuck behind a flood.

/** Acknowledge in steps of this many bytes: few messages, well below what the server waits for. */
export const ACK_STEP = 32 * 1024;

/** How many bytes of input may be on their way. */
export const INPUT_LIMIT = 64 * 1024;

/** Counts what the terminal has drawn, and acknowledges it in steps. */
export class Acknowledger {
  #drawn = 0;

  constructor(private readonly send: (bytes: number) => void) {}

  /** The terminal has drawn so many more bytes. */
  drawn(bytes: number): void {
    this.#drawn += bytes;
    if (this.#drawn >= ACK_STEP) {
      this.send(this.#drawn);
      this.#drawn = 0;
    }
  }

  /** A new connection: what the last one had sent is nobody's business any more. */
  reset(): void {
    this.#drawn = 0;
  }
}

/** Sends input in order, no more at once than the limit. */
export class InputPacer {
  #queue: Uint8Array[] = [];
  #inFlight = 0;

  constructor(private readonly send: (bytes: Uint8Array<ArrayBuffer>) => void) {}

  /** Queues input, and sends what may be sent. */
  push(bytes: Uint8Array): void {
    if (bytes.length > 0) {
      this.#queue.push(bytes);
      this.#pump();
    }
  }

  /** The server has passed on so many more bytes. */
  acknowledged(bytes: number): void {
    this.#inFlight = Math.max(0, this.#inFlight - bytes);
    this.#pump();
  }

  /** A new shell: what was typed for the last one is dropped. */
  reset(): void {
    this.#queue = [];
    this.#inFlight = 0;
  }

  #pump(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const room = INPUT_LIMIT - this.#inFlight;
      if (room <= 0) {
        return;
      }
      const piece = first.slice(0, room);
      this.#inFlight += piece.length;
      if (piece.length < first.length) {
        this.#queue[0] = first.subarray(piece.length);
      } else {
        this.#queue.shift();
      }
      this.send(piece);
    }
  }
}
