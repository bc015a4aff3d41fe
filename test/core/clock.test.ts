import { describe, expect, it, vi } from 'vitest';
import { createSystemClock, createVirtualClock } from '../../src/core/clock.ts';

describe('virtual clock', () => {
  it('moves only when told to, and never back', () => {
    const clock = createVirtualClock(100);
    expect(clock.nowMs()).toBe(100);
    clock.advance(5);
    clock.advanceTo(50);
    expect(clock.nowMs()).toBe(105);
  });

  it('fires timers in order of time, then of creation, each at its own time', () => {
    const clock = createVirtualClock();
    const fired: string[] = [];
    const note = (name: string) => () => fired.push(`${name}@${clock.nowMs()}`);
    clock.setTimer(20, note('c'));
    clock.setTimer(10, note('a'));
    clock.setTimer(10, note('b'));
    clock.advanceTo(15);
    expect(fired).toEqual(['a@10', 'b@10']);
    expect(clock.nowMs()).toBe(15);
    expect(clock.nextTimerMs()).toBe(20);
    clock.advance(5);
    expect(fired).toEqual(['a@10', 'b@10', 'c@20']);
    expect(clock.nextTimerMs()).toBeUndefined();
  });

  it('fires what a timer sets on the way, and a timer in the past at once', () => {
    const clock = createVirtualClock(100);
    const fired: number[] = [];
    clock.setTimer(110, () => {
      clock.setTimer(50, () => fired.push(clock.nowMs()));
      clock.setTimer(115, () => fired.push(clock.nowMs()));
    });
    clock.advanceTo(120);
    expect(fired).toEqual([110, 115]);
  });

  it('forgets a cleared timer; clearing one that fired is harmless', () => {
    const clock = createVirtualClock();
    const fire = vi.fn();
    const cleared = clock.setTimer(10, fire);
    clock.clearTimer(cleared);
    const kept = clock.setTimer(10, fire);
    clock.advanceTo(10);
    clock.clearTimer(kept);
    clock.advanceTo(20);
    expect(fire).toHaveBeenCalledTimes(1);
  });
});

describe('system clock', () => {
  it('tells the time since 1970 and never goes back', () => {
    const clock = createSystemClock();
    let last = clock.nowMs();
    expect(Math.abs(last - Date.now())).toBeLessThan(60_000);
    for (let i = 0; i < 1_000; i++) {
      const now = clock.nowMs();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
  });

  it('takes timers beyond the limit of setTimeout without firing them at once', async () => {
    const clock = createSystemClock();
    const far = vi.fn();
    const handle = clock.setTimer(clock.nowMs() + 2 ** 40, far);
    await new Promise<void>((resolve) => void clock.setTimer(clock.nowMs() + 5, resolve));
    clock.clearTimer(handle);
    clock.clearTimer(undefined);
    expect(far).not.toHaveBeenCalled();
  });

  it('never fires a timer early, and not at all once it is cleared', async () => {
    const clock = createSystemClock();
    const cleared = vi.fn();
    const handle = clock.setTimer(clock.nowMs() + 1, cleared);
    const earlyMs = await Promise.all(Array.from({ length: 20 }, (_, i) => new Promise<number>((resolve) => {
      const atMs = clock.nowMs() + i * 0.7;
      clock.setTimer(atMs, () => resolve(atMs - clock.nowMs()));
      if (i === 0) clock.clearTimer(handle);
    })));
    expect(Math.max(...earlyMs)).toBeLessThanOrEqual(0);
    expect(cleared).not.toHaveBeenCalled();
  });
});
