/**
 * An evaluation that ran on real nodes (`metronome bench paper --where emulated`), simulated again: the same cells in the same order with the same executions on the same
 * inputs, by a model that learns as the real one did. Costs are fitted to the cells of the latency targets and of the training only; what is compared are all others.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { PROJECT_ROOT } from '../src/cli/project.ts';
import { MetronomeError } from '../src/core/errors.ts';
import { loadApplicationModel, PROFILES_FILE } from '../src/evaluation/application-models.ts';
import { CLUSTER_PRESETS, type ClusterPreset } from '../src/evaluation/cluster-preset.ts';
import { parseRecord, type ExecutionRecord } from '../src/evaluation/execution-record.ts';
import { planExecutions, warmUpOf, type PlannedExecution } from '../src/evaluation/plan.ts';
import { bytesRead, samplesOfCell } from '../src/evaluation/record-samples.ts';
import { simulateApplications } from '../src/evaluation/simulate-applications.ts';
import { variantNamed } from '../src/evaluation/variant.ts';
import { createOnlineModel } from '../src/predictor/model/online-model.ts';
import type { ApplicationModel, SimulatedInput } from '../src/sim/applications.ts';
import { calibrate, type Calibration } from '../src/sim/calibrate.ts';
import { formatProfiles, readProfiles } from '../src/sim/profile-file.ts';
import { medianOf, quantileOf, winsorised } from '../src/sim/robust-fit.ts';
import type { ApplicationName } from '../src/workload/applications.ts';
import { placesOf } from '../src/workflow/graph.ts';
import type { BenchResult } from './harness.ts';
import { factorsOf, figure, figuresOf, meanOf, partsText, rankingAgreement, relative, rounded, rowText, type Parts, type Row } from './validity-rows.ts';

/** How often everything is simulated with other noise. */
const REPLICAS = 6;
/** Share of the rests of executions at either end that are cut off. */
const CUT = 0.05;

const runSchema = z.object({ where: z.literal('emulated', { error: 'must be "emulated": only real nodes say what is true' }), preset: z.object({ name: z.enum(['emulated', 'paper']) }).loose(), firstSeed: z.int(), warmUp: z.int(), warmUpPerClient: z.int().default(0), inputs: z.int() });
const placeSchema = z.object({ parameters: z.object({ inputBytes: z.record(z.string(), z.array(z.number().positive())) }) });
const cellSchema = z.object({ id: z.string(), fromByte: z.int(), toByte: z.int() });

interface RealCell {
  readonly id: string;
  /** Fitted to, or compared. */
  readonly isFitted: boolean;
  readonly application: ApplicationName;
  readonly variant: string;
  readonly concurrency: number;
  readonly seed: number;
  readonly warmUp: number;
  readonly calls: readonly PlannedExecution[];
  readonly records: readonly ExecutionRecord[];
}

interface Fitted {
  readonly calibration: Calibration;
  /** With the fitted costs. */
  readonly model: ApplicationModel;
  readonly messageMs: number;
  readonly latencyMs: number;
}

