/** Draws from the distributions of workloads and costs. Every draw takes its randomness from the stream that it is given. */
import type { Random } from './random.ts';

/** Standard normal (Box–Muller). */
export function normal(random: Random): number {
  // 1 − u is never 0.
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

/** A positive value whose logarithm is normal. `median` is e^μ. */
export function lognormal(random: Random, median: number, sigma: number): number {
  return sigma <= 0 ? median : median * Math.exp(sigma * normal(random));
}

/** Exponential with this mean: the gap between events that come independently. */
export function exponential(random: Random, mean: number): number {
  return -mean * Math.log(1 - random.uniform());
}

/** Gamma of this shape and mean (Marsaglia and Tsang 2000). Shape > 0. */
export function gamma(random: Random, shape: number, mean: number): number {
  const scale = mean / shape;
  // Below 1: that of shape + 1, times a power of a uniform.
  const boost = shape < 1 ? (1 - random.uniform()) ** (1 / shape) : 1;
  const d = (shape < 1 ? shape + 1 : shape) - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(random);
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v * scale * boost;
  }
}

/** Above this mean a Poisson count is drawn from the normal distribution that it is nearly. */
const LARGE_MEAN = 500;

/** Poisson count with this mean ≥ 0. O(mean) up to a mean of 500. */
export function poisson(random: Random, mean: number): number {
  if (mean <= 0) return 0;
  if (mean > LARGE_MEAN) return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal(random)));
  // Knuth, in logarithms, so that nothing underflows.
  let left = mean + Math.log(1 - random.uniform());
  let count = 0;
  for (; left > 0; count++) left += Math.log(1 - random.uniform());
  return count;
}

/** Negative binomial count: mean ≥ 0 and index of dispersion (variance ÷ mean) ≥ 1; at 1 it is Poisson. */
export function negativeBinomial(random: Random, mean: number, dispersion: number): number {
  if (mean <= 0) return 0;
  return poisson(random, dispersion <= 1 ? mean : gamma(random, mean / (dispersion - 1), mean));
}
