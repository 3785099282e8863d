// How long to wait before the next attempt to connect.

const FIRST_MILLISECONDS = 250;
const LONGEST_MILLISECONDS = 8000;

/** Delays that double, with some chance in them so that the pages of a class do not come back in step. */
export class Backoff {
  #next = FIRST_MILLISECONDS;

  constructor(private readonly random: () => number = Math.random) {}

  /** Milliseconds to wait now. */
  next(): number {
    const delay = this.#next;
    this.#next = Math.min(delay * 2, LONGEST_MILLISECONDS);
    return delay * (0.75 + this.random() / 2);
  }

  /** It worked: the next trouble begins with the first delay again. */
  reset(): void {
    this.#next = FIRST_MILLISECONDS;
  }
}
