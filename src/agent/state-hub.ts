/**
 * The agent's end of the WatchState streams: a snapshot, then deltas at every interval and at once when a slot, warmth or data
 * changes. Metrics go along when they changed enough; a message without anything is a sign of life. A reader that is slow gets fewer and larger deltas, never a queue; one that is hopelessly slow is cut off.
 */
import type { ServerWritableStream } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import type { NodeMetrics, StoredPackage, WarmState, WatchStateRequest, WatchStateResponse, ZygoteState } from '../rpc/gen/metronome/v1/agent.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import { toStatus } from '../rpc/status.ts';
import { isWorthTelling } from './metrics/significance.ts';

/** Where the truth is. */
export interface StateSource {
  readonly epoch: number;
  readonly slots: number;
  /** Invocations that run or whose results were not acknowledged. */
  running(): string[];
  warm(): WarmState[];
  warmOf(functionName: string): WarmState;
  zygotes(): ZygoteState[];
  packageSets(): string[];
  packages(): StoredPackage[];
  objects(): ObjectRef[];
  /** Metrics with counts of now; `resample`: read the machine's anew. */
  metrics(resample: boolean): NodeMetrics;
}

/** Options of the hub. */
export interface StateHubOptions {
  readonly source: StateSource;
  readonly intervalMs: number;
  /** A reader came (true) or the last one went (false). */
  readonly onReaders: (any: boolean) => void;
}

type Stream = ServerWritableStream<WatchStateRequest, WatchStateResponse>;

/**
 * Immediate pushes come at most this often, ms: the first at once, what follows within the gap in one message. A release and the
 * warmth it leaves do not wait for it: the Result on the dispatch stream tells them.
 */
const URGENT_GAP_MS = 10;
const LEAST_INTERVAL_MS = 10;
const MOST_INTERVAL_MS = 10_000;
/** Changes a blocked reader may fall behind. */
const MAX_BEHIND = 200_000;

interface Reader {
  readonly stream: Stream;
  readonly timer: NodeJS.Timeout;
  sequence: number;
  isBlocked: boolean;
  /** The next message should carry fresh metrics of the machine, if they are worth it. */
  metricsDue: boolean;
  /** The metrics that were sent last. */
  told: NodeMetrics;
  readonly warm: Set<string>;
  /** The last state of each kind that changed. */
  readonly zygotes: Map<string, ZygoteState>;
  readonly packageSetsAdded: Set<string>;
  readonly packageSetsRemoved: Set<string>;
  readonly packagesAdded: Map<string, StoredPackage>;
  readonly packagesRemoved: Set<string>;
  readonly objectsAdded: Map<string, ObjectRef>;
  readonly objectsRemoved: Set<string>;
  hasNews: boolean;
}

export class StateHub {
  readonly #options: StateHubOptions;
  readonly #readers = new Set<Reader>();
  #defaultIntervalMs: number;
  #urgent = false;
  #lastUrgentAt = 0;
  #urgentTimer: NodeJS.Timeout | undefined;

  constructor(options: StateHubOptions) {
    this.#options = options;
    this.#defaultIntervalMs = options.intervalMs;
  }

  get hasReaders(): boolean {
    return this.#readers.size > 0;
  }

  /** For readers that name no interval, ms. */
  setInterval(intervalMs: number): void {
    if (intervalMs > 0) this.#defaultIntervalMs = intervalMs;
  }

  /** A reader came. */
  attach(stream: Stream): void {
    const intervalMs = Math.min(MOST_INTERVAL_MS, Math.max(LEAST_INTERVAL_MS, stream.request.intervalMs || this.#defaultIntervalMs));
    const { source } = this.#options;
    const reader: Reader = {
      stream,
      timer: setInterval(() => {
        reader.metricsDue = true;
        this.#push(reader);
      }, intervalMs),
      sequence: 0,
      isBlocked: false,
      metricsDue: false,
      told: source.metrics(true),
      warm: new Set(),
      zygotes: new Map(),
      packageSetsAdded: new Set(),
      packageSetsRemoved: new Set(),
      packagesAdded: new Map(),
      packagesRemoved: new Set(),
      objectsAdded: new Map(),
      objectsRemoved: new Set(),
      hasNews: false,
    };
    const left = (): void => this.#remove(reader);
    stream.on('cancelled', left);
    stream.on('close', left);
    stream.on('error', left);
    stream.on('drain', () => {
      reader.isBlocked = false;
      if (reader.hasNews || reader.metricsDue) this.#push(reader);
    });
    this.#readers.add(reader);
    this.#write(reader, {
      ...this.#frame(reader),
      metrics: reader.told,
      snapshot: true,
      warm: source.warm(),
      zygotes: source.zygotes(),
      packageSetsAdded: source.packageSets(),
      packagesAdded: source.packages(),
      objectsAdded: source.objects(),
      running: source.running(),
    });
    this.#options.onReaders(true);
  }

  /** Counts of a function changed. */
  warmChanged(functionName: string, isUrgent: boolean): void {
    this.#note((reader) => reader.warm.add(functionName), isUrgent);
  }

  /** A slot became free or was taken: only counts changed. */
  slotsChanged(isUrgent: boolean): void {
    this.#note(() => {}, isUrgent);
  }

