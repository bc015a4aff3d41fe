import { describe, expect, it } from 'vitest';
import { exponential, gamma, lognormal, negativeBinomial, normal, poisson } from '../../src/core/distributions.ts';
import { createRandom, type Random } from '../../src/core/random.ts';

const N = 40_000;

function moments(draw: (random: Random) => number): { readonly mean: number; readonly variance: number; readonly least: number } {
  const random = createRandom(11, 3);
  const values = Array.from({ length: N }, () => draw(random));
  const mean = values.reduce((a, b) => a + b, 0) / N;
  return { mean, variance: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / N, least: Math.min(...values) };
}

describe('distributions', () => {
  it.each<[string, (random: Random) => number, number, number]>([
    ['normal', normal, 0, 1],
    ['exponential of mean 3', (random) => exponential(random, 3), 3, 9],
    ['gamma of shape 0.5 and mean 2', (random) => gamma(random, 0.5, 2), 2, 8],
    ['gamma of shape 4 and mean 2', (random) => gamma(random, 4, 2), 2, 1],
    ['Poisson of mean 0.3', (random) => poisson(random, 0.3), 0.3, 0.3],
    ['Poisson of mean 40', (random) => poisson(random, 40), 40, 40],
    ['Poisson of mean 2 000', (random) => poisson(random, 2_000), 2_000, 2_000],
    ['negative binomial of mean 5, dispersion 8', (random) => negativeBinomial(random, 5, 8), 5, 40],
    ['negative binomial of dispersion 1, which is Poisson', (random) => negativeBinomial(random, 5, 1), 5, 5],
    // e^(σ²/2) and its variance, with σ = 0.5.
    ['lognormal of median 1', (random) => lognormal(random, 1, 0.5), Math.exp(0.125), (Math.exp(0.25) - 1) * Math.exp(0.25)],
  ])('%s have their mean and variance', (_name, draw, mean, variance) => {
    const found = moments(draw);
    expect(Math.abs(found.mean - mean)).toBeLessThan(6 * Math.sqrt(variance / N));
    expect(found.variance / variance).toBeGreaterThan(0.85);
    expect(found.variance / variance).toBeLessThan(1.15);
  });

  it('never go below zero where there is nothing below it', () => {
    for (const draw of [(random: Random) => gamma(random, 0.1, 1), (random: Random) => lognormal(random, 1, 3), (random: Random) => poisson(random, 600), (random: Random) => exponential(random, 1)]) expect(moments(draw).least).toBeGreaterThanOrEqual(0);
    expect(poisson(createRandom(1), 0)).toBe(0);
    expect(negativeBinomial(createRandom(1), 0, 5)).toBe(0);
    expect(lognormal(createRandom(1), 7, 0)).toBe(7);
  });
});
