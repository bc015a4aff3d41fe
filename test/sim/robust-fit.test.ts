import { describe, expect, it } from 'vitest';
import { fitLine, medianOf, quantileOf, winsorised } from '../../src/sim/robust-fit.ts';

describe('a robust line', () => {
  const xs = Array.from({ length: 40 }, (_, i) => 1 + i / 4);

  it('is found exactly where there is one', () => {
    const { base, slope } = fitLine(xs, xs.map((x) => 20 + 3 * x));
    expect([base, slope]).toEqual([expect.closeTo(20, 6), expect.closeTo(3, 6)]);
  });

  it('is not moved by a few values that are ten times too large', () => {
    const { base, slope } = fitLine(xs, xs.map((x, i) => (20 + 3 * x) * (i % 10 === 0 ? 10 : 1)));
    expect(base).toBeCloseTo(20, -0.5);
    expect(slope).toBeCloseTo(3, 0);
  });

  it.each([
    ['is level where costs fall with the size', xs.map((x) => 50 - x), 'slope'],
    ['goes through the origin where it would begin below 0', xs.map((x) => Math.max(0.1, 4 * x - 3)), 'base'],
  ] as const)('%s', (_name, ys, zero) => expect(fitLine(xs, ys)[zero]).toBe(0));

  it('is level over one size', () => expect(fitLine([2, 2, 2], [10, 12, 11])).toEqual({ base: expect.closeTo(11, 9), slope: 0 }));
});

describe('quantiles', () => {
  it('interpolate, whatever the order', () => {
    expect([quantileOf([4, 1, 3, 2], 0), medianOf([4, 1, 3, 2]), quantileOf([4, 1, 3, 2], 1)]).toEqual([1, 2.5, 4]);
    expect(medianOf([])).toBeNaN();
  });

  it('keep outliers out of mean and deviation', () => {
    const values = [...Array.from({ length: 99 }, (_, i) => (i % 2 === 0 ? 9 : 11)), 1e9];
    const { mean, deviation } = winsorised(values, 0.02);
    expect(mean).toBeCloseTo(10, 1);
    expect(deviation).toBeCloseTo(1, 1);
  });
});
