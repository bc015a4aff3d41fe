/** What ended, by function and policy: since the numbers began, and over the last minute. Fixed size: 65 groups, 61 marks each. */
import type { EndedGroup, Tick } from '../../src/inspect/page-api.ts';
import { BUCKETS } from './latencies.ts';

const MAX_GROUPS = 65;
/** Seconds of the window. */
export const WINDOW_S = 60;

const FIELDS = ['count', 'failed', 'slaMissed', 'latencyMs', 'delayedMs', 'savedMs', 'warm', 'local', 'error'] as const satisfies readonly (keyof EndedGroup)[];

export type Sums = Readonly<Record<(typeof FIELDS)[number], number>>;

/** Sums with their histogram. */
export interface GroupTotals {
  readonly function: string;
  readonly policy: string;
  readonly sums: Sums;
  readonly histogram: Float64Array;
  /** Smallest slack since the numbers began, ms. */
  readonly leastSlackMs: number;
}

interface Group {
  readonly function: string;
  readonly policy: string;
  /** Fields, then the histogram. */
  readonly totals: Float64Array;
  /** The totals as they were at the end of each of the last seconds. */
  readonly marks: Float64Array[];
  leastSlackMs: number;
}

class TrafficGroups {
  readonly #groups = new Map<string, Group>();
  #second = 0;

  add({ atMs, ended }: Tick): void {
    const second = Math.floor(atMs / 1_000);
    if (this.#second === 0) this.#second = second;
    // A gap (the machine slept) marks at most the whole window.
    for (let turns = Math.min(second - this.#second, WINDOW_S); turns > 0; turns--) {
      for (const { totals, marks } of this.#groups.values()) {
        marks.push(totals.slice());
        if (marks.length > WINDOW_S) marks.shift();
      }
    }
    if (second > this.#second) this.#second = second;
    for (const each of ended) this.#book(each);
  }

  /** All groups, the busiest first. `lately`: over the last minute instead of since the numbers began. */
  all(lately: boolean): GroupTotals[] {
    const made = [...this.#groups.values()].map((group) => read(group, lately));
    return made.filter(({ sums }) => sums.count > 0).sort((a, b) => b.sums.count - a.sums.count);
  }

  clear(): void {
    this.#groups.clear();
    this.#second = 0;
  }

  #book(ended: EndedGroup): void {
    const key = `${ended.function}\n${ended.policy}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      const isOne = this.#groups.size < MAX_GROUPS - 1;
      const rest = isOne ? key : '\n';
      group = this.#groups.get(rest) ?? { function: isOne ? ended.function : '', policy: isOne ? ended.policy : '', totals: new Float64Array(FIELDS.length + BUCKETS), marks: [], leastSlackMs: Infinity };
      this.#groups.set(rest, group);
    }
    const { totals } = group;
    FIELDS.forEach((field, i) => {
      totals[i] = (totals[i] ?? 0) + ended[field];
    });
    ended.histogram.forEach((value, i) => {
      if (i < BUCKETS) totals[FIELDS.length + i] = (totals[FIELDS.length + i] ?? 0) + value;
    });
    group.leastSlackMs = Math.min(group.leastSlackMs, ended.leastSlackMs);
  }
}

function read(group: Group, lately: boolean): GroupTotals {
  const mark = lately && group.marks.length >= WINDOW_S ? group.marks[0] : undefined;
  const now = mark === undefined ? group.totals : group.totals.map((value, i) => value - (mark[i] ?? 0));
  return {
    function: group.function, policy: group.policy, leastSlackMs: group.leastSlackMs, histogram: now.slice(FIELDS.length),
    sums: Object.fromEntries(FIELDS.map((field, i) => [field, now[i] ?? 0])) as Sums, // every field is there
  };
}

/** Several groups as one. */
export function together(groups: readonly GroupTotals[]): GroupTotals {
  const histogram = new Float64Array(BUCKETS);
  const sums = Object.fromEntries(FIELDS.map((field) => [field, 0])) as Record<(typeof FIELDS)[number], number>; // every field is there
  let leastSlackMs = Infinity;
  for (const group of groups) {
    for (const field of FIELDS) sums[field] += group.sums[field];
    group.histogram.forEach((value, i) => {
      histogram[i] = (histogram[i] ?? 0) + value;
    });
    leastSlackMs = Math.min(leastSlackMs, group.leastSlackMs);
  }
  return { function: '', policy: '', sums, histogram, leastSlackMs };
}

export const traffic = new TrafficGroups();
