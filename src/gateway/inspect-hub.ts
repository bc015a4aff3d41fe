/**
 * One stream from the loop for all who look: pages over HTTP, `metronome top` over gRPC. The loop tells only while somebody reads, and a
 * little longer, so that a page that comes back goes on where it stopped.
 */
import { MetronomeError } from '../core/errors.ts';
import type { TransitionRow } from '../inspect/page-api.ts';
import type { Inspected } from './loop-client.ts';

/** Somebody who reads. Told synchronously; must not throw. */
export interface InspectReader {
  told(message: Inspected): void;
  /** The gateway stops or lost the loop. */
  ended(): void;
}

/** What a reader that comes back missed. */
export interface Replay {
  /** Number of the next transition. */
  readonly next: number;
  readonly records: readonly TransitionRow[];
  /** Transitions that nobody remembers any more. */
  readonly missed: number;
}

export interface InspectHub {
  readonly readers: number;
  /** Adds a reader; call the result to leave. Throws QUEUE_FULL or UNAVAILABLE. */
  join(reader: InspectReader): () => void;
  /** The last moment that was told; undefined before the first. */
  latest(): Inspected | undefined;
  /** What was told since transition number `from`. */
  since(from: number): Replay;
  tell(message: Inspected): void;
  end(): void;
}

/** Moments that are remembered for readers that come back: half a minute. */
const HISTORY = 120;
/** So long the loop goes on telling when the last reader left, ms. */
const LINGER_MS = 10_000;

export function createInspectHub(options: { readonly maxReaders: number; readonly inspect: (wanted: boolean) => void }): InspectHub {
  const readers = new Set<InspectReader>();
  let history: Inspected[] = [];
  let leaving: NodeJS.Timeout | undefined;
  let isTold = false;
  let hasEnded = false;
  return {
    get readers() {
      return readers.size;
    },
    join(reader) {
      if (hasEnded) throw new MetronomeError('UNAVAILABLE', 'The gateway stops.', { component: 'gateway', retryAfterMs: 1_000 });
      if (readers.size >= options.maxReaders) throw new MetronomeError('QUEUE_FULL', `${readers.size} readers look at the inspector already (inspect.clients). Close one, or raise the limit.`, { component: 'gateway', retryAfterMs: 5_000 });
      readers.add(reader);
      clearTimeout(leaving);
      if (!isTold) options.inspect(true);
      isTold = true;
      return () => {
        if (!readers.delete(reader) || readers.size > 0 || hasEnded) return;
        leaving = setTimeout(() => {
          isTold = false;
          history = [];
          options.inspect(false);
        }, LINGER_MS);
        leaving.unref();
      };
    },
    latest: () => history.at(-1),
    since(from) {
      const last = history.at(-1);
      const next = last?.transitions.next ?? 0;
      // Behind the last one: numbers of a former scheduler.
      if (last === undefined || from >= next) return { next, records: [], missed: 0 };
      const records: TransitionRow[] = [];
      let missed = 0, before = from;
      for (const { transitions } of history) {
        if (transitions.next <= from) continue;
        const begin = transitions.next - transitions.records.length - transitions.missed;
        missed += transitions.missed + Math.max(0, begin - before);
        before = transitions.next;
        for (const record of transitions.records) records.push(record);
      }
      return { next, records, missed };
    },
    tell(message) {
      history.push(message);
      if (history.length > HISTORY) history.shift();
      for (const reader of [...readers]) reader.told(message);
    },
    end() {
      if (hasEnded) return;
      hasEnded = true;
      clearTimeout(leaving);
      for (const reader of [...readers]) reader.ended();
      readers.clear();
      history = [];
    },
  };
}
