import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { Network } from '../../src/sim/network.ts';

/** Transfers [atMs, from, to, bytes] over links of 100 bytes per ms; when each ended. */
function ends(transfers: readonly (readonly [atMs: number, from: number, to: number, bytes: number])[], latencyMs = 0): number[] {
  const clock = createVirtualClock();
  const network = new Network({ clock, bytesPerMs: 100, latencyMs });
  for (let node = 0; node < 6; node++) network.addNode();
  const at: number[] = [];
  transfers.forEach(([atMs, from, to, bytes], i) => clock.setTimer(atMs, () => network.start(from, to, bytes, () => void (at[i] = clock.nowMs()))));
  clock.advance(1e7);
  return at.map((ms) => Math.round(ms * 1e3) / 1e3);
}

describe('a virtual network', () => {
  it.each<[string, [number, number, number, number][], number[]]>([
    ['gives one transfer the whole link', [[0, 0, 1, 1_000]], [10]],
    ['gives disjoint pairs a whole link each, at the same time', [[0, 0, 1, 1_000], [0, 2, 3, 1_000]], [10, 10]],
    ['shares the link out of a node', [[0, 0, 1, 1_000], [0, 0, 2, 1_000]], [20, 20]],
    ['shares the link into a node', [[0, 0, 2, 1_000], [0, 1, 2, 1_000]], [20, 20]],
    ['gives both directions of a pair a whole link', [[0, 0, 1, 1_000], [0, 1, 0, 1_000]], [10, 10]],
    // Out of 0: two, 50 each. Into 3: from 0 and from 1: 50 for the first, so 50 for the other.
    ['is max–min fair: who is held up elsewhere leaves the rest to others', [[0, 0, 2, 1_000], [0, 0, 3, 1_000], [0, 1, 3, 1_000]], [20, 20, 20]],
    // Three out of 0 at 33.3 each; into 3 the other one takes the 66.7 that is left.
    ['fills progressively', [[0, 0, 1, 1_000], [0, 0, 2, 1_000], [0, 0, 3, 1_000], [0, 4, 3, 2_000]], [30, 30, 30, 30]],
    ['speeds up who is left: 500 shared until 10, then 500 alone', [[0, 0, 1, 1_000], [0, 0, 2, 500]], [15, 10]],
    ['slows down who was alone', [[0, 0, 1, 1_000], [5, 0, 2, 250]], [12.5, 10]],
    ['ends an empty transfer at once', [[3, 0, 1, 0]], [3]],
  ])('%s', (_name, transfers, expected) => expect(ends(transfers)).toEqual(expected));

  it('adds the latency before the first byte', () => expect(ends([[0, 0, 1, 1_000]], 7)).toEqual([17]));

  it('says how much of a link is in use, in the busier direction', () => {
    const clock = createVirtualClock();
    const network = new Network({ clock, bytesPerMs: 100, latencyMs: 1 });
    for (let node = 0; node < 4; node++) network.addNode();
    const used = (): number[] => [0, 1, 2, 3].map((node) => Number(network.utilisationOf(node).toFixed(6)));
    network.start(0, 1, 500, () => {});
    network.start(0, 2, 1_000, () => {});
    expect(used()).toEqual([0, 0, 0, 0]);
    clock.advance(2);
    expect(used()).toEqual([1, 0.5, 0.5, 0]);
    clock.advance(10);
    expect(used()).toEqual([1, 0, 1, 0]);
    clock.advance(100);
    expect(used()).toEqual([0, 0, 0, 0]);
  });

  it('gives what a stopped transfer had to the others', () => {
    const clock = createVirtualClock();
    const network = new Network({ clock, bytesPerMs: 100, latencyMs: 0 });
    for (let node = 0; node < 3; node++) network.addNode();
    let endedAt = 0;
    network.start(0, 1, 1_000, () => void (endedAt = clock.nowMs()));
    const other = network.start(0, 2, 1_000, () => expect.fail('it was stopped'));
    clock.advance(10);
    network.stop(other);
    clock.advance(100);
    expect(endedAt).toBeCloseTo(15, 6);
    expect(network.transfersOf(0)).toBe(0);
  });

  it('moves every byte, and no link ever carries more than it can', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 5_000 })), { minLength: 1, maxLength: 25 }), (transfers) => {
      const at = ends(transfers.map(([ms, from, to, bytes]) => [ms, from, to === from ? (to + 1) % 6 : to, bytes] as const));
      transfers.forEach(([atMs, from, , bytes], i) => {
        expect(at[i]).toBeGreaterThanOrEqual(atMs + bytes / 100 - 1e-2);
        // All bytes out of its node, one after the other, cannot have left later than all bytes at all.
        expect(at[i]).toBeLessThanOrEqual(50 + transfers.reduce((sum, [, , , each]) => sum + each, 0) / 100 + 1e-2);
        const outOf = transfers.filter(([, f]) => f === from).reduce((sum, [, , , each]) => sum + each, 0);
        const last = Math.max(...transfers.map(([, f], k) => (f === from ? (at[k] as number) : 0)));
        const first = Math.min(...transfers.filter(([, f]) => f === from).map(([ms]) => ms));
        expect((last - first) * 100).toBeGreaterThanOrEqual(outOf - 1);
      });
    }), { numRuns: 60 });
  });
});
