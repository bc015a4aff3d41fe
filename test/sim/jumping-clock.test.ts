import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { createRandom } from '../../src/core/random.ts';
import { createJumpingClock } from '../../src/sim/jumping-clock.ts';

describe('a clock that jumps', () => {
  it('runs with the one below, and is ahead of it by its jumps', () => {
    const below = createVirtualClock(1_000);
    const clock = createJumpingClock(below);
    expect(clock.nowMs()).toBe(1_000);
    clock.jump(500);
    expect(clock.nowMs()).toBe(1_500);
    below.advance(10);
    expect(clock.nowMs()).toBe(1_510);
  });

  it('fires what became due at once, in the order of their times, and the rest at its own time', () => {
    const below = createVirtualClock(0);
    const clock = createJumpingClock(below);
    const fired: string[] = [];
    for (const at of [300, 100, 200, 700]) clock.setTimer(at, () => fired.push(`${at} at ${clock.nowMs()}`));
    clock.clearTimer(clock.setTimer(150, () => fired.push('forgotten')));
    clock.jump(500);
    below.advance(0);
    expect(fired).toEqual(['100 at 500', '200 at 500', '300 at 500']);
    below.advance(199);
    expect(fired).toHaveLength(3);
    below.advance(1);
    expect(fired.at(-1)).toBe('700 at 700');
  });

  it('never shows a timer a time before its own, whatever fractions it jumped by', () => {
    const random = createRandom(1);
    const below = createVirtualClock(1_000_000);
    const clock = createJumpingClock(below);
    let early = 0, fired = 0;
    for (let i = 0; i < 2_000; i++) {
      const at = clock.nowMs() + 100 * random.uniform();
      clock.setTimer(at, () => {
        fired++;
        if (clock.nowMs() < at) early++;
      });
      if (i % 7 === 0) clock.jump(10 * random.uniform());
      below.advance(random.uniform());
    }
    below.advance(1_000);
    expect(fired).toBe(2_000);
    expect(early).toBe(0);
  });
});
