/**
 * The training thread: a Piscina pool of one, apart from inference, so that training never delays a prediction. Observations are
 * collected here and leave in batches, one task at a time; what waits is bounded and what does not fit is counted. A thread that dies is replaced
 * after a growing pause; the model goes on from its last snapshot, and what was published stays readable meanwhile.
 */
import { Piscina } from 'piscina';
import type { Worker } from 'node:worker_threads';
import type { Clock, TimerHandle } from '../../core/clock.ts';
import { MetronomeError, type ErrorRecord } from '../../core/errors.ts';
import { COLUMN } from '../features.ts';
import type { TrainingLine } from '../forest-predictor.ts';
import { OBSERVATION_WIDTH } from '../model/observation.ts';
import type { FunctionProfile, ModelStatus, OnlineModelOptions, UpdateReason } from '../model/online-model.ts';
import type { Exclusion } from '../predictor.ts';
import type { ExcludedRuns, FunctionChange, RecordingOptions, TrainAnswers, TrainKind, TrainOutcome, TrainTask } from './training-protocol.ts';
import { staleFunctions, type KeyNames, type ModelKeys } from '../model-keys.ts';
import { toModelExclusion } from '../situations.ts';
import { workerEntry } from './worker-entry.ts';

/** What the pool needs. */
export interface TrainingPoolOptions {
  readonly clock: Clock;
  readonly model: OnlineModelOptions;
  /** File of the snapshots; '': none are kept. */
  readonly snapshotPath: string;
  /** How often one is written when something was learned, ms. */
  readonly snapshotEveryMs: number;
  /** Least time between two updates, unless something drifted, ms: many observations a second must not mean many updates a second. */
  readonly updatePauseMs: number;
  readonly recording: RecordingOptions | undefined;
  /** What is known of a function, with its key as index; undefined when it is gone. */
  readonly profileOf: (functionIndex: number) => FunctionProfile | undefined;
  readonly keys: ModelKeys;
  /** Name of the function at a place of the scheduler's table. */
  readonly functionName: (functionIndex: number) => string;
  readonly listener: TrainingListener;
}

/** Who is told. */
export interface TrainingListener {
  /** The model is there; version 0: it has no forest yet. */
  opened(opened: { readonly version: number; readonly restored: boolean; readonly refused: ErrorRecord | undefined }): void;
  /** Readers must use this shared memory from now on. */
  memoryChanged(memory: SharedArrayBuffer): void;
  /** An update began. */
  updateBegan(reason: UpdateReason): void;
  /** Readers see this version. */
  published(version: number): void;
  /** An update did without so many trees, which could not be grown. */
  treesFailed(trees: number, error: MetronomeError): void;
  /** A task failed; the thread lives on. */
  failed(error: MetronomeError): void;
  /** The thread died; another one will be started. */
  lost(error: Error): void;
}

/** Counts since the start. */
export interface TrainingCounters {
  /** Observations that were learned from. */
  learned: number;
  /** Those that found no room, or whose function was deleted while they waited. */
  dropped: number;
  updates: number;
  /** What they cost, and what learning cost, ms of CPU of the thread. */
  updateComputedMs: number;
  learnComputedMs: number;
  /** Trees that could not be grown. */
  treesFailed: number;
  threadsLost: number;
  snapshots: number;
}

/** Observations that may wait for the thread. */
export const MAX_WAITING_OBSERVATIONS = 4_096;
/** Observations in one task. */
const MAX_BATCH = 512;
/** Observations are collected for so long, ms. */
const COLLECT_MS = 100;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** How long a shutdown waits for what the thread is doing, and for the last snapshot, ms. */
const STOP_GRACE_MS = 5_000;

