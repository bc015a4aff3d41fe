/**
 * Differences between two ways of serving the same requests, with confidence intervals. Pairs stay together: a resample draws stretches of
 * consecutive requests, because neighbours in time share their queues, and takes both sides of each, over all seeds.
 */
import { createRandom } from '../core/random.ts';

/** The figures that are compared. SLA misses are a share, 0 to 1; the rest is ms. */
export const METRICS = ['meanMs', 'p50Ms', 'p95Ms', 'p99Ms', 'slaMisses'] as const;
export type Metric = (typeof METRICS)[number];
export type Figures = Readonly<Record<Metric, number>>;

/** A difference, alternative − control, with the bounds of its 95 % interval. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Two ways side by side. */
export interface Comparison {
  /** Requests, and how many did not complete in some seed. */
  readonly requests: number;
  readonly controlFailed: number;
  readonly alternativeFailed: number;
  readonly control: Figures;
  readonly alternative: Figures;
  readonly difference: Readonly<Record<Metric, Interval>>;
}

/** Latencies of the same requests: one array per seed, NaN where it did not complete. */
export interface Sides {
  readonly control: readonly Float64Array[];
  readonly alternative: readonly Float64Array[];
  /** θ of each request, ms; 0: none. */
  readonly slaMs: Float64Array;
  /** Places of the requests that count, in order of time. @default all */
  readonly places?: readonly number[];
}

const RESAMPLES = 400;
/** Requests of one stretch, and stretches at least. */
const STRETCH = 25, LEAST_STRETCHES = 20;

/** Compares. O(requests × seeds × 400). `seed`: of the resampling. */
export function compare(sides: Sides, seed: number): Comparison {
  const places = sides.places ?? Array.from({ length: sides.slaMs.length }, (_, i) => i);
  const stretch = Math.max(1, Math.min(STRETCH, Math.floor(places.length / LEAST_STRETCHES)));
  const stretches = Math.ceil(places.length / stretch);
  const control = tableOf(sides.control, sides.slaMs, places, stretch), alternative = tableOf(sides.alternative, sides.slaMs, places, stretch);
  const weights = new Float64Array(stretches).fill(1);
  const controlFigures = figuresOf(control, weights), alternativeFigures = figuresOf(alternative, weights);
  const differences: Record<Metric, Float64Array> = { meanMs: new Float64Array(RESAMPLES), p50Ms: new Float64Array(RESAMPLES), p95Ms: new Float64Array(RESAMPLES), p99Ms: new Float64Array(RESAMPLES), slaMisses: new Float64Array(RESAMPLES) };
  const random = createRandom(seed, 91);
  for (let r = 0; r < RESAMPLES; r++) {
    weights.fill(0);
    for (let i = 0; i < stretches; i++) {
      const drawn = random.below(stretches);
      weights[drawn] = (weights[drawn] as number) + 1;
    }
    const a = figuresOf(control, weights), b = figuresOf(alternative, weights);
    for (const metric of METRICS) differences[metric][r] = b[metric] - a[metric];
  }
  const intervalOf = (metric: Metric): Interval => {
    const sorted = differences[metric].filter((value) => !Number.isNaN(value)).sort();
    const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
    return { value: alternativeFigures[metric] - controlFigures[metric], low: at(0.025), high: at(0.975) };
  };
  return {
    requests: places.length, controlFailed: control.failed, alternativeFailed: alternative.failed, control: controlFigures, alternative: alternativeFigures,
    difference: { meanMs: intervalOf('meanMs'), p50Ms: intervalOf('p50Ms'), p95Ms: intervalOf('p95Ms'), p99Ms: intervalOf('p99Ms'), slaMisses: intervalOf('slaMisses') },
  };
}

/** The figures of one side, without a comparison. */
export function figuresOfSide(latencies: readonly Float64Array[], slaMs: Float64Array, places?: readonly number[]): Figures {
  const all = places ?? Array.from({ length: slaMs.length }, (_, i) => i);
  return figuresOf(tableOf(latencies, slaMs, all, Math.max(1, all.length)), Float64Array.of(1));
}

interface Table {
  /** Sorted once; a resample only changes weights. */
  readonly sorted: Float64Array;
  readonly stretchOf: Int32Array;
  /** Per stretch: requests, and those that missed their SLA or did not complete. */
  readonly counts: Float64Array;
  readonly misses: Float64Array;
  readonly failed: number;
}

function tableOf(seeds: readonly Float64Array[], slaMs: Float64Array, places: readonly number[], stretch: number): Table {
  const stretches = Math.ceil(places.length / stretch);
  const counts = new Float64Array(stretches), misses = new Float64Array(stretches);
  const found: { ms: number; of: number }[] = [];
  let failed = 0;
  for (const latencies of seeds) {
    places.forEach((place, i) => {
      const ms = latencies[place] as number, of = Math.floor(i / stretch), sla = slaMs[place] as number;
      counts[of] = (counts[of] as number) + 1;
      if (Number.isNaN(ms)) failed++;
      else found.push({ ms, of });
      if (Number.isNaN(ms) || (sla > 0 && ms > sla)) misses[of] = (misses[of] as number) + 1;
    });
  }
  found.sort((a, b) => a.ms - b.ms);
  return { sorted: Float64Array.from(found, ({ ms }) => ms), stretchOf: Int32Array.from(found, ({ of }) => of), counts, misses, failed };
}

function figuresOf({ sorted, stretchOf, counts, misses }: Table, weights: Float64Array): Figures {
  let weight = 0, sum = 0;
  for (let i = 0; i < sorted.length; i++) {
    const w = weights[stretchOf[i] as number] as number;
    weight += w;
    sum += w * (sorted[i] as number);
  }
  let requests = 0, missed = 0;
  for (let s = 0; s < counts.length; s++) {
    requests += (weights[s] as number) * (counts[s] as number);
    missed += (weights[s] as number) * (misses[s] as number);
  }
  const shares = [0.5, 0.95, 0.99];
  const values = [Number.NaN, Number.NaN, Number.NaN];
  let passed = 0, next = 0;
  for (let i = 0; i < sorted.length && next < shares.length; i++) {
    passed += weights[stretchOf[i] as number] as number;
    while (next < shares.length && passed > 0 && passed >= (shares[next] as number) * weight - 1e-9) values[next++] = sorted[i] as number;
  }
  return { meanMs: weight === 0 ? Number.NaN : sum / weight, p50Ms: values[0] as number, p95Ms: values[1] as number, p99Ms: values[2] as number, slaMisses: requests === 0 ? Number.NaN : missed / requests };
}
