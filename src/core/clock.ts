/** Time as the scheduler knows it: injected, so that the daemon and the simulator run the same code. */
import { Heap } from './heap.ts';

/** A running timer; opaque to its holder. */
export type TimerHandle = unknown;

/** Time in milliseconds since 1970-01-01 UTC, with fractions, never going backwards. */
export interface Clock {
  /** Now, ms. Monotonic. */
  nowMs(): number;
  /** Calls `fire` once, not before `atMs`. */
  setTimer(atMs: number, fire: () => void): TimerHandle;
  /** Forgets a timer; harmless when it has fired. */
  clearTimer(handle: TimerHandle): void;
}

/** Longest delay that setTimeout takes, ms; a longer one would fire at once. */
const LONGEST_TIMEOUT_MS = 2_147_483_647;

/** The real clock: the wall time at process start plus a monotonic count. */
export function createSystemClock(): Clock {
  const origin = performance.timeOrigin;
  return {
    nowMs: () => origin + performance.now(),
    setTimer(atMs, fire) {
      const timer: { timeout: NodeJS.Timeout | undefined } = { timeout: undefined };
      const arm = (): void => {
        timer.timeout = setTimeout(check, Math.min(Math.max(0, Math.ceil(atMs - (origin + performance.now()))), LONGEST_TIMEOUT_MS));
      };
      // Node counts whole ms of its own and may fire early by a fraction; and a long delay comes in pieces.
      const check = (): void => (origin + performance.now() < atMs ? arm() : fire());
      arm();
      return timer;
    },
    clearTimer: (handle) => clearTimeout((handle as { timeout: NodeJS.Timeout | undefined } | undefined)?.timeout), // made by setTimer
  };
}

/** A clock that moves only when told to. Timers fire in order of time, then of creation. */
export interface VirtualClock extends Clock {
  /** Moves to `toMs`, firing what is due on the way at its own time. */
  advanceTo(toMs: number): void;
  /** Moves on by `ms`. */
  advance(ms: number): void;
  /** Time of the next timer, or undefined. */
  nextTimerMs(): number | undefined;
}

interface VirtualTimer {
  readonly atMs: number;
  fire: (() => void) | undefined;
}

/** Cancelled timers that may lie in the heap before it is swept. */
const SWEEP_FROM = 1_024;

/** A virtual clock that starts at `startMs`. Setting a timer costs O(log n), forgetting one O(1). */
export function createVirtualClock(startMs = 0): VirtualClock {
  let now = startMs;
  let order = 0;
  const timers = new Heap<VirtualTimer>();
  let cancelled = 0;
  /** The next timer that was not forgotten. */
  const first = (): VirtualTimer | undefined => {
    for (let timer = timers.peek(); timer !== undefined; timer = timers.peek()) {
      if (timer.fire !== undefined) return timer;
      timers.pop();
      cancelled--;
    }
    return undefined;
  };
  const clock: VirtualClock = {
    nowMs: () => now,
    setTimer(atMs, fire) {
      const timer: VirtualTimer = { atMs: Math.max(atMs, now), fire };
      timers.push(timer.atMs, order++, timer);
      return timer;
    },
    clearTimer(handle) {
      const timer = handle as VirtualTimer | undefined; // made by setTimer
      if (timer?.fire === undefined) return;
      timer.fire = undefined;
      if (++cancelled < SWEEP_FROM || 2 * cancelled < timers.size) return;
      timers.retain((each) => each.fire !== undefined);
      cancelled = 0;
    },
    nextTimerMs: () => first()?.atMs,
    advanceTo(toMs) {
      for (let next = first(); next !== undefined && next.atMs <= toMs; next = first()) {
        timers.pop();
        now = Math.max(now, next.atMs);
        const { fire } = next;
        next.fire = undefined;
        fire?.();
      }
      now = Math.max(now, toMs);
    },
    advance: (ms) => clock.advanceTo(now + ms),
  };
  return clock;
}
