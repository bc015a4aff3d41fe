/**
 * The inference threads: a Piscina pool whose tasks are long-lived, one per thread, each serving a ring of its own. A thread that dies or
 * hangs is replaced after a growing pause, with a fresh ring; what had been asked of it is told as lost.
 */
import { Piscina } from 'piscina';
import type { Worker } from 'node:worker_threads';
import type { Clock, TimerHandle } from '../../core/clock.ts';
import { ModelWriter } from '../model/published-model.ts';
import { RingClient, createRingMemory, type RingShape } from './ring.ts';
import { workerEntry } from './worker-entry.ts';

/** What a thread is given. */
export interface InferTask {
  readonly ring: SharedArrayBuffer;
  readonly shape: RingShape;
  /** Shared memory of the published model. */
  readonly model: SharedArrayBuffer;
  /** Number of this reader at that memory. */
  readonly reader: number;
}

/** What the pool needs. */
export interface InferencePoolOptions {
  readonly shape: RingShape;
  /** Threads, 1 to 16. */
  readonly threads: number;
  readonly clock: Clock;
}

/** Who is told; all calls come in turns of their own. */
export interface InferenceListener {
  /** There may be answers in the ring of this thread. */
  answered(thread: number): void;
  /** The thread is gone, and with it all that this ring was asked. Without an error it ended because it was told to. */
  lost(thread: number, ring: RingClient, error: Error | undefined): void;
  /** Another thread serves a fresh ring (it may still be loading its code). */
  started(thread: number, ring: RingClient): void;
}

/** Rings with threads behind them. */
export interface InferenceThreads {
  readonly count: number;
  /** The ring of a thread; undefined between its loss and its replacement. */
  ring(thread: number): RingClient | undefined;
  /** Its thread ends when it has answered what it was asked, for one that reads another model. Nothing new is to be asked of it. */
  isRetiring(thread: number): boolean;
  /** Something was committed to this ring: the thread is told at the end of this turn. */
  asked(thread: number): void;
  /** Ends a thread that answers no more; it is replaced like one that died. */
  replace(thread: number): void;
  listen(listener: InferenceListener): void;
  stop(): Promise<void>;
}

/** Pause before the first replacement of a thread, ms; it doubles up to the longest, and starts anew after a minute of service. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;
const GOOD_SERVICE_MS = 60_000;

interface Desk {
  ring: RingClient | undefined;
  abort: AbortController;
  startedAtMs: number;
  pauseMs: number;
  announcing: boolean;
  retiring: boolean;
  waiting: boolean;
}

/** The pool; its threads start with the first model that they are given. */
export class InferencePool implements InferenceThreads {
  readonly count: number;
  readonly #options: InferencePoolOptions;
  readonly #piscina: Piscina<InferTask, void>;
  readonly #desks: Desk[];
  readonly #timers = new Set<TimerHandle>();
  readonly #tasks = new Set<Promise<void>>();
  #listener: InferenceListener = { answered() {}, lost() {}, started() {} };
  #model: SharedArrayBuffer | undefined;
  #stopped = false;

  constructor(options: InferencePoolOptions) {
    this.#options = options;
    this.count = options.threads;
    this.#piscina = new Piscina({ filename: workerEntry('infer'), minThreads: options.threads, maxThreads: options.threads, concurrentTasksPerWorker: 1, idleTimeout: Infinity, recordTiming: false });
    // Tasks report what ends them; without one there is nothing to report.
    this.#piscina.on('error', () => {});
    this.#desks = Array.from({ length: options.threads }, () => ({ ring: undefined, abort: new AbortController(), startedAtMs: 0, pauseMs: FIRST_PAUSE_MS, announcing: false, retiring: false, waiting: false }));
  }

  /** The threads that live now. */
  get workers(): Worker[] {
    return this.#piscina.threads;
  }

  /** The threads read the model at this memory from now on: those that run end what they were asked and begin anew. */
  useModel(model: SharedArrayBuffer): void {
    const first = this.#model === undefined;
    this.#model = model;
    for (let thread = 0; thread < this.count; thread++) {
      const desk = this.#desk(thread);
      if (first) this.#start(thread);
      else if (desk.ring !== undefined) {
        desk.retiring = true;
        desk.ring.announce(); // what this turn asked, before the wish to end
        desk.ring.stop();
      }
    }
  }

