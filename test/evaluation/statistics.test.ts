import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { STATISTICS, estimate, groupRecords, isMissed, longestDelayMs, meanOf, pairLatencies, quantileOf, reduction, summarize } from '../../src/evaluation/statistics.ts';
import { record, records, step } from './records.ts';

describe('statistics', () => {
  it('interpolate quantiles between neighbours', () => {
    expect(quantileOf([10, 20, 30, 40], 0.5)).toBe(25);
    expect(quantileOf([10, 20, 30, 40], 0)).toBe(10);
    expect(quantileOf([10, 20, 30, 40], 1)).toBe(40);
    expect(quantileOf([10, 20, 30, 40, 50], 0.9)).toBeCloseTo(46, 9);
    expect(quantileOf([], 0.5)).toBeNaN();
  });

  it('estimate with an interval that holds the value, the same for the same seed, and narrows with more values', () => {
    const values = Array.from({ length: 50 }, (_, i) => i);
    const few = estimate(values, STATISTICS, 7, 400);
    expect(few).toEqual(estimate(values, STATISTICS, 7, 400));
    expect(few.mean.value).toBe(24.5);
    expect(few.mean.low).toBeLessThan(24.5);
    expect(few.mean.high).toBeGreaterThan(24.5);
    // The standard error of the mean is 14.4 ÷ √50 = 2.04, so 95 % are ± 4.0.
    expect(few.mean.high - few.mean.low).toBeGreaterThan(6.5);
    expect(few.mean.high - few.mean.low).toBeLessThan(9.5);
    const many = estimate(Array.from({ length: 800 }, (_, i) => i % 50), { mean: meanOf }, 7, 400);
    expect(many.mean.high - many.mean.low).toBeLessThan((few.mean.high - few.mean.low) / 2);
  });

  it('are those of resamples that are drawn and sorted one by one', () => {
    const values = [5, 3, 3, 9, 12, 1, 7], pairs = [4, 2, 6, 6, 10, 2, 3];
    const sorted = [...values].sort((a, b) => a - b);
    const random = createRandom(3, 42);
    const medians = Array.from({ length: 50 }, () => quantileOf(Array.from(sorted, () => sorted[random.below(7)]!).sort((a, b) => a - b), 0.5)).sort((a, b) => a - b);
    expect(estimate(values, { median: STATISTICS.median }, 3, 50).median).toEqual({ value: 5, low: quantileOf(medians, 0.025), high: quantileOf(medians, 0.975) });
    const paired = createRandom(3, 43);
    const reductions = Array.from({ length: 50 }, () => {
      const at = Array.from(values, () => paired.below(7));
      const of = (from: readonly number[]): number => quantileOf(at.map((i) => from[i]!).sort((a, b) => a - b), 0.9);
      return 1 - of(pairs) / of(values);
    }).sort((a, b) => a - b);
    expect(reduction(pairs, values, STATISTICS.P90, 3, 50)).toMatchObject({ low: quantileOf(reductions, 0.025), high: quantileOf(reductions, 0.975) });
  });

  it('say that values which are all alike have no spread', () => {
    expect(estimate([5, 5, 5], { mean: meanOf })).toEqual({ mean: { value: 5, low: 5, high: 5 } });
  });

  it('pair a reduction, so that what the input makes of the time does not count', () => {
    // Inputs differ a hundredfold, and ours takes exactly half each time.
    const theirs = [10, 100, 1_000], ours = [5, 50, 500];
    expect(reduction(ours, theirs, meanOf)).toEqual({ value: 0.5, low: 0.5, high: 0.5 });
    expect(() => reduction([1], [1, 2], meanOf)).toThrow('as many values on both sides');
  });

  it('pair executions by seed and number, without those that failed on either side', () => {
    const ours = [record({ index: 0, latencyMs: 1 }), record({ index: 1, latencyMs: 2 }), record({ index: 2, latencyMs: 3, ok: false }), record({ index: 0, seed: 2, latencyMs: 4 })];
    const theirs = [record({ index: 0, latencyMs: 10, ok: false }), record({ index: 1, latencyMs: 20 }), record({ index: 2, latencyMs: 30 }), record({ index: 0, seed: 2, latencyMs: 40 })];
    expect(pairLatencies(ours, theirs)).toEqual({ ours: [2, 4], theirs: [20, 40] });
  });
});

describe('a summary', () => {
  it('counts failures as misses and leaves them out of the times', () => {
    const [group] = groupRecords([...records('metronome', [100, 200, 1_500]), record({ index: 3, latencyMs: 9, ok: false, problem: 'x', steps: [] })]);
    const summary = summarize(group!);
    expect(summary).toMatchObject({ application: 'log', variant: 'metronome', concurrency: 2, n: 3, failed: 1, missesByDelay: 0, warm: 1, local: 1 });
    expect(summary.times.mean.value).toBe(600);
    expect(summary.slaMisses.value).toBe(0.5);
    expect(summary.phases).toEqual({ queued: 0, delayed: 0, fetch: 0, init: 0, run: 10 });
  });

  it('blames the delay for a miss that would not have been one without it, the longest of calls at the same time', () => {
    const steps = [step({ function: 'a', delayedMs: 100 }), step({ function: 'b', delayedMs: 300 }), step({ function: 'b', delayedMs: 200 })];
    expect(longestDelayMs(record({ steps }))).toBe(400);
    const late = (latencyMs: number): ReturnType<typeof record> => record({ latencyMs, steps });
    expect(summarize(groupRecords([late(1_300), late(1_450), late(900)])[0]!).missesByDelay).toBe(1);
  });

  it('knows no miss without a target', () => {
    expect(isMissed(record({ slaMs: 0, latencyMs: 1e9 }))).toBe(false);
    expect(isMissed(record({ slaMs: 100, latencyMs: 100 }))).toBe(false);
    expect(isMissed(record({ slaMs: 100, latencyMs: 100.1 }))).toBe(true);
  });
});
