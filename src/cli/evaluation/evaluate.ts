/** An evaluation from its options to its report: plans the cells, runs those that are missing, and writes what there is. */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';
import { MetronomeError } from '../../core/errors.ts';
import { formatMs } from '../../core/units.ts';
import type { Backend } from '../../evaluation/backend.ts';
import type { ClusterPreset } from '../../evaluation/cluster-preset.ts';
import { estimateMs } from '../../evaluation/estimate.ts';
import { planCells, type Cell, type PlanOptions } from '../../evaluation/plan.ts';
import { writeReport, type ReportResult } from '../../evaluation/report.ts';
import { openResultFolder } from '../../evaluation/result-folder.ts';
import { PURPOSES, runCells } from '../../evaluation/run-cells.ts';
import { variantNamed, type Variant } from '../../evaluation/variant.ts';
import type { ApplicationName } from '../../workload/applications.ts';
import { openRealBackend, removeLeftFolder } from './real-backend.ts';
import { RQ3_BENCHES, readRq3Benches, rq3Plots, runRq3Benches, type FailedBench } from './rq3-benches.ts';
import { openSimulatedBackend } from './simulated-backend.ts';

/** What the nodes were: for a report that is written later. */
const PLACE_FILE = 'place.json';
/** Names the temporary folder of the nodes. */
const TEMPORARY_FILE = 'temporary-folder';
const placeSchema = z.object({ description: z.string(), parameters: z.record(z.string(), z.unknown()) });

/** Where an evaluation runs. */
export const PLACES = ['emulated', 'process', 'simulation'] as const;

/** One of them. */
export type EvaluationPlace = (typeof PLACES)[number];

/** What is evaluated. */
export interface EvaluationOptions {
  readonly where: EvaluationPlace;
  /** Research questions: 1, 2, 3. */
  readonly questions: readonly number[];
  readonly preset: ClusterPreset;
  readonly applications: readonly ApplicationName[];
  readonly variants: readonly Variant[];
  readonly sweeps: readonly Variant[];
  readonly concurrency: Readonly<Record<ApplicationName, number>>;
  readonly levels: readonly number[];
  readonly seeds: readonly number[];
  readonly executions: number;
  readonly levelExecutions: number;
  readonly slaExecutions: number;
  readonly trainExecutions: number;
  readonly warmUp: number;
  /** For the levels of RQ2. @default warmUp */
  readonly levelWarmUp?: number;
  /** @default 0 */
  readonly warmUpPerClient?: number;
  /** Inputs of each application. */
  readonly inputs: number;
  readonly quick: boolean;
  /** Simulation: file of what functions cost. @default apps/profiles.json */
  readonly profiles?: string;
  /** Benches of question 3, by name. @default all, on real nodes */
  readonly benches?: readonly string[];
  /** After this time no further cell and no further bench is begun, ms. @default without end */
  readonly maxMs?: number;
  /** Folder of the results. */
  readonly out: string;
  readonly resume: boolean;
  /** As it was typed; stands in the report. */
  readonly command: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

/** What came of an evaluation. */
export interface Evaluated extends ReportResult {
  /** Folder of the report. */
  readonly path: string;
  /** Cells that were not begun because the time was over. */
  readonly cellsLeft: number;
  readonly failedBenches: readonly FailedBench[];
}

/** Runs it. What was measured before an error or Ctrl-C is reported all the same, and `resume` goes on from there. */
export async function evaluate(options: EvaluationOptions): Promise<Evaluated> {
  const { questions, progress, signal, quick, where } = options;
  const begunAtMs = performance.now();
  const isOver = (): boolean => performance.now() - begunAtMs >= (options.maxMs ?? Infinity);
  const isSimulated = where === 'simulation';
  const cells = planCells(planOf(options));
  const path = resolve(options.cwd, options.out);
  const folder = await openResultFolder(path, asked(options), options.resume);
  const benches = { benches: questions.includes(3) && !isSimulated ? RQ3_BENCHES.filter(({ name }) => options.benches?.includes(name) ?? true) : [], quick, seed: options.seeds[0] ?? 1, folder };
  let backend: Backend | undefined;
  let place = placeSchema.safeParse(parseJson(await folder.read(PLACE_FILE))).data ?? { description: `${options.preset.nodes} nodes × ${options.preset.slots} slots`, parameters: { ...options.preset } };
  const { figures: kept, missing } = await readRq3Benches(benches);
  let figures: ReportResult['figures'] = kept;
  let failedBenches: readonly FailedBench[] = [];
  let cellsLeft = 0;
  /** What the nodes are is known once they run. */
  const keepPlace = async (opened: Backend): Promise<void> => {
    place = { description: opened.describe(), parameters: { ...opened.parameters() } };
    await folder.write(PLACE_FILE, `${JSON.stringify(place)}\n`);
  };
  const report = async (): Promise<ReportResult> => writeReport({ folder, cells, variants: [...options.variants, ...options.sweeps], isSimulated, description: place.description, parameters: { ...place.parameters, ...asked(options), seeds: options.seeds }, command: options.command, figures, benchPlots: await rq3Plots(benches), failedBenches });
  try {
    const left = cells.filter(({ id }) => !folder.ended.has(id));
    if (left.length > 0) {
      await removeLeftFolder((await folder.read(TEMPORARY_FILE)) ?? '');
      progress(outlook(left, missing, isSimulated, quick));
      backend = await openBackend(options, (temporary) => folder.write(TEMPORARY_FILE, temporary));
      // Who is killed has inputs and sizes at least.
      await keepPlace(backend);
      cellsLeft = await runCells({ cells, folder, backend, slots: options.preset.nodes * options.preset.slots, nowMs: () => performance.now(), isOver, signal, progress });
      await keepPlace(backend);
      await backend.close();
      backend = undefined;
      if (cellsLeft > 0) progress(`The time is over: ${cellsLeft} of ${cells.length} cells were not begun; --resume runs them.`);
    }
    if (missing.length > 0) ({ figures, failed: failedBenches } = await runRq3Benches({ ...benches, isOver, signal, progress }));
    return { ...(await report()), path, cellsLeft, failedBenches };
  } catch (error) {
    ({ figures } = await readRq3Benches(benches));
    if (folder.ended.size > 0 || figures.length > 0) {
      if (backend !== undefined) await keepPlace(backend);
      await report();
      progress(`What was measured so far is in ${path}; --resume goes on from there.`);
    }
    if (signal.aborted) throw new MetronomeError('CANCELLED', 'The evaluation was stopped.', { cause: error });
    throw error;
  } finally {
    await backend?.close();
  }
}

/** "104 cells to run (4 latency target, 4 training, 96 comparison), about 1h 20m; then 5 benches, about 8m 0s". */
function outlook(left: readonly Cell[], benches: readonly { readonly seconds: number; readonly quickSeconds: number }[], isSimulated: boolean, quick: boolean): string {
  const purposes = [...new Set(left.map(({ purpose }) => purpose))].map((purpose) => `${left.filter((cell) => cell.purpose === purpose).length} ${PURPOSES[purpose]}`);
  const benchMs = 1_000 * benches.reduce((sum, { seconds, quickSeconds }) => sum + (quick ? quickSeconds : seconds), 0);
  return `${left.length} ${left.length === 1 ? 'cell' : 'cells'} to run (${purposes.join(', ')}), about ${formatMs(estimateMs(left, isSimulated, isSimulated ? availableParallelism() : 1))} on two quiet cores${benches.length === 0 ? '' : `; then ${benches.length} ${benches.length === 1 ? 'bench' : 'benches'}, about ${formatMs(benchMs)}`}`;
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? 'null');
  } catch {
    return undefined; // the default stands in
  }
}

