/**
 * Bench `sim-validity`: does the simulator tell the truth? The same executions of the applications, on the same inputs, from the same clients in closed loops, on
 * an emulated cluster and in simulation, policy by policy. Profiles are fitted to the real cluster's runs of one seed; what is compared are runs of another:
 * other owners, other order, the same inputs, since what a document costs cannot be told from its size. With `--recording`, the folder of an evaluation on real nodes
 * is simulated again instead (validity-records.ts).
 * Figures are relative errors of the simulated mean and P95 against the measured ones, and how many pairs of policies both put in the same order.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { copyName, deployCopies, originalName } from '../src/cli/evaluation/copies.ts';
import { putFile } from '../src/cli/objects.ts';
import { PROJECT_ROOT } from '../src/cli/project.ts';
import { createRandom } from '../src/core/random.ts';
import { loadApplicationModel } from '../src/evaluation/application-models.ts';
import { EMULATED_CLUSTER, type ClusterPreset } from '../src/evaluation/cluster-preset.ts';
import { planExecutions, type PlannedExecution } from '../src/evaluation/plan.ts';
import { simulateApplications } from '../src/evaluation/simulate-applications.ts';
import { createOnlineModel, restoreOnlineModel, type OnlineModel } from '../src/predictor/model/online-model.ts';
import { parseLogHeader, parseObservation } from '../src/predictor/observation-log.ts';
import type { SchedulerClient } from '../src/rpc/client.ts';
import { StartState, type ObjectRef } from '../src/rpc/gen/metronome/v1/common.ts';
import type { InvokeResponse } from '../src/rpc/gen/metronome/v1/invoke.ts';
import type { ApplicationModel, SimulatedInput } from '../src/sim/applications.ts';
import { calibrate, type Calibration } from '../src/sim/calibrate.ts';
import type { CalibrationSample } from '../src/sim/calibration-samples.ts';
import { medianOf, quantileOf } from '../src/sim/robust-fit.ts';
import { loadApplication, type ApplicationInput, type ApplicationName } from '../src/workload/applications.ts';
import { createInputSizes } from '../src/workload/input-sizes.ts';
import { openBenchCluster } from './cluster.ts';
import type { Bench } from './harness.ts';
import { compareRecords } from './validity-records.ts';
import { factorsOf, figure, figuresOf, meanOf, partsText, rankingAgreement, rounded, rowText, type Parts, type Row } from './validity-rows.ts';

interface Plan {
  readonly applications: readonly ApplicationName[];
  readonly policies: readonly string[];
  readonly copies: number;
  readonly inputs: number;
  readonly warmUp: number;
  readonly executions: number;
}

const QUICK: Plan = { applications: ['document', 'log'], policies: ['round-robin', 'metronome'], copies: 2, inputs: 6, warmUp: 6, executions: 20 };
const FULL: Plan = { applications: ['video', 'log', 'document', 'inference'], policies: ['round-robin', 'naive-locality', 'metronome', 'lookahead'], copies: 3, inputs: 12, warmUp: 12, executions: 60 };
/** Seeds of the recording that is fitted to lie this far from those that are compared. */
const CALIBRATION_SEED = 1_000;
/** How often a simulated cell is repeated with other noise, for a mean without it. */
const REPLICAS = 6;
/** A node with a third of a core takes long to install what there is. */
const INSTALL_TIMEOUT_MS = 180_000;
/** The least share of steps whose inputs must be known. */
const LEAST_JOINED = 0.8;

interface Input {
  readonly file: ApplicationInput;
  readonly node: number;
}

/** One cell: an application under a policy with the executions of a seed. */
interface Cell {
  readonly application: ApplicationName;
  readonly policy: string;
  readonly seed: number;
  readonly inputs: readonly Input[];
  readonly calls: readonly PlannedExecution[];
}

interface Execution {
  readonly latencyMs: number;
  /** Place in the inputs of its cell. */
  readonly input: number;
  readonly response: InvokeResponse;
}

