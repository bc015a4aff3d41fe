/** Percentiles and distributions from the stream's histograms: bucket i holds [2^(i/4), 2^((i+1)/4)) ms, the first one also what is shorter. */

export const BUCKETS = 96;

/** Upper edge of a bucket, ms. */
export function edgeMs(bucket: number): number {
  return 2 ** ((bucket + 1) / 4);
}

/** The latency below which `share` of them lie, interpolated within its bucket; NaN when there are none. */
export function percentileMs(histogram: ArrayLike<number>, share: number): number {
  let all = 0;
  for (let i = 0; i < histogram.length; i++) all += histogram[i] ?? 0;
  if (all === 0) return Number.NaN;
  const wanted = share * all;
  let below = 0;
  for (let i = 0; i < histogram.length; i++) {
    const here = histogram[i] ?? 0;
    if (here > 0 && below + here >= wanted) {
      const part = (wanted - below) / here;
      return i === 0 ? part * edgeMs(0) : edgeMs(i - 1) * 2 ** (part / 4);
    }
    below += here;
  }
  return edgeMs(histogram.length - 1);
}

/** Points of the cumulative distribution, from the first bucket that has something to the last. */
export function distribution(histogram: ArrayLike<number>): { readonly ms: number; readonly share: number }[] {
  let all = 0;
  for (let i = 0; i < histogram.length; i++) all += histogram[i] ?? 0;
  const points: { ms: number; share: number }[] = [];
  let below = 0;
  for (let i = 0; i < histogram.length && below < all; i++) {
    const here = histogram[i] ?? 0;
    if (below === 0 && here > 0) points.push({ ms: i === 0 ? 0.5 : edgeMs(i - 1), share: 0 });
    below += here;
    if (below > 0) points.push({ ms: edgeMs(i), share: below / all });
  }
  return points;
}
