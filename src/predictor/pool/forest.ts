/**
 * The prediction model of a scheduler, whole: the predictor in the loop, the inference threads, the training thread, the snapshots, and the
 * machine (machines/model.ts) that says who answers. Everything that happens to the model becomes an event of that machine.
 */
import { join } from 'node:path';
import type { MachineFlow } from '../../../machines/flow.ts';
import { createMachineHost, type Engine } from '../../../machines/host.ts';
import { modelMachine, type ModelContext, type ModelEvent, type ModelStateName } from '../../../machines/model.ts';
import type { Clock, TimerHandle } from '../../core/clock.ts';
import { MetronomeError } from '../../core/errors.ts';
import { SITUATION_WIDTH } from '../features.ts';
import { createForestPredictor, type ForestCounters, type ForestPredictor } from '../forest-predictor.ts';
import { ModelKeys } from '../model-keys.ts';
import type { FunctionProfile, ModelStatus, OnlineModelOptions } from '../model/online-model.ts';
import { InferencePool } from './inference-pool.ts';
import { TrainingPool, type TrainingCounters } from './training-pool.ts';
import type { RecordingOptions } from './training-protocol.ts';

/** What a forest needs. */
export interface ForestOptions {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly model: OnlineModelOptions;
  /** Inference threads. */
  readonly threads: number;
  readonly lateAfterMs: number;
  /** Most rows of one question: nodes of the cluster. */
  readonly maxRows: number;
  /** Folder of the snapshot; '': none is kept. */
  readonly dir: string;
  readonly snapshotEveryMs: number;
  /** Least time between two updates, unless something drifted, ms. */
  readonly updatePauseMs: number;
  readonly recording: RecordingOptions | undefined;
  /** What is known of the function at a place of the scheduler's table; undefined when it is gone. */
  readonly profileOf: (functionIndex: number) => Omit<FunctionProfile, 'index'> | undefined;
  /** Names at places of the scheduler's tables; '' for none. */
  readonly functionName: (functionIndex: number) => string;
  readonly nodeName: (node: number) => string;
  readonly log: { info(fields: object, event: string): void; warn(fields: object, event: string): void };
}

/** What is known of the whole. */
export interface ForestStatus {
  readonly state: ModelStateName;
  /** Version that readers see; 0: none. */
  readonly version: number;
  /** When it was published, ms since 1970; 0: never. */
  readonly publishedAtMs: number;
  /** When the last snapshot was written, ms since 1970; 0: never. */
  readonly snapshotAtMs: number;
  readonly counters: Readonly<ForestCounters & TrainingCounters> & { readonly waitingObservations: number };
  /** Milliseconds from question to answer, over the last 1 024 questions. */
  readonly answerP50Ms: number;
  readonly answerP99Ms: number;
  /** The model's own account; undefined while its thread cannot be asked. */
  readonly model: ModelStatus | undefined;
}

/** A forest at work. */
export interface Forest {
  readonly predictor: ForestPredictor;
  readonly inference: InferencePool;
  readonly training: TrainingPool;
  /** Under which the model knows functions and nodes. */
  readonly keys: ModelKeys;
  readonly state: ModelStateName;
  /** The ways that its machine took. */
  readonly flow: MachineFlow;
  /** Resolves when the model was made or read, or could not be: from then on `state` says something. */
  readonly opened: Promise<void>;
  status(): Promise<ForestStatus>;
  /** The snapshot as bytes. */
  exportSnapshot(): Promise<{ readonly bytes: Uint8Array; readonly version: number }>;
  /** Takes another model; STATE_CORRUPT when the bytes are none, and then nothing changed. */
  importSnapshot(bytes: Uint8Array): Promise<{ readonly version: number; readonly observations: number }>;
  stop(): Promise<void>;
}

/** File name of the snapshot in its folder. */
export const SNAPSHOT_FILE = 'forest.snapshot';
/** Rows in the ring of one thread beyond one whole cluster: what may be asked in one turn. */
const RING_ROWS = 4_096;
const RING_REQUESTS = 1_024;
/** How long inference threads may take to load their code and answer in time before that counts as a loss, ms. */
const POOL_STARTS_WITHIN_MS = 5_000;

