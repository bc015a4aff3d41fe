import { describe, expect, it } from 'vitest';
import { forecastFourier, WINDOW } from '../../../src/policy/forecast/fourier.ts';

const series = (of: (i: number) => number, length = WINDOW): number[] => Array.from({ length }, (_, i) => of(i));

describe('the Fourier forecast', () => {
  it.each<[string, number[], number]>([
    ['nothing of nothing', [], 0],
    ['the last of very few values', [3, 5], 5],
    ['a constant', series(() => 7), 7],
    ['a line that goes on', series((i) => 2 + 0.5 * i), 32],
    ['zero where a falling line would go below it', series((i) => 59 - i), 0],
  ])('of %s', (_name, values, expected) => expect(forecastFourier(values)).toBeCloseTo(expected, 6));

  it('of a cycle that fits the window is its next value, within what taking out the line disturbs', () => {
    for (const period of [6, 10, 12, 15, 20, 30]) {
      const cycle = (i: number): number => 10 + 4 * Math.cos((2 * Math.PI * i) / period);
      expect(Math.abs(forecastFourier(series(cycle)) - cycle(WINDOW)), `period ${period}`).toBeLessThan(0.6);
    }
  });

  it('drops what is quicker than ten harmonics of the window', () => {
    expect(forecastFourier(series((i) => 10 + (i % 2 === 0 ? 3 : -3)))).toBeCloseTo(10, 0);
  });
});
