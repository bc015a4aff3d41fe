/**
 * What ended since it was last asked, by function and policy, in tables of fixed size: a dozen additions per invocation. The first 64 groups
 * have rows of their own, all others share one.
 */
import type { Invocation } from '../core/invocation.ts';
import { LATENCY_BUCKETS, bucketOf } from './latency-buckets.ts';
import type { EndedGroup } from './page-api.ts';

/** Groups with a row of their own. */
export const MAX_GROUPS = 64;
const COLUMNS = 10;
const COUNT = 0, FAILED = 1, SLA_MISSED = 2, LATENCY = 3, DELAYED = 4, SAVED = 5, WARM = 6, LOCAL = 7, ERROR = 8, LEAST_SLACK = 9;
const WARM_START = 4;

/** What waiting for better nodes took and brought since the start, over all that ended, ms. None of them ever falls. */
export interface DelayTotals {
  waitedMs: number;
  /** Where it ran it took less than was predicted for the best node with room that it passed over: by so much. */
  savedMs: number;
  /** It took more: by so much. */
  lostMs: number;
}

export class Traffic {
  readonly delays: DelayTotals = { waitedMs: 0, savedMs: 0, lostMs: 0 };
  readonly #rows = new Map<string, Map<number, number>>();
  readonly #names: string[] = [];
  readonly #policies: string[] = [];
  readonly #numbers = new Float64Array((MAX_GROUPS + 1) * COLUMNS);
  readonly #buckets = new Uint32Array((MAX_GROUPS + 1) * LATENCY_BUCKETS);

  constructor() {
    this.#clear();
  }

  /** Books one invocation that ended. */
  ended(invocation: Invocation): void {
    const row = this.#rowOf(invocation);
    const to = this.#numbers;
    const at = row * COLUMNS;
    const add = (column: number, value: number): void => {
      to[at + column] = (to[at + column] as number) + value;
    };
    const latencyMs = invocation.endedAtMs - invocation.arrivedAtMs;
    const slackMs = invocation.slaMs - latencyMs;
    add(COUNT, 1);
    add(LATENCY, latencyMs);
    add(DELAYED, invocation.delayedMs);
    this.delays.waitedMs += invocation.delayedMs;
    if (slackMs < 0) add(SLA_MISSED, 1);
    if (slackMs < (to[at + LEAST_SLACK] as number)) to[at + LEAST_SLACK] = slackMs;
    const bucket = row * LATENCY_BUCKETS + bucketOf(latencyMs);
    this.#buckets[bucket] = (this.#buckets[bucket] as number) + 1;
    const { result } = invocation;
    if (invocation.error !== undefined || result === undefined) return add(FAILED, 1);
    if (result.startState === WARM_START) add(WARM, 1);
    if (invocation.localClass === 1) add(LOCAL, 1);
    const measuredMs = result.fetchedMs + result.initialisedMs + result.ranMs;
    if (measuredMs > 0 && invocation.predictedRunMs > 0) add(ERROR, Math.abs(invocation.predictedRunMs - measuredMs) / measuredMs);
    if (invocation.passedOverMs <= 0) return;
    const savedMs = invocation.passedOverMs - measuredMs;
    add(SAVED, savedMs);
    if (savedMs > 0) this.delays.savedMs += savedMs;
    else this.delays.lostMs -= savedMs;
  }

  /** What was booked since the last call, and begins anew. */
  take(): EndedGroup[] {
    const groups: EndedGroup[] = [];
    for (let row = 0; row <= MAX_GROUPS; row++) {
      const n = (column: number): number => this.#numbers[row * COLUMNS + column] as number;
      if (n(COUNT) === 0) continue;
      const buckets = this.#buckets.subarray(row * LATENCY_BUCKETS, (row + 1) * LATENCY_BUCKETS);
      let used = LATENCY_BUCKETS;
      while (used > 0 && buckets[used - 1] === 0) used--;
      groups.push({
        function: this.#names[row] ?? '', policy: this.#policies[row] ?? '', count: n(COUNT), failed: n(FAILED), slaMissed: n(SLA_MISSED), latencyMs: n(LATENCY), delayedMs: n(DELAYED), savedMs: n(SAVED),
        warm: n(WARM), local: n(LOCAL), error: n(ERROR), leastSlackMs: n(LEAST_SLACK), histogram: Array.from(buckets.subarray(0, used)),
      });
    }
    this.#clear();
    return groups;
  }

  #clear(): void {
    this.#rows.clear();
    this.#names.length = this.#policies.length = 0;
    this.#numbers.fill(0);
    this.#buckets.fill(0);
    for (let row = 0; row <= MAX_GROUPS; row++) this.#numbers[row * COLUMNS + LEAST_SLACK] = Infinity;
  }

  #rowOf({ functionIndex, functionName, decidedBy }: Invocation): number {
    let rows = this.#rows.get(decidedBy);
    if (rows === undefined) this.#rows.set(decidedBy, (rows = new Map()));
    const known = rows.get(functionIndex);
    if (known !== undefined) return known;
    const row = this.#names.length;
    if (row >= MAX_GROUPS) return MAX_GROUPS;
    rows.set(functionIndex, row);
    this.#names.push(functionName);
    this.#policies.push(decidedBy);
    return row;
  }
}

/** Two groups of the same function and policy as one: for a reader who missed the first. */
export function mergeGroups(a: EndedGroup, b: EndedGroup): EndedGroup {
  const histogram = Array.from({ length: Math.max(a.histogram.length, b.histogram.length) }, (_, bucket) => (a.histogram[bucket] ?? 0) + (b.histogram[bucket] ?? 0));
  return {
    function: b.function, policy: b.policy, count: a.count + b.count, failed: a.failed + b.failed, slaMissed: a.slaMissed + b.slaMissed, latencyMs: a.latencyMs + b.latencyMs, delayedMs: a.delayedMs + b.delayedMs,
    savedMs: a.savedMs + b.savedMs, warm: a.warm + b.warm, local: a.local + b.local, error: a.error + b.error, leastSlackMs: Math.min(a.leastSlackMs, b.leastSlackMs), histogram,
  };
}

/** All groups of two ticks; those that do not fit are summed under the function name "". */
export function mergeEnded(earlier: readonly EndedGroup[], later: readonly EndedGroup[]): EndedGroup[] {
  const merged = new Map<string, EndedGroup>();
  for (const group of [...earlier, ...later]) {
    const own = `${group.function}\n${group.policy}`;
    const isKnown = merged.has(own) || merged.size < MAX_GROUPS;
    const key = isKnown ? own : '\n';
    const before = merged.get(key);
    const named = isKnown ? group : { ...group, function: '', policy: '' };
    merged.set(key, before === undefined ? named : mergeGroups(before, named));
  }
  return [...merged.values()];
}
