/** Sizes of inputs: their statistics are those that they are drawn from, and a seed gives the same ones again. */
import { describe, expect, it } from 'vitest';
import { APPLICATIONS } from '../../src/workload/applications.ts';
import { CUT, MEMORY, SIZE_CLASSES, SIZE_SCALES, SMALL_PART, createInputSizes } from '../../src/workload/input-sizes.ts';

const DRAWS = 20_000;
const cases = APPLICATIONS.flatMap((application) => SIZE_SCALES.map((scale) => ({ application, scale })));

function drawn(options: Parameters<typeof createInputSizes>[0], count = DRAWS, variant = 0): number[] {
  const sizes = createInputSizes(options);
  return Array.from({ length: count }, () => sizes.next(variant));
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
function correlation(a: readonly number[], b: readonly number[]): number {
  const [meanA, meanB] = [mean(a), mean(b)];
  const product = (x: readonly number[], mx: number, y: readonly number[], my: number): number => mean(x.map((value, i) => (value - mx) * ((y[i] ?? 0) - my)));
  return product(a, meanA, b, meanB) / Math.sqrt(product(a, meanA, a, meanA) * product(b, meanB, b, meanB));
}

describe.each(cases)('sizes of $application at scale $scale', ({ application, scale }) => {
  const { medianBytes, sigma, smallShare } = SIZE_CLASSES[application][scale];
  const all = drawn({ application, scale, seed: 1, memory: 0 });
  const small = Math.round(medianBytes * SMALL_PART);
  const others = smallShare === 0 ? all : all.filter((size) => size !== small);

  it('have the median and the deviation of their class, and the share of small ones', () => {
    const logs = others.map((size) => Math.log(size / medianBytes));
    expect(Math.abs(mean(logs))).toBeLessThan(0.03 * sigma);
    // Cutting one percent at either end takes a little of the deviation.
    expect(Math.sqrt(mean(logs.map((value) => value ** 2))) / sigma).toBeGreaterThan(0.95);
    expect(Math.sqrt(mean(logs.map((value) => value ** 2))) / sigma).toBeLessThan(1.01);
    expect(1 - others.length / all.length).toBeCloseTo(smallShare, 1.9);
  });

  it('stay within the first and the last percent', () => {
    expect(Math.max(...others)).toBe(Math.round(medianBytes * Math.exp(sigma * CUT)));
    expect(Math.min(...others)).toBe(Math.round(medianBytes * Math.exp(-sigma * CUT)));
  });
});

describe('sizes', () => {
  it('resemble the one before, by their memory', () => {
    for (const memory of [0, MEMORY, 0.9]) {
      const logs = drawn({ application: 'document', seed: 3, memory }).map(Math.log);
      expect(correlation(logs.slice(1), logs.slice(0, -1))).toBeCloseTo(memory, 1);
    }
  });

  it('are the same for the same seed, whichever variants are drawn in between, and others for another', () => {
    const one = createInputSizes({ application: 'video', seed: 5 });
    const sequence = Array.from({ length: 50 }, () => {
      one.next(7);
      return one.next(2);
    });
    expect(drawn({ application: 'video', seed: 5 }, 50, 2)).toEqual(sequence);
    expect(drawn({ application: 'video', seed: 6 }, 50, 2)).not.toEqual(sequence);
  });

  it('of variants and applications have nothing to do with each other', () => {
    const logs = (application: (typeof APPLICATIONS)[number], variant: number): number[] => drawn({ application, seed: 5 }, 5_000, variant).map(Math.log);
    expect(Math.abs(correlation(logs('document', 0), logs('document', 1)))).toBeLessThan(0.1);
    expect(Math.abs(correlation(logs('document', 0), logs('inference', 0)))).toBeLessThan(0.1);
  });

  it('grow with their factor, and never vanish', () => {
    const plain = drawn({ application: 'log', seed: 2 }, 100);
    for (const [i, size] of drawn({ application: 'log', seed: 2, factor: 0.5 }, 100).entries()) expect(Math.abs(size - (plain[i] ?? 0) / 2)).toBeLessThanOrEqual(1);
    expect(drawn({ application: 'inference', seed: 2, factor: 1e-9 }, 3)).toEqual([1, 1, 1]);
  });

  it('refuse a memory or a factor that makes no sense', () => {
    for (const memory of [1, -0.1, Number.NaN]) expect(() => createInputSizes({ application: 'log', seed: 1, memory })).toThrow('The memory of sizes must be from 0 to below 1');
    for (const factor of [0, -1, Number.POSITIVE_INFINITY]) expect(() => createInputSizes({ application: 'log', seed: 1, factor })).toThrow('The factor of sizes must be positive');
  });
});
