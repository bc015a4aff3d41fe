/**
 * The shared-memory ring between the loop and one inference thread: feature rows in, predictions out. One writer on either side, no lock: the
 * loop owns what it has not announced, the thread owns what is announced and not answered. Rows of one request lie together, so a
 * request never wraps. Bounded in rows and in requests: what does not fit is refused.
 */
import type { PredictionOut } from '../model/model-view.ts';

/** Sizes of a ring. */
export interface RingShape {
  /** Rows that may wait at once. */
  readonly rows: number;
  /** Requests that may wait at once; a power of two. */
  readonly requests: number;
  /** Numbers per feature row. */
  readonly width: number;
}

/** Results per row: mean, spread, P95 and P99. */
const RESULTS = 4;

/** Words of the control block. */
const ANNOUNCED = 0, ANSWERED = 1, STOPPED = 2, CONTROL_WORDS = 16;
/** Numbers per request: its first row, its count of rows, the version of the model that answered. */
const REQUEST_WORDS = 3;

/** Shared memory for a ring. */
export function createRingMemory({ rows, requests, width }: RingShape): SharedArrayBuffer {
  if (requests < 1 || (requests & (requests - 1)) !== 0) throw new RangeError(`A ring needs a power of two of requests, not ${requests}.`);
  return new SharedArrayBuffer((CONTROL_WORDS + requests * REQUEST_WORDS + (requests & 1)) * 4 + rows * (width + RESULTS) * 8);
}

class Views {
  readonly control: Int32Array;
  readonly request: Int32Array;
  readonly features: Float64Array;
  readonly results: PredictionOut;

  constructor(memory: SharedArrayBuffer, { rows, requests, width }: RingShape) {
    const words = CONTROL_WORDS + requests * REQUEST_WORDS + (requests & 1);
    this.control = new Int32Array(memory, 0, CONTROL_WORDS);
    this.request = new Int32Array(memory, CONTROL_WORDS * 4, requests * REQUEST_WORDS);
    this.features = new Float64Array(memory, words * 4, rows * width);
    const column = (at: number): Float64Array => new Float64Array(memory, words * 4 + rows * (width + at) * 8, rows);
    this.results = { meanMs: column(0), spreadMs: column(1), p95Ms: column(2), p99Ms: column(3) };
  }
}

/** The loop's side. */
export class RingClient {
  readonly shape: RingShape;
  /** Row r stands at r × width; written between reserve and commit. */
  readonly features: Float64Array;
  /** Results of row r stand at r; valid while the answer is handled. */
  readonly results: PredictionOut;
  readonly #views: Views;
  /** Requests committed, announced to the thread, and handled here; counts that wrap at 2^32. */
  #committed = 0;
  #announced = 0;
  #handled = 0;
  /** Rows [#tail, #head) are taken, around the end. */
  #head = 0;
  #tail = 0;
  #taken = 0;
  #reserved = 0;
  #reservedAt = -1;

  constructor(memory: SharedArrayBuffer, shape: RingShape) {
    this.shape = shape;
    this.#views = new Views(memory, shape);
    this.features = this.#views.features;
    this.results = this.#views.results;
  }