/** The pool; its thread starts at once. */
export class TrainingPool implements TrainingLine {
  readonly counters: TrainingCounters = { learned: 0, dropped: 0, updates: 0, updateComputedMs: 0, learnComputedMs: 0, treesFailed: 0, threadsLost: 0, snapshots: 0 };
  readonly #o: TrainingPoolOptions;
  #piscina: Piscina<TrainTask, unknown>;
  readonly #waiting = new Float64Array(MAX_WAITING_OBSERVATIONS * OBSERVATION_WIDTH);
  #first = 0;
  #count = 0;
  #functions: FunctionChange[] = [];
  /** Keys of deleted functions that the model has not forgotten yet. */
  readonly #retired = new Set<number>();
  #excluded = new Map<string, ExcludedRuns>();
  readonly #told = new Map<number, string>();
  #isOpen = false;
  /** The keys are those of the model. */
  #hasKeys = false;
  #isBusy = false;
  #collecting: TimerHandle;
  #saving: TimerHandle;
  #resting: TimerHandle;
  #restart: TimerHandle;
  #pauseMs = FIRST_PAUSE_MS;
  #learnedSinceSave = false;
  #due: UpdateReason | undefined;
  #updatedAtMs = 0;
  /** Trees that the update under way still has to grow, one per task; 0: none is under way between two tasks. */
  #treesLeft = 0;
  /** Learning and trees take turns while an update is under way. */
  #isTreesTurn = false;
  #wishes: (() => Promise<void>)[] = [];
  #stopped = false;
  #idle = Promise.withResolvers<void>();
  #lastSavedAtMs = 0;
  /** Functions that there are. */
  readonly #known = new Set<number>();

  constructor(options: TrainingPoolOptions) {
    this.#o = options;
    this.#piscina = this.#createPiscina();
    this.#start();
    if (options.snapshotPath !== '' && options.snapshotEveryMs > 0) this.#saveLater();
  }

  /** The thread that lives now. */
  get workers(): Worker[] {
    return this.#piscina.threads;
  }

  /** Observations that wait. */
  get waiting(): number {
    return this.#count;
  }

  /** When the last snapshot was written, ms since 1970; 0: never. */
  get lastSavedAtMs(): number {
    return this.#lastSavedAtMs;
  }

  // ── the line of the predictor ─────────────────────────────────────────────────────────────────────────────────

