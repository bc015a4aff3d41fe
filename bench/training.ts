/**
 * Bench `training`: what one update of the model costs its thread, and what training does to decisions: the time from arrival to dispatch,
 * prediction in the pool included, without training, with it as it is by default at a thousand observations a second, and beside a control thread that computes
 * the same for itself (training-control.ts). What the control costs decisions is the machine's; what training costs beyond it is ours. The loop is woken and fed with
 * observations alike in all three, only that nobody gets them in two. Short slices take turns, and growth is told from slices that stand side by side, so a
 * machine that drifts meets all alike.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Invocation, RunResult } from '../src/core/invocation.ts';
import { createSystemClock } from '../src/core/clock.ts';
import { NO_SITUATION, type Predictor } from '../src/predictor/predictor.ts';
import { createNodeTable } from '../src/scheduler/cluster-view.ts';
import { Scheduler } from '../src/scheduler/scheduler.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult } from './harness.ts';
import { OBSERVATIONS_PER_S, WINDOW, createTrainedForest } from './trained-forest.ts';
import type { ControlAnswer, ControlData } from './training-control.ts';

const NODES = 10;
const SLOTS = 4;
const FUNCTIONS = 10;
/** What decisions are made beside. */
const ARMS = ['quiet', 'training', 'control'] as const;
type Arm = (typeof ARMS)[number];
const HOUR_MS = 3_600_000;
/** The default of model.updatePause. */
const UPDATE_PAUSE_MS = 250;
/** How long the training pool collects observations, ms. */
const LEARN_EVERY_MS = 100;
/** Decisions before a slice is measured: until training, or its control, is at its pace. */
const LEAD_IN = 100;
const EMPTY = new Uint8Array();

/** The control thread, ready. */
interface Control {
  start(): void;
  /** Milliseconds of CPU since the start. */
  stop(): Promise<number>;
  end(): Promise<unknown>;
}

async function startControl(seed: number): Promise<Control> {
  const workerData: ControlData = { seed, window: WINDOW, learnEveryMs: LEARN_EVERY_MS, batch: (OBSERVATIONS_PER_S * LEARN_EVERY_MS) / 1_000, updatePauseMs: UPDATE_PAUSE_MS };
  const worker = new Worker(new URL('./training-control.ts', import.meta.url), { workerData });
  await once(worker, 'message');
  return {
    start: () => worker.postMessage('start'),
    async stop() {
      const answered = once(worker, 'message');
      worker.postMessage('stop');
      const [said] = (await answered) as [ControlAnswer]; // all that it ever sends
      return said.kind === 'stopped' ? said.computedMs : Number.NaN;
    },
    end: () => worker.terminate(),
  };
}

/** The forest's predictor, but what runs in this bench teaches nothing: only the feed trains. */
function untaught(predictor: Predictor): Predictor {
  return Object.create(predictor, {
    observe: { value: ({ situation }: { readonly situation: number }) => situation !== NO_SITUATION && predictor.exclude(situation, 'refused') },
  }) as Predictor; // an heir of a Predictor is one
}

