/**
 * Bench `decision`: what one decision costs inside the loop, with everything in it: actor creation, transitions, classification,
 * prediction, policy `metronome`, decision record, transition record. Real scheduler, a transport that goes nowhere. The interpreted
 * machine runs in the same process, in turns, for the ratio.
 */
import type { Invocation, RunResult } from '../src/core/invocation.ts';
import { createSystemClock } from '../src/core/clock.ts';
import { createRandom } from '../src/core/random.ts';
import { TransitionRing } from '../src/inspect/transition-ring.ts';
import { createMovingAveragePredictor } from '../src/predictor/moving-average.ts';
import { createNodeTable } from '../src/scheduler/cluster-view.ts';
import { Scheduler, type CandidateMode, type SchedulerObserver } from '../src/scheduler/scheduler.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

const FUNCTIONS = 20;
const SLOTS = 4;
const HOUR_MS = 3_600_000;

/** A scheduler with ready nodes, and what it dispatched. */
export interface World {
  readonly scheduler: Scheduler;
  readonly pending: Invocation[];
  readonly functions: number;
}

/** How a world may differ. */
interface WorldOptions {
  /** @default 20 */
  readonly functions?: number;
  /** @default auto */
  readonly candidates?: CandidateMode;
  /** @default 1 024 */
  readonly maxNodes?: number;
  /** @default 16 384 */
  readonly rememberDecisions?: number;
}

/** Makes one, of nodes of four slots; without an observer there is a ring of transitions. */
export function createWorld(engine: 'table' | 'xstate', nodes: number, observer?: SchedulerObserver, { functions = FUNCTIONS, candidates = 'auto', maxNodes = 1_024, rememberDecisions = 16_384 }: WorldOptions = {}): World {
  const pending: Invocation[] = [];
  const ring = new TransitionRing(65_536);
  const scheduler = new Scheduler({
    clock: createSystemClock(), seed: 1, engine, policy: 'metronome', localityGain: 0.85, safetyMargin: 0.1, strict: false, localityThreshold: 0.1, monitorIntervalMs: HOUR_MS, staleAfterMs: HOUR_MS, lostAfterMs: 2 * HOUR_MS,
    maxLive: 1_000_000, maxNodes, maxObjects: 100_000, maxWaitMs: HOUR_MS, rememberDecisions, candidates, idPrefix: 'inv-bench-', nodeTable: createNodeTable(maxNodes), predictor: createMovingAveragePredictor(),
    transport: { execute: (invocation) => void pending.push(invocation), cancel() {} },
    observer: observer ?? { transitioned: (invocation, from, to, event) => ring.record(invocation, from, to, event), settled() {} },
  });
  for (let f = 0; f < functions; f++) {
    scheduler.putFunction({ name: `f${f}`, version: 'v1', packageSet: `p${f}`, slaMs: HOUR_MS, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 1, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false });
  }
  for (let n = 0; n < nodes; n++) scheduler.nodeSnapshot(scheduler.nodeRegistered({ name: `n${n}`, address: '', dataUrl: '', epoch: 1, slots: SLOTS, memoryMb: 4_096 }), SLOTS, [], 0);
  return { scheduler, pending, functions };
}

const EMPTY = new Uint8Array();
/** What an agent would say of a run. */
export function resultOf(invocation: Invocation): RunResult {
  return { payload: EMPTY, contentType: 'application/json', outputs: [], fetchedMs: 0, initialisedMs: invocation.startState === 4 ? 0.4 : 180, installedMs: 0, ranMs: 10 + (invocation.functionIndex % 7) * 3, startState: 1, fetchedBytes: 0, acceptedAtMs: 0, releasedAtMs: 0 };
}

/**
 * Arrivals at about 80 % of the slots; each arrival is timed alone. Returns µs, sorted. `ended`: what the end of each invocation took, µs. `pick`:
 * ranks of functions, equally likely if absent.
 */
export function arrivals(world: World, count: number, nodes: number, seed: number, ended?: number[], pick?: () => number): Float64Array {
  const { scheduler, pending, functions } = world;
  const random = createRandom(seed);
  const times = new Float64Array(count);
  const inputs = [{ id: 'in-0', sizeBytes: 1_000_000, digest: '', name: 'in', holders: ['n0'] }];
  for (let k = 0; k < count; k++) {
    const submission = { functionName: `f${pick === undefined ? random.below(functions) : pick()}`, slaMs: 0, expiresAtMs: Infinity, inputs: random.below(4) === 0 ? inputs : [], localityKey: '', policyName: '', cargo: undefined };
    const begin = performance.now();
    scheduler.submit(submission);
    times[k] = (performance.now() - begin) * 1_000;
    if (pending.length > nodes * SLOTS * 0.8) {
      const at = random.below(pending.length);
      const done = pending[at]!;
      pending[at] = pending.at(-1)!;
      pending.pop();
      const result = resultOf(done);
      const resulted = performance.now();
      scheduler.result(done.id, done.node, result);
      ended?.push((performance.now() - resulted) * 1_000);
    }
  }
  return times.sort();
}