/** Compares. Throws for a folder that holds no evaluation on real nodes. */
export async function compareRecords(folder: string, quick: boolean, out: string | undefined, progress: (text: string) => void): Promise<BenchResult> {
  const run = await readPart(folder, 'run.json', runSchema), { inputBytes } = (await readPart(folder, 'place.json', placeSchema)).parameters;
  const preset: ClusterPreset = { ...CLUSTER_PRESETS[run.preset.name], ...run.preset };
  const cells = await readCells(folder, preset, run);
  const known = await readProfiles(join(PROJECT_ROOT, 'apps', PROFILES_FILE));
  const applications = new Map<ApplicationName, { readonly model: ApplicationModel; readonly inputs: readonly SimulatedInput[]; readonly fitted: Fitted }>();
  for (const name of new Set(cells.map(({ application }) => application))) {
    const model = await loadApplicationModel(name, join(PROJECT_ROOT, 'apps'), known);
    const inputs = (inputBytes[name] ?? []).map((bytes, i): SimulatedInput => ({ bytes, node: i % preset.nodes }));
    const fitted = fit(cells.filter(({ application }) => application === name), model, inputs, preset);
    for (const { function: each, profile, byContent } of fitted.calibration.functions) progress(`  ${each}: start ${profile.processMs} + ${profile.importMs}, run ${profile.runMs} + ${profile.runMsPerMib}/MiB, first × ${profile.freshFactor ?? 1}, noise ${profile.noise}, on one input ${byContent?.profile.noise ?? Number.NaN}`);
    progress(`${name}: message ${fitted.messageMs.toFixed(1)} ms, transfers begin after ${fitted.latencyMs.toFixed(1)} ms, contention ${fitted.calibration.contention.toFixed(2)}`);
    applications.set(name, { model: fitted.model, inputs: inputs.map((input, i) => ({ ...input, factors: factorsOf(fitted.calibration, model, i) })), fitted });
  }
  const deployed = [...applications.values()].map(({ model }) => model);
  const simulated = new Map<string, ExecutionRecord[]>();
  const replicas = quick ? 2 : REPLICAS;
  for (let replica = 0; replica < replicas; replica++) {
    // One model for all applications, and in the real order: with few observations there is no forest yet.
    const learned = createOnlineModel({ seed: run.firstSeed + replica });
    for (const cell of cells) {
      const { model, inputs, fitted: { messageMs, latencyMs, calibration } } = applications.get(cell.application)!; // every cell's is there
      const { records } = simulateApplications({
        preset, application: model, variant: withWindow(cell.variant, preset), seed: cell.seed + 31 * replica, concurrency: cell.concurrency, executions: cell.calls.length - cell.warmUp, warmUp: cell.warmUp, calls: cell.calls, inputs, deployed,
        ...(cell.records[0] === undefined || cell.records[0].slaMs === 0 ? {} : { slaMs: cell.records[0].slaMs }),
        cluster: { messageMs, latencyMs, contention: calibration.contention, installed: true, zygotes: preset.zygotes === 'auto' },
      }, learned);
      const counted = new Set(cell.records.map(({ index }) => index));
      simulated.set(cell.id, [...(simulated.get(cell.id) ?? []), ...records.filter(({ index }) => counted.has(index))]);
    }
  }
  if (out !== undefined) {
    await mkdir(out, { recursive: true });
    const all = [...applications.values()], note = `fitted to an evaluation on ${preset.nodes} emulated nodes: ${[...applications.keys()].join(', ')}`;
    const over = (of: (fitted: Fitted) => number): number => rounded(meanOf(all.map(({ fitted }) => of(fitted))));
    await writeFile(join(out, 'profiles.json'), formatProfiles({ functions: all.flatMap(({ model }) => model.functions.map(({ name, profile }) => ({ function: name, profile }))) }, note, { messageMs: over((fitted) => fitted.messageMs), latencyMs: over((fitted) => fitted.latencyMs), contention: over(({ calibration }) => calibration.contention) }));
    await writeFile(join(out, 'sim-validity-records.jsonl'), [...simulated.values()].flat().map((record) => `${JSON.stringify(record)}\n`).join(''));
  }
  const rows = cells.filter(({ isFitted }) => !isFitted).map((cell) => {
    const real = cell.records.filter(({ ok }) => ok), virtual = (simulated.get(cell.id) ?? []).filter(({ ok }) => ok);
    const measured = real.map(({ latencyMs }) => latencyMs), times = virtual.map(({ latencyMs }) => latencyMs);
    const row: Row = { name: `${cell.application}_c${cell.concurrency}_${cell.variant.replaceAll('-', '_')}`, application: `${cell.application} (${cell.concurrency})`, policy: cell.variant, realMean: meanOf(measured), simMean: meanOf(times), realP95: quantileOf(measured, 0.95), simP95: quantileOf(times, 0.95), count: measured.length };
    progress(rowText(row));
    progress(`  all steps of an execution: measured ${partsText(partsOf(real), real.length)}; simulated ${partsText(partsOf(virtual), virtual.length)}`);
    return row;
  });
  // The same cell of the same policy, once for the model and once to be compared: how well reality repeats itself.
  const repeated = rows.flatMap(({ realMean }, i) => {
    const cell = cells.filter(({ isFitted }) => !isFitted)[i];
    const before = cells.find(({ id }) => id === cell?.id.replace('compare/', 'train/') && id !== cell.id);
    return before === undefined ? [] : [relative(meanOf(before.records.filter(({ ok }) => ok).map(({ latencyMs }) => latencyMs)), realMean)];
  });
  return {
    mode: 'sim',
    figures: [...figuresOf(rows), ...(repeated.length === 0 ? [] : [figure('real_repetition_median', '%', medianOf(repeated), repeated)])],
    params: { preset, replicas, ranking: rankingAgreement(rows).pairs, fits: Object.fromEntries([...applications].map(([name, { fitted: { messageMs, latencyMs, calibration } }]) => [name, { messageMs: rounded(messageMs), latencyMs: rounded(latencyMs), contention: calibration.contention }])) },
  };
}

/** What the files of an evaluation are, for messages. */
const PARTS: Readonly<Record<string, string>> = { 'run.json': 'says what was asked for', 'place.json': 'says what the nodes and inputs were and is written once an evaluation runs', 'cells.jsonl': 'lists the cells that ended', 'records.jsonl': 'holds the executions' };

async function readBytes(folder: string, name: string): Promise<Buffer> {
  return readFile(join(folder, name)).catch((cause: unknown) => {
    const isMissing = cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR');
    throw new MetronomeError('INVALID_REQUEST', isMissing
      ? `"${folder}" holds no evaluation that can be compared: ${name} is missing, which ${PARTS[name]}. Name the folder of an evaluation on real nodes (metronome bench paper --out <folder>), begun at least; --resume ends one that was stopped.`
      : `${join(folder, name)} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`, { cause });
  });
}

