/**
 * Bench `resource-tuning`, on real nodes with limits by control groups (`agent.limits: all`; needs root): how long a function takes with half and a quarter of a core, what limits
 * add to a cold start, and what Aquatope's resource manager finds for the log application, as `metronome policy tune-resources` runs it: cost and latency of the
 * sizes that it recommends, by those of the manifest, with a target of 1.5 × the latency of the manifest's sizes.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAgent, type RunningAgent } from '../src/agent/agent.ts';
import { limitsSizes, openCgroups } from '../src/agent/sandbox/cgroups.ts';
import { deploy } from '../src/cli/deploy.ts';
import { putFile } from '../src/cli/objects.ts';
import { PROJECT_ROOT } from '../src/cli/project.ts';
import { openDeployedSizes } from '../src/cli/tuning/deployed-sizes.ts';
import { measureExecutions } from '../src/cli/tuning/execution-trial.ts';
import { tuneDeployed } from '../src/cli/tuning/tune-deployed.ts';
import { packFunction } from '../src/config/bundle.ts';
import { loadManifest } from '../src/config/manifest.ts';
import { createRandom } from '../src/core/random.ts';
import type { SchedulerClient } from '../src/rpc/client.ts';
import { FunctionMessage } from '../src/rpc/gen/metronome/v1/function.ts';
import { loadApplication } from '../src/workload/applications.ts';
import { openAgentClient } from './agent-client.ts';
import { openBenchCluster } from './cluster.ts';
import { overRounds, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

const NODES = 2, SLOTS = 2;
const SLA_FACTOR = 1.5;
const INPUT_BYTES = 4_000_000;
const CPU_MS = 150;
const SHARES = [1, 0.5, 0.25] as const;
const silent = { info() {}, warn() {}, error() {} };
const never = new AbortController().signal;

/** Spends CPU time, not time. */
const SPIN = `export function handler() {
  const before = process.cpuUsage();
  for (let used = 0; used < ${CPU_MS * 1_000};) {
    const { user, system } = process.cpuUsage(before);
    used = user + system;
  }
}`;

/** The bench. */
export const resourceTuningBench: Bench = {
  description: 'CPU limits of sandboxes on real nodes: time with less of a core, what a limited start costs more, and sizes that the resource manager finds for the log application',
  async run(context): Promise<BenchResult> {
    const groups = openCgroups(`metronome-bench-${process.pid}`);
    await groups?.close();
    if (!limitsSizes(groups)) throw new Error('bench resource-tuning needs control groups for memory and cpu that may be written: run it as root.');
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-limits-'));
    try {
      const starts = await limitedStarts(dir, context);
      const bench = await openBenchCluster(NODES, SLOTS, context.progress, [], { env: { METRONOME_AGENT__LIMITS: 'all' } });
      try {
        const shares = await timesByShare(bench.client, dir, context);
        const tuning = await tuneLog(bench.client, bench.cluster.httpUrl, dir, context);
        return { mode: 'real', figures: [...shares, ...starts, ...tuning.figures], params: { nodes: NODES, slots: SLOTS, cpuMs: CPU_MS, slaFactor: SLA_FACTOR, inputBytes: INPUT_BYTES, version: groups?.version, ...tuning.params } };
      } finally {
        await bench.close();
      }
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
};

/** The same work with less and less of a core, warm, in turns. */
async function timesByShare(client: SchedulerClient, dir: string, { quick, progress }: BenchContext): Promise<Figure[]> {
  const rounds = quick ? 4 : 12;
  const bundle = Buffer.from(await spinBundle(dir));
  for (const cpu of SHARES) await client.applyFunction({ spec: { name: nameOf(cpu), runtime: 'node', handler: 'handler.mjs', memoryMb: 128, cpu, timeoutMs: 60_000, slaMs: 60_000, reuse: true }, bundle });
  const times: Record<number, number[]> = {};
  for (let round = -1; round < rounds; round++) {
    progress(`resource-tuning: shares of a core, round ${round + 1} of ${rounds}`);
    for (const cpu of SHARES) {
      const { phases } = await client.invoke({ function: nameOf(cpu) });
      // The first of each was cold.
      if (round >= 0) (times[cpu] ??= []).push(phases?.ranMs ?? Number.NaN);
    }
  }
  const by = (cpu: number): number[] => (times[cpu] ?? []).map((ms, i) => ms / (times[1]?.[i] ?? Number.NaN));
  return [overRounds('whole_core_ms', 'ms', times[1] ?? [], rounds), overRounds('half_core_time', '×', by(0.5), rounds), overRounds('quarter_core_time', '×', by(0.25), rounds)];
}

const nameOf = (cpu: number): string => `spin-${Math.round(100 * cpu)}`;

async function spinBundle(dir: string): Promise<Uint8Array> {
  const folder = join(dir, 'spin');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'handler.mjs'), SPIN);
  return packFunction(folder);
}

