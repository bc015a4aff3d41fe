/** The buckets of all latency histograms of the inspector: factor 2^¼, so that a percentile read from them is off by at most 9 %. */

/** Buckets; the last one also holds what is longer (2^24 ms, 4.7 hours). */
export const LATENCY_BUCKETS = 96;

/** The bucket of a latency: i holds [2^(i/4), 2^((i+1)/4)) ms, the first one also what is shorter. */
export function bucketOf(ms: number): number {
  if (!(ms > 1)) return 0;
  return Math.min(LATENCY_BUCKETS - 1, Math.floor(4 * Math.log2(ms)));
}

/** The latency below which `share` of a histogram's values lie, ms, taken in the middle of its bucket (geometrically); 0 when it is empty. */
export function quantileOf(histogram: readonly number[], share: number): number {
  const all = histogram.reduce((sum, count) => sum + count, 0);
  let before = 0;
  for (let bucket = 0; bucket < histogram.length; bucket++) {
    before += histogram[bucket] ?? 0;
    if (before > 0 && before >= share * all) return 2 ** ((bucket + 0.5) / 4);
  }
  return 0;
}
