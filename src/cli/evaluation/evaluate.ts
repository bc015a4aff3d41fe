/** An evaluation from its options to its report: plans the cells, runs those that are missing, and writes what there is. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { MetronomeError } from '../../core/errors.ts';
import type { Backend } from '../../evaluation/backend.ts';
import type { ClusterPreset } from '../../evaluation/cluster-preset.ts';
import type { NamedFigure } from '../../evaluation/deviation.ts';
import { planCells, type PlanOptions } from '../../evaluation/plan.ts';
import { writeReport, type ReportResult } from '../../evaluation/report.ts';
import { openResultFolder } from '../../evaluation/result-folder.ts';
import { runCells } from '../../evaluation/run-cells.ts';
import { variantNamed, type Variant } from '../../evaluation/variant.ts';
import type { ApplicationName } from '../../workload/applications.ts';
import { openRealBackend, removeLeftFolder } from './real-backend.ts';
import { runRq3Benches } from './rq3-benches.ts';
import { openSimulatedBackend } from './simulated-backend.ts';

/** What the nodes were, and what the benches of RQ3 gave: for a report that is written later. */
const PLACE_FILE = 'place.json', FIGURES_FILE = 'rq3.json';
/** Names the temporary folder of the nodes. */
const TEMPORARY_FILE = 'temporary-folder';
const placeSchema = z.object({ description: z.string(), parameters: z.record(z.string(), z.unknown()) });
const figuresSchema = z.array(z.object({ name: z.string(), unit: z.string(), value: z.number() }));

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
  /** Inputs of each application. */
  readonly inputs: number;
  readonly quick: boolean;
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

/** Runs it. What was measured before an error or Ctrl-C is reported all the same, and `resume` goes on from there. */
export async function evaluate(options: EvaluationOptions): Promise<ReportResult & { readonly path: string }> {
  const { questions, progress, signal } = options;
  const cells = planCells(planOf(options));
  const path = resolve(options.cwd, options.out);
  const folder = await openResultFolder(path, asked(options), options.resume);
  let backend: Backend | undefined;
  let place = placeSchema.safeParse(JSON.parse((await folder.read(PLACE_FILE)) ?? 'null')).data ?? { description: `${options.preset.nodes} nodes × ${options.preset.slots} slots`, parameters: { ...options.preset } };
  let figures: readonly NamedFigure[] = figuresSchema.safeParse(JSON.parse((await folder.read(FIGURES_FILE)) ?? 'null')).data ?? [];
  /** What the nodes are is known once they run. */
  const keepPlace = async (opened: Backend): Promise<void> => {
    place = { description: opened.describe(), parameters: { ...opened.parameters() } };
    await folder.write(PLACE_FILE, `${JSON.stringify(place)}\n`);
  };
  const report = async (): Promise<ReportResult> => writeReport({ folder, cells, variants: [...options.variants, ...options.sweeps], isSimulated: options.where === 'simulation', description: place.description, parameters: { ...place.parameters, ...asked(options), seeds: options.seeds }, command: options.command, figures });
  try {
    if (cells.some(({ id }) => !folder.ended.has(id))) {
      await removeLeftFolder((await folder.read(TEMPORARY_FILE)) ?? '');
      backend = await openBackend(options, (temporary) => folder.write(TEMPORARY_FILE, temporary));
      await runCells({ cells, folder, backend, slots: options.preset.nodes * options.preset.slots, nowMs: () => performance.now(), signal, progress });
      await keepPlace(backend);
      await backend.close();
      backend = undefined;
    }
    if (questions.includes(3) && options.where !== 'simulation' && figures.length === 0) {
      figures = await runRq3Benches({ quick: options.quick, seed: options.seeds[0] ?? 1, out: path, signal, progress });
      await folder.write(FIGURES_FILE, `${JSON.stringify(figures)}\n`);
    }
    return { ...(await report()), path };
  } catch (error) {
    if (folder.ended.size > 0) {
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
function asked({ where, preset, concurrency, seeds, executions, levelExecutions, slaExecutions, trainExecutions, warmUp, inputs }: EvaluationOptions): Readonly<Record<string, unknown>> {
  return { where, preset, concurrency, firstSeed: seeds[0], executions, levelExecutions, slaExecutions, trainExecutions, warmUp, inputs };
}

async function openBackend(options: EvaluationOptions, onFolder: (path: string) => Promise<void>): Promise<Backend> {
  const { where, preset, applications, inputs, env, cwd, signal, progress, seeds } = options;
  if (where === 'simulation') return openSimulatedBackend({ preset, applications, seed: seeds[0] ?? 1, inputs, training: options.trainExecutions });
  return openRealBackend({ preset, applications, isEmulated: where === 'emulated', seed: seeds[0] ?? 1, inputs, onFolder, env, cwd, signal, progress });
}
