/** The last five minutes, second by second, for the charts over time. A ring of columns of fixed size. */
import type { Tick } from '../../src/inspect/page-api.ts';
import { BUCKETS, percentileMs } from './latencies.ts';

const KEPT_S = 300;

const COLUMNS = ['atS', 'submitted', 'ended', 'failed', 'slaMissed', 'p50', 'p95', 'p99', 'live', 'forLocality', 'forCapacity', 'delayedMs', 'savedMs', 'local', 'warm', 'error', 'agreed', 'activeMs', 'shadowMs'] as const;

export type Column = (typeof COLUMNS)[number];

class Seconds {
  readonly #columns = Object.fromEntries(COLUMNS.map((name) => [name, [] as (number | null)[]])) as unknown as Record<Column, (number | null)[]>; // every column is there
  #second = 0;
  #histogram = new Float64Array(BUCKETS);
  #sums = { ended: 0, failed: 0, slaMissed: 0, delayedMs: 0, savedMs: 0, local: 0, warm: 0, error: 0, decisions: 0, agreed: 0, activeMs: 0, shadowMs: 0 };
  #submittedAtStart: number | undefined;
  #last: Tick | undefined;
  /** Grows with every second that is complete. */
  version = 0;

  add(tick: Tick): void {
    const second = Math.floor(tick.atMs / 1_000);
    if (this.#second !== 0 && second > this.#second) this.#close();
    if (second > this.#second) this.#second = second;
    const sums = this.#sums;
    for (const group of tick.ended) {
      sums.ended += group.count;
      sums.failed += group.failed;
      sums.slaMissed += group.slaMissed;
      sums.delayedMs += group.delayedMs;
      sums.savedMs += group.savedMs;
      sums.local += group.local;
      sums.warm += group.warm;
      sums.error += group.error;
      group.histogram.forEach((value, i) => {
        if (i < BUCKETS) this.#histogram[i] = (this.#histogram[i] ?? 0) + value;
      });
    }
    if (tick.shadow !== undefined) {
      sums.decisions += tick.shadow.decisions;
      sums.agreed += tick.shadow.agreed;
      sums.activeMs += tick.shadow.activeMs;
      sums.shadowMs += tick.shadow.shadowMs;
    }
    this.#submittedAtStart ??= tick.counters['submitted'] ?? 0;
    this.#last = tick;
  }

  /** A column, oldest first; null where there is nothing to say. */
  column(name: Column): (number | null)[] {
    return this.#columns[name];
  }

  /** The newest value of a column. */
  latest(name: Column): number | null {
    return this.#columns[name].at(-1) ?? null;
  }

  clear(): void {
    for (const name of COLUMNS) this.#columns[name].length = 0;
    this.#second = 0;
    this.#submittedAtStart = undefined;
    this.#last = undefined;
    this.#startSecond();
    this.version++;
  }

  /** Ends the second that runs. */
  #close(): void {
    const sums = this.#sums;
    const last = this.#last;
    const submitted = last?.counters['submitted'] ?? 0;
    const per = (sum: number, of: number): number | null => (of > 0 ? sum / of : null);
    const percentile = (share: number): number | null => (sums.ended > 0 ? percentileMs(this.#histogram, share) : null);
    const row: Record<Column, number | null> = {
      atS: this.#second, submitted: Math.max(0, submitted - (this.#submittedAtStart ?? submitted)), ended: sums.ended, failed: sums.failed, slaMissed: sums.slaMissed,
      p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99), live: last?.live ?? 0, forLocality: last?.delayingForLocality ?? 0, forCapacity: last?.delayingForCapacity ?? 0,
      delayedMs: sums.delayedMs, savedMs: sums.savedMs, local: per(sums.local * 100, sums.ended), warm: per(sums.warm * 100, sums.ended), error: per(sums.error * 100, sums.ended),
      agreed: per(sums.agreed * 100, sums.decisions), activeMs: per(sums.activeMs, sums.decisions), shadowMs: per(sums.shadowMs, sums.decisions),
    };
    for (const name of COLUMNS) {
      const column = this.#columns[name];
      column.push(row[name]);
      if (column.length > KEPT_S) column.shift();
    }
    this.#submittedAtStart = submitted;
    this.#startSecond();
    this.version++;
  }

  #startSecond(): void {
    this.#histogram.fill(0);
    const sums: Record<string, number> = this.#sums;
    for (const name of Object.keys(sums)) sums[name] = 0;
  }
}

export const seconds = new Seconds();