function planOf(options: EvaluationOptions): PlanOptions {
  const compares = options.questions.some((question) => question !== 3) || options.where === 'simulation';
  return {
    ...options, reference: variantNamed('data-locality'), trainers: [variantNamed('round-robin'), ...options.variants.filter(({ policy }) => policy === 'aquatope')],
    // Accuracy is that of the predictions at dispatch: for question 3 alone, our two policies do.
    variants: compares ? options.variants : options.variants.filter(({ role }) => role === 'ours'),
    levels: options.questions.includes(2) ? options.levels : [],
    // In simulation every cell trains a model of its own, the same way.
    trainExecutions: options.where === 'simulation' ? 0 : options.trainExecutions,
  };
}

/** What decides about the numbers of a cell: an evaluation is only resumed with the same. More policies, applications, levels, seeds or sweeps are more cells, which may be added. */
function asked({ where, preset, concurrency, seeds, executions, levelExecutions, slaExecutions, trainExecutions, warmUp, levelWarmUp = warmUp, warmUpPerClient = 0, inputs, profiles }: EvaluationOptions): Readonly<Record<string, unknown>> {
  return { where, preset, concurrency, ...(profiles === undefined ? {} : { profiles }), firstSeed: seeds[0], executions, levelExecutions, slaExecutions, trainExecutions, warmUp, ...(levelWarmUp === warmUp ? {} : { levelWarmUp }), warmUpPerClient, inputs };
}

async function openBackend(options: EvaluationOptions, onFolder: (path: string) => Promise<void>): Promise<Backend> {
  const { where, preset, applications, inputs, env, cwd, signal, progress, seeds } = options;
  if (where === 'simulation') return openSimulatedBackend({ preset, applications, seed: seeds[0] ?? 1, inputs, training: options.trainExecutions, ...(options.profiles === undefined ? {} : { profiles: resolve(cwd, options.profiles) }) });
  return openRealBackend({ preset, applications, isEmulated: where === 'emulated', seed: seeds[0] ?? 1, inputs, onFolder, env, cwd, signal, progress });
}