/** Cold starts of a Node function with nothing in it, by an agent that limits plain processes and by one that does not, in turns. */
async function limitedStarts(dir: string, { quick, progress }: BenchContext): Promise<Figure[]> {
  const rounds = quick ? 12 : 40;
  const folder = join(dir, 'empty');
  await mkdir(folder);
  await writeFile(join(folder, 'handler.mjs'), 'export const handler = () => null;\n');
  const bundle = await packFunction(folder);
  const definition = FunctionMessage.fromPartial({
    spec: { name: 'empty', runtime: 'node', handler: 'handler.mjs', memoryMb: 128, cpu: 1, timeoutMs: 60_000, slaMs: 60_000, reuse: false },
    version: '1', bundleDigest: createHash('sha256').update(bundle).digest('hex'), appliedAtUnixMs: 1,
  });
  const agents: RunningAgent[] = [];
  try {
    for (const limits of ['isolated', 'all'] as const) {
      agents.push(await startAgent({
        name: limits, limits, host: '127.0.0.1', grpcPort: 0, dataPort: 0, schedulerAddress: undefined, slots: 1, memoryMb: 1_024, dataDir: join(dir, limits), keepAliveMs: 60_000, pushIntervalMs: 50, objectQuotaBytes: 64 * 1024 ** 2,
        maxResultBytes: 1024 ** 2, logBytes: 65_536, zygotes: false, log: silent, fetchBundle: () => Promise.resolve(bundle),
      }));
    }
    const clients = agents.map(({ grpcAddress }) => openAgentClient(grpcAddress));
    const times: [number[], number[]] = [[], []];
    progress(`resource-tuning: ${rounds} cold starts with limits and without, in turns`);
    for (let round = -1; round < rounds; round++) {
      for (const [i, client] of clients.entries()) {
        const { initialisedMs } = await client.run(definition);
        if (round >= 0) times[i]?.push(initialisedMs);
      }
    }
    for (const client of clients) client.close();
    return [overRounds('start_p50', 'ms', times[0], rounds), overRounds('limited_start_p50', 'ms', times[1], rounds), overRounds('limited_start_added', 'ms', times[1].map((ms, i) => ms - (times[0][i] as number)), rounds)];
  } finally {
    await Promise.all(agents.map((agent) => agent.stop()));
  }
}

/** The command's own parts on the log application. */
async function tuneLog(client: SchedulerClient, gatewayUrl: string, dir: string, { quick, seed, progress }: BenchContext): Promise<{ readonly figures: Figure[]; readonly params: Record<string, unknown> }> {
  const application = await loadApplication('log', join(PROJECT_ROOT, 'apps'));
  await deploy({ client, manifest: await loadManifest(application.folder), progress: () => {} });
  const input = await application.makeInput({ seed, sizeBytes: INPUT_BYTES, dir });
  const reference = await putFile({ client, gatewayUrl }, input.path, '/');
  const deployed = await openDeployedSizes(client, application.workflow, never);
  const functions = deployed.functions.map(({ spec }) => spec.name);
  const executions = quick ? 1 : 3;
  const measureWith = (slaMs: number) => measureExecutions({ client, functions, slaMs, executions, signal: never, request: { function: application.workflow, payload: Buffer.from(JSON.stringify(input.payload)), contentType: 'application/json', inputs: [reference] } });
  const first = await measureWith(deployed.slaMs);
  if ('failure' in first) throw first.failure;
  const slaMs = SLA_FACTOR * first.latencyMs;
  const startedAt = performance.now();
  const { before, best, evaluations, endedBecause } = await tuneDeployed({
    deployed, slaMs, bounds: { cpu: [0.1, 2], memoryMb: [128, 1_024] }, random: createRandom(seed), maxEvaluations: quick ? 16 : 70, keep: false, signal: never, measure: () => measureWith(slaMs),
    onBefore: () => {},
    onRestored: () => {},
    onEvaluated: ({ number, latencyMs, cost }) => progress(`resource-tuning: evaluation ${number}, ${Math.round(latencyMs)} ms of ${Math.round(slaMs)}, cost ${cost.toPrecision(3)}`),
  });
  const n = evaluations.length;
  const feasible = evaluations.filter(({ isFeasible }) => isFeasible).length;
  return {
    figures: [
      overRounds('log_cost', '×', [best === undefined ? 1 : best.cost / before.cost], n), overRounds('log_latency', '×', [best === undefined ? 1 : best.latencyMs / before.latencyMs], n), overRounds('log_evaluations', '', [n], n),
      overRounds('log_feasible', '', [feasible], n), overRounds('log_seconds', 's', [(performance.now() - startedAt) / 1_000], n),
    ],
    params: { executions, slaMs: Math.round(slaMs), before: before.sizes, best: best?.sizes ?? 'none is cheaper and keeps the target', functions, endedBecause },
  };
}
