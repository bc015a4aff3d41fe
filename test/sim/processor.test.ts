import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { Host, Processor } from '../../src/sim/processor.ts';

/** Starts jobs [atMs, workMs, demand] and says when each ended. */
function ends(cores: number, jobs: readonly (readonly [atMs: number, workMs: number, demand: number])[], speed = 1): number[] {
  const clock = createVirtualClock();
  const processor = new Processor(clock, cores);
  processor.speed = speed;
  const at: number[] = [];
  jobs.forEach(([atMs, workMs, demand], i) => clock.setTimer(atMs, () => processor.start(workMs, demand, () => void (at[i] = clock.nowMs()))));
  clock.advance(1e7);
  return at.map((ms) => Math.round(ms * 1e3) / 1e3);
}

describe('a virtual processor', () => {
  it.each<[string, number, [number, number, number][], number[]]>([
    ['runs one job at full speed', 1, [[0, 100, 1]], [100]],
    ['runs as many as it has cores at full speed', 2, [[0, 100, 1], [0, 50, 1]], [100, 50]],
    ['shares one core equally', 1, [[0, 100, 1], [0, 100, 1]], [200, 200]],
    ['gives the rest to who is left: 50 shared until 100, then 50 alone', 1, [[0, 100, 1], [0, 50, 1]], [150, 100]],
    ['slows down who was alone when another one comes', 1, [[0, 100, 1], [50, 25, 1]], [125, 100]],
    ['weighs jobs by the cores that they use', 2, [[0, 100, 2], [0, 100, 2]], [200, 200]],
    ['ends work of no length at once', 1, [[5, 0, 1]], [5]],
  ])('%s', (_name, cores, jobs, expected) => expect(ends(cores, jobs)).toEqual(expected));

  it('is slower by its speed', () => expect(ends(1, [[0, 100, 1]], 0.5)).toEqual([200]));

  it('takes no time from others for a job that was stopped', () => {
    const clock = createVirtualClock();
    const processor = new Processor(clock, 1);
    let endedAt = 0;
    processor.start(100, 1, () => void (endedAt = clock.nowMs()));
    const other = processor.start(100, 1, () => expect.fail('it was stopped'));
    clock.advance(50); // 25 of each done
    processor.stop(other);
    processor.stop(other);
    clock.advance(1_000);
    expect(endedAt).toBeCloseTo(125, 6);
    expect(processor.demand).toBe(0);
  });

  it('does all work, no more and no less, whatever comes when', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 8 }), fc.array(fc.tuple(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 300 }), fc.constant(1)), { minLength: 1, maxLength: 30 }), (cores, jobs) => {
      const clock = createVirtualClock();
      const processor = new Processor(clock, cores);
      const at: number[] = [];
      jobs.forEach(([atMs, workMs, demand], i) => clock.setTimer(atMs, () => processor.start(workMs, demand, () => void (at[i] = clock.nowMs()))));
      clock.advance(1e6);
      // Nobody ends before its time at full speed, nor after all work on one core.
      const all = jobs.reduce((sum, [, workMs]) => sum + workMs, 0);
      jobs.forEach(([atMs, workMs], i) => {
        expect(at[i]).toBeGreaterThanOrEqual(atMs + workMs - 1e-3);
        expect(at[i]).toBeLessThanOrEqual(500 + all + 1e-3);
      });
      expect(processor.usedMs).toBeCloseTo(all, 1);
    }));
  });
});

describe('nodes on one machine', () => {
  /** Starts a job of 100 ms on each of `nodes` nodes with `nodeCores` cores and says when each ended. */
  function together(nodes: number, nodeCores: number, host: Host): number[] {
    const clock = createVirtualClock();
    const at: number[] = [];
    for (let i = 0; i < nodes; i++) new Processor(clock, nodeCores, host).start(100, 1, () => void (at[i] = Math.round(clock.nowMs() * 1e3) / 1e3));
    clock.advance(1e6);
    return at;
  }

  it('share its cores', () => expect(together(4, 2, new Host(2))).toEqual([200, 200, 200, 200]));
  it('disturb each other by its contention before the cores run out', () => {
    expect(together(1, 2, new Host(2, 0.5))).toEqual([100]);
    expect(together(2, 2, new Host(2, 0.5))).toEqual([150, 150]);
  });
  it('get no more than their own cores', () => expect(together(2, 0.5, new Host(2))).toEqual([200, 200]));
  it('give back what they no longer need', () => {
    const clock = createVirtualClock();
    const host = new Host(1);
    const ends: number[] = [];
    const [a, b] = [new Processor(clock, 1, host), new Processor(clock, 1, host)];
    a.start(100, 1, () => void ends.push(clock.nowMs()));
    b.start(30, 1, () => void ends.push(clock.nowMs()));
    clock.advance(1e3);
    expect(ends).toEqual([expect.closeTo(60, 6), expect.closeTo(130, 6)]);
  });
});
