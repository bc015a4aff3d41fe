import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { followingsOf } from '../../src/what-if/callers.ts';

/** `callers` that each send the next request so long after an answer. */
function closedLoop(callers: number, count: number, lagMs: number, seed: number): { atMs: number; recordedMs: number }[] {
  const random = createRandom(seed, 3);
  const free = Array.from({ length: callers }, (_, i) => 100 + i);
  return Array.from({ length: count }, () => {
    const caller = free.indexOf(Math.min(...free));
    const atMs = free[caller] as number, recordedMs = 200 + 400 * random.uniform();
    free[caller] = atMs + recordedMs + lagMs * (0.5 + random.uniform());
    return { atMs, recordedMs };
  });
}

/** Arrivals that know of nobody. */
function openLoop(perMs: number, count: number, seed: number): { atMs: number; recordedMs: number }[] {
  const random = createRandom(seed, 4);
  let atMs = 0;
  return Array.from({ length: count }, () => ({ atMs: (atMs -= Math.log(1 - random.uniform()) / perMs), recordedMs: 10 + 500 * random.uniform() }));
}

describe('callers who wait', () => {
  it.each([[1, 20], [2, 60], [8, 400]])('are seen: %d of them with %d requests, each of which follows another one once', (callers, count) => {
    const requests = closedLoop(callers, count, 2, callers);
    const found = followingsOf(requests) ?? [];
    const followed = found.flatMap((one) => (one === undefined ? [] : [one.request]));
    expect(followed.length).toBeGreaterThanOrEqual(0.9 * (count - callers));
    expect(new Set(followed).size).toBe(followed.length);
    found.forEach((one, place) => {
      if (one === undefined) return;
      const before = requests[one.request] as (typeof requests)[number];
      expect(before.atMs + before.recordedMs + one.lagMs).toBeCloseTo(requests[place]?.atMs ?? -1, 6);
      expect(one.lagMs).toBeGreaterThanOrEqual(0);
    });
  });

  it.each([0.0005, 0.01, 0.2, 5])('are not seen in traffic that knows of nobody, at %d requests per ms', (perMs) => {
    for (let seed = 1; seed <= 20; seed++) expect(followingsOf(openLoop(perMs, 300, seed))).toBeUndefined();
  });

  it('are not seen in a few requests, nor where nothing completed', () => {
    expect(followingsOf(closedLoop(1, 8, 4, 1))).toBeUndefined();
    expect(followingsOf(closedLoop(2, 40, 4, 1).map(({ atMs }) => ({ atMs, recordedMs: Number.NaN })))).toBeUndefined();
    expect(followingsOf([])).toBeUndefined();
  });
});
