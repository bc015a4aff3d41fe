/**
 * Bench `recording-overhead`: what recording costs. In the loop: the same submissions and results against a scheduler without and one with a
 * recording into real files, in turns, in CPU time of the loop's thread. Over the wire: two real clusters, one of them recording, under the same closed loop, in turns, in CPU time of
 * the scheduler's process, writer included. Neighbours on the machine do not add to CPU time.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSystemClock } from '../src/core/clock.ts';
import type { Invocation, RunResult } from '../src/core/invocation.ts';
import { createRandom } from '../src/core/random.ts';
import { createMovingAveragePredictor } from '../src/predictor/moving-average.ts';
import { openRecording } from '../src/recording/read-recording.ts';
import { replayRecording } from '../src/recording/replay.ts';
import { startRecording, type Recording } from '../src/recording/start-recording.ts';
import { createTappedScheduler } from '../src/recording/tapped-scheduler.ts';
import { createNodeTable } from '../src/scheduler/cluster-view.ts';
import { Scheduler, type SchedulerOptions } from '../src/scheduler/scheduler.ts';
import { openBenchCluster, warmUp } from './cluster.ts';
import { overRounds, type Bench, type BenchContext, type BenchResult } from './harness.ts';

const NODES = 10, SLOTS = 4, FUNCTIONS = 20;
const HOUR_MS = 3_600_000;
const REAL_NODES = 2, REAL_SLOTS = 2, IN_FLIGHT = 16;
const PREDICTOR = ['--predictor', 'moving-average'];
const MIB = 1024 ** 2;
const EMPTY = new Uint8Array();

interface World {
  readonly scheduler: Scheduler;
  readonly pending: Invocation[];
  readonly recording: Recording | undefined;
}

function createWorld(dir: string | undefined): World {
  const pending: Invocation[] = [];
  const options: SchedulerOptions = {
    clock: createSystemClock(), seed: 1, engine: 'table', policy: 'metronome', localityGain: 0.85, safetyMargin: 0.1, strict: false, localityThreshold: 0.1, monitorIntervalMs: HOUR_MS, staleAfterMs: HOUR_MS, lostAfterMs: 2 * HOUR_MS,
    maxLive: 1_000_000, maxNodes: 64, maxObjects: 100_000, maxWaitMs: HOUR_MS, rememberDecisions: 16_384, idPrefix: 'inv-bench-', nodeTable: createNodeTable(64), predictor: createMovingAveragePredictor(),
    transport: { execute: (invocation) => void pending.push(invocation), cancel() {} },
    observer: { transitioned() {}, settled() {} },
  };
  const recording = dir === undefined ? undefined : startRecording({ scheduler: options, dir, segmentBytes: 16 * MIB, maxBytes: 4_096 * MIB, keep: 1, version: 'bench', context: () => ({ functions: [], nodes: [] }), log: { info() {}, warn() {} } });
  const scheduler = recording === undefined ? new Scheduler(options) : createTappedScheduler(options, recording.recorder);
  for (let f = 0; f < FUNCTIONS; f++) scheduler.putFunction({ name: `f${f}`, version: 'v1', packageSet: `p${f}`, slaMs: HOUR_MS, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 1, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false });
  for (let n = 0; n < NODES; n++) scheduler.nodeSnapshot(scheduler.nodeRegistered({ name: `n${n}`, address: '', dataUrl: '', epoch: 1, slots: SLOTS, memoryMb: 4_096 }), SLOTS, [], 0);
  return { scheduler, pending, recording };
}

function resultOf(invocation: Invocation): RunResult {
  return { payload: EMPTY, contentType: 'application/json', outputs: [], fetchedMs: 0, initialisedMs: 0.4, installedMs: 0, ranMs: 10 + (invocation.functionIndex % 7) * 3, startState: 4, fetchedBytes: 0, acceptedAtMs: 0, releasedAtMs: 0 };
}

/** CPU time of this thread per invocation, µs: a submission, its decision, and a result. In batches, with turns of the loop in between as in a daemon. */
async function perInvocation({ scheduler, pending }: World, count: number, seed: number): Promise<number> {
  const random = createRandom(seed);
  const inputs = [{ id: 'in-0', sizeBytes: 1_000_000, digest: '', name: 'in', holders: ['n0'] }];
  // Over the whole run: the kernel counts in ticks, which short stretches slip through.
  const begin = process.threadCpuUsage();
  for (let left = count; left > 0; left -= 200) {
    for (let k = 0; k < 200; k++) {
      scheduler.submit({ functionName: `f${random.below(FUNCTIONS)}`, slaMs: 0, expiresAtMs: Infinity, inputs: random.below(4) === 0 ? inputs : [], localityKey: '', policyName: '', cargo: undefined });
      if (pending.length <= NODES * SLOTS * 0.8) continue;
      const at = random.below(pending.length);
      const done = pending[at] as Invocation;
      pending[at] = pending.at(-1) as Invocation;
      pending.pop();
      scheduler.result(done.id, done.node, resultOf(done));
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const used = process.threadCpuUsage(begin);
  return (used.user + used.system) / count;
}

/** CPU time that a process has used so far, user and system, ms. Linux counts in hundredths of a second. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The bench. */
export const recordingOverheadBench: Bench = {
  description: 'what recording costs: µs per invocation in the loop, and CPU time of a real scheduler per invocation, with and without',
  async run({ quick, progress, seed }: BenchContext): Promise<BenchResult> {
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
    try {
      const rounds = quick ? 5 : 11, count = quick ? 6_000 : 20_000;
      const off = createWorld(undefined), on = createWorld(join(dir, 'loop'));
      const offUs: number[] = [], onUs: number[] = [], bytes: number[] = [];
      await perInvocation(off, count, seed);
      await perInvocation(on, count, seed);
      for (let round = 0; round < rounds; round++) {
        progress(`recording-overhead: loop, round ${round + 1} of ${rounds}`);
        const before = on.recording?.writtenBytes ?? 0;
        offUs.push(await perInvocation(off, count, seed + round));
        onUs.push(await perInvocation(on, count, seed + round));
        bytes.push(((on.recording?.writtenBytes ?? 0) - before) / count);
      }
      off.scheduler.stop();
      on.scheduler.stop();
      await on.recording?.stop();
      const dropped = on.recording?.counters.dropped ?? 0;
      const begin = performance.now();
      const report = replayRecording(openRecording(join(dir, 'loop')));
      if (report.difference !== undefined) throw new Error(`bench recording-overhead: the replay differs at entry ${report.difference.entry}: ${report.difference.recorded} / ${report.difference.replayed}`);
      const replayed = report.decisions / ((performance.now() - begin) / 1_000);

      // Without the forest: its training would fall on one side or the other by chance.
      const plain = await openBenchCluster(REAL_NODES, REAL_SLOTS, progress, PREDICTOR);
      const recorded = await openBenchCluster(REAL_NODES, REAL_SLOTS, progress, [...PREDICTOR, '--record', join(dir, 'real')]);
      const ratios: number[] = [], loopRatios: number[] = [], offMs: number[] = [], onMs: number[] = [];
      const realRounds = quick ? 4 : 11, realCount = quick ? 800 : 1_500;
      try {
        progress('recording-overhead: warming up two clusters');
        for (const { client } of [plain, recorded]) await warmUp(client, REAL_NODES * REAL_SLOTS, 'noop');
        for (let round = 0; round < realRounds; round++) {
          progress(`recording-overhead: clusters, round ${round + 1} of ${realRounds}`);
          const costOf = async ({ client, cluster }: typeof plain): Promise<{ ms: number; cpuMs: number }> => {
            const pid = cluster.pids[0] ?? 0; // the scheduler is the first
            const stream = client.openInvokeStream({ maxInFlight: IN_FLIGHT });
            const from = performance.now(), cpuFrom = cpuMsOf(pid);
            await Promise.all(Array.from({ length: realCount }, () => stream.invoke({ function: 'noop' })));
            const tookMs = performance.now() - from;
            const cpuMs = cpuMsOf(pid) - cpuFrom;
            await stream.close();
            return { ms: tookMs / realCount, cpuMs: cpuMs / realCount };
          };
          // Who comes first changes: what warms up or slows down in between falls on both.
          const first = round % 2 === 0 ? plain : recorded;
          const a = await costOf(first);
          const b = await costOf(first === plain ? recorded : plain);
          const [without, withIt] = first === plain ? [a, b] : [b, a];
          offMs.push(without.cpuMs);
          onMs.push(withIt.cpuMs);
          ratios.push(withIt.cpuMs / without.cpuMs);
          loopRatios.push(withIt.ms / without.ms);
        }
      } finally {
        await plain.close();
        await recorded.close();
      }
      const real = replayRecording(openRecording(join(dir, 'real')));
      if (real.difference !== undefined) throw new Error(`bench recording-overhead: the replay of the cluster differs at entry ${real.difference.entry}: ${real.difference.recorded} / ${real.difference.replayed}`);
      const samples = rounds * count;
      return {
        mode: 'real',
        figures: [
          overRounds('overhead_ratio', '×', ratios, realRounds * realCount * 2),
          overRounds('cpu_off', 'ms', offMs, realRounds * realCount), overRounds('cpu_on', 'ms', onMs, realRounds * realCount), overRounds('closed_loop_ratio', '×', loopRatios, realRounds * realCount * 2),
          overRounds('loop_off', 'µs', offUs, samples), overRounds('loop_on', 'µs', onUs, samples), overRounds('loop_added', 'µs', onUs.map((us, i) => us - (offUs[i] ?? 0)), samples),
          overRounds('bytes_per_invocation', 'B', bytes, samples), overRounds('dropped', '1', [dropped], samples), overRounds('replayed_decisions', '1/s', [replayed], report.decisions),
        ],
        params: { nodes: NODES, functions: FUNCTIONS, rounds, count, realNodes: REAL_NODES, realRounds, realCount, inFlight: IN_FLIGHT, replayedDecisions: real.decisions },
      };
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
};
