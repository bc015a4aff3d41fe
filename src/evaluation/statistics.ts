/** Statistics of executions: quantiles by linear interpolation, confidence intervals by the bootstrap (seeded, percentile method), and paired reductions. */
import { createRandom } from '../core/random.ts';
import type { ExecutionRecord } from './execution-record.ts';

/** A value with its 95 % confidence interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Resamples of a bootstrap. */
export const RESAMPLES = 1_000;
const LOW = 0.025, HIGH = 0.975;

/** The value below which `share` of the values lie, interpolated between neighbours; NaN without values. `sorted` ascending. */
export function quantileOf(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = share * (sorted.length - 1), below = Math.floor(place);
  const low = sorted[below] as number, high = sorted[Math.min(sorted.length - 1, below + 1)] as number; // within bounds
  return low + (high - low) * (place - below);
}

/** Arithmetic mean; NaN without values. */
export function meanOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] as number;
  return sum / values.length;
}

/** A statistic of values in ascending order. */
export type Statistic = (sorted: ArrayLike<number>) => number;

/** The statistics that tables show, by their names there. */
export const STATISTICS = {
  mean: meanOf,
  median: (sorted) => quantileOf(sorted, 0.5),
  P90: (sorted) => quantileOf(sorted, 0.9),
  P95: (sorted) => quantileOf(sorted, 0.95),
  P99: (sorted) => quantileOf(sorted, 0.99),
} as const satisfies Record<string, Statistic>;

/** Name of a statistic. */
export type StatisticName = keyof typeof STATISTICS;

/** Estimates of several statistics at once from the same resamples. */
export function estimate<Name extends string>(values: readonly number[], statistics: Readonly<Record<Name, Statistic>>, seed = 1, resamples = RESAMPLES): Record<Name, Estimate> {
  const names = Object.keys(statistics) as Name[]; // its own keys
  const sorted = Float64Array.from(values).sort();
  const places = drawnPlaces(seed, VALUES, sorted.length, resamples);
  const draws = new Map(names.map((name) => [name, new Float64Array(resamples)]));
  const sample = new Float64Array(sorted.length), drawn = new Uint32Array(sorted.length);
  for (let r = 0; r < resamples && sorted.length > 0; r++) {
    for (let i = r * sorted.length; i < (r + 1) * sorted.length; i++) drawn[places[i] as number]!++; // within bounds
    fillSorted(sorted, drawn, sample);
    for (const name of names) (draws.get(name) as Float64Array)[r] = statistics[name](sample); // made for every name
  }
  return Object.fromEntries(names.map((name) => [name, { value: statistics[name](sorted), ...interval(draws.get(name) as Float64Array, sorted.length) }])) as Record<Name, Estimate>; // as above
}

/** Streams of random numbers. */
const VALUES = 42, PAIRS = 43;
/** The last draws; a report asks for the same ones hundreds of times. */
const kept = new Map<string, Uint32Array>();
const MOST_KEPT = 8, MOST_KEPT_DRAWS = 4_000_000;

/** Which of `n` values each resample takes, one resample after the other. */
function drawnPlaces(seed: number, stream: number, n: number, resamples: number): Uint32Array {
  const key = `${seed} ${stream} ${n} ${resamples}`;
  let places = kept.get(key);
  if (places === undefined) {
    const random = createRandom(seed, stream);
    places = new Uint32Array(n * resamples);
    for (let i = 0; i < places.length; i++) places[i] = random.below(n);
    if (kept.size >= MOST_KEPT) kept.clear();
    if (places.length <= MOST_KEPT_DRAWS) kept.set(key, places);
  }
  return places;
}

/** Each of the ascending `values` as often as it was drawn, ascending: without sorting. Clears `drawn`. */
function fillSorted(values: Float64Array, drawn: Uint32Array, into: Float64Array): void {
  let at = 0;
  for (let i = 0; i < values.length; i++) {
    for (let n = drawn[i] as number; n > 0; n--) into[at++] = values[i] as number; // within bounds
    drawn[i] = 0;
  }
}

/** Ascending values, and by place among the given ones the place in that order. */
function ranked(values: readonly number[]): { readonly sorted: Float64Array; readonly rank: Uint32Array } {
  const order = values.map((_, i) => i).sort((a, b) => (values[a] as number) - (values[b] as number)); // their indexes
  const rank = new Uint32Array(values.length);
  order.forEach((at, place) => void (rank[at] = place));
  return { sorted: Float64Array.from(order, (at) => values[at] as number), rank }; // as above
}

function interval(draws: Float64Array, n: number): { low: number; high: number } {
  if (n === 0) return { low: Number.NaN, high: Number.NaN };
  draws.sort();
  return { low: quantileOf(draws, LOW), high: quantileOf(draws, HIGH) };
}

/**
 * By how much a statistic of `ours` lies below that of `theirs`, as a share of theirs (0.5: half). Both are executions of the same plan: element i of the one and of
 * the other are the same function on the same input, and are drawn together, so that what the input makes of the time does not widen the interval.
 */
