import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../src/core/random.ts';
import { createAcquisition, cumulativeNormal, expectedImprovement, normalQuantile, quasiRandom } from '../../../src/policy/resource-manager/expected-improvement.ts';
import { fitGaussianProcess, matern } from '../../../src/policy/resource-manager/gaussian-process.ts';

const grid = (n: number): number[][] => Array.from({ length: n }, (_, i) => [i / (n - 1)]);

describe('the Matérn 5/2 covariance', () => {
  it('is what the formula says: 1 + √5 + 5/3, times e^−√5, at one length', () => {
    const hyper = { lengths: [2], signal: 1, noise: 0 };
    expect(matern([0], [0], hyper)).toBe(1);
    expect(matern([0], [2], hyper)).toBeCloseTo((1 + Math.sqrt(5) + 5 / 3) * Math.exp(-Math.sqrt(5)), 12);
    expect(matern([0, 0], [0, 1], { lengths: [1, 100], signal: 3, noise: 0 })).toBeCloseTo(3, 2);
  });
});

describe('a Gaussian process', () => {
  const f = ([x = 0]: readonly number[]): number => 10 + 3 * Math.sin(5 * x);

  it('passes near the values that it was given and between them, and is unsure away from them', () => {
    const points = grid(9).map(([x = 0]) => [0.6 * x]);
    const process = fitGaussianProcess(points, points.map(f), createRandom(1));
    for (const x of [0, 0.03, 0.2, 0.31, 0.5]) expect(process.at([x]).mean).toBeCloseTo(f([x]), 1);
    expect(process.at([1]).variance).toBeGreaterThan(20 * process.at([0.3]).variance);
  });

  it('finds which dimension matters', () => {
    const random = createRandom(2);
    const points = Array.from({ length: 30 }, () => [random.uniform(), random.uniform()]);
    const { hyper } = fitGaussianProcess(points, points.map(([x = 0]) => Math.sin(6 * x)), random);
    expect(hyper.lengths[1]!).toBeGreaterThan(2 * hyper.lengths[0]!);
  });

  it('says of each point what the others say of it, so that the one that they contradict stands out', () => {
    const points = grid(8), values = points.map(([x = 0], i) => Math.cos(4 * x) + (i % 3) * 0.1);
    const outlier = [...values];
    outlier[4] = 9;
    const seen = fitGaussianProcess(points, outlier, createRandom(3), { lengths: [0.5], signal: 1, noise: 0.05 }).leaveOneOut();
    const z = seen.map(({ mean, variance }, i) => Math.abs(outlier[i]! - mean) / Math.sqrt(variance));
    expect(z.indexOf(Math.max(...z))).toBe(4);
    expect(seen[4]!.mean).toBeLessThan(4);
    // The variance that is foreseen for it is that with noise, whatever its value.
    expect(seen[4]!.variance).toBeGreaterThan(0.05);
  });

  it('draws what may really have been measured: around the values, within the noise', () => {
    const points = grid(6), values = points.map(f);
    const process = fitGaussianProcess(points, values, createRandom(4), { lengths: [0.3], signal: 1, noise: 0.01 });
    const zero = process.draw(1, () => [0, 0, 0, 0, 0, 0])[0]!;
    zero.forEach((value, i) => expect(Math.abs(value - values[i]!)).toBeLessThan(0.5));
    const { means, variance } = process.through([zero])([points[2]![0]!]);
    expect(means[0]).toBeCloseTo(zero[2]!, 2);
    expect(variance).toBeLessThan(0.01);
  });
});

describe('normal numbers', () => {
  it('have the known cumulative distribution and quantiles', () => {
    expect(cumulativeNormal(0)).toBeCloseTo(0.5, 7);
    expect(cumulativeNormal(1.959964)).toBeCloseTo(0.975, 6);
    expect(normalQuantile(0.975)).toBeCloseTo(1.959964, 4);
    expect(normalQuantile(0.01)).toBeCloseTo(-2.326348, 4);
  });

  it('fill the cube evenly when they are quasi-random', () => {
    const points = quasiRandom(64, 2, createRandom(5));
    const cells = new Set(points.map(([x = 0, y = 0]) => `${Math.floor(4 * x)} ${Math.floor(4 * y)}`));
    expect(cells.size).toBe(16);
    for (const point of points) for (const u of point) expect(u >= 0 && u < 1).toBe(true);
  });
});

describe('expected improvement', () => {
  it('is what is known: 0.3989 of a standard normal on 0, the difference when it is sure, nothing when it is surely worse', () => {
    expect(expectedImprovement(0, 0, 1)).toBeCloseTo(0.398942, 5);
    expect(expectedImprovement(5, 3, 1e-6)).toBeCloseTo(2, 5);
    expect(expectedImprovement(3, 5, 1e-6)).toBeCloseTo(0, 9);
  });

  it('is wanted where it is cheap and feasible, not where it is cheap and infeasible', () => {
    const points = grid(11);
    const cost = fitGaussianProcess(points, points.map(([x = 0]) => x), createRandom(6));
    // Feasible from 0.55 on.
    const constraint = fitGaussianProcess(points, points.map(([x = 0]) => 0.55 - x), createRandom(7));
    const acquisition = createAcquisition(cost, constraint, createRandom(8));
    const best = Array.from({ length: 101 }, (_, i) => i / 100).sort((a, b) => acquisition([b]) - acquisition([a]))[0]!;
    expect(best).toBeGreaterThan(0.5);
    expect(best).toBeLessThan(0.61);
    expect(acquisition([0.1])).toBeLessThan(acquisition([best]) / 100);
  });
});
