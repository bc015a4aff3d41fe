/**
 * What the evaluation runs: cells. A cell is one application under one variant, with so many clients and one seed; the cells of one application, seed and
 * number of clients are a block. Within a block the variants stand in seeded random order, so that whatever drifts on the machine hits all of them alike, and
 * all see the same executions: the same functions on the same inputs in the same order.
 */
import { MetronomeError } from '../core/errors.ts';
import { createRandom } from '../core/random.ts';
import { arrivals } from '../workload/arrivals.ts';
import type { ApplicationName } from '../workload/applications.ts';
import type { Variant } from './variant.ts';

/** What a cell is for. `sla`: the latency target is taken from it. `train`: the prediction model learns the applications before anything counts. */
export type Purpose = 'sla' | 'train' | 'compare' | 'scale' | 'sweep';

/** One application under one variant. */
export interface Cell {
  /** Unique in a plan, the same in every run of it. */
  readonly id: string;
  readonly purpose: Purpose;
  readonly application: ApplicationName;
  readonly variant: Variant;
  /** Clients in closed loops; 0: an open loop, arrivals as they are seen in production. */
  readonly concurrency: number;
  readonly seed: number;
  /** Executions that count. */
  readonly executions: number;
  /** Executions before them that do not. */
  readonly warmUp: number;
}

/** What to plan. */
export interface PlanOptions {
  readonly applications: readonly ApplicationName[];
  readonly variants: readonly Variant[];
  /** Sweeps: run at the concurrency of the comparison, with the first seed only. */
  readonly sweeps: readonly Variant[];
  /** Clients of the comparison (RQ1); 0: an open loop. */
  readonly concurrency: Readonly<Record<ApplicationName, number>>;
  /** Further numbers of clients (RQ2); the comparison's own stands in for itself. */
  readonly levels: readonly number[];
  readonly seeds: readonly number[];
  readonly executions: number;
  readonly levelExecutions: number;
  readonly slaExecutions: number;
  /** 0: no training. */
  readonly trainExecutions: number;
  /** Executions before those that count, at least. */
  readonly warmUp: number;
  /** The same for the levels of RQ2. @default warmUp */
  readonly levelWarmUp?: number;
  /** And for each client: what all of them start at once on an empty cluster is a burst of cold starts, and not what is compared. @default 0 */
  readonly warmUpPerClient?: number;
  /** The variant that the latency target comes from. */
  readonly reference: Variant;
  /** The variants of the training: one that brings about every start state for the model, and those that learn something themselves. */
  readonly trainers: readonly Variant[];
}

/** All cells, in the order in which they run: first those that the latency targets are taken from, then the training, then what counts. */
export function planCells(options: PlanOptions): Cell[] {
  const cells: Cell[] = [];
  const { applications, seeds } = options;
  const cell = (purpose: Purpose, application: ApplicationName, variant: Variant, concurrency: number, seed: number, executions: number): Cell => ({
    id: `${purpose}/${application}/${variant.name}/c${concurrency}/s${seed}`, purpose, application, variant, concurrency, seed, executions,
    warmUp: warmUpOf(purpose === 'scale' ? { ...options, warmUp: options.levelWarmUp ?? options.warmUp } : options, concurrency),
  });
  for (const application of applications) cells.push(cell('sla', application, options.reference, 1, seeds[0] ?? 1, options.slaExecutions));
  for (const trainer of options.trainExecutions === 0 ? [] : options.trainers) for (const application of applications) cells.push(cell('train', application, trainer, options.concurrency[application], seeds[0] ?? 1, options.trainExecutions));
  for (const seed of seeds) {
    for (const application of applications) {
      const own = options.concurrency[application];
      cells.push(...shuffled(options.variants, seed, application, own).map((variant) => cell('compare', application, variant, own, seed, options.executions)));
    }
  }
  for (const seed of seeds) {
    for (const level of options.levels) {
      for (const application of applications) {
        if (level === options.concurrency[application]) continue;
        cells.push(...shuffled(options.variants, seed, application, level).map((variant) => cell('scale', application, variant, level, seed, options.levelExecutions)));
      }
    }
  }
  // One variant after the other: most need a scheduler of their own.
  const [first = 1] = seeds;
  for (const variant of options.sweeps) for (const application of applications) cells.push(cell('sweep', application, variant, options.concurrency[application], first, options.executions));
  return cells;
}

