/** Percentiles of a burst, by nearest rank: every figure is one that was measured. */

/** The figures of one measure, all in its unit. */
export interface Summary {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly mean: number;
}

/** Summary of the values; zeros without any. */
export function summarise(values: readonly number[]): Summary {
  const sorted = Float64Array.from(values).sort();
  const at = (p: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))] ?? 0;
  const sum = sorted.reduce((total, value) => total + value, 0);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1), mean: sorted.length === 0 ? 0 : sum / sorted.length };
}