  /** Requests without an answer. */
  get outstanding(): number {
    return (this.#committed - this.#handled) | 0;
  }

  /** Rows taken, those skipped at the end of the memory included. */
  get takenRows(): number {
    return this.#taken;
  }

  /** Room for `count` rows, ≥ 1: the first one, or -1 when the ring is full. Nothing is taken until commit. */
  reserve(count: number): number {
    const { rows, requests } = this.shape;
    this.#reservedAt = -1;
    if (this.outstanding >= requests) return -1;
    if (this.#taken === 0) this.#head = this.#tail = 0;
    const toEnd = rows - this.#head;
    const skipped = count <= toEnd ? 0 : toEnd;
    if (this.#taken + skipped + count > rows) return -1;
    this.#reserved = skipped + count;
    this.#reservedAt = skipped === 0 ? this.#head : 0;
    return this.#reservedAt;
  }

  /** The reserved rows are written. Returns the request's number; announce tells the thread. */
  commit(count: number): number {
    const request = this.#committed;
    const at = this.#slot(request);
    const first = this.#reservedAt;
    this.#views.request[at] = first;
    this.#views.request[at + 1] = count;
    this.#taken += this.#reserved;
    this.#head = first + count;
    if (this.#head === this.shape.rows) this.#head = 0;
    this.#committed = (request + 1) | 0;
    return request;
  }

  /** Tells the thread of all that was committed: one wake-up per turn of the loop. */
  announce(): void {
    if (this.#announced === this.#committed) return;
    this.#announced = this.#committed;
    Atomics.store(this.#views.control, ANNOUNCED, this.#committed);
    Atomics.notify(this.#views.control, ANNOUNCED);
  }

  /** Calls `handle` for each new answer, in order. The rows are free again when it returned. */
  drain(handle: (request: number, firstRow: number, count: number, version: number) => void): number {
    const answered = Atomics.load(this.#views.control, ANSWERED);
    let drained = 0;
    while (this.#handled !== answered) {
      const request = this.#handled;
      const at = this.#slot(request);
      const first = this.#views.request[at] as number, count = this.#views.request[at + 1] as number;
      handle(request, first, count, this.#views.request[at + 2] as number);
      // Freed after: the handler may ask again at once.
      this.#taken -= count + (first < this.#tail ? this.shape.rows - this.#tail : 0);
      this.#tail = first + count === this.shape.rows ? 0 : first + count;
      this.#handled = (request + 1) | 0;
      drained++;
    }
    return drained;
  }

  /** Resolves when there are answers that drain has not seen; undefined when there are some now. */
  nextAnswer(): Promise<unknown> | undefined {
    const wait = Atomics.waitAsync(this.#views.control, ANSWERED, this.#handled);
    return wait.async ? wait.value : undefined;
  }

  /** Makes the thread return from its loop when it has answered what is announced. */
  stop(): void {
    Atomics.store(this.#views.control, STOPPED, 1);
    Atomics.notify(this.#views.control, ANNOUNCED);
  }

  /** Ends a wait for answers that will not come: the thread is gone. */
  abandon(): void {
    Atomics.add(this.#views.control, ANSWERED, 1);
    Atomics.notify(this.#views.control, ANSWERED);
  }

  #slot(request: number): number {
    return (request & (this.shape.requests - 1)) * REQUEST_WORDS;
  }
}

/** Predicts rows that begin at `features[offset]` into the results from `first` on. Returns the version of the model; 0: there is none. */
export type PredictRows = (features: Float64Array, offset: number, count: number, results: PredictionOut, first: number) => number;

/** Rows after which the loop is told of answers, although more wait. */
const ROWS_PER_WAKE_UP = 64;

/**
 * The thread's side: serves the ring until it is stopped, asleep while there is nothing to do. Requests that lie behind one another are
 * predicted as one batch.
 */
export function serveRing(memory: SharedArrayBuffer, shape: RingShape, predict: PredictRows): void {
  const { control, request, features, results } = new Views(memory, shape);
  const mask = shape.requests - 1;
  let done = Atomics.load(control, ANSWERED);
  for (;;) {
    const announced = Atomics.load(control, ANNOUNCED);
    if (announced === done) {
      if (Atomics.load(control, STOPPED) === 1) return;
      Atomics.wait(control, ANNOUNCED, done);
      continue;
    }
    while (done !== announced) {
      const at = (done & mask) * REQUEST_WORDS;
      const first = request[at] as number;
      let count = request[at + 1] as number;
      let next = (done + 1) | 0;
      while (next !== announced && count < ROWS_PER_WAKE_UP && request[(next & mask) * REQUEST_WORDS] === first + count) {
        count += request[(next & mask) * REQUEST_WORDS + 1] as number;
        next = (next + 1) | 0;
      }
      const version = predict(features, first * shape.width, count, results, first);
      for (; done !== next; done = (done + 1) | 0) request[(done & mask) * REQUEST_WORDS + 2] = version;
      Atomics.store(control, ANSWERED, done);
      Atomics.notify(control, ANSWERED);
    }
  }
}
