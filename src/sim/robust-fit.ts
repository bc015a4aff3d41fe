/** Fits that a few strange values do not spoil: medians, and lines by iteratively reweighted least squares with Huber's weights on relative errors. */

/** A quantile of values in any order; NaN of none. Interpolates. */
export function quantileOf(values: readonly number[], share: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] as number, high = sorted[Math.ceil(at)] as number;
  return low + (high - low) * (at - Math.floor(at));
}

/** The median; NaN of none. */
export function medianOf(values: readonly number[]): number {
  return quantileOf(values, 0.5);
}

/** Mean and standard deviation after values beyond the quantiles `cut` and 1 − cut were moved to them. */
export function winsorised(values: readonly number[], cut: number): { readonly mean: number; readonly deviation: number } {
  const low = quantileOf(values, cut), high = quantileOf(values, 1 - cut);
  const cutOff = values.map((value) => Math.min(high, Math.max(low, value)));
  const mean = cutOff.reduce((sum, value) => sum + value, 0) / cutOff.length;
  return { mean, deviation: Math.sqrt(cutOff.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, cutOff.length - 1)) };
}

/** y = base + slope · x with neither below 0. */
export interface Line {
  readonly base: number;
  readonly slope: number;
}

const ROUNDS = 50;
/** Huber's constant, in robust standard deviations. */
const HUBER = 1.345;
const TO_DEVIATION = 1.4826;
const LEAST = 1e-6;

/** The line through points with positive y. Relative errors count, so that small and large inputs have the same say. */
export function fitLine(xs: readonly number[], ys: readonly number[]): Line {
  let line: Line = { base: medianOf(ys), slope: 0 };
  const fitted = (x: number): number => Math.max(LEAST, line.base + line.slope * x);
  for (let round = 0; round < ROUNDS; round++) {
    const errors = xs.map((x, i) => ((ys[i] as number) - fitted(x)) / fitted(x));
    const scale = Math.max(LEAST, TO_DEVIATION * medianOf(errors.map(Math.abs))) * HUBER;
    const weights = xs.map((x, i) => Math.min(1, scale / Math.max(LEAST, Math.abs(errors[i] as number))) / fitted(x) ** 2);
    const before = line;
    line = weighted(xs, ys, weights);
    if (Math.abs(line.base - before.base) + Math.abs(line.slope - before.slope) < 1e-9 * (1 + Math.abs(line.base))) break;
  }
  return line;
}

/** Weighted least squares; where one of both would be negative it is 0 and the other one fits alone. */
function weighted(xs: readonly number[], ys: readonly number[], weights: readonly number[]): Line {
  let w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
  xs.forEach((x, i) => {
    const weight = weights[i] as number, y = ys[i] as number;
    w += weight;
    wx += weight * x;
    wy += weight * y;
    wxx += weight * x * x;
    wxy += weight * x * y;
  });
  const determinant = w * wxx - wx * wx;
  const slope = determinant <= LEAST * w * wxx ? 0 : (w * wxy - wx * wy) / determinant;
  const base = (wy - slope * wx) / w;
  if (slope < 0 || determinant <= LEAST * w * wxx) return { base: wy / w, slope: 0 };
  if (base < 0) return { base: 0, slope: wxx === 0 ? 0 : wxy / wxx };
  return { base, slope };
}
