/** The latest transitions, the newest first when read: a ring of fixed size, with what was left out counted. */
import type { TransitionRow, TransitionsEvent } from '../../src/inspect/page-api.ts';

/** Transitions that the page keeps. */
export const FEED_SIZE = 2_000;

class Feed {
  readonly #rows: (TransitionRow | undefined)[] = Array.from({ length: FEED_SIZE });
  readonly #listeners = new Set<(rows: readonly TransitionRow[]) => void>();
  /** Seen since the page was opened. */
  seen = 0;
  /** Not sent by the daemon: overwritten before they were read, or beyond its bound. */
  missed = 0;

  add({ records, missed }: TransitionsEvent): void {
    for (const record of records) this.#rows[this.seen++ % FEED_SIZE] = record;
    this.missed += missed;
    for (const listener of this.#listeners) listener(records);
  }

  get length(): number {
    return Math.min(this.seen, FEED_SIZE);
  }

  /** The i-th newest. */
  at(i: number): TransitionRow | undefined {
    return i < this.length ? this.#rows[(this.seen - 1 - i) % FEED_SIZE] : undefined;
  }

  clear(): void {
    this.#rows.fill(undefined);
    this.seen = 0;
    this.missed = 0;
  }

  /** Told of every batch as it comes; returns how to stop. */
  listen(listener: (rows: readonly TransitionRow[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export const feed = new Feed();