  observe(rows: Float64Array, offset: number): boolean {
    const isKnown = (rows[offset + COLUMN.functionIndex] as number) >= 0 && (rows[offset + COLUMN.nodeIndex] as number) >= 0;
    if (this.#count === MAX_WAITING_OBSERVATIONS || !this.#hasKeys || !isKnown) {
      this.counters.dropped++;
      return false;
    }
    const at = ((this.#first + this.#count++) % MAX_WAITING_OBSERVATIONS) * OBSERVATION_WIDTH;
    for (let column = 0; column < OBSERVATION_WIDTH; column++) this.#waiting[at + column] = rows[offset + column] as number;
    this.#collect();
    return true;
  }

  exclude(functionKey: number, why: Exclusion): void {
    const reason = toModelExclusion(why);
    if (reason === undefined) return;
    const key = `${functionKey} ${reason}`;
    this.#excluded.set(key, { functionIndex: functionKey, why: reason, count: (this.#excluded.get(key)?.count ?? 0) + 1 });
    this.#collect();
  }

  functionPut(functionIndex: number): void {
    this.#known.add(functionIndex);
    // Before the model is there nobody knows its keys.
    if (!this.#hasKeys) return;
    this.#tellFunction(functionIndex);
    this.#collect();
  }

  functionDeleted(functionIndex: number): void {
    this.#known.delete(functionIndex);
    const key = this.#hasKeys ? this.#o.keys.retireFunction(this.#o.functionName(functionIndex)) : undefined;
    if (key === undefined) return;
    this.#dropWaiting(key);
    this.#retired.add(key);
    this.#functions.push({ gone: key });
    this.#collect();
  }

  /** Nobody learns from a function that is gone; whoever has its key next least of all. */
  #dropWaiting(functionKey: number): void {
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const from = ((this.#first + i) % MAX_WAITING_OBSERVATIONS) * OBSERVATION_WIDTH;
      if (this.#waiting[from + COLUMN.functionIndex] === functionKey) continue;
      const to = ((this.#first + kept++) % MAX_WAITING_OBSERVATIONS) * OBSERVATION_WIDTH;
      if (to !== from) this.#waiting.copyWithin(to, from, from + OBSERVATION_WIDTH);
    }
    this.counters.dropped += this.#count - kept;
    this.#count = kept;
  }

  // ── wishes from elsewhere ─────────────────────────────────────────────────────────────────────────────────────

  /** What the model is. Rejects with UNAVAILABLE while there is no thread. */
  status(): Promise<ModelStatus> {
    return this.#wish(() => this.#run({ kind: 'status' }));
  }

  /** The snapshot as bytes. */
  export(): Promise<{ readonly bytes: Uint8Array; readonly version: number }> {
    return this.#wish(() => this.#run({ kind: 'export', names: this.#o.keys.names }));
  }

  /** Another model takes this one's place. STATE_CORRUPT: the bytes are none, and nothing changed. */
  import(bytes: Uint8Array): Promise<{ readonly version: number; readonly observations: number }> {
    return this.#wish(async () => {
      const imported = await this.#run({ kind: 'import', bytes });
      if (this.#treesLeft > 0) {
        this.#treesLeft = 0;
        this.#o.listener.failed(new MetronomeError('CANCELLED', 'The update of the model that was under way is void: an imported model took its place.', { component: 'scheduler' }));
      }
      // What waits was written with other keys.
      this.counters.dropped += this.#count;
      this.#count = 0;
      this.#excluded.clear();
      this.#retired.clear();
      this.#useKeys(imported.names, []);
      this.#afterPublication(imported);
      this.#learnedSinceSave = true;
      // The snapshot that is there belongs to other keys: a thread that dies now must find this one.
      this.#wishes.unshift(async () => void (await this.#save()));
      return imported;
    });
  }

  /** Writes the snapshot file now; false when none is kept. */
  save(): Promise<boolean> {
    return this.#wish(() => this.#save());
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    const { clock } = this.#o;
    this.#stopped = true;
    for (const timer of [this.#collecting, this.#saving, this.#resting, this.#restart]) if (timer !== undefined) clock.clearTimer(timer);
    const grace = Promise.withResolvers<void>();
    const timer = clock.setTimer(clock.nowMs() + STOP_GRACE_MS, grace.resolve);
    const last = async (): Promise<void> => {
      if (this.#isBusy) await this.#idle.promise;
      if (!this.#isOpen) return;
      while (this.#count > 0) await this.#learn();
      if (this.#learnedSinceSave) await this.#save();
    };
    await Promise.race([last().catch(() => {}), grace.promise]); // what the last snapshot misses is learned again
    clock.clearTimer(timer);
    await this.#piscina.destroy();
  }

  // ── the thread ────────────────────────────────────────────────────────────────────────────────────────────────

  #createPiscina(): Piscina<TrainTask, unknown> {
    const piscina = new Piscina<TrainTask, unknown>({ filename: workerEntry('train'), minThreads: 1, maxThreads: 1, concurrentTasksPerWorker: 1, idleTimeout: Infinity, recordTiming: false, atomics: 'disabled' });
    // A thread that dies between two tasks.
    piscina.on('error', (error: Error) => this.#piscina === piscina && this.#lost(error));
    piscina.on('workerDestroy', () => this.#piscina === piscina && this.#lost(new Error('The training thread ended.')));
    return piscina;
  }

  #start(): void {
    void this.#exclusively(async () => {
      this.#told.clear();
      const { keys, model, snapshotPath, recording } = this.#o;
      const piscina = this.#piscina;
      const opened = await this.#run({ kind: 'open', options: model, snapshotPath, recording, names: this.#hasKeys ? keys.names : undefined }).catch((error: unknown) => {
        // A thread without a model is of no use; the next one may find what this one lacked. (Of a thread that died, its pool tells as well.)
        if (this.#piscina === piscina) this.#lost(MetronomeError.from(error));
      });
      if (opened === undefined) return;
      this.#isOpen = true;
      const names = this.#hasKeys ? keys.names : (opened.names ?? keys.names);
      this.#useKeys(names, opened.names === undefined ? [] : staleFunctions(opened.names, names));
      if (opened.memory !== undefined) this.#o.listener.memoryChanged(opened.memory);
      this.#o.listener.opened({ version: opened.version, restored: opened.restored, refused: opened.refused });
      this.#notRecorded(opened.notRecorded);
    });
  }

  #lost(error: Error): void {
    if (this.#stopped || this.#restart !== undefined) return;
    const { clock, listener } = this.#o;
    this.#isOpen = false;
    this.#due = undefined;
    this.#treesLeft = 0;
    this.counters.threadsLost++;
    listener.lost(error);
    this.#restart = clock.setTimer(clock.nowMs() + this.#pauseMs, () => {
      this.#restart = undefined;
      // A pool whose thread died while it loaded its code starts no other one.
      const former = this.#piscina;
      this.#piscina = this.#createPiscina();
      void former.destroy();
      this.#start();
    });
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
  }

  async #run<K extends TrainKind>(task: Extract<TrainTask, { kind: K }>, transferList: ArrayBuffer[] = []): Promise<TrainAnswers[K]> {
    const outcome = (await this.#piscina.run(task, { transferList })) as TrainOutcome<K>; // the thread answers by the kind
    if ('error' in outcome) throw MetronomeError.fromRecord(outcome.error);
    this.#pauseMs = FIRST_PAUSE_MS;
    return outcome.answer;
  }

  /** One task at a time. Errors of the task are told; those of the thread as well. */
  async #exclusively(what: () => Promise<void>): Promise<void> {
    this.#isBusy = true;
    try {
      await what();
    } catch (error) {
      const known = error instanceof MetronomeError ? error : MetronomeError.from(error);
      if (!this.#stopped) this.#o.listener.failed(known);
    } finally {
      this.#isBusy = false;
      const { resolve } = this.#idle;
      this.#idle = Promise.withResolvers();
      resolve();
      this.#next();
    }
  }

  #wish<T>(what: () => Promise<T>): Promise<T> {
    if (this.#stopped || !this.#isOpen) return Promise.reject(new MetronomeError('UNAVAILABLE', 'The training thread is not ready; try again in a moment.', { component: 'scheduler', retryAfterMs: 500 }));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#wishes.push(() => what().then(resolve, reject));
    this.#next();
    return promise;
  }

  #collect(): void {
    if (this.#collecting !== undefined || this.#stopped) return;
    const { clock } = this.#o;
    this.#collecting = clock.setTimer(clock.nowMs() + COLLECT_MS, () => {
      this.#collecting = undefined;
      this.#next();
    });
  }

  /** Whatever comes next: a wish, the next tree of an update that is under way, an update that is due, or learning. */
  #next(): void {
    if (this.#isBusy || !this.#isOpen || this.#stopped) {
      if (!this.#isOpen) for (const wish of this.#wishes.splice(0)) void wish();
      return;
    }
    const wish = this.#wishes.shift();
    if (wish !== undefined) return void this.#exclusively(wish);
    const hasNews = this.#collecting === undefined && (this.#count > 0 || this.#functions.length > 0 || this.#excluded.size > 0);
    if (this.#treesLeft > 0) return void this.#exclusively(() => (hasNews && !this.#isTreesTurn ? this.#learn() : this.#updateStep('tree')));
    const restMs = this.#due === 'observations' ? this.#updatedAtMs + this.#o.updatePauseMs - this.#o.clock.nowMs() : 0;
    if (this.#due !== undefined && restMs <= 0) return void this.#exclusively(() => this.#update());
    if (hasNews) return void this.#exclusively(() => this.#learn());
    if (this.#due !== undefined) this.#updateIn(restMs);
  }

  #updateIn(restMs: number): void {
    if (this.#resting !== undefined) return;
    const { clock } = this.#o;
    this.#resting = clock.setTimer(clock.nowMs() + restMs, () => {
      this.#resting = undefined;
      this.#next();
    });
  }

  async #learn(): Promise<void> {
    const count = Math.min(MAX_BATCH, this.#count);
    const batch = new Float64Array(count * OBSERVATION_WIDTH);
    const nodes: [number, string][] = [];
    const unbroken = Math.min(count, MAX_WAITING_OBSERVATIONS - this.#first);
    batch.set(this.#waiting.subarray(this.#first * OBSERVATION_WIDTH, (this.#first + unbroken) * OBSERVATION_WIDTH));
    batch.set(this.#waiting.subarray(0, (count - unbroken) * OBSERVATION_WIDTH), unbroken * OBSERVATION_WIDTH);
    for (let i = 0; this.#o.recording !== undefined && i < count; i++) {
      const node = batch[i * OBSERVATION_WIDTH + COLUMN.nodeIndex] as number;
      const name = this.#o.keys.nodeNameOf(node);
      if (this.#told.get(node) !== name) {
        this.#told.set(node, name);
        nodes.push([node, name]);
      }
    }
    this.#first = (this.#first + count) % MAX_WAITING_OBSERVATIONS;
    this.#count -= count;
    const functions = this.#functions;
    const excluded = [...this.#excluded.values()];
    this.#functions = [];
    this.#excluded = new Map();
    this.#isTreesTurn = true;
    const answer = await this.#run({ kind: 'learn', batch, count, functions, nodes, excluded }, [batch.buffer]);
    for (const change of functions) if ('gone' in change && this.#retired.delete(change.gone)) this.#o.keys.freeFunction(change.gone);
    this.counters.learned += answer.taken;
    this.counters.learnComputedMs += answer.computedMs;
    this.#notRecorded(answer.notRecorded);
    this.#learnedSinceSave ||= answer.taken > 0;
    this.#afterPublication(answer);
    this.#due = answer.due;
  }

  #notRecorded(why: string | undefined): void {
    if (why !== undefined) this.#o.listener.failed(new MetronomeError('STORE_FULL', `Observations are not recorded any more (model.observationLog): ${why}.`));
  }

  async #update(): Promise<void> {
    const reason = this.#due as UpdateReason; // asked for by #next
    this.#due = undefined;
    this.#updatedAtMs = this.#o.clock.nowMs();
    this.#o.listener.updateBegan(reason);
    await this.#updateStep('update');
  }

  /** The beginning of an update, or its next tree; ends it when there is none left. */
  async #updateStep(kind: 'update' | 'tree'): Promise<void> {
    this.#isTreesTurn = false;
    this.#treesLeft = 0; // an update whose task fails is over
    const step = await this.#run({ kind });
    this.counters.updateComputedMs += step.computedMs;
    this.#treesLeft = step.treesLeft;
    if (step.treesLeft > 0) return;
    if (step.failed !== undefined) {
      this.counters.treesFailed += step.failed.trees;
      this.#o.listener.treesFailed(step.failed.trees, MetronomeError.fromRecord(step.failed.error));
    }
    this.counters.updates++;
    this.#updatedAtMs = this.#o.clock.nowMs();
    this.#due = step.due;
    this.#afterPublication(step);
  }

  async #save(): Promise<boolean> {
    const { snapshotPath, clock } = this.#o;
    if (snapshotPath === '') return false;
    this.#learnedSinceSave = false;
    await this.#run({ kind: 'save', path: snapshotPath, names: this.#o.keys.names });
    this.#lastSavedAtMs = clock.nowMs();
    this.counters.snapshots++;
    return true;
  }

  #saveLater(): void {
    const { clock, snapshotEveryMs } = this.#o;
    this.#saving = clock.setTimer(clock.nowMs() + snapshotEveryMs, () => {
      if (this.#learnedSinceSave && this.#isOpen) {
        this.#wishes.push(async () => void (await this.#save()));
        this.#next();
      }
      this.#saveLater();
    });
  }

  #afterPublication({ version, memory }: { readonly version: number; readonly memory?: SharedArrayBuffer }): void {
    if (memory !== undefined) this.#o.listener.memoryChanged(memory);
    if (version > 0) this.#o.listener.published(version);
  }

  /** From now on observations are written with these keys; the model forgets the functions of `stale` and is told of all others. */
  #useKeys(names: KeyNames, stale: readonly number[]): void {
    if (names !== this.#o.keys.names) this.#o.keys.load(names);
    this.#hasKeys = true;
    this.#functions = [...new Set([...stale, ...this.#retired])].map((gone) => ({ gone }));
    for (const index of this.#known) this.#tellFunction(index);
    this.#collect();
  }

  #tellFunction(functionIndex: number): void {
    const profile = this.#o.profileOf(functionIndex);
    if (profile !== undefined && profile.index >= 0) this.#functions.push(profile);
  }
}