/** Executions before those that count. */
export function warmUpOf({ warmUp, warmUpPerClient = 0 }: Pick<PlanOptions, 'warmUp' | 'warmUpPerClient'>, clients: number): number {
  return Math.max(warmUp, warmUpPerClient * clients);
}

function shuffled(variants: readonly Variant[], seed: number, application: ApplicationName, level: number): Variant[] {
  const random = createRandom(seed, 7_000 + level * 16 + application.length);
  const order = [...variants];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j] as Variant, order[i] as Variant]; // both are in it
  }
  return order;
}

/** One execution: which owner's functions are called, on which input, and in an open loop when, ms since the begin. */
export interface PlannedExecution {
  readonly copy: number;
  readonly input: number;
  readonly atMs?: number;
}

/** Executions that follow those that count, so that the last of these do not run on a cluster that empties. */
export function coolDownOf({ concurrency }: Pick<Cell, 'concurrency'>): number {
  return concurrency === 0 ? OPEN_COOL_DOWN : concurrency;
}

const OPEN_COOL_DOWN = 10;

/** The executions of a cell, warm-up first, what follows last: the same for every variant. Owners by a power law with the exponent 1. */
export function planExecutions({ seed, application, concurrency, warmUp, executions }: Pick<Cell, 'seed' | 'application' | 'concurrency' | 'warmUp' | 'executions'>, copies: number, inputs: number): PlannedExecution[] {
  const random = createRandom(seed, 9_000 + concurrency * 16 + application.length);
  let all = 0;
  const upTo = Array.from({ length: copies }, (_, rank) => (all += 1 / (rank + 1)));
  return Array.from({ length: warmUp + executions + coolDownOf({ concurrency }) }, () => {
    const wanted = random.uniform() * all;
    return { copy: upTo.findIndex((sum) => wanted < sum), input: random.below(inputs) };
  });
}

/** Kinds of calls in an evaluation: cells last a minute, so days are short, and a flash crowd comes in most of them. */
const DAYS_PER_CELL = 2, FLASHES_PER_CELL = 1;
/** Arrivals may be so much thinner than asked for before the cell is given up. */
const MOST_STRETCH = 20;

/**
 * The executions of an open loop: owners call by a power law, some as timers, some in bursts, with days and flash crowds (src/workload/arrivals.ts), `ratePerS` executions per
 * second in the long run. The same for every variant.
 */
export function planArrivals(cell: Pick<Cell, 'id' | 'seed' | 'application' | 'warmUp' | 'executions'>, copies: number, inputs: number, ratePerS: number): PlannedExecution[] {
  const count = cell.warmUp + cell.executions + OPEN_COOL_DOWN;
  const expectedMs = (1_000 * count) / ratePerS;
  let all = 0;
  for (let rank = 0; rank < copies; rank++) all += 1 / (rank + 1);
  const random = createRandom(cell.seed, 9_500 + cell.application.length);
  const options = { seed: cell.seed, functions: copies, mostPerS: 1, leastPerS: 1 / copies, factor: ratePerS / all, dayMs: expectedMs / DAYS_PER_CELL, flashesPerHour: (FLASHES_PER_CELL * 3_600_000) / (expectedMs * copies) };
  const executions: PlannedExecution[] = [];
  for (const { atMs, rank } of arrivals(options, MOST_STRETCH * expectedMs + 60_000)) {
    executions.push({ copy: rank, input: random.below(inputs), atMs });
    if (executions.length === count) return executions;
  }
  throw new MetronomeError('INTERNAL', `The cell ${cell.id} got ${executions.length} of ${count} arrivals at ${ratePerS} per second.`);
}