/** The training bench. */
export const trainingBench: Bench = {
  description: 'what one update of the model costs its thread, and by how much decisions slow down while training runs',
  async run({ seed, quick, progress }: BenchContext): Promise<BenchResult> {
    progress('training: a forest of 2 000 observations');
    const world = await createTrainedForest(seed, UPDATE_PAUSE_MS);
    const { forest } = world;
    const control = await startControl(seed);
    const waiting = new Map<string, (node: number) => void>();
    const scheduler = new Scheduler({
      clock: createSystemClock(), seed, engine: 'table', policy: 'metronome', localityGain: 0.85, safetyMargin: 0.1, strict: false, localityThreshold: 0.1, monitorIntervalMs: HOUR_MS, staleAfterMs: HOUR_MS, lostAfterMs: 2 * HOUR_MS,
      maxLive: 100_000, maxNodes: 64, maxObjects: 1_000, maxWaitMs: HOUR_MS, rememberDecisions: 1_024, idPrefix: 'inv-bench-', nodeTable: createNodeTable(64), predictor: untaught(forest.predictor),
      transport: { execute: (invocation: Invocation, node: number) => waiting.get(invocation.id)?.(node), cancel() {} },
      observer: { transitioned() {}, settled() {} },
    });
    for (let f = 0; f < FUNCTIONS; f++) {
      scheduler.putFunction({ name: `f${f}`, version: 'v1', packageSet: `p${f}`, slaMs: HOUR_MS, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 1, policy: '', localityKey: '', reuse: true, memoryMb: 128, critical: false });
    }
    for (let n = 0; n < NODES; n++) scheduler.nodeSnapshot(scheduler.nodeRegistered({ name: `n${n}`, address: '', dataUrl: '', epoch: 1, slots: SLOTS, memoryMb: 4_096 }), SLOTS, [], 0);
    let asked = 0;
    /** Microseconds from arrival to dispatch, sorted. */
    const decide = async (count: number): Promise<Float64Array> => {
      const times = new Float64Array(count);
      for (let i = 0; i < count; i++) {
        const { promise, resolve } = Promise.withResolvers<number>();
        const begin = performance.now();
        const { id } = scheduler.submit({ functionName: `f${i % FUNCTIONS}`, slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', payloadBytes: asked++, cargo: undefined });
        waiting.set(id, resolve);
        const node = await promise;
        times[i] = (performance.now() - begin) * 1_000;
        waiting.delete(id);
        const done: RunResult = { payload: EMPTY, contentType: '', outputs: [], fetchedMs: 0, installedMs: 0, initialisedMs: 1, ranMs: 10, startState: 4, fetchedBytes: 0, acceptedAtMs: 0, releasedAtMs: 0 };
        scheduler.result(id, node, done);
        await new Promise((next) => setTimeout(next, 1));
      }
      return times.sort();
    };
    const rounds = quick ? 15 : 36, arrivals = quick ? 300 : 600;
    await decide(3 * arrivals);
    const spentUs = (): number => {
      const { user, system } = process.threadCpuUsage();
      return user + system;
    };
    const slice = async (arm: Arm): Promise<void> => {
      await decide(LEAD_IN);
      const beforeUs = spentUs();
      p95[arm].push(quantile(await decide(arrivals), 0.95));
      loopUs[arm].push((spentUs() - beforeUs) / arrivals);
    };
    const p95: Record<Arm, number[]> = { quiet: [], training: [], control: [] };
    /** CPU of the loop's own thread per decision, the feed included, µs: what it says does not depend on who else has the machine. */
    const loopUs: Record<Arm, number[]> = { quiet: [], training: [], control: [] };
    /** Per cent of a core that the thread computed. */
    const busy: Record<Exclude<Arm, 'quiet'>, number[]> = { training: [], control: [] };
    const updateMs: number[] = [];
    let updates = 0;
    const arms: Record<Arm, () => Promise<void>> = {
      async quiet() {
        const stopFeed = world.train('nobody');
        await slice('quiet');
        await stopFeed();
      },
      async training() {
        const before = { ...forest.training.counters }, beganAtMs = performance.now();
        const stopTraining = world.train();
        await slice('training');
        const after = { ...forest.training.counters }, tookMs = performance.now() - beganAtMs;
        await stopTraining();
        const updatedMs = after.updateComputedMs - before.updateComputedMs;
        busy.training.push((100 * (updatedMs + after.learnComputedMs - before.learnComputedMs)) / tookMs);
        updates += after.updates - before.updates;
        if (after.updates > before.updates) updateMs.push(updatedMs / (after.updates - before.updates));
      },
      async control() {
        const beganAtMs = performance.now();
        control.start();
        const stopFeed = world.train('nobody');
        await slice('control');
        const tookMs = performance.now() - beganAtMs;
        busy.control.push((100 * (await control.stop())) / tookMs);
        await stopFeed();
      },
    };
    for (let round = 0; round < rounds; round++) {
      if (round % 5 === 0) progress(`training: slice ${round + 1} of ${rounds}, ${arrivals} decisions each without training, with it and beside the control thread`);
      // Each arm comes first, second and third equally often.
      for (let i = 0; i < ARMS.length; i++) await arms[ARMS[(round + i) % ARMS.length] as Arm]();
    }
    scheduler.stop();
    await Promise.all([forest.stop(), control.end()]);
    const over = (above: Arm, below: Arm, of = p95): number[] => of[above].map((value, round) => value / (of[below][round] as number));
    return {
      mode: 'micro',
      figures: [
        overRounds('update_ms', 'ms', updateMs, updates),
        overRounds('decision_p95_quiet', 'µs', p95.quiet, rounds * arrivals), overRounds('decision_p95_training', 'µs', p95.training, rounds * arrivals), overRounds('decision_p95_control', 'µs', p95.control, rounds * arrivals),
        overRounds('decision_p95_growth', '×', over('training', 'quiet'), rounds), overRounds('decision_p95_growth_control', '×', over('control', 'quiet'), rounds), overRounds('decision_p95_growth_own', '×', over('training', 'control'), rounds),
        overRounds('loop_cpu_quiet', 'µs', loopUs.quiet, rounds * arrivals), overRounds('loop_cpu_growth', '×', over('training', 'quiet', loopUs), rounds),
        overRounds('training_cpu', '%', busy.training, rounds), overRounds('control_cpu', '%', busy.control, rounds),
      ],
      params: { window: WINDOW, updatePauseMs: UPDATE_PAUSE_MS, nodes: NODES, rounds, arrivals, leadIn: LEAD_IN, updates, source: 'synthetic' },
    };
  },
};
