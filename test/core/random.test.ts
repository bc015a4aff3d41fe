import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';

const take = (seed: number, stream: number, count: number): number[] => {
  const random = createRandom(seed, stream);
  return Array.from({ length: count }, () => random.uniform());
};

describe('createRandom', () => {
  it('gives the same numbers for the same seed and stream', () => {
    expect(take(7, 3, 50)).toEqual(take(7, 3, 50));
  });

  it('gives other numbers for another seed or another stream', () => {
    expect(take(7, 3, 5)).not.toEqual(take(8, 3, 5));
    expect(take(7, 3, 5)).not.toEqual(take(7, 4, 5));
    expect(take(0, 0, 5)).not.toEqual(take(0, 1, 5));
  });

  it('stays in [0, 1) with the mean of a uniform distribution', () => {
    const numbers = take(1, 0, 20_000);
    expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
    const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.01);
  });

  it('draws every integer below a bound and no other', () => {
    const random = createRandom(3);
    const seen = new Set(Array.from({ length: 500 }, () => random.below(6)));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  });
});
