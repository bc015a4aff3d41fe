/**
 * Gaussian-process regression with a Matérn-5/2 kernel and a length scale per dimension, for some tens of points in a few dimensions. Values are standardised
 * inside; hyper-parameters are those of the greatest marginal likelihood among random ones and random steps from the best of them.
 */
import { CholeskyDecomposition, Matrix } from 'ml-matrix';
import { normal } from '../../core/distributions.ts';
import type { Random } from '../../core/random.ts';

/** Hyper-parameters, for standardised values. */
export interface Hyper {
  /** Per dimension; points lie in [0, 1]. */
  readonly lengths: readonly number[];
  readonly signal: number;
  /** Variance of the noise. */
  readonly noise: number;
}

/** Mean and variance of the function itself, without noise. */
export interface Posterior {
  readonly mean: number;
  readonly variance: number;
}

/** A fitted process. */
export interface GaussianProcess {
  readonly points: readonly (readonly number[])[];
  readonly hyper: Hyper;
  at(point: readonly number[]): Posterior;
  /** For each point, what the others say of its value: mean, and variance with noise. */
  leaveOneOut(): readonly Posterior[];
  /** `draws` of the function's values at the points, one row per draw; `z(i)` are the standard normal numbers of draw i. */
  draw(draws: number, z: (draw: number) => readonly number[]): readonly (readonly number[])[];
  /** The process that passes exactly through these values at its points: mean by values, variance for all alike. */
  through(valuesOfDraws: readonly (readonly number[])[]): (point: readonly number[]) => { readonly means: readonly number[]; readonly variance: number };
}

const JITTER = 1e-6;
const STARTS = 48, STEPS = 96;
const LOG_LENGTH = { from: Math.log(0.05), to: Math.log(3) };
const LOG_NOISE = { from: Math.log(1e-5), to: Math.log(0.3) };
const SQRT5 = Math.sqrt(5);

/** Covariance of two points: Matérn 5/2. */
export function matern(a: readonly number[], b: readonly number[], { lengths, signal }: Hyper): number {
  let squared = 0;
  for (let d = 0; d < a.length; d++) squared += (((a[d] as number) - (b[d] as number)) / (lengths[d] as number)) ** 2;
  const r = SQRT5 * Math.sqrt(squared);
  return signal * (1 + r + (r * r) / 3) * Math.exp(-r);
}

function covariances(points: readonly (readonly number[])[], hyper: Hyper, diagonal: number): Matrix {
  const n = points.length;
  const K = Matrix.zeros(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const k = matern(points[i] as readonly number[], points[j] as readonly number[], hyper) + (i === j ? diagonal : 0);
      K.set(i, j, k);
      K.set(j, i, k);
    }
  }
  return K;
}

/** −log of the marginal likelihood, up to a constant; Infinity where the matrix is not positive definite. */
function negativeLogLikelihood(points: readonly (readonly number[])[], y: Matrix, hyper: Hyper): number {
  const cholesky = new CholeskyDecomposition(covariances(points, hyper, hyper.noise + JITTER));
  if (!cholesky.isPositiveDefinite()) return Infinity;
  const L = cholesky.lowerTriangularMatrix;
  let half = 0;
  for (let i = 0; i < points.length; i++) half += Math.log(L.get(i, i));
  return 0.5 * y.transpose().mmul(cholesky.solve(y)).get(0, 0) + half;
}

