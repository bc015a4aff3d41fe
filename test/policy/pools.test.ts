/** The policies that keep pools of sandboxes, and what they share. */
import { describe, expect, it } from 'vitest';
import { createAquatopePolicy } from '../../src/policy/aquatope.ts';
import { createIcebreakerPolicy, utility } from '../../src/policy/icebreaker.ts';
import type { FunctionFacts, Policy, PolicyControl } from '../../src/policy/policy.ts';
import { bringPoolTo, createWarmFirstPlacement } from '../../src/policy/warm-first.ts';
import { createDecision } from '../../src/policy/policy.ts';
import { PAPER, decide, viewOf, type Row } from './situation.ts';

interface Pool {
  readonly control: PolicyControl;
  readonly asked: string[];
  readonly idle: number[][];
  peaks: number[];
}

/** Nodes with sandboxes as numbers; what is asked for happens at once. */
function poolOf(memoryMb: readonly number[], functions: readonly Partial<FunctionFacts>[], idle: number[][] = functions.map(() => memoryMb.map(() => 0)), busy: number[][] = functions.map(() => memoryMb.map(() => 0))): Pool {
  const asked: string[] = [];
  const pool: Pool = {
    asked, idle, peaks: functions.map(() => 0),
    control: {
      nowMs: 0, cluster: { readyNodes: memoryMb.length, readySlots: 4 * memoryMb.length, meanServiceMs: 0, waiting: 0 }, nodes: memoryMb.length, isReady: (node) => (memoryMb[node] as number) > 0, slots: () => 4, used: () => 0,
      memoryMb: (node) => memoryMb[node] as number, functions: functions.length, functionOf: (index) => ({ name: `f${index}`, slaMs: 1_000, memoryMb: 256, critical: false, ...functions[index] }),
      idle: (f, node) => idle[f]?.[node] ?? 0, busy: (f, node) => busy[f]?.[node] ?? 0, takePeak: (f) => pool.peaks[f] ?? 0,
      prewarm(f, node, count) {
        asked.push(`+f${f} n${node} to ${count}`);
        (idle[f] as number[])[node] = Math.max(count, idle[f]?.[node] ?? 0);
      },
      evict(f, node, count) {
        asked.push(`-f${f} n${node} by ${count}`);
        (idle[f] as number[])[node] = (idle[f]?.[node] ?? 0) - count;
      },
    },
  };
  return pool;
}

describe('placement of the pool policies', () => {
  const place = createWarmFirstPlacement();
  const choose = (rows: Row[]): { row: number; reason: string } => {
    const out = createDecision();
    place(viewOf({ rows }), out);
    return { row: out.row, reason: out.reason };
  };

  it('takes the least loaded free node with a warm sandbox, else the next in turn', () => {
    expect(choose([{ T: 1, room: 1 }, { T: 1, room: 1, kinds: 2, load: 0.5 }, { T: 1, room: 1, kinds: 3, load: 0.25 }])).toEqual({ row: 2, reason: 'warmSandbox' });
    expect(choose([{ T: 1, room: 1 }, { T: 1, room: 0, kinds: 2 }])).toEqual({ row: 0, reason: 'nextInTurn' });
    expect(choose([{ T: 1, room: 1 }, { T: 1, room: 1 }])).toEqual({ row: 1, reason: 'nextInTurn' });
    expect(choose([{ T: 1, kinds: 2 }])).toEqual({ row: -1, reason: 'noRoom' });
  });
});

describe('a pool is brought to its target', () => {
  it('by prewarming where most memory is free, as far as memory goes', () => {
    const pool = poolOf([1_024, 512, 0], [{}]);
    expect(bringPoolTo(pool.control, 0, 3)).toBe(3);
    expect(pool.idle).toEqual([[3, 0, 0]]); // 1 024, 768, 512 against 512: the first of equals
    expect(bringPoolTo(pool.control, 0, 99)).toBe(3);
    expect(pool.idle).toEqual([[4, 2, 0]]);
  });

  it('counting what runs, and what others have in memory', () => {
    const pool = poolOf([512], [{}, { memoryMb: 128 }], [[0], [1]], [[1], [0]]);
    expect(bringPoolTo(pool.control, 0, 2)).toBe(0); // 256 + 128 are taken, 256 do not fit
    expect(bringPoolTo(pool.control, 1, 2)).toBe(1);
  });

  it('by ending what is idle, never what runs', () => {
    const pool = poolOf([1_024, 1_024], [{}], [[1, 2]], [[1, 0]]);
    expect(bringPoolTo(pool.control, 0, 0)).toBe(-3);
    expect(pool.asked).toEqual(['-f0 n0 by 1', '-f0 n1 by 2']);
  });
});

