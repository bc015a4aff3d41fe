import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../src/core/random.ts';
import { EchoState } from '../../../src/policy/forecast/echo-state.ts';

/** One-step forecasts of a series; the first one comes after the first value. */
function forecasts(values: readonly number[], seed = 1): { error: number; deviation: number }[] {
  const net = new EchoState(createRandom(seed));
  return values.map((value, i) => {
    const { mean, deviation } = net.predict();
    net.add(value, (i % 1_440) / 1_440);
    return { error: value - mean, deviation };
  }).slice(1);
}

const rms = (errors: readonly number[]): number => Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length);
const series = (length: number, of: (i: number) => number): number[] => Array.from({ length }, (_, i) => of(i));

describe('the recurrent forecaster', () => {
  it('expects a constant to go on, soon without doubt', () => {
    const last = forecasts(series(60, () => 4)).at(-1);
    expect(Math.abs(last?.error ?? 9)).toBeLessThan(0.05);
    expect(last?.deviation).toBeLessThan(0.3);
  });

  it('learns a cycle that the last value alone does not tell: 1, 3, 5, 3, 1, …', () => {
    const cycle = [1, 3, 5, 3];
    const all = forecasts(series(200, (i) => cycle[i % 4] as number));
    const late = rms(all.slice(-40).map(({ error }) => error));
    // To repeat the last value would be wrong by 2 each time.
    expect(late).toBeLessThan(0.4);
    expect(rms(all.slice(0, 8).map(({ error }) => error))).toBeGreaterThan(1);
  });

  it('follows a change of level within a few steps', () => {
    const all = forecasts([...series(80, () => 2), ...series(40, () => 20)]);
    expect(Math.abs(all.at(-1)?.error ?? 99)).toBeLessThan(1);
  });

  it('knows how unsure it is: one deviation covers about two thirds of a noisy series, two cover nearly all', () => {
    const random = createRandom(3, 2);
    const noise = (): number => random.uniform() + random.uniform() + random.uniform() + random.uniform() - 2; // sd 0.577
    const all = forecasts(series(600, () => 10 + 2 * noise())).slice(100);
    const within = (sds: number): number => all.filter(({ error, deviation }) => Math.abs(error) <= sds * deviation).length / all.length;
    expect(within(1)).toBeGreaterThan(0.55);
    expect(within(1)).toBeLessThan(0.85);
    expect(within(2)).toBeGreaterThan(0.9);
  });

  it('gives the same forecasts for the same seed, and stays finite whatever comes', () => {
    const wild = series(500, (i) => (i % 97 === 0 ? 1e6 : i % 3));
    expect(forecasts(wild, 5)).toEqual(forecasts(wild, 5));
    for (const { error, deviation } of forecasts(wild)) expect(Number.isFinite(error) && Number.isFinite(deviation) && deviation >= 0).toBe(true);
  });

  it('never expects less than nothing', () => {
    const net = new EchoState(createRandom(1));
    for (const value of [9, 6, 3, 0, 0, 0]) {
      net.add(value, 0);
      expect(net.predict().mean).toBeGreaterThanOrEqual(0);
    }
  });
});