export function reduction(ours: readonly number[], theirs: readonly number[], statistic: Statistic, seed = 1, resamples = RESAMPLES): Estimate {
  if (ours.length !== theirs.length) throw new RangeError(`Pairs need as many values on both sides, not ${ours.length} and ${theirs.length}.`);
  const of = (a: Float64Array, b: Float64Array): number => 1 - statistic(a) / statistic(b);
  const own = ranked(ours), others = ranked(theirs);
  const value = of(own.sorted, others.sorted);
  const places = drawnPlaces(seed, PAIRS, ours.length, resamples);
  const draws = new Float64Array(resamples), a = new Float64Array(ours.length), b = new Float64Array(ours.length);
  const drawnA = new Uint32Array(ours.length), drawnB = new Uint32Array(ours.length);
  for (let r = 0; r < resamples && ours.length > 0; r++) {
    for (let i = r * ours.length; i < (r + 1) * ours.length; i++) {
      const at = places[i] as number;
      drawnA[own.rank[at] as number]!++; // both are within bounds
      drawnB[others.rank[at] as number]!++;
    }
    fillSorted(own.sorted, drawnA, a);
    fillSorted(others.sorted, drawnB, b);
    draws[r] = of(a, b);
  }
  return { value, ...interval(draws, ours.length) };
}

/** The executions of one application under one variant with so many clients, all seeds together. */
export interface Group {
  readonly application: string;
  readonly variant: string;
  readonly concurrency: number;
  readonly records: readonly ExecutionRecord[];
}

/** Groups in the order in which they first appear. */
export function groupRecords(records: readonly ExecutionRecord[]): Group[] {
  const groups = new Map<string, { application: string; variant: string; concurrency: number; records: ExecutionRecord[] }>();
  for (const record of records) {
    const { application, variant, concurrency } = record;
    const key = `${application}\0${variant}\0${concurrency}`;
    let group = groups.get(key);
    if (group === undefined) groups.set(key, (group = { application, variant, concurrency, records: [] }));
    group.records.push(record);
  }
  return [...groups.values()];
}

/** A row of the main table. */
export interface Summary {
  readonly application: string;
  readonly variant: string;
  readonly concurrency: number;
  /** Executions that succeeded; only those have times. */
  readonly n: number;
  readonly failed: number;
  readonly times: Readonly<Record<StatisticName, Estimate>>;
  /** Executions over their latency target, failed ones included, as a share. */
  readonly slaMisses: Estimate;
  /** Of these: those that would have met it without the time they waited for a better node (their own steps, one after the other at the least). */
  readonly missesByDelay: number;
  /** Means per execution, ms, over all of its steps. */
  readonly phases: { readonly queued: number; readonly delayed: number; readonly fetch: number; readonly init: number; readonly run: number };
  /** Shares of the steps. */
  readonly warm: number;
  readonly local: number;
}

/** Sums a group up. */
export function summarize({ application, variant, concurrency, records }: Group): Summary {
  const good = records.filter(({ ok }) => ok);
  const missed = records.map((record) => (isMissed(record) ? 1 : 0));
  const steps = good.flatMap((record) => record.steps);
  const perExecution = (of: (step: (typeof steps)[number]) => number): number => steps.reduce((sum, step) => sum + of(step), 0) / Math.max(1, good.length);
  const share = (is: (step: (typeof steps)[number]) => boolean): number => steps.filter(is).length / Math.max(1, steps.length);
  return {
    application, variant, concurrency, n: good.length, failed: records.length - good.length,
    times: estimate(good.map(({ latencyMs }) => latencyMs), STATISTICS),
    slaMisses: estimate(missed, { share: meanOf }).share,
    missesByDelay: records.filter((record) => isMissed(record) && record.ok && record.latencyMs - longestDelayMs(record) <= record.slaMs && longestDelayMs(record) > 0).length,
    phases: { queued: perExecution((step) => step.queuedMs), delayed: perExecution((step) => step.delayedMs), fetch: perExecution((step) => step.fetchMs), init: perExecution((step) => step.initMs), run: perExecution((step) => step.runMs) },
    warm: share(({ startState }) => startState === 'warm'),
    local: share(({ local }) => local),
  };
}

/** Over its target, or failed. Without a target only a failure is a miss. */
export function isMissed({ ok, latencyMs, slaMs }: ExecutionRecord): boolean {
  return !ok || (slaMs > 0 && latencyMs > slaMs);
}

/** What waiting for better nodes may have cost: the longest delay of each function, added up, for the calls of one step wait at the same time. */
export function longestDelayMs({ steps }: ExecutionRecord): number {
  const longest = new Map<string, number>();
  for (const { function: name, delayedMs } of steps) longest.set(name, Math.max(longest.get(name) ?? 0, delayedMs));
  return [...longest.values()].reduce((sum, value) => sum + value, 0);
}

/** Latencies of two variants, execution by execution of the same plan; those that failed on either side are left out. */
export function pairLatencies(ours: readonly ExecutionRecord[], theirs: readonly ExecutionRecord[]): { readonly ours: number[]; readonly theirs: number[] } {
  const keyOf = ({ application, concurrency, seed, index }: ExecutionRecord): string => `${application}/${concurrency}/${seed}/${index}`;
  const others = new Map(theirs.filter(({ ok }) => ok).map((record) => [keyOf(record), record.latencyMs]));
  const pairs = ours.filter(({ ok }) => ok).flatMap((record) => {
    const other = others.get(keyOf(record));
    return other === undefined ? [] : [[record.latencyMs, other] as const];
  });
  return { ours: pairs.map(([own]) => own), theirs: pairs.map(([, other]) => other) };
}