  /** Zygotes of a kind came or went. */
  zygotesChanged(kind: string, state: ZygoteState): void {
    this.#note((reader) => reader.zygotes.set(kind, state), true);
  }

  packageSetAdded(packageSet: string): void {
    this.#note((reader) => {
      reader.packageSetsRemoved.delete(packageSet);
      reader.packageSetsAdded.add(packageSet);
    }, true);
  }

  packageSetRemoved(packageSet: string): void {
    this.#note((reader) => {
      reader.packageSetsAdded.delete(packageSet);
      // Told even if it was never announced to this reader: it may have been there before.
      reader.packageSetsRemoved.add(packageSet);
    }, true);
  }

  packageAdded(added: StoredPackage): void {
    this.#note((reader) => {
      reader.packagesRemoved.delete(added.id);
      reader.packagesAdded.set(added.id, added);
    }, false);
  }

  packageRemoved(id: string): void {
    this.#note((reader) => {
      reader.packagesAdded.delete(id);
      reader.packagesRemoved.add(id);
    }, false);
  }

  objectAdded(object: ObjectRef): void {
    this.#note((reader) => {
      reader.objectsRemoved.delete(object.id);
      reader.objectsAdded.set(object.id, object);
    }, true);
  }

  objectRemoved(id: string): void {
    this.#note((reader) => {
      reader.objectsAdded.delete(id);
      reader.objectsRemoved.add(id);
    }, true);
  }

  /** Ends all streams. */
  close(): void {
    clearTimeout(this.#urgentTimer);
    for (const reader of [...this.#readers]) {
      this.#remove(reader);
      reader.stream.end();
    }
  }

  #note(change: (reader: Reader) => void, isUrgent: boolean): void {
    if (this.#readers.size === 0) return;
    for (const reader of this.#readers) {
      change(reader);
      reader.hasNews = true;
      if (reader.isBlocked && reader.objectsAdded.size + reader.objectsRemoved.size > MAX_BEHIND) this.#cutOff(reader);
    }
    if (!isUrgent || this.#urgent) return;
    this.#urgent = true;
    const sinceMs = performance.now() - this.#lastUrgentAt;
    // After all that this turn brings, and after the result that goes with it.
    if (sinceMs >= URGENT_GAP_MS) setImmediate(this.#pushAll);
    else this.#urgentTimer = setTimeout(this.#pushAll, URGENT_GAP_MS);
  }

  readonly #pushAll = (): void => {
    this.#urgent = false;
    this.#lastUrgentAt = performance.now();
    for (const reader of this.#readers) if (reader.hasNews) this.#push(reader);
  };

  #push(reader: Reader): void {
    if (reader.isBlocked) return; // 'drain' pushes what has come together until then
    const { source } = this.#options;
    const metrics = source.metrics(reader.metricsDue);
    const isNews = isWorthTelling(reader.told, metrics);
    if (isNews) reader.told = metrics;
    const message = this.#frame(reader);
    if (isNews) message.metrics = metrics;
    if (reader.hasNews) {
      message.warm = Array.from(reader.warm, (name) => source.warmOf(name));
      message.zygotes = [...reader.zygotes.values()];
      message.packageSetsAdded = [...reader.packageSetsAdded];
      message.packageSetsRemoved = [...reader.packageSetsRemoved];
      message.packagesAdded = [...reader.packagesAdded.values()];
      message.packagesRemoved = [...reader.packagesRemoved];
      message.objectsAdded = [...reader.objectsAdded.values()];
      message.objectsRemoved = [...reader.objectsRemoved];
      reader.warm.clear();
      reader.zygotes.clear();
      reader.packageSetsAdded.clear();
      reader.packageSetsRemoved.clear();
      reader.packagesAdded.clear();
      reader.packagesRemoved.clear();
      reader.objectsAdded.clear();
      reader.objectsRemoved.clear();
    }
    reader.hasNews = reader.metricsDue = false;
    this.#write(reader, message);
  }

  #frame(reader: Reader): WatchStateResponse {
    const { epoch, slots } = this.#options.source;
    return {
      epoch,
      sequence: ++reader.sequence,
      sentAtUnixMs: performance.timeOrigin + performance.now(),
      metrics: undefined,
      snapshot: false,
      warm: [],
      zygotes: [],
      packageSetsAdded: [],
      packageSetsRemoved: [],
      objectsAdded: [],
      objectsRemoved: [],
      packagesAdded: [],
      packagesRemoved: [],
      running: [],
      slots,
    };
  }

  #write(reader: Reader, message: WatchStateResponse): void {
    reader.isBlocked = !reader.stream.write(message);
  }

  #cutOff(reader: Reader): void {
    this.#remove(reader);
    reader.stream.emit('error', toStatus(new MetronomeError('UNAVAILABLE', `The reader of the state is more than ${MAX_BEHIND} changes behind. Open the stream again.`, { component: 'agent' })));
  }

  #remove(reader: Reader): void {
    if (!this.#readers.delete(reader)) return;
    clearInterval(reader.timer);
    if (this.#readers.size === 0) this.#options.onReaders(false);
  }
}