/** Starts threads and machine. Nothing waits for them: until they are ready, moving averages answer. */
export function startForest(options: ForestOptions): Forest {
  const { clock, engine, log } = options;
  const { promise: opened, resolve: nowOpened } = Promise.withResolvers<void>();
  const { functionName } = options;
  const keys = new ModelKeys(functionName, options.nodeName);
  let version = 0, publishedAtMs = 0;
  let state: ModelStateName = 'cold';
  const entered = (next: ModelStateName, event: ModelEvent): void => {
    const before = state;
    state = next;
    predictor.setServing(next === 'serving' || next === 'updating');
    // Updates come every few seconds; they are counted, not told.
    const routine = (before === 'serving' && next === 'updating') || (before === 'updating' && next === 'serving');
    if (!routine) (next === 'degraded' ? log.warn : log.info).call(log, { from: before, state: next, event: event.type, version }, 'model.changed');
  };
  const host = createMachineHost<ModelContext, ModelEvent>(modelMachine, engine);
  const machine = host.start({ entered });

  const inference = new InferencePool({ clock, threads: options.threads, shape: { rows: 2 * options.maxRows + RING_ROWS, requests: RING_REQUESTS, width: SITUATION_WIDTH } });
  /** Nobody could rely on the inference threads yet, nor did one of them fail. */
  let isPoolStarting = true;
  /** What the machine is told when they answer, or do not. */
  let held: (() => void) | undefined;
  let starting: TimerHandle;
  /**
   * Tells the machine that the forest serves; but not while no thread can be asked. Threads that are loading their code are waited for: a model from a snapshot
   * is there before they are, and that is no loss.
   */
  const serves = (tell: () => void): void => {
    if (isPoolStarting && !predictor.countsAsGood) {
      held = tell;
      starting ??= clock.setTimer(clock.nowMs() + POOL_STARTS_WITHIN_MS, poolStarted);
      return;
    }
    tell();
    if (!predictor.countsAsGood) machine.send({ type: 'POOL_LOST' });
  };
  const poolStarted = (): void => {
    isPoolStarting = false;
    if (starting !== undefined) clock.clearTimer(starting);
    starting = undefined;
    const tell = held;
    held = undefined;
    if (tell !== undefined) serves(tell);
  };
  const training: TrainingPool = new TrainingPool({
    clock, model: options.model, snapshotPath: options.dir === '' ? '' : join(options.dir, SNAPSHOT_FILE), snapshotEveryMs: options.snapshotEveryMs, updatePauseMs: options.updatePauseMs, recording: options.recording,
    keys, functionName,
    profileOf(index) {
      const profile = options.profileOf(index);
      return profile === undefined ? undefined : { ...profile, index: keys.functionKey(index) };
    },
    listener: {
      opened({ version: found, restored, refused }) {
        if (refused !== undefined) log.warn({ code: refused.code, message: refused.message }, 'model.snapshot.refused');
        if (found > 0) {
          version = found;
          publishedAtMs = clock.nowMs();
        }
        if (restored && found > 0 && state === 'cold') serves(() => machine.send({ type: 'SNAPSHOT_RESTORED', version: found }));
        log.info({ restored, version: found }, 'model.opened');
        nowOpened();
      },
      memoryChanged(memory) {
        predictor.forgetAnswers();
        inference.useModel(memory);
      },
      updateBegan: (reason) => machine.send({ type: reason === 'bootstrap' ? 'HISTORY_SUFFICED' : reason === 'drift' ? 'DRIFT_DETECTED' : 'UPDATE_DUE' }),
      published(next) {
        if (next === version) return; // the records of functions and nodes only
        version = next;
        publishedAtMs = clock.nowMs();
        serves(() => {
          // The pool was lost while the first forest was made, or a model was imported.
          if (state === 'cold') machine.send({ type: 'HISTORY_SUFFICED' });
          machine.send({ type: 'VERSION_PUBLISHED', version: next });
        });
      },
      treesFailed: (trees, error) => log.warn({ trees, code: error.code, message: error.message }, 'model.trees.failed'),
      failed(error) {
        log.warn({ code: error.code, message: error.message }, 'model.training.failed');
        machine.send({ type: 'TRAINING_FAILED', message: error.message });
      },
      lost(error) {
        // What was published can still be read: only training stands still.
        log.warn({ message: error.message }, 'model.training.lost');
        machine.send({ type: 'TRAINING_FAILED', message: error.message });
        nowOpened();
      },
    },
  });
  const predictor: ForestPredictor = createForestPredictor({
    clock, threads: inference, training, keys, lateAfterMs: options.lateAfterMs,
    poolChanged(change) {
      if (isPoolStarting) poolStarted();
      machine.send({ type: change === 'recovered' ? 'POOL_RECOVERED' : change === 'late' ? 'PREDICTIONS_LATE' : 'POOL_LOST' });
    },
    threadLost(thread, error) {
      log.warn({ thread, message: error.message }, 'model.inference.lost');
      if (isPoolStarting) poolStarted();
    },
  });
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    if (starting !== undefined) clock.clearTimer(starting);
    held = undefined;
    predictor.stop();
    await Promise.all([inference.stop(), training.stop()]);
  };
  return {
    predictor, inference, training, keys, opened, flow: host.flow,
    get state() {
      return state;
    },
    async status() {
      const latencies = predictor.latencies().sort();
      const at = (share: number): number => latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))] ?? 0;
      const model = await training.status().catch((error: unknown) => {
        if (error instanceof MetronomeError && error.code === 'UNAVAILABLE') return undefined;
        throw error;
      });
      return {
        state, version, publishedAtMs, snapshotAtMs: training.lastSavedAtMs, counters: { ...predictor.counters, ...training.counters, threadsLost: predictor.counters.threadsLost + training.counters.threadsLost, waitingObservations: training.waiting },
        answerP50Ms: at(0.5), answerP99Ms: at(0.99), model,
      };
    },
    exportSnapshot: () => training.export(),
    importSnapshot: (bytes) => training.import(bytes),
    stop: () => (stopping ??= stop()),
  };
}