  isRetiring(thread: number): boolean {
    return this.#desk(thread).retiring;
  }

  ring(thread: number): RingClient | undefined {
    return this.#desks[thread]?.ring;
  }

  listen(listener: InferenceListener): void {
    this.#listener = listener;
  }

  asked(thread: number): void {
    const desk = this.#desk(thread);
    if (desk.announcing) return;
    desk.announcing = true;
    // After all of this turn's questions: waking a thread costs more than writing one.
    queueMicrotask(() => {
      desk.announcing = false;
      desk.ring?.announce();
      this.#await(thread, desk);
    });
  }

  replace(thread: number): void {
    this.#desk(thread).abort.abort();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) this.#options.clock.clearTimer(timer);
    for (const { ring } of this.#desks) ring?.stop();
    // A thread that hangs does not see the wish.
    const grace = Promise.withResolvers<void>();
    const timer = this.#options.clock.setTimer(this.#options.clock.nowMs() + 1_000, grace.resolve);
    await Promise.race([Promise.allSettled(this.#tasks), grace.promise]);
    this.#options.clock.clearTimer(timer);
    for (const { ring } of this.#desks) ring?.abandon();
    await this.#piscina.destroy();
  }

  #start(thread: number): void {
    const { clock, shape } = this.#options;
    const model = this.#model;
    if (model === undefined || this.#stopped) return;
    const desk = this.#desk(thread);
    const memory = createRingMemory(shape);
    const ring = new RingClient(memory, shape);
    desk.ring = ring;
    desk.retiring = false;
    desk.abort = new AbortController();
    desk.startedAtMs = clock.nowMs();
    const task = this.#piscina.run({ ring: memory, shape, model, reader: thread }, { signal: desk.abort.signal }).then(
      () => this.#ended(thread, ring, model === this.#model ? new Error('The thread left its ring.') : undefined),
      (error: unknown) => {
        // It may have died while it read.
        new ModelWriter(model).forgetReader(thread);
        this.#ended(thread, ring, error instanceof Error ? error : new Error(String(error)));
      },
    );
    this.#tasks.add(task);
    void task.finally(() => this.#tasks.delete(task));
    this.#listener.started(thread, ring);
  }

  #ended(thread: number, ring: RingClient, error: Error | undefined): void {
    if (this.#stopped) return;
    const { clock } = this.#options;
    const desk = this.#desk(thread);
    // It answered all that it was asked, and this turn may come before the one that tells of it.
    if (error === undefined) this.#listener.answered(thread);
    desk.ring = undefined;
    const now = clock.nowMs();
    if (now - desk.startedAtMs > GOOD_SERVICE_MS) desk.pauseMs = FIRST_PAUSE_MS;
    this.#listener.lost(thread, ring, error);
    ring.abandon();
    if (error === undefined) return this.#start(thread);
    const timer = clock.setTimer(now + desk.pauseMs, () => {
      this.#timers.delete(timer);
      this.#start(thread);
    });
    this.#timers.add(timer);
    desk.pauseMs = Math.min(LONGEST_PAUSE_MS, desk.pauseMs * 2);
  }

  /** Waits for answers while there are questions without one. */
  #await(thread: number, desk: Desk): void {
    const { ring } = desk;
    if (ring === undefined || desk.waiting || this.#stopped) return;
    let answer = ring.nextAnswer();
    for (let before = -1; answer === undefined && ring.outstanding > 0 && ring.outstanding !== before; answer = ring.nextAnswer()) {
      before = ring.outstanding;
      this.#listener.answered(thread);
    }
    if (answer === undefined || ring.outstanding === 0) return;
    desk.waiting = true;
    void answer.then(() => {
      desk.waiting = false;
      if (desk.ring !== ring) return this.#await(thread, desk);
      if (this.#stopped) return;
      this.#listener.answered(thread);
      this.#await(thread, desk);
    });
  }

  #desk(thread: number): Desk {
    const desk = this.#desks[thread];
    if (desk === undefined) throw new RangeError(`There is no inference thread ${thread}.`);
    return desk;
  }
}