interface RealCell extends Cell {
  /** In order of their ends, warm-up first. */
  readonly executions: readonly Execution[];
  readonly failed: number;
}

/** The validity bench. */
export const simValidityBench: Bench = {
  description: 'the same executions on an emulated cluster and in simulation with profiles fitted to it: errors of mean and P95, order of the policies',
  async run({ seed, quick, out, recording, progress }) {
    if (recording !== undefined) return compareRecords(recording, quick, out, progress);
    const plan = quick ? QUICK : FULL;
    const preset: ClusterPreset = { ...EMULATED_CLUSTER, copies: plan.copies };
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-validity-'));
    const loadBefore = loadavg()[0];
    try {
      const real = await measure(preset, plan, seed, dir, progress);
      const fitted = fit(real.calibration, await readObservations(join(dir, 'observations', 'observations.jsonl')), preset);
      for (const { function: name, profile, samples, byStartState } of fitted.calibration.functions) progress(`  ${name}: ${samples} (${byStartState.join('/')}) install ${profile.installMs} start ${profile.processMs} + ${profile.importMs}, run ${profile.runMs} + ${profile.runMsPerMib}/MiB, first × ${profile.freshFactor}, noise ${profile.noise}, start noise ${profile.startNoise}`);
      progress(`sim-validity: fitted to ${fitted.samples.length} calls; contention ${fitted.calibration.contention.toFixed(2)}, message ${fitted.messageMs.toFixed(2)} ms, request ${fitted.requestMs.toFixed(2)} ms, transfers begin after ${(fitted.calibration.link?.latencyMs ?? 0).toFixed(1)} ms`);
      if (out !== undefined) await keep(out, 'sim-validity-calls.jsonl', fitted.samples);
      const rows = await compare(real.validation, fitted, preset, plan, seed, progress);
      if (out !== undefined) await keep(out, 'sim-validity-cells.jsonl', rows);
      const failed = [...real.calibration, ...real.validation].reduce((sum, cell) => sum + cell.failed, 0);
      return {
        mode: 'real',
        figures: [...figuresOf(rows), figure('failed', '', failed, [failed])],
        params: {
          ...plan, nodes: preset.nodes, slots: preset.slots, cpus: preset.cpus, hostCpus: preset.hostCpus, linkBitsPerS: preset.linkBitsPerS, emulation: real.emulation, replicas: REPLICAS, calibrationSeed: seed + CALIBRATION_SEED, ranking: rankingAgreement(rows).pairs,
          contention: fitted.calibration.contention, messageMs: rounded(fitted.messageMs), requestMs: rounded(fitted.requestMs), loadAverage: [loadBefore, loadavg()[0]],
        },
      };
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
};

async function keep(folder: string, name: string, values: readonly object[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), values.map((value) => `${JSON.stringify(value)}\n`).join(''));
}

// ── the real cluster ────────────────────────────────────────────────────────────────────────────────────────────────

async function measure(preset: ClusterPreset, plan: Plan, seed: number, dir: string, progress: (text: string) => void): Promise<{ calibration: RealCell[]; validation: RealCell[]; emulation: unknown }> {
  const bench = await openBenchCluster(preset.nodes, preset.slots, progress, [], {
    link: `${preset.linkBitsPerS / 1e6}mbit`, memoryBytes: preset.memoryBytes, ...(preset.hostCpus === undefined || preset.cpus < preset.hostCpus ? { cpus: preset.cpus } : {}),
    env: { METRONOME_MODEL__OBSERVATION_LOG: join(dir, 'observations'), METRONOME_AGENT__ZYGOTES: preset.zygotes, METRONOME_NODES__STALE_AFTER: '1s', METRONOME_NODES__LOST_AFTER: '15s' },
  });
  try {
    const { client, cluster } = bench;
    const aborting = new AbortController();
    const workflows = new Map<ApplicationName, string>();
    for (const name of plan.applications) {
      progress(`sim-validity: deploying ${name}`);
      const { folder, workflow } = await loadApplication(name, join(PROJECT_ROOT, 'apps'));
      workflows.set(name, workflow);
      const functions = await deployCopies(client, folder, plan.copies, preset.keepAliveMs, aborting.signal);
      // Packages on every node from the beginning, in both worlds. With a share of a core each that takes its time.
      await Promise.all(cluster.nodeNames.map(async (node) => {
        for (const each of functions) {
          await client.prewarmNode({ name: node, function: each, count: 1 }, { timeoutMs: INSTALL_TIMEOUT_MS });
          await client.evictNode({ name: node, function: each });
        }
      }));
    }
    const run = async (application: ApplicationName, policy: string, cellSeed: number, inputs: readonly Input[]): Promise<RealCell> => {
      const cell: Cell = { application, policy, seed: cellSeed, inputs, calls: planExecutions({ seed: cellSeed, application, concurrency: preset.concurrency[application], warmUp: plan.warmUp, executions: plan.executions }, plan.copies, inputs.length) };
      for (const name of cluster.nodeNames) await client.evictNode({ name });
      await client.setPolicy({ policy });
      const objects: ObjectRef[] = [];
      for (const { file, node } of inputs) objects.push(await putFile({ client, gatewayUrl: cluster.httpUrl, node: cluster.nodeNames[node] }, file.path, '/'));
      const result = await runCell(client, cell, objects, preset.concurrency[application], (copy) => copyName(workflows.get(application) ?? '', copy));
      progress(`sim-validity: ${application}, ${policy}, seed ${cellSeed}: mean ${meanOf(counted(result, plan).map(({ latencyMs }) => latencyMs)).toFixed(0)} ms${result.failed === 0 ? '' : `, ${result.failed} FAILED`}`);
      return result;
    };
    const calibration: RealCell[] = [], validation: RealCell[] = [];
    for (const application of plan.applications) {
      const inputs = await makeInputs(preset, application, seed, plan.inputs, dir);
      // What is fitted and what is compared take turns, and policies stand in another order for every application: a drift of the machine hits all alike.
      for (const policy of shuffled(plan.policies, seed + application.length)) {
        calibration.push(await run(application, policy, seed + CALIBRATION_SEED, inputs));
        validation.push(await run(application, policy, seed, inputs));
      }
      for (const { file } of inputs) await rm(file.path, { force: true });
    }
    return { calibration, validation, emulation: cluster.emulation?.plan.labels ?? 'none' };
  } finally {
    await bench.close();
  }
}

async function makeInputs(preset: ClusterPreset, name: ApplicationName, seed: number, count: number, dir: string): Promise<Input[]> {
  const application = await loadApplication(name, join(PROJECT_ROOT, 'apps'));
  const sizes = createInputSizes({ application: name, seed, scale: preset.inputScale, factor: preset.inputFactor[name] });
  const inputs: Input[] = [];
  for (let i = 0; i < count; i++) inputs.push({ file: await application.makeInput({ seed: seed * 100 + i, sizeBytes: sizes.next(i), dir }), node: i % preset.nodes });
  return inputs;
}

async function runCell(client: SchedulerClient, cell: Cell, objects: readonly ObjectRef[], clients: number, workflowOf: (copy: number) => string): Promise<RealCell> {
  const executions: { at: number; execution: Execution }[] = [];
  let next = 0, failed = 0;
  await Promise.all(Array.from({ length: clients }, async () => {
    for (let at = next++; at < cell.calls.length; at = next++) {
      const { copy, input } = cell.calls[at] as PlannedExecution;
      const beganAt = performance.now();
      try {
        const response = await client.invoke({ function: workflowOf(copy), payload: Buffer.from(JSON.stringify(cell.inputs[input]?.file.payload ?? null)), inputs: [objects[input] as ObjectRef] });
        executions.push({ at, execution: { latencyMs: performance.now() - beganAt, input, response } });
      } catch {
        failed++; // counted, and a figure of the report
      }
    }
  }));
  return { ...cell, executions: executions.sort((a, b) => a.at - b.at).map(({ execution }) => execution), failed };
}

// ── what is learned from it ─────────────────────────────────────────────────────────────────────────────────────────

interface Fitted {
  readonly calibration: Calibration;
  readonly samples: readonly CalibrationSample[];
  readonly messageMs: number;
  readonly requestMs: number;
}

/** Input bytes, moved bytes and application of each execution of a function, found by its measured times. */
async function readObservations(path: string): Promise<Map<string, Pick<CalibrationSample, 'application' | 'inputBytes' | 'movedBytes' | 'stage' | 'fanOut'>>> {
  const [header = '', ...lines] = (await readFile(path, 'utf8')).trimEnd().split('\n');
  parseLogHeader(header, path);
  const found = new Map<string, Pick<CalibrationSample, 'application' | 'inputBytes' | 'movedBytes' | 'stage' | 'fanOut'>>();
  lines.forEach((line, i) => {
    const { function: name, application, situation: { inputBytes = 0, missingBytes = 0, stage = 0, fanOut = 1 }, phases } = parseObservation(line, `${path}:${i + 2}`);
    if (phases !== undefined) found.set(`${name} ${phases.fetchedMs} ${phases.initialisedMs} ${phases.ranMs}`, { application, inputBytes, movedBytes: missingBytes, stage, fanOut });
  });
  return found;
}

function fit(cells: readonly RealCell[], observations: Awaited<ReturnType<typeof readObservations>>, preset: ClusterPreset): Fitted {
  const samples: CalibrationSample[] = [];
  const messages: number[] = [], requests: number[] = [];
  let steps = 0;
  for (const { executions } of cells) {
    // Sandboxes end between cells.
    const runs = new Map<string, number>();
    for (const { latencyMs, input, response } of executions) {
      requests.push(latencyMs - (Math.max(...response.steps.map(({ endedAtUnixMs }) => endedAtUnixMs)) - Math.min(...response.steps.map(({ arrivedAtUnixMs }) => arrivedAtUnixMs))));
      for (const { function: name, node, phases, endedAtUnixMs } of response.steps) {
        if (phases === undefined) continue;
        steps++;
        messages.push(phases.dispatchedMs / 2);
        const { fetchedMs, initialisedMs, ranMs, startedMs, loadedMs, startState } = phases;
        const sandbox = `${name} ${node}`;
        const earlierRuns = startState === StartState.WARM ? (runs.get(sandbox) ?? 0) : 0;
        runs.set(sandbox, earlierRuns + 1);
        const known = observations.get(`${name} ${fetchedMs} ${initialisedMs} ${ranMs}`);
        if (known === undefined) continue;
        samples.push({ ...known, content: String(input), function: originalName(name), node, startState, earlierRuns, fetchedMs, initialisedMs, ranMs, ...(startState === StartState.WARM ? {} : { startedMs, loadedMs }), beganAtMs: endedAtUnixMs - phases.dispatchedMs / 2 - fetchedMs - initialisedMs - ranMs });
      }
    }
  }
  if (samples.length < LEAST_JOINED * steps) throw new Error(`bench sim-validity: ${samples.length} of ${steps} steps are in the recording of observations; too few to fit anything.`);
  const calibration = calibrate(samples, { ...(preset.hostCpus === undefined ? {} : { hostCores: preset.hostCpus }), nodeCores: preset.cpus, linkBytesPerMs: preset.linkBitsPerS / 8_000 });
  return { calibration, samples, messageMs: medianOf(messages), requestMs: Math.max(0, medianOf(requests)) };
}

// ── the comparison ──────────────────────────────────────────────────────────────────────────────────────────────────

async function compare(cells: readonly RealCell[], fitted: Fitted, preset: ClusterPreset, plan: Plan, seed: number, progress: (text: string) => void): Promise<Row[]> {
  const profiles = { note: 'fitted to the real cluster', functions: Object.fromEntries(fitted.calibration.functions.map(({ function: name, profile, byContent }) => [name, byContent?.profile ?? profile])) };
  const rows: Row[] = [];
  for (const application of plan.applications) {
    const model: ApplicationModel = await loadApplicationModel(application, join(PROJECT_ROOT, 'apps'), profiles);
    const known = cells.filter((each) => each.application === application);
    const simulate = (cell: RealCell, simulatedSeed: number, learned: OnlineModel) => simulateApplications({
      preset, application: model, variant: { name: cell.policy, policy: cell.policy, overrides: {} }, seed: simulatedSeed, concurrency: preset.concurrency[application], executions: cell.calls.length - plan.warmUp, warmUp: plan.warmUp,
      inputs: cell.inputs.map(({ file, node }, i): SimulatedInput => ({ bytes: file.sizeBytes, node, factors: factorsOf(fitted.calibration, model, i) })), calls: cell.calls,
      cluster: { messageMs: fitted.messageMs, requestMs: fitted.requestMs, contention: fitted.calibration.contention, installed: true, zygotes: preset.zygotes === 'auto', ...(fitted.calibration.link === undefined ? {} : { latencyMs: fitted.calibration.link.latencyMs }) },
    }, learned).records.filter(({ index }) => index < plan.executions);
    // The real model has seen the application under all policies before: so has this one.
    const taught = createOnlineModel({ seed });
    for (const cell of known) simulate(cell, seed + CALIBRATION_SEED, taught);
    const snapshot = taught.toSnapshot();
    for (const cell of known) {
      const { policy } = cell;
      const times: number[] = [];
      const parts = { queued: 0, delayed: 0, fetch: 0, init: 0, run: 0, cold: 0 };
      for (let replica = 0; replica < REPLICAS; replica++) {
        const records = simulate(cell, seed + 31 * replica, restoreOnlineModel(snapshot));
        times.push(...records.filter(({ ok }) => ok).map(({ latencyMs }) => latencyMs));
        for (const { steps } of records) {
          for (const step of steps) {
            parts.queued += step.queuedMs;
            parts.delayed += step.delayedMs;
            parts.fetch += step.fetchMs;
            parts.init += step.initMs;
            parts.run += step.runMs;
            if (step.startState !== 'warm') parts.cold++;
          }
        }
      }
      const measured = counted(cell, plan).map(({ latencyMs }) => latencyMs);
      const row: Row = { name: `${application}_${policy.replaceAll('-', '_')}`, application, policy, realMean: meanOf(measured), simMean: meanOf(times), realP95: quantileOf(measured, 0.95), simP95: quantileOf(times, 0.95), count: measured.length };
      progress(`sim-validity: ${rowText(row)}`);
      progress(`  all steps of an execution: measured ${partsText(measuredParts(counted(cell, plan)), row.count)}; simulated ${partsText(parts, times.length)}`);
      rows.push(row);
    }
  }
  return rows;
}

/** Those that count: what follows them only keeps the cluster busy until their end. */
function counted({ executions }: Pick<RealCell, 'executions'>, { warmUp, executions: count }: Plan): readonly Execution[] {
  return executions.slice(warmUp, warmUp + count);
}

function measuredParts(executions: readonly Execution[]): Parts {
  const parts: Parts = { queued: 0, delayed: 0, fetch: 0, init: 0, run: 0, cold: 0 };
  for (const { response } of executions) {
    for (const { phases } of response.steps) {
      if (phases === undefined) continue;
      parts.queued += phases.queuedMs;
      parts.delayed += phases.delayedMs;
      parts.fetch += phases.fetchedMs;
      parts.init += phases.initialisedMs;
      parts.run += phases.ranMs;
      if (phases.startState !== StartState.WARM) parts.cold++;
    }
  }
  return parts;
}

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = createRandom(seed, 62);
  return items.map((item) => ({ item, order: random.uniform() })).sort((a, b) => a.order - b.order).map(({ item }) => item);
}
