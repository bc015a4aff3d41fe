/**
 * The scheduler's clock when it jumps: a machine that slept, moved to another host, or whose loop stood still for a while. It runs with the clock
 * below it and is ahead of it by the sum of its jumps; what became due by one fires at once. It never goes back, as no Clock does.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';

/** A clock that can be put forward. */
export interface JumpingClock extends Clock {
  /** Puts it forward by `ms` > 0. */
  jump(ms: number): void;
}

interface Pending {
  readonly atMs: number;
  readonly fire: () => void;
  below: TimerHandle;
}

/** Makes it of the clock that stands for true time. A jump costs O(timers · log timers). */
export function createJumpingClock(below: Clock): JumpingClock {
  let aheadMs = 0;
  /** Sums of fractions are not exact: a timer that fires must not see a time before its own. */
  let leastMs = -Infinity;
  const pending = new Set<Pending>();
  const arm = (timer: Pending): void => {
    timer.below = below.setTimer(timer.atMs - aheadMs, () => {
      pending.delete(timer);
      leastMs = Math.max(leastMs, timer.atMs);
      timer.fire();
    });
  };
  return {
    nowMs: () => Math.max(leastMs, below.nowMs() + aheadMs),
    setTimer(atMs, fire) {
      const timer: Pending = { atMs, fire, below: undefined };
      pending.add(timer);
      arm(timer);
      return timer;
    },
    clearTimer(handle) {
      const timer = handle as Pending | undefined; // made by setTimer
      if (timer === undefined || !pending.delete(timer)) return;
      below.clearTimer(timer.below);
    },
    jump(ms) {
      aheadMs += ms;
      // In the order of their times, as they would have fired.
      for (const timer of [...pending].sort((a, b) => a.atMs - b.atMs)) {
        below.clearTimer(timer.below);
        arm(timer);
      }
    },
  };
}
