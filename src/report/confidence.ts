/** Confidence of a mean over independent replicas: Student's t. */

/** A mean with the bounds of its 95 % confidence interval; of one value the bounds are NaN. */
export interface Confidence {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; beyond, by the expansion of Cornish and Fisher. */
const T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
const Z = 1.959964;

/** Of the values of the replicas. */
export function confidenceOf(values: readonly number[]): Confidence {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const freedom = values.length - 1;
  if (freedom < 1) return { mean, low: Number.NaN, high: Number.NaN };
  const error = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / freedom / values.length);
  const t = T[freedom - 1] ?? Z + (Z ** 3 + Z) / (4 * freedom) + (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / (96 * freedom ** 2);
  return { mean, low: mean - t * error, high: mean + t * error };
}
