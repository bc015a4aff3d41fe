/** About how long cells take, for who starts an evaluation and for the time that is left: measured on two cores, more or less elsewhere. */
import type { ApplicationName } from '../workload/applications.ts';
import { coolDownOf, type Cell } from './plan.ts';

/** On the emulated cluster, ms: an execution alone, and an execution at the most that the cluster does at once (means over all policies in bench/results/paper-emulated). */
const REAL: Readonly<Record<ApplicationName, { readonly alone: number; readonly least: number }>> = {
  video: { alone: 3_800, least: 2_000 }, log: { alone: 2_700, least: 750 }, document: { alone: 2_500, least: 500 }, inference: { alone: 2_600, least: 550 },
};
/** Ending sandboxes, storing inputs, checking results; ms per cell. Deploying, installing and making inputs; ms per application. */
const REAL_CELL_MS = 3_000, REAL_APPLICATION_MS = 60_000;
/** In simulation, CPU ms per execution: under policies that ask the model, and under others. */
const SIMULATED: Readonly<Record<ApplicationName, { readonly predicting: number; readonly other: number }>> = {
  video: { predicting: 7, other: 0.6 }, log: { predicting: 9, other: 0.6 }, document: { predicting: 0.8, other: 0.15 }, inference: { predicting: 0.8, other: 0.15 },
};
/** Starting the threads, training the models in each of them, ms. */
const SIMULATED_START_MS = 6_000;

/** The only policies that look at predictions. */
export const PREDICTING: readonly string[] = ['metronome', 'lookahead'];

/** What a cell takes, ms of one place where cells run. */
export function cellMs(cell: Cell, isSimulated: boolean): number {
  const executions = cell.warmUp + cell.executions + coolDownOf(cell);
  if (isSimulated) return executions * SIMULATED[cell.application][PREDICTING.includes(cell.variant.policy) ? 'predicting' : 'other'];
  const { alone, least } = REAL[cell.application];
  return REAL_CELL_MS + executions * Math.max(least, alone / Math.max(1, cell.concurrency));
}

/** What cells take from the start of the backend on, ms, so many at once. */
export function estimateMs(cells: readonly Cell[], isSimulated: boolean, parallel: number): number {
  const preparing = isSimulated ? SIMULATED_START_MS : REAL_APPLICATION_MS * new Set(cells.map(({ application }) => application)).size;
  return preparing + cells.reduce((sum, cell) => sum + cellMs(cell, isSimulated), 0) / parallel;
}
