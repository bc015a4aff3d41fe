/** Notices that nothing comes any more. */

/** Ticks until silence counts. */
const TICKS = 30;

export interface SilenceWatch {
  /** Something came. */
  heard(): void;
  stop(): void;
}

/**
 * Calls `onSilent` once when nothing was heard for `ms`. What counts are ticks of the event loop, not the clock: a loop that was held up
 * ticks once, and has taken what came meanwhile before it ticks again.
 */
export function watchSilence(ms: number, onSilent: () => void): SilenceWatch {
  let quiet = 0;
  const timer = setInterval(() => {
    if (++quiet <= TICKS) return;
    clearInterval(timer);
    onSilent();
  }, ms / TICKS);
  return {
    heard() {
      quiet = 0;
    },
    stop() {
      clearInterval(timer);
    },
  };
}