/** Hyper-parameters of greatest likelihood, by multi-start random search. */
export function fitHyper(points: readonly (readonly number[])[], y: Matrix, random: Random): Hyper {
  const dimensions = (points[0] as readonly number[]).length;
  const between = ({ from, to }: { readonly from: number; readonly to: number }): number => from + (to - from) * random.uniform();
  const clamp = (value: number, { from, to }: { readonly from: number; readonly to: number }): number => Math.min(to, Math.max(from, value));
  let best: Hyper = { lengths: Array.from({ length: dimensions }, () => 0.5), signal: 1, noise: 0.01 };
  let least = negativeLogLikelihood(points, y, best);
  const consider = (hyper: Hyper): void => {
    const loss = negativeLogLikelihood(points, y, hyper);
    if (loss < least) {
      best = hyper;
      least = loss;
    }
  };
  for (let i = 0; i < STARTS; i++) consider({ lengths: Array.from({ length: dimensions }, () => Math.exp(between(LOG_LENGTH))), signal: Math.exp(0.5 * normal(random)), noise: Math.exp(between(LOG_NOISE)) });
  for (let i = 0; i < STEPS; i++) {
    const width = 0.5 * (1 - i / STEPS) + 0.05;
    consider({
      lengths: best.lengths.map((length) => Math.exp(clamp(Math.log(length) + width * normal(random), LOG_LENGTH))),
      signal: best.signal * Math.exp(0.5 * width * normal(random)), noise: Math.exp(clamp(Math.log(best.noise) + 2 * width * normal(random), LOG_NOISE)),
    });
  }
  return best;
}

/** Fits a process to values at points of [0, 1]^d; at least two. `hyper`: these instead of fitted ones. O(n³) per trial of hyper-parameters. */
export function fitGaussianProcess(given: readonly (readonly number[])[], values: readonly number[], random: Random, hyper?: Hyper): GaussianProcess {
  // The caller's list may grow.
  const points = [...given];
  const n = points.length;
  const centre = values.reduce((sum, value) => sum + value, 0) / n;
  const scale = Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / n) || 1;
  const y = Matrix.columnVector(values.map((value) => (value - centre) / scale));
  const fitted = hyper ?? fitHyper(points, y, random);
  const noisy = new CholeskyDecomposition(covariances(points, fitted, fitted.noise + JITTER));
  const alpha = noisy.solve(y);
  const to = (point: readonly number[]): Matrix => Matrix.columnVector(points.map((each) => matern(each, point, fitted)));
  return {
    points, hyper: fitted,
    at(point) {
      const k = to(point);
      const mean = k.transpose().mmul(alpha).get(0, 0);
      const variance = Math.max(1e-12, fitted.signal - k.transpose().mmul(noisy.solve(k)).get(0, 0));
      return { mean: centre + scale * mean, variance: scale * scale * variance };
    },
    leaveOneOut() {
      const inverse = noisy.solve(Matrix.eye(n));
      return points.map((_, i) => ({ mean: (y.get(i, 0) * scale + centre) - (scale * alpha.get(i, 0)) / inverse.get(i, i), variance: (scale * scale) / inverse.get(i, i) }));
    },
    draw(draws, z) {
      const K = covariances(points, fitted, 0);
      const mean = K.mmul(alpha);
      const posterior = Matrix.sub(K, K.mmul(noisy.solve(K)));
      // Symmetric but for rounding, which the decomposition does not forgive.
      const L = new CholeskyDecomposition(Matrix.add(posterior, posterior.transpose()).mul(0.5).add(Matrix.eye(n).mul(10 * JITTER))).lowerTriangularMatrix;
      return Array.from({ length: draws }, (_, draw) => {
        const f = Matrix.add(mean, L.mmul(Matrix.columnVector([...z(draw)])));
        return f.to1DArray().map((value) => centre + scale * value);
      });
    },
    through(valuesOfDraws) {
      const exact = new CholeskyDecomposition(covariances(points, fitted, 100 * JITTER));
      const weights = exact.solve(new Matrix(points.map((_, i) => valuesOfDraws.map((row) => ((row[i] as number) - centre) / scale))));
      return (point) => {
        const k = to(point);
        const variance = Math.max(1e-12, fitted.signal - k.transpose().mmul(exact.solve(k)).get(0, 0));
        return { means: k.transpose().mmul(weights).to1DArray().map((mean) => centre + scale * mean), variance: scale * scale * variance };
      };
    },
  };
}
