/** Runs the cells of a plan that have not ended yet, keeps what they give, and says how far it is and how long it will take. */
import { MetronomeError } from '../core/errors.ts';
import { formatMs } from '../core/units.ts';
import type { ExecutionRecord } from './execution-record.ts';
import type { Backend, Load } from './backend.ts';
import { cellMs } from './estimate.ts';
import type { Cell } from './plan.ts';
import type { ResultFolder } from './result-folder.ts';
import { meanOf, quantileOf } from './statistics.ts';

/** The latency target is so many times the 99th percentile of the reference with one client: the reference alone misses it hardly ever. */
export const SLA_FACTOR = 1.2;

/** What a cell is for, in words. */
export const PURPOSES: Readonly<Record<Cell['purpose'], string>> = { sla: 'latency target', train: 'training', compare: 'comparison', scale: 'concurrency', sweep: 'sweep' };

/** How to run. */
export interface RunCellsOptions {
  readonly cells: readonly Cell[];
  readonly folder: ResultFolder;
  readonly backend: Backend;
  /** Slots of all nodes. */
  readonly slots: number;
  readonly nowMs: () => number;
  /** No further cell is begun once it says so; those that run end. @default never */
  readonly isOver?: () => boolean;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

/** Runs them; rejects with what a cell threw, and what ended before stays. Returns how many were not begun because the time was over. */
export async function runCells({ cells, folder, backend, slots, nowMs, isOver = () => false, signal, progress }: RunCellsOptions): Promise<number> {
  const begunAtMs = nowMs();
  // Cells differ in length.
  const workOf = (cell: Cell): number => cellMs(cell, backend.isSimulated);
  const left = cells.filter((cell) => !folder.ended.has(cell.id));
  const all = left.reduce((sum, cell) => sum + workOf(cell), 0);
  if (left.length < cells.length) progress(`${cells.length - left.length} of ${cells.length} cells are there already`);
  let done = 0, told = 0;
  let adding: Promise<void> = Promise.resolve();
  const run = async (cell: Cell): Promise<void> => {
    signal.throwIfAborted();
    const load: Load = cell.purpose === 'sla' ? {} : { slaMs: slaOf(cell, folder), ...(cell.concurrency === 0 ? { ratePerS: rateOf(cell, folder, slots) } : {}) };
    const result = await backend.run(cell, load, signal);
    // One writer: cells that end at the same time stand in line.
    await (adding = adding.then(() => folder.add(cell, result)));
    done += workOf(cell);
    const { slotUtilisation, hostCpu, isSaturated, seconds } = result.conditions;
    const failed = result.records.filter(({ ok }) => !ok).length;
    const times = result.records.filter(({ ok }) => ok).map(({ latencyMs }) => latencyMs);
    const mean = times.reduce((sum, value) => sum + value, 0) / Math.max(1, times.length);
    const restMs = ((nowMs() - begunAtMs) / done) * (all - done);
    progress(`[${++told + cells.length - left.length}/${cells.length}] ${cell.purpose === 'compare' ? '' : `${PURPOSES[cell.purpose]}: `}${cell.application}, ${cell.variant.name}, ${load.ratePerS === undefined ? `${cell.concurrency} ${cell.concurrency === 1 ? 'client' : 'clients'}` : `${load.ratePerS.toFixed(2)}/s`}: mean ${formatMs(mean)}, ${formatMs(seconds * 1_000)}${backend.isSimulated ? ' of virtual time' : ''}, slots ${Math.round(100 * slotUtilisation)} %${hostCpu === undefined ? '' : `, CPU ${Math.round(100 * hostCpu)} %`}${isSaturated ? ' (SATURATED)' : ''}${failed > 0 ? `, ${failed} FAILED` : ''}; about ${formatMs(restMs)} left`);
  };
  // What gives the latency targets comes first, whole, then what the model learns from.
  const kinds: readonly ((purpose: Cell['purpose']) => boolean)[] = [(purpose) => purpose === 'sla', (purpose) => purpose === 'train', (purpose) => purpose !== 'sla' && purpose !== 'train'];
  for (const isKind of kinds) {
    const group = left.filter(({ purpose }) => isKind(purpose));
    let next = 0;
    await Promise.all(Array.from({ length: Math.min(backend.parallel, group.length) }, async () => {
      while (next < group.length && !isOver()) await run(group[next++] as Cell); // within bounds
    }));
  }
  return left.length - told;
}

/** Share of the slots that an open loop keeps busy when executions take as long as alone. */
export const OPEN_UTILISATION = 0.7;

/** Executions per second that keep OPEN_UTILISATION of the slots busy, by what executions took in the cell of the latency target. */
export function rateOf(cell: Pick<Cell, 'application'>, folder: Pick<ResultFolder, 'ended'>, slots: number): number {
  const steps = aloneOf(cell, folder).map((record) => record.steps.reduce((sum, { fetchMs, initMs, runMs }) => sum + fetchMs + initMs + runMs, 0));
  return (OPEN_UTILISATION * slots * 1_000) / Math.max(1, meanOf(steps));
}

/** The latency target of an application: from the cell that was run for it. */
export function slaOf(cell: Pick<Cell, 'application'>, folder: Pick<ResultFolder, 'ended'>): number {
  return Math.ceil(SLA_FACTOR * quantileOf(aloneOf(cell, folder).map(({ latencyMs }) => latencyMs).sort((a, b) => a - b), 0.99));
}

/** Executions of the reference with one client. */
function aloneOf(cell: Pick<Cell, 'application'>, folder: Pick<ResultFolder, 'ended'>): ExecutionRecord[] {
  const records = [...folder.ended.values()].filter(({ id }) => id.startsWith(`sla/${cell.application}/`)).flatMap((ended) => ended.records).filter(({ ok }) => ok);
  if (records.length === 0) throw new MetronomeError('INVALID_REQUEST', `No execution of ${cell.application} succeeded alone, so there is nothing to take its latency target from. Look at the records of the cells "sla/${cell.application}/…".`);
  return records;
}
