/**
 * The control of the bench `training`: a thread that computes what the training thread computes, as often and at the same priority, on a model and in shared
 * memory of its own that nobody reads. The loop takes no part in it. What decisions lose to this thread, they lose to shared cores and caches.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { OBSERVATION_WIDTH, encodeObservation } from '../src/predictor/model/observation.ts';
import { createOnlineModel } from '../src/predictor/model/online-model.ts';
import { ModelWriter, createPublishedModel } from '../src/predictor/model/published-model.ts';
import { lowerThreadPriority } from '../src/predictor/pool/thread-priority.ts';
import { createSyntheticExecutions } from '../src/workload/synthetic-executions.ts';

/** What the thread is given. */
export interface ControlData {
  readonly seed: number;
  readonly window: number;
  /** Observations are learned so often, ms, and so many at a time. */
  readonly learnEveryMs: number;
  readonly batch: number;
  /** Least time between two updates, ms. */
  readonly updatePauseMs: number;
}

/** What it says: that its model is as full as the other one (`ready`), or after a stop what it computed since the start, ms of CPU. */
export type ControlAnswer = { readonly kind: 'ready' } | { readonly kind: 'stopped'; readonly computedMs: number };

/** Executions that are made; then they come again. */
const EXECUTIONS = 20_000;

const { seed, window, learnEveryMs, batch, updatePauseMs } = workerData as ControlData; // given by the bench
lowerThreadPriority();
const source = createSyntheticExecutions(seed);
const model = createOnlineModel({ seed, window });
for (const profile of source.functions) model.setFunction(profile);
const executions = new Float64Array(EXECUTIONS * OBSERVATION_WIDTH);
for (let i = 0; i < EXECUTIONS; i++) {
  const { situation, phases } = source.next();
  encodeObservation(situation, phases, executions, i * OBSERVATION_WIDTH);
}
let next = 0;
const learn = (count: number): void => {
  const from = next % (EXECUTIONS - count);
  model.observe(executions.subarray(from * OBSERVATION_WIDTH, (from + count) * OBSERVATION_WIDTH), count);
  next += count;
};
learn(window);
model.update();
const writer = new ModelWriter(createPublishedModel({ ...model.capacity, functions: 256, nodes: 256 }));

let timer: NodeJS.Timeout | undefined;
let updatedAtMs = 0, beganAtMs = 0;
const spentMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};
const answer = (message: ControlAnswer): void => parentPort?.postMessage(message);
parentPort?.on('message', (what: 'start' | 'stop') => {
  clearInterval(timer);
  if (what === 'stop') return answer({ kind: 'stopped', computedMs: spentMs() - beganAtMs });
  beganAtMs = spentMs();
  timer = setInterval(() => {
    learn(batch);
    model.publishTo(writer);
    if (performance.now() - updatedAtMs < updatePauseMs) return;
    updatedAtMs = performance.now();
    model.update();
    model.publishTo(writer);
  }, learnEveryMs);
});
answer({ kind: 'ready' });
