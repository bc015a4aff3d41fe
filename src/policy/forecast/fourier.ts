/** IceBreaker's forecast (ASPLOS 2022): the trend of the last values as a line, the rest as its lowest harmonics, extrapolated one step. */

/** Values that it looks at; fewer are enough from MIN_VALUES on. */
export const WINDOW = 60;
export const MIN_VALUES = 4;
/** Harmonics kept beside the constant part: the lowest. */
const HARMONICS = 10;

/** The next value of a series, not negative. O(values × harmonics). */
export function forecastFourier(values: readonly number[]): number {
  const n = values.length;
  if (n === 0) return 0;
  if (n < MIN_VALUES) return values[n - 1] as number;
  // Least squares line.
  const middle = (n - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  let sxy = 0, sxx = 0;
  for (let i = 0; i < n; i++) {
    sxy += (i - middle) * ((values[i] as number) - mean);
    sxx += (i - middle) ** 2;
  }
  const slope = sxy / sxx;
  const line = (i: number): number => mean + slope * (i - middle);
  // Below half the sampling rate only: for short series there are fewer harmonics.
  const harmonics = Math.min(HARMONICS, Math.floor((n - 1) / 2));
  let next = line(n);
  for (let k = 1; k <= harmonics; k++) {
    // At i = n every harmonic has the phase of i = 0 again (the window is taken as one period), so its sine part vanishes.
    let re = 0;
    for (let i = 0; i < n; i++) re += ((values[i] as number) - line(i)) * Math.cos((2 * Math.PI * k * i) / n);
    next += (2 / n) * re;
  }
  return Math.max(0, next);
}