/** `waiting` invocations delay for one full node; times a release (result in, waiter out). Returns the median in µs. */
function wake(waiting: number, releases: number): number {
  const world = createWorld('table', 10);
  const { scheduler, pending } = world;
  const submit = (functionName: string, inputs: readonly { id: string; sizeBytes: number; digest: string; name: string; holders: string[] }[]): void => {
    scheduler.submit({ functionName, slaMs: 0, expiresAtMs: Infinity, inputs: [...inputs], localityKey: '', policyName: '', cargo: undefined });
  };
  // A large object on node 0 makes it worth any wait; node 0 is full, the others are not.
  const inputs = [{ id: 'big', sizeBytes: 50e9, digest: '', name: 'big', holders: ['n0'] }];
  scheduler.objectAdded('big', 50e9, 0);
  for (let i = 0; i < SLOTS + waiting; i++) submit(`f${i % FUNCTIONS}`, inputs);
  const times: number[] = [];
  for (let i = 0; i < releases; i++) {
    const done = pending.shift();
    if (done === undefined) break;
    const begin = performance.now();
    scheduler.result(done.id, done.node, resultOf(done));
    times.push((performance.now() - begin) * 1_000);
    submit(`f${i % FUNCTIONS}`, inputs); // as many wait as before
  }
  const delaying = scheduler.lines.locality;
  scheduler.stop();
  if (delaying !== waiting) throw new Error(`bench decision: ${delaying} wait for locality, expected ${waiting}`);
  return quantile(times.sort((a, b) => a - b), 0.5);
}

/** The decision bench. */
export const decisionBench: Bench = {
  description: 'µs from arrival to decision in the loop (10, 100, 1 000 nodes), a wake-up with 10 000 delaying, and the interpreted machine beside it',
  async run(context: BenchContext): Promise<BenchResult> {
    const rounds = context.quick ? 3 : 5;
    const figures: Figure[] = [];
    for (const nodes of [10, 100, 1_000]) {
      const count = context.quick ? 8_000 : nodes === 1_000 ? 15_000 : 40_000;
      context.progress(`decision: ${nodes} nodes, ${rounds} rounds of ${count} arrivals, both engines`);
      const table = createWorld('table', nodes), interpreted = createWorld('xstate', nodes);
      arrivals(table, count, nodes, context.seed);
      arrivals(interpreted, count >> 2, nodes, context.seed);
      const p50: number[] = [], p95: number[] = [], p99: number[] = [], slow: number[] = [], perSecond: number[] = [];
      for (let r = 0; r < rounds; r++) {
        const begin = performance.now();
        const times = arrivals(table, count, nodes, context.seed + 1 + r);
        perSecond.push(count / ((performance.now() - begin) / 1_000));
        p50.push(quantile(times, 0.5));
        p95.push(quantile(times, 0.95));
        p99.push(quantile(times, 0.99));
        slow.push(quantile(arrivals(interpreted, count >> 2, nodes, context.seed + 1 + r), 0.5));
      }
      table.scheduler.stop();
      interpreted.scheduler.stop();
      figures.push(
        overRounds(`decision_${nodes}_p50`, 'µs', p50, rounds * count), overRounds(`decision_${nodes}_p95`, 'µs', p95, rounds * count), overRounds(`decision_${nodes}_p99`, 'µs', p99, rounds * count),
        overRounds(`decision_${nodes}_interpreted_p50`, 'µs', slow, rounds * (count >> 2)), overRounds(`interpreted_ratio_${nodes}`, '×', slow.map((value, r) => value / (p50[r] ?? Number.NaN)), rounds),
      );
      // Whole life cycles (submit, decide, dispatch, result) per second of one core, at ten nodes.
      if (nodes === 10) figures.push(overRounds('decisions_per_second', '1/s', perSecond, rounds * count));
    }
    context.progress('decision: wake-ups with 10, 1 000 and 10 000 delaying');
    const releases = context.quick ? 1_000 : 3_000;
    wake(1_000, releases);
    const few: number[] = [], many: number[] = [], some: number[] = [];
    for (let r = 0; r < rounds; r++) {
      few.push(wake(10, releases));
      some.push(wake(1_000, releases));
      many.push(wake(10_000, releases));
    }
    figures.push(overRounds('wake_10_p50', 'µs', few, rounds * releases), overRounds('wake_1000_p50', 'µs', some, rounds * releases), overRounds('wake_10000_p50', 'µs', many, rounds * releases));
    return { mode: 'micro', figures, params: { functions: FUNCTIONS, slotsPerNode: SLOTS, policy: 'metronome', rounds } };
  },
};
