// Waiting: for a condition, or for an answer, never longer than a deadline. A machine without hardware
// virtualization, busy with other tests, takes its time; the deadlines are there to end what hangs, not to measure.

import { setTimeout as pause } from "node:timers/promises";

/** How often a condition is looked at, in milliseconds. */
const INTERVAL = 100;

/** A condition that did not come about, or an answer that did not come. */
export class DeadlineError extends Error {}

/**
 * Looks at a condition until it holds, and returns its (truthy) value.
 *
 * @param {string} what the condition in words, for the error
 * @param {number} seconds the deadline
 * @param {() => unknown} probe looks once; what it throws is thrown on
 */
export async function until(what, seconds, probe) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await within(what, Math.max(end - Date.now(), INTERVAL) / 1000, probe());
    if (value) {
      return value;
    }
    if (Date.now() >= end) {
      throw new DeadlineError(`${what}: not within ${seconds} s`);
    }
    await pause(INTERVAL);
  }
}

/** The promise's value, unless it takes longer than the deadline. */
export async function within(what, seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineError(`${what}: no answer within ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
