// How long things may take before a test fails, in milliseconds. Machines are emulated where there is no KVM, and
// the computer may be busy with other things, so that these are many times what is usual.

/** A lab from `dozlab up` to its prompt; the image and the kernel are made first where they are missing. */
export const UP = 15 * 60_000;

/** The editor's installation, where it is missing. */
export const INSTALL = 15 * 60_000;

/** A lab that is ended: the guest is asked to power off first. */
export const END = 90_000;

/** A machine that restarts, to its next prompt. */
export const REBOOT = 180_000;

/** The editor, from its link to the workbench. */
export const EDITOR = 180_000;

/** A command that takes no time, a key, a page. */
export const ANSWER = 60_000;

/** 200,000 lines. */
export const FLOOD = 180_000;

/** Ctrl-C, to the prompt: what a person would wait for. */
export const INTERRUPT = 10_000;

/** One test, whatever it waits for. */
export const TEST = 10 * 60_000;

/** Looks again and again until the condition holds, and returns what it gave. */
export async function until(what, deadline, condition) {
  const end = Date.now() + deadline;
  for (;;) {
    const value = await condition();
    if (value) {
      return value;
    }
    if (Date.now() > end) {
      throw new Error(`${what}: not within ${deadline / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
