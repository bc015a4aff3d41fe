import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { METRICS, compare, figuresOfSide } from '../../src/what-if/compare.ts';

const NONE = Number.NaN;

describe('a comparison', () => {
  it('computes the figures of hand-made sides', () => {
    const latencies = [Float64Array.of(10, 20, 30, NONE, 40), Float64Array.of(10, 20, 30, 50, 40)];
    expect(figuresOfSide(latencies, Float64Array.of(0, 15, 30, 30, 30))).toEqual({ meanMs: 250 / 9, p50Ms: 30, p95Ms: 50, p99Ms: 50, slaMisses: 0.6 });
    expect(figuresOfSide(latencies, Float64Array.of(0, 15, 30, 30, 30), [0, 1])).toMatchObject({ meanMs: 15, p50Ms: 10, p99Ms: 20, slaMisses: 0.5 });
  });

  it('finds no difference between equal sides', () => {
    const side = [Float64Array.from({ length: 500 }, (_, i) => 10 + (i % 37))];
    const { difference, requests } = compare({ control: side, alternative: side, slaMs: new Float64Array(500).fill(30) }, 1);
    expect(requests).toBe(500);
    for (const metric of METRICS) expect(difference[metric]).toEqual({ value: 0, low: 0, high: 0 });
  });

  it('finds a shift, and its interval is narrow because pairs stay together', () => {
    const random = createRandom(3);
    const control = Float64Array.from({ length: 1_000 }, () => 100 + 400 * random.uniform());
    const { difference } = compare({ control: [control], alternative: [control.map((ms) => ms + 20)], slaMs: new Float64Array(1_000).fill(450) }, 1);
    expect(difference.meanMs.value).toBeCloseTo(20, 6);
    expect(difference.meanMs.low).toBeCloseTo(20, 6);
    expect(difference.meanMs.high).toBeCloseTo(20, 6);
    expect(difference.p95Ms.value).toBeCloseTo(20, 6);
    expect(difference.slaMisses.low).toBeGreaterThan(0);
  });

  it('covers the true difference about as often as it says', () => {
    let covered = 0;
    const runs = 60;
    for (let run = 0; run < runs; run++) {
      const random = createRandom(run, 8);
      const draw = (mean: number): Float64Array => Float64Array.from({ length: 400 }, () => -mean * Math.log(1 - random.uniform()));
      const { low, high } = compare({ control: [draw(100)], alternative: [draw(110)], slaMs: new Float64Array(400) }, run).difference.meanMs;
      if (low <= 10 && high >= 10) covered++;
    }
    expect(covered / runs).toBeGreaterThan(0.8);
  });

  it('counts what did not complete as a missed SLA, not as a latency', () => {
    const { control, alternative, controlFailed, alternativeFailed } = compare({ control: [Float64Array.of(1, 1)], alternative: [Float64Array.of(1, NONE)], slaMs: Float64Array.of(5, 5) }, 1);
    expect([controlFailed, alternativeFailed]).toEqual([0, 1]);
    expect(control.slaMisses).toBe(0);
    expect(alternative).toMatchObject({ meanMs: 1, slaMisses: 0.5 });
  });
});
