/** The loop of a server stream whose data come by themselves: writes while there is something, sleeps until it is woken, ends with the signal. */

/**
 * Runs until the signal aborts (resolves) or `step` throws (rejects). `open` is given what wakes the loop and returns how to close the source;
 * `step` begins to write what there is, or returns undefined when there is nothing.
 */
export async function pump(signal: AbortSignal, open: (wake: () => void) => () => void, step: () => Promise<void> | undefined): Promise<void> {
  let resume: (() => void) | undefined;
  const wake = (): void => resume?.();
  const close = open(wake);
  signal.addEventListener('abort', wake);
  try {
    while (!signal.aborted) {
      const writing = step();
      if (writing !== undefined) await writing;
      else {
        await new Promise<void>((resolve) => (resume = resolve));
        resume = undefined;
      }
    }
  } finally {
    signal.removeEventListener('abort', wake);
    close();
  }
}