const run = (policy: Policy, pool: Pool, peaks: readonly number[][]): void => {
  for (const each of peaks) {
    pool.peaks = [...each];
    policy.tick?.(pool.control);
  }
};
const sizes = (pool: Pool): number[] => pool.idle.map((nodes) => nodes.reduce((a, b) => a + b, 0));

describe('policy aquatope', () => {
  it('keeps what the forecast and its margin say, and follows the series up and down', () => {
    const pool = poolOf([4_096, 4_096], [{}]);
    const policy = createAquatopePolicy({ ...PAPER, pools: { windowMs: 1_000, margin: 0 } });
    run(policy, pool, Array.from({ length: 40 }, () => [4]));
    expect(sizes(pool)).toEqual([4]);
    run(policy, pool, Array.from({ length: 40 }, () => [1]));
    expect(sizes(pool)).toEqual([1]);
    expect(policy.tickMs).toBe(1_000);
  });

  it('keeps more with a margin when the series is noisy', () => {
    const noisy = Array.from({ length: 60 }, (_, i) => [[2, 7, 3, 6, 4, 1, 5][(i * i) % 7] as number]);
    const mean = poolOf([16_384], [{}]), careful = poolOf([16_384], [{}]);
    run(createAquatopePolicy({ ...PAPER, pools: { margin: 0 } }), mean, noisy);
    run(createAquatopePolicy({ ...PAPER, pools: { margin: 2 } }), careful, noisy);
    expect(sizes(careful)[0]).toBeGreaterThan(sizes(mean)[0] as number);
  });

  it('never waits for a better node', () => {
    expect(decide(createAquatopePolicy(PAPER), { rows: [{ T: 1, kinds: 7, local: true }] })).toMatchObject({ action: 'delay', row: -1, reason: 'noRoom' });
  });
});

describe('policy icebreaker', () => {
  it.each<[string, number[], number[], number, number]>([
    ['unknown functions count as worth it', [], [], 0, 0.5],
    ['a forecast that misses everything: all cold, nothing wasted', new Array<number>(10).fill(0), new Array<number>(10).fill(2), 0, 0.5],
    ['a forecast that is always right: no cold starts, nothing wasted', new Array<number>(10).fill(2), new Array<number>(10).fill(2), 0, 0.25],
    ['a forecast of work that never came: all wasted', new Array<number>(10).fill(2), new Array<number>(10).fill(0), 0, 0],
    ['memory adds to it', new Array<number>(10).fill(2), new Array<number>(10).fill(0), 1, 0.25],
  ])('utility: %s', (_name, forecasts, came, memory, expected) => expect(utility(forecasts, came, memory)).toBeCloseTo(expected, 9));

  it('keeps the Fourier forecast, rounded', () => {
    const pool = poolOf([8_192], [{}]);
    run(createIcebreakerPolicy({ ...PAPER, pools: { windowMs: 1_000 } }), pool, Array.from({ length: 20 }, () => [3]));
    expect(sizes(pool)).toEqual([3]);
  });

  it('stops warming up what is forecast and does not come, after two windows, while others go on', () => {
    const pool = poolOf([16_384], [{ memoryMb: 128 }, { memoryMb: 512 }]);
    const policy = createIcebreakerPolicy(PAPER);
    // f0 comes once in a while, so that forecasts of it are wasted; f1 is steady and large.
    run(policy, pool, Array.from({ length: 40 }, (_, i) => [i % 9 === 0 ? 6 : 0, 4]));
    expect(policy.parameters?.(pool.control.cluster)).toMatchObject({ targets: expect.stringMatching(/1:4/) });
    expect(sizes(pool)[1]).toBe(4);
  });
});
