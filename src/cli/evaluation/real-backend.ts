/**
 * Cells on real nodes: agents as processes, links and CPUs emulated as far as this machine can, real functions on real files over real gRPC.
 *
 * Once: everything is deployed, all packages are installed on every node and the inputs are made, by a cluster without quotas. Then the measured cluster starts
 * on the same folders. Before each cell the policy is set, every idle sandbox and zygote ends, and the inputs are stored anew, one per node in turns; so each
 * cell begins with installed packages, no sandboxes, and nothing of the former cell's data within reach.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { configFields } from '../../config/schema.ts';
import { MetronomeError } from '../../core/errors.ts';
import { SATURATED_FROM, slotUtilisation, type Backend, type CellResult, type Load } from '../../evaluation/backend.ts';
import type { ClusterPreset } from '../../evaluation/cluster-preset.ts';
import { START_STATE_NAMES, type ExecutionRecord, type StepRecord } from '../../evaluation/execution-record.ts';
import { evaluationInputSizes } from '../../evaluation/input-sizes.ts';
import { planArrivals, planExecutions, type Cell, type PlannedExecution } from '../../evaluation/plan.ts';
import { createClient, type SchedulerClient } from '../../rpc/client.ts';
import { LocalityClass, StartState, type ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import type { Invocation, InvokeResponse } from '../../rpc/gen/metronome/v1/invoke.ts';
import { loadApplication, type Application, type ApplicationInput, type ApplicationName } from '../../workload/applications.ts';
import { startCluster, type Cluster } from '../cluster/cluster.ts';
import type { EmulationRequest } from '../cluster/emulation/plan.ts';
import { putFile } from '../objects.ts';
import { PROJECT_ROOT } from '../project.ts';
import { checkRun } from '../run-application.ts';
import { copyName, deployCopies, originalName } from './copies.ts';

/** Where and how. */
export interface RealBackendOptions {
  readonly preset: ClusterPreset;
  readonly applications: readonly ApplicationName[];
  /** Links and CPUs emulated; false: agents are plain processes on loopback. */
  readonly isEmulated: boolean;
  /** Seed of the inputs. */
  readonly seed: number;
  /** Inputs of each application. */
  readonly inputs: number;
  /** Told of the temporary folder before anything is in it: who is killed cannot remove it. */
  readonly onFolder: (path: string) => Promise<void>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

interface Deployed {
  readonly application: Application;
  readonly inputs: readonly ApplicationInput[];
}

interface Session {
  readonly cluster: Cluster;
  readonly client: SchedulerClient;
  /** Overrides of the configuration it runs with, as text. */
  readonly key: string;
}

/** Objects of earlier cells give way before the disk is full. */
const OBJECT_QUOTA = '1GiB';
/** Executions of a cell whose outputs are fetched and checked after the interval, beside that all must complete: one per input at most. */
const CHECKED = 4;
/** An agent that has used up its quota is silent for the rest of the period, and neither stale nor lost for that. */
const QUOTA_SETTINGS = { METRONOME_NODES__STALE_AFTER: '1s', METRONOME_NODES__LOST_AFTER: '15s' };
/** Longest time of one execution. */
const TIMEOUT_MS = 180_000;
const START_STATES: Readonly<Record<number, StepRecord['startState']>> = { [StartState.COLD]: 'cold', [StartState.PACKAGES]: 'packages', [StartState.ZYGOTE]: 'zygote', [StartState.WARM]: 'warm' };

const TEMPORARY = 'metronome-evaluation-';

/** Removes the temporary folder of an evaluation that was killed, if that is what `path` names. */
export async function removeLeftFolder(path: string): Promise<void> {
  if (path.startsWith(join(tmpdir(), TEMPORARY)) && !path.includes('..')) await rm(path, { recursive: true, force: true, maxRetries: 5 });
}

/** Prepares the folders; takes some minutes for all applications. */
export async function openRealBackend(options: RealBackendOptions): Promise<Backend> {
  const { preset, signal, progress } = options;
  const dataDir = await mkdtemp(join(tmpdir(), TEMPORARY));
  await options.onFolder(dataDir);
  await mkdir(join(dataDir, 'logs'));
  const inputsDir = join(dataDir, 'inputs');
  await mkdir(inputsDir);
  const emulation: EmulationRequest = options.isEmulated
    ? { linkBitsPerS: preset.linkBitsPerS, latencyMs: 0, cpus: preset.cpus, mode: 'auto' }
    : { linkBitsPerS: preset.linkBitsPerS, latencyMs: 0, cpus: 0, mode: 'data-plane' };
  const start = async (key: string, isLimited: boolean): Promise<Session> => {
    const overrides = Object.entries(JSON.parse(key) as Record<string, string | number | boolean>).map(([name, value]) => [envName(name), String(value)]); // made by overridesKey
    const cluster = await startCluster({
      nodes: preset.nodes, slots: preset.slots, memoryBytes: preset.memoryBytes, namePrefix: 'node', dataDir, grpcPort: 0, httpPort: 0, commonArgs: [], schedulerArgs: ['--log-level', 'warn'], drainGraceMs: 5_000,
      ...(isLimited ? { emulation } : {}),
      env: { ...environment(options.env), METRONOME_AGENT__OBJECT_QUOTA: OBJECT_QUOTA, METRONOME_AGENT__ZYGOTES: preset.zygotes, METRONOME_POLICIES__POOL_WINDOW: `${preset.poolWindowMs}ms`, ...QUOTA_SETTINGS, ...Object.fromEntries(overrides) },
      cwd: options.cwd, signal, progress: () => {}, onEvent: (event) => progress(`${event.name}: ${event.kind}`),
    });
    return { cluster, client: createClient({ address: cluster.grpcAddress }), key };
  };
  const stop = async ({ cluster, client }: Session): Promise<void> => {
    client.close();
    await cluster.stop();
  };
  let session: Session | undefined;
  let labels: Readonly<Record<string, string>> = {};
  let notes: readonly string[] = [];
  const deployed = new Map<ApplicationName, Deployed>();
  const close = async (): Promise<void> => {
    try {
      if (session !== undefined) await stop(session);
    } finally {
      session = undefined;
      await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
    }
  };
  try {
    session = await start('{}', false);
    for (const name of options.applications) {
      const application = await loadApplication(name, join(PROJECT_ROOT, 'apps'));
      progress(`${name}: deploying for ${preset.copies} owners, installing on ${preset.nodes} nodes`);
      const functions = await deployCopies(session.client, application.folder, preset.copies, preset.keepAliveMs, signal);
      await installEverywhere(session, functions);
      progress(`${name}: making ${options.inputs} inputs`);
      const inputs: ApplicationInput[] = [];
      for (const [i, sizeBytes] of evaluationInputSizes(preset, name, options.seed, options.inputs).entries()) inputs.push(await application.makeInput({ seed: options.seed + i, sizeBytes, dir: inputsDir, maker: preset.inputMaker[name] ?? {} }));
      deployed.set(name, { application, inputs });
    }
    await stop(session);
    session = undefined;
  } catch (error) {
    await close();
    throw error;
  }
  const describe = (): string => `${preset.nodes} nodes × ${preset.slots} ${preset.slots === 1 ? 'slot' : 'slots'} on ${availableParallelism()} real cores${Object.entries(labels).map(([name, value]) => `, ${name} ${value}`).join('')}`;
  return {
    isSimulated: false,
    parallel: 1,
    describe,
    parameters: () => ({ ...preset, inputs: options.inputs, labels, notes, inputBytes: Object.fromEntries([...deployed].map(([name, { inputs }]) => [name, inputs.map(({ sizeBytes }) => sizeBytes)])) }),
    close,
    async run(cell, load, cellSignal) {
      const key = overridesKey(cell);
      if (session?.key !== key) {
        if (session !== undefined) await stop(session);
        session = undefined;
        session = await start(key, true);
        const { nodes } = await session.client.listNodes({});
        labels = { ...session.cluster.emulation?.plan.labels, sandboxes: [...new Set(nodes.map(({ isolation: [own] }) => own ?? 'process'))].join(' and ') };
        notes = session.cluster.emulation?.plan.notes ?? [];
      }
      const application = deployed.get(cell.application);
      if (application === undefined) throw new MetronomeError('INVALID_REQUEST', `The application "${cell.application}" was not prepared.`);
      return runCell(session, preset, cell, application, { load, dir: dataDir, signal: cellSignal });
    },
  };
}

/** Installs by starting every function once on every node, two at a time, then ends all that stands there. */
async function installEverywhere({ client, cluster }: Session, functions: readonly string[]): Promise<void> {
  const work = functions.flatMap((name) => cluster.nodeNames.map((node) => ({ name, node })));
  let next = 0;
  await Promise.all(Array.from({ length: availableParallelism() }, async () => {
    for (let each = work[next++]; each !== undefined; each = work[next++]) {
      await client.prewarmNode({ name: each.node, function: each.name, count: 1 }, { timeoutMs: TIMEOUT_MS });
      await client.evictNode({ name: each.node, function: each.name, count: 0 });
    }
  }));
}

/** Ends every idle sandbox and zygote. */
async function emptyNodes({ client, cluster }: Session): Promise<void> {
  await Promise.all(cluster.nodeNames.flatMap((name) => [false, true].map((zygotes) => client.evictNode({ name, function: '', count: 0, zygotes }))));
}

async function runCell(session: Session, preset: ClusterPreset, cell: Cell, { application, inputs }: Deployed, options: { readonly load: Load; readonly dir: string; readonly signal: AbortSignal }): Promise<CellResult> {
  const { client, cluster } = session;
  const { signal, load: { slaMs = 0, ratePerS } } = options;
  await client.setPolicy({ policy: cell.variant.policy });
  await emptyNodes(session);
  const stored = await Promise.all(inputs.map((input, i) => putFile({ client, gatewayUrl: cluster.httpUrl, node: cluster.nodeNames[i % cluster.nodeNames.length], signal }, input.path, '/')));
  const executions = ratePerS === undefined ? planExecutions(cell, preset.copies, inputs.length) : planArrivals(cell, preset.copies, inputs.length, ratePerS);
  const records: ExecutionRecord[] = [];
  const toCheck = new Map<number, { readonly record: number; readonly response: InvokeResponse }>();
  let next = 0;
  const end = cell.warmUp + cell.executions;
  let begunAtMs = 0, endedAtMs = 0;
  let cpuBefore = cpuTimes(), cpuAfter = cpuBefore;
  const one = async (index: number, planned: PlannedExecution): Promise<void> => {
    const input = inputs[planned.input] as ApplicationInput; // planned for so many
    const reference = stored[planned.input] as ObjectRef; // as above
    const startedAtMs = performance.now();
    const base = { application: cell.application, variant: cell.variant.name, concurrency: cell.concurrency, seed: cell.seed, index: index - cell.warmUp, simulated: false };
    try {
      const response = await client.invoke({ function: copyName(application.workflow, planned.copy), payload: Buffer.from(JSON.stringify(input.payload)), inputs: [reference], slaMs }, { timeoutMs: TIMEOUT_MS, signal });
      if (index < cell.warmUp || index >= end) return;
      const latencyMs = performance.now() - startedAtMs;
      if (toCheck.size < CHECKED && !toCheck.has(planned.input)) toCheck.set(planned.input, { record: records.length, response });
      records.push({ ...base, startedAtMs: startedAtMs - begunAtMs, latencyMs, slaMs, ok: true, steps: response.steps.map(stepOf) });
    } catch (error) {
      signal.throwIfAborted();
      if (index < cell.warmUp || index >= end) return;
      const problem = MetronomeError.from(error);
      records.push({ ...base, startedAtMs: startedAtMs - begunAtMs, latencyMs: performance.now() - startedAtMs, slaMs, ok: false, problem: `${problem.code}: ${problem.message}`.slice(0, 500), steps: [] });
    }
  };
  const start = (): Promise<void> => {
    const index = next++;
    if (index === cell.warmUp) {
      begunAtMs = performance.now();
      cpuBefore = cpuTimes();
    } else if (index === end) {
      endedAtMs = performance.now();
      cpuAfter = cpuTimes();
    }
    return one(index, executions[index] as PlannedExecution); // within bounds
  };
  if (ratePerS === undefined) {
    await Promise.all(Array.from({ length: cell.concurrency }, async () => {
      while (next < executions.length && !signal.aborted) await start();
    }));
  } else {
    const openedAtMs = performance.now();
    const running: Promise<void>[] = [];
    let failure: unknown;
    while (next < executions.length && !signal.aborted) {
      await sleepUntil(openedAtMs + (executions[next]?.atMs ?? 0), signal);
      // Looked at below, when the last one ended: nobody awaits it before.
      running.push(start().catch((error: unknown) => void (failure ??= error)));
    }
    await Promise.all(running);
    if (failure !== undefined) throw failure;
  }
  signal.throwIfAborted();
  for (const [i, { record, response }] of toCheck) {
    const { problems } = await checkRun({ client, input: inputs[i] as ApplicationInput, dir: options.dir, signal }, response); // it was planned
    const before = records[record];
    if (problems.length > 0 && before !== undefined) records[record] = { ...before, ok: false, problem: `wrong result: ${problems.join('; ')}`.slice(0, 500) };
  }
  const hostCpu = (cpuAfter.busy - cpuBefore.busy) / Math.max(1, cpuAfter.all - cpuBefore.all);
  return {
    records: records.sort((a, b) => a.index - b.index),
    conditions: { seconds: (endedAtMs - begunAtMs) / 1_000, slotUtilisation: slotUtilisation(records, endedAtMs - begunAtMs, preset.nodes * preset.slots), hostCpu, isSaturated: hostCpu >= SATURATED_FROM },
  };
}

function stepOf({ function: name, node, phases, predictedMs, locality }: Invocation): StepRecord {
  const at = (value: number | undefined): number => Math.round((value ?? 0) * 1_000) / 1_000;
  return {
    function: originalName(name), node, startState: START_STATES[phases?.startState ?? 0] ?? START_STATE_NAMES[0],
    queuedMs: at(phases?.queuedMs), delayedMs: at(phases?.delayedMs), fetchMs: at(phases?.fetchedMs), initMs: at(phases?.initialisedMs), runMs: at(phases?.ranMs), predictedMs: at(predictedMs),
    local: locality?.class === LocalityClass.LOCAL,
  };
}

function overridesKey({ variant: { overrides } }: Cell): string {
  return JSON.stringify(Object.fromEntries(Object.entries(overrides).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** "delay.localityGain" → "METRONOME_DELAY__LOCALITY_GAIN". */
function envName(key: string): string {
  const field = configFields.find((each) => each.key === key);
  if (field === undefined) throw new MetronomeError('INVALID_REQUEST', `A variant overrides "${key}", which is no key of the configuration.`);
  return field.env;
}

/** What npm and the caller's own configuration set is nothing to the measured cluster. */
function environment(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('npm_') && !name.startsWith('METRONOME_')));
}

/** Resolves at that time of performance.now(), or as soon as the signal aborts. */
function sleepUntil(atMs: number, signal: AbortSignal): Promise<void> {
  const restMs = atMs - performance.now();
  return restMs <= 0 || signal.aborted ? Promise.resolve() : delay(restMs, undefined, { signal }).catch(() => {}); // who waits looks at the signal
}

/** CPU time of all CPUs of this machine since its start. */
function cpuTimes(): { readonly busy: number; readonly all: number } {
  let busy = 0, idle = 0;
  for (const { times } of cpus()) {
    busy += times.user + times.nice + times.sys + times.irq;
    idle += times.idle;
  }
  return { busy, all: busy + idle };
}