async function readPart<T>(folder: string, name: string, schema: z.ZodType<T>): Promise<T> {
  const text = (await readBytes(folder, name)).toString('utf8');
  const parsed = schema.safeParse(parseJson(text));
  if (!parsed.success) throw new MetronomeError('INVALID_REQUEST', `${join(folder, name)} is not what an evaluation on real nodes writes: ${parsed.error.issues.slice(0, 3).map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`).join('; ')}.`);
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the schema says that it is none
  }
}

async function readCells(folder: string, preset: ClusterPreset, run: z.output<typeof runSchema>): Promise<RealCell[]> {
  const bytes = await readBytes(folder, 'records.jsonl');
  const lines = (await readBytes(folder, 'cells.jsonl')).toString('utf8').split('\n').slice(0, -1);
  // Open loops have no clients.
  const cells = lines.filter((line) => !line.includes('/c0/')).map((line): RealCell => {
    const { id, fromByte, toByte } = cellSchema.parse(JSON.parse(line));
    const [purpose = '', name = '', variant = '', clients = '', seedText = ''] = id.split('/');
    const application = name as ApplicationName; // an evaluation wrote it
    const concurrency = Number(clients.slice(1)), seed = Number(seedText.slice(1));
    const records = bytes.subarray(fromByte, toByte).toString('utf8').split('\n').flatMap((text) => parseRecord(text) ?? []);
    const executions = Math.max(0, ...records.map(({ index }) => index + 1));
    const warmUp = warmUpOf(run, concurrency);
    return { id, isFitted: purpose === 'sla' || purpose === 'train', application, variant, concurrency, seed, warmUp, records, calls: planExecutions({ seed, application, concurrency, warmUp, executions }, preset.copies, run.inputs) };
  });
  if (!cells.some(({ isFitted }) => isFitted) || cells.every(({ isFitted }) => isFitted)) throw new MetronomeError('INVALID_REQUEST', `The evaluation in "${folder}" has ${cells.length === 0 ? 'no cell that ended' : cells[0]?.isFitted === true ? 'no cell beyond those that costs are fitted to' : 'no cells that costs can be fitted to'} yet. Go on with it: metronome bench paper --out "${folder}" --resume.`);
  return cells;
}

function fit(cells: readonly RealCell[], model: ApplicationModel, inputs: readonly SimulatedInput[], preset: ClusterPreset): Fitted {
  const linkBytesPerMs = preset.linkBitsPerS / 8_000;
  const sizes = bytesRead(model, inputs);
  const samples = cells.flatMap(({ isFitted, calls, warmUp, records }, i) => (isFitted ? samplesOfCell({ application: model, calls, warmUp, records }, inputs, sizes, i, linkBytesPerMs) : []));
  const calibration = calibrate(samples, { ...(preset.hostCpus === undefined ? {} : { hostCores: preset.hostCpus }), nodeCores: preset.cpus, linkBytesPerMs });
  const fitted = new Map(calibration.functions.map(({ function: name, profile, byContent }) => [name, byContent?.profile ?? profile]));
  return {
    calibration, messageMs: messageMs(cells.filter(({ isFitted }) => isFitted).flatMap(({ records }) => records), model), latencyMs: calibration.link?.latencyMs ?? 0,
    // What functions make was not recorded.
    model: { ...model, functions: model.functions.map((each) => ({ ...each, profile: { ...(fitted.get(each.name) ?? each.profile), output: each.profile.output } })) },
  };
}

/** What is left of executions after the longest step of each stage, for each of the messages that these take. */
function messageMs(records: readonly ExecutionRecord[], { workflow }: ApplicationModel): number {
  const places = placesOf(workflow.steps);
  const rests = records.filter(({ ok }) => ok).map(({ latencyMs, steps }) => {
    const stages: number[] = [];
    for (const { name, function: called } of workflow.steps) {
      const stage = places.get(name)?.stage ?? 0;
      stages[stage] = Math.max(stages[stage] ?? 0, ...steps.filter((step) => step.function === called).map(({ queuedMs, delayedMs, fetchMs, initMs, runMs }) => queuedMs + delayedMs + fetchMs + initMs + runMs));
    }
    return (latencyMs - stages.reduce((sum, ms) => sum + ms, 0)) / (2 * stages.length);
  });
  return Math.max(0, winsorised(rests, CUT).mean);
}

function partsOf(records: readonly ExecutionRecord[]): Parts {
  const steps = records.flatMap((record) => record.steps);
  const sum = (of: (step: (typeof steps)[number]) => number): number => steps.reduce((total, step) => total + of(step), 0);
  return { queued: sum((step) => step.queuedMs), delayed: sum((step) => step.delayedMs), fetch: sum((step) => step.fetchMs), init: sum((step) => step.initMs), run: sum((step) => step.runMs), cold: sum(({ startState }) => (startState === 'warm' ? 0 : 1)) };
}

function withWindow(name: string, { poolWindowMs }: ClusterPreset): Parameters<typeof simulateApplications>[0]['variant'] {
  const variant = variantNamed(name);
  return { ...variant, overrides: { 'policies.poolWindow': `${poolWindowMs}ms`, ...variant.overrides } };
}
