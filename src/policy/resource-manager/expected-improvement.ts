/**
 * Constrained noisy expected improvement (Letham et al. 2019): what a point is expected to improve on the best feasible one so far, times the probability that
 * it is feasible, averaged over what the noisy measurements may really have been. The averages are over quasi-random normal numbers.
 */
import type { Random } from '../../core/random.ts';
import type { GaussianProcess } from './gaussian-process.ts';

/** Draws of what was really measured. */
export const DRAWS = 32;

/** Density of the standard normal distribution. */
function density(z: number): number {
  return Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
}

/** Its cumulative distribution (Abramowitz and Stegun 26.2.17, error below 1e-7). */
export function cumulativeNormal(z: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const tail = density(z) * t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return z >= 0 ? 1 - tail : tail;
}

/** Its quantile, 0 < p < 1, by bisection: it is asked for some thousand times. */
export function normalQuantile(p: number): number {
  let low = -8, high = 8;
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (cumulativeNormal(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Points that fill [0, 1)^dimensions evenly: an additive recurrence with powers of the generalised golden ratio, shifted at random. */
export function quasiRandom(count: number, dimensions: number, random: Random): number[][] {
  let ratio = 2;
  for (let i = 0; i < 40; i++) ratio = (1 + ratio) ** (1 / (dimensions + 1));
  const shifts = Array.from({ length: dimensions }, () => random.uniform());
  return Array.from({ length: count }, (_, i) => shifts.map((shift, d) => (shift + (i + 1) * ratio ** -(d + 1)) % 1));
}

/** Expected improvement on `best` (smaller is better) of a normal value. */
export function expectedImprovement(best: number, mean: number, deviation: number): number {
  const z = (best - mean) / deviation;
  return Math.max(0, (best - mean) * cumulativeNormal(z) + deviation * density(z));
}

/** The acquisition function. `cost` is to be made small where `constraint` ≤ 0; both processes are on the same points. */
export function createAcquisition(cost: GaussianProcess, constraint: GaussianProcess, random: Random): (point: readonly number[]) => number {
  const n = cost.points.length;
  const normals = (): number[][] => quasiRandom(DRAWS, n, random).map((row) => row.map((u) => normalQuantile(Math.min(1 - 1e-9, Math.max(1e-9, u)))));
  const ofCost = normals(), ofConstraint = normals();
  const costs = cost.draw(DRAWS, (draw) => ofCost[draw] as number[]);
  const constraints = constraint.draw(DRAWS, (draw) => ofConstraint[draw] as number[]);
  const best = costs.map((row, draw) => {
    let least = Infinity;
    row.forEach((value, i) => {
      if (((constraints[draw] as readonly number[])[i] as number) <= 0) least = Math.min(least, value);
    });
    return least;
  });
  // Where nothing is feasible yet, any feasible point improves on the dearest one.
  const dearest = Math.max(...costs.flat());
  const costAt = cost.through(costs), constraintAt = constraint.through(constraints);
  return (point) => {
    const c = costAt(point), g = constraintAt(point);
    const costDeviation = Math.sqrt(c.variance), constraintDeviation = Math.sqrt(g.variance);
    let sum = 0;
    for (let draw = 0; draw < DRAWS; draw++) {
      const feasible = cumulativeNormal(-(g.means[draw] as number) / constraintDeviation);
      const known = best[draw] as number;
      sum += feasible * (known < Infinity ? expectedImprovement(known, c.means[draw] as number, costDeviation) : 1e-3 + Math.max(0, dearest - (c.means[draw] as number)));
    }
    return sum / DRAWS;
  };
}
