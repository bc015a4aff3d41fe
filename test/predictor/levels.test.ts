import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { FunctionLevels } from '../../src/predictor/model/levels.ts';

/** Residuals of a skewed kind: mostly a little below `at`, seldom far above. */
function skewed(seed: number, count: number, at: number): number[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => at + (random.uniform() < 0.2 ? 0.8 * random.uniform() : 0.1 * (random.uniform() - 0.5)));
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] as number;
/** What is left over of residuals when each is predicted by the level before it. */
function leftOver(residuals: readonly number[], levels = new FunctionLevels()): number[] {
  return residuals.map((residual) => {
    const left = residual - levels.level(1);
    levels.add(1, residual);
    return left;
  });
}

describe('the level of a function', () => {
  it('goes to the median of skewed residuals, not to their mean', () => {
    const levels = new FunctionLevels();
    const residuals = skewed(1, 600, -0.3);
    leftOver(residuals, levels);
    const mean = residuals.reduce((sum, residual) => sum + residual, 0) / residuals.length;
    expect(Math.abs(levels.level(1) - median(residuals))).toBeLessThan(0.05);
    expect(levels.level(1)).toBeLessThan(mean);
  });

  it('loses less relative to what was measured than the median does, where executions take up to five times as long as others', () => {
    const random = createRandom(6);
    const residuals = Array.from({ length: 3_000 }, () => 1.6 * (random.uniform() - 0.5));
    const settled = residuals.slice(500), middle = median(settled);
    const lost = (left: readonly number[]): number => left.reduce((sum, off) => sum + Math.abs(Math.exp(-off) - 1), 0) / left.length;
    const left = leftOver(residuals).slice(500);
    expect(lost(left)).toBeLessThan(0.98 * lost(settled.map((residual) => residual - middle)));
    expect(median(left)).toBeGreaterThan(0.02);
  });

  it('comes after executions that take two and a half times as long from now on', () => {
    const random = createRandom(7);
    const residuals = Array.from({ length: 260 }, (_, i) => (i < 200 ? 0 : 0.9) + 0.1 * (random.uniform() - 0.5));
    expect(median(leftOver(residuals).slice(-10).map(Math.abs))).toBeLessThan(0.1);
  });

  it('follows a level that goes up and down', () => {
    const random = createRandom(2);
    const residuals = Array.from({ length: 2_000 }, (_, i) => 0.3 * Math.sin(i / 60) + 0.05 * (random.uniform() - 0.5));
    expect(median(leftOver(residuals).slice(200).map(Math.abs))).toBeLessThan(0.5 * median(residuals.map(Math.abs)));
  });

  it('hardly costs anything where there is nothing to follow', () => {
    const random = createRandom(3);
    const residuals = Array.from({ length: 4_000 }, () => 0.01 * (random.uniform() + random.uniform() + random.uniform() - 1.5));
    const absolute = (values: readonly number[]): number => values.reduce((sum, value) => sum + Math.abs(value), 0);
    expect(absolute(leftOver(residuals))).toBeLessThan(1.02 * absolute(residuals));
  });

  it('stands at zero while the function is young, and after it was forgotten', () => {
    const levels = new FunctionLevels();
    for (let i = 0; i < 12; i++) levels.add(1, 0.5);
    expect(levels.level(1)).toBe(0);
    for (let i = 0; i < 50; i++) levels.add(1, 0.5);
    expect(levels.level(1)).toBeGreaterThan(0.2);
    expect(levels.level(2)).toBe(0);
    levels.forget(1);
    expect(levels.level(1)).toBe(0);
  });

  it('is bounded whatever comes', () => {
    const levels = new FunctionLevels();
    for (let i = 0; i < 5_000; i++) levels.add(1, i % 7 === 0 ? -40 : 40);
    expect(Math.abs(levels.level(1))).toBeLessThanOrEqual(1);
  });

  it('goes on from a snapshot as if nothing had been', () => {
    const before = new FunctionLevels(), after = new FunctionLevels();
    leftOver(skewed(4, 100, 0.1), before);
    after.restore(before.toSnapshot());
    for (const residual of skewed(5, 50, 0.2)) {
      before.add(1, residual);
      after.add(1, residual);
    }
    expect(after.level(1)).toBe(before.level(1));
    expect(() => new FunctionLevels().restore([Float64Array.of(1, 2)])).toThrow('level 0 has 2 parts');
  });
});
