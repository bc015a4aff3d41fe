import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { F_OCTAVES, F_SIZES, OCTAVES, OCTAVE_NUMBERS, SIZES, SIZE_NUMBERS } from '../../src/predictor/model/baseline-terms.ts';
import { FUNCTION_STRIDE } from '../../src/predictor/model/model-view.ts';
import { RecentMedians, mixMedians } from '../../src/predictor/model/recent-medians.ts';
import { WARM, ZYGOTE } from '../../src/predictor/predictor.ts';

/** What is mixed of what the model says of function 1, by the factor of the row (logarithms). */
function mixed(medians: RecentMedians, model: number, factor: number, bytes = 1_000, startState = WARM): number {
  const functions = new Float64Array(2 * FUNCTION_STRIDE);
  medians.write(1, functions);
  return mixMedians(functions, FUNCTION_STRIDE, startState, bytes, model, factor);
}

/** One execution, all in logarithms: its residuals from what was said. */
interface Said {
  readonly measured: number;
  readonly model: number;
  readonly factor?: number;
  readonly bytes?: number;
}

/** Predicts each before it is learned from: by how much mixed and model were off. */
function offBy(medians: RecentMedians, executions: readonly Said[], scale: number): { readonly mixed: number[]; readonly model: number[] } {
  const off: { mixed: number[]; model: number[] } = { mixed: [], model: [] };
  for (const { measured, model, factor = 0, bytes = 1_000 } of executions) {
    const served = measured - mixed(medians, model, factor, bytes);
    off.mixed.push(Math.abs(served));
    off.model.push(Math.abs(measured - model));
    medians.add(1, WARM, bytes, { factor: measured - factor, model: measured - model, served }, scale);
  }
  return off;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** A model that sees meaning where there is none, over executions that vary by themselves. */
function fanciful(seed: number, count: number): Said[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => ({ measured: 0.4 + 0.2 * (random.uniform() - 0.5), model: 0.4 + 0.8 * (random.uniform() - 0.5) }));
}

describe('medians of recent executions', () => {
  it('make predictions better where the model takes noise for meaning', () => {
    const off = offBy(new RecentMedians(), fanciful(1, 400), 0.2);
    expect(mean(off.mixed.slice(100))).toBeLessThan(0.7 * mean(off.model.slice(100)));
  });

  it('hardly have a say where the model knows more', () => {
    const random = createRandom(2);
    const executions = Array.from({ length: 500 }, () => {
      const measured = random.uniform() - 0.5;
      return { measured, model: measured + 0.02 * (random.uniform() - 0.5) };
    });
    const off = offBy(new RecentMedians(), executions, 0.005);
    expect(mean(off.mixed.slice(200))).toBeLessThan(1.02 * mean(off.model.slice(200)));
  });

  it('say nothing while the function is young, of situations that were not seen, and after they were forgotten', () => {
    const medians = new RecentMedians();
    offBy(medians, fanciful(3, 39), 0.2);
    expect(mixed(medians, 0.9, 0)).toBe(0.9);
    offBy(medians, fanciful(4, 40), 0.2);
    expect(mixed(medians, 0.9, 0)).toBeLessThan(0.85);
    expect(mixed(medians, 0.9, 0, 1_000, ZYGOTE)).toBe(0.9);
    expect(mixed(medians, 0.9, 0, 100_000)).toBe(0.9);
    medians.forget(1);
    expect(mixed(medians, 0.9, 0)).toBe(0.9);
  });

  it('leave between two rows of a decision what their factors say of their difference', () => {
    const medians = new RecentMedians();
    offBy(medians, fanciful(5, 100), 0.2);
    expect(mixed(medians, 1.3, 0.7) - mixed(medians, 0.6, 0)).toBeCloseTo(0.7, 12);
  });

  it('tell an exact size from others of its octave', () => {
    const medians = new RecentMedians();
    const executions = Array.from({ length: 200 }, (_, i) => ({ measured: i % 2 === 0 ? 0.5 : -0.5, model: 0, bytes: i % 2 === 0 ? 1_100 : 1_900 }));
    offBy(medians, executions, 0.5);
    expect(mixed(medians, 0, 0, 1_100)).toBeGreaterThan(0.2);
    expect(mixed(medians, 0, 0, 1_900)).toBeLessThan(-0.2);
    expect(Math.abs(mixed(medians, 0, 0, 1_500))).toBeLessThan(0.2);
  });

  it('move no prediction by more than a factor of e, whatever comes', () => {
    const medians = new RecentMedians();
    offBy(medians, Array.from({ length: 300 }, () => ({ measured: 40, model: 0 })), 1e-4);
    expect(mixed(medians, 0, 0)).toBe(1);
  });

  it('are kept of the octaves and sizes that were used last', () => {
    const medians = new RecentMedians();
    const executions = Array.from({ length: 45 }, (_, i) => ({ measured: 0.5, model: 0, bytes: 2 ** i }));
    offBy(medians, executions, 0.2);
    const functions = new Float64Array(2 * FUNCTION_STRIDE);
    medians.write(1, functions);
    const used = (first: number, count: number, numbers: number): number => Array.from({ length: count }, (_, i) => functions[FUNCTION_STRIDE + first + i * numbers]).filter((key) => key !== 0).length;
    expect([used(F_OCTAVES, OCTAVES, OCTAVE_NUMBERS), used(F_SIZES, SIZES, SIZE_NUMBERS)]).toEqual([OCTAVES, SIZES]);
    expect(mixed(medians, 0, 0, 2 ** 44)).toBeGreaterThan(0);
    expect(mixed(medians, 0, 0, 2 ** 20)).toBe(0);
  });

  it('go on from a snapshot as if nothing had been', () => {
    const before = new RecentMedians(), after = new RecentMedians();
    offBy(before, fanciful(6, 80), 0.2);
    after.restore(before.toSnapshot());
    const more = fanciful(7, 50);
    expect(offBy(after, more, 0.2)).toEqual(offBy(before, more, 0.2));
    expect(after.toSnapshot()).toEqual(before.toSnapshot());
    expect(() => new RecentMedians().restore([Float64Array.of(1, 2)])).toThrow('medians 0 have 2 parts');
  });
});
