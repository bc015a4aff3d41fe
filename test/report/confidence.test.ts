import { describe, expect, it } from 'vitest';
import { confidenceOf } from '../../src/report/confidence.ts';

describe('the confidence of a mean', () => {
  it.each([
    ['two values: t = 12.706', [1, 3], 2, 12.706],
    ['three values: t = 4.303', [1, 2, 3], 2, 4.303 / Math.sqrt(3)],
    ['equal values leave no doubt', [5, 5, 5, 5], 5, 0],
  ])('%s', (_name, values, mean, half) => {
    const found = confidenceOf(values);
    expect([found.mean, found.low, found.high]).toEqual([mean, expect.closeTo(mean - half, 9), expect.closeTo(mean + half, 9)]);
  });

  it.each([[20, 2.086], [30, 2.0423], [100, 1.984]])('with %i degrees of freedom uses t = %f', (freedom, t) => {
    const values = Array.from({ length: freedom + 1 }, (_, i) => i);
    const { mean, high } = confidenceOf(values);
    const error = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / freedom / values.length);
    expect((high - mean) / error).toBeCloseTo(t, 3);
  });

  it('of one value is not known', () => expect(confidenceOf([7])).toEqual({ mean: 7, low: NaN, high: NaN }));
});
