/**
 * Aquatope's resource manager (ASPLOS 2023): CPU and memory of each stage of a workflow, chosen by constrained Bayesian optimisation. It makes the cost of an
 * execution small, Σ cpu · time · 0.173 + GiB · time · 0.0123 over the stages, so that the whole takes no longer than its SLA. Ten evenly spread points first, then rounds
 * of three: each the best of the acquisition function, the others of a round taken at what is expected of them (kriging believer). Measurements that the others
 * contradict (outside their 95 % interval, leave-one-out) are not learned from. It ends when the recommendation is stable or the evaluations are used up.
 *
 * A training before the run: nothing of it is on the way of an invocation.
 */
import { normal } from '../../core/distributions.ts';
import { MetronomeError } from '../../core/errors.ts';
import type { Random } from '../../core/random.ts';
import { createAcquisition, quasiRandom } from './expected-improvement.ts';
import { fitGaussianProcess, type GaussianProcess } from './gaussian-process.ts';

/** What one stage is given. */
export interface StageSize {
  /** Cores, in steps of 0.1. */
  readonly cpu: number;
  /** In steps of 64. */
  readonly memoryMb: number;
}

/** Bounds of every stage. */
export interface SizeBounds {
  /** @default 0.1 and 6 */
  readonly cpu?: readonly [number, number];
  /** @default 128 and 10240 */
  readonly memoryMb?: readonly [number, number];
}

/** One execution with some sizes, measured. */
export interface Measurement {
  /** From the request to the result, ms. */
  readonly latencyMs: number;
  /** Of each stage, ms: of all its calls together. */
  readonly stageMs: readonly number[];
}

/** What is tuned. */
export interface TuningProblem {
  readonly stages: number;
  /** Latency that an execution may take, ms. */
  readonly slaMs: number;
  readonly bounds?: SizeBounds;
  /** Runs an execution with these sizes. Infinity for a latency: it did not end (too little memory). */
  measure(sizes: readonly StageSize[]): Promise<Measurement> | Measurement;
  /** Told after each evaluation. */
  onEvaluated?(evaluation: Evaluation, count: number): void;
}

/** How it goes about it. */
export interface TuningOptions {
  readonly random: Random;
  /** @default 70 */
  readonly maxEvaluations?: number;
  /** @default 10 */
  readonly initial?: number;
  /** @default 3 */
  readonly batch?: number;
  readonly signal?: AbortSignal;
}

/** One evaluation. */
export interface Evaluation {
  readonly sizes: readonly StageSize[];
  readonly cost: number;
  readonly latencyMs: number;
  readonly isFeasible: boolean;
}

/** What came of it. */
export interface Tuning {
  /** The cheapest that kept the SLA; undefined: none did. */
  readonly best: Evaluation | undefined;
  readonly evaluations: readonly Evaluation[];
  /** Evaluations that were not learned from in the last round. */
  readonly anomalies: number;
  readonly endedBecause: 'stable' | 'evaluationsUsed' | 'aborted';
}

/** Prices per core and second and per GiB and second. */
export const CPU_PRICE = 0.173, MEMORY_PRICE = 0.0123;
const CPU_STEP = 0.1, MEMORY_STEP_MB = 64;
/** The recommendation is stable when it changed by less than this for so many rounds. */
const STABLE_CHANGE = 0.02, STABLE_ROUNDS = 3;
/** Half a 95 % interval in standard deviations. */
const INTERVAL = 1.96;
/** Measurements that may be left out at most. */
const MOST_ANOMALOUS = 0.1;
const CANDIDATES = 256, NEIGHBOURS = 96, REFINEMENTS = 64;
/** What does not end counts as this many SLAs. */
const ENDLESS = 10;
const MOST_STAGES = 8;

/** Cost of an execution. */
export function costOf(sizes: readonly StageSize[], stageMs: readonly number[]): number {
  return sizes.reduce((sum, { cpu, memoryMb }, stage) => sum + ((stageMs[stage] ?? 0) / 1_000) * (cpu * CPU_PRICE + (memoryMb / 1_024) * MEMORY_PRICE), 0);
}

/** The sizes at a point of [0, 1]^(2 · stages): logarithmic between the bounds, in steps. */
export function sizesAt(point: readonly number[], bounds: SizeBounds = {}): StageSize[] {
  const [cpuFrom, cpuTo] = bounds.cpu ?? [0.1, 6];
  const [memoryFrom, memoryTo] = bounds.memoryMb ?? [128, 10_240];
  const between = (from: number, to: number, u: number, step: number): number => Math.min(to, Math.max(from, Math.round((from * (to / from) ** u) / step) * step));
  return Array.from({ length: point.length / 2 }, (_, stage) => ({
    cpu: Number(between(cpuFrom, cpuTo, point[2 * stage] as number, CPU_STEP).toFixed(1)), memoryMb: between(memoryFrom, memoryTo, point[2 * stage + 1] as number, MEMORY_STEP_MB),
  }));
}

/** Tunes. INVALID_REQUEST for a problem that is none; what `measure` throws ends it. */
export async function tuneResources(problem: TuningProblem, options: TuningOptions): Promise<Tuning> {
  const { stages, slaMs, bounds } = problem;
  const { random, maxEvaluations = 70, initial = 10, batch = 3, signal } = options;
  if (!Number.isInteger(stages) || stages < 1 || stages > MOST_STAGES) throw new MetronomeError('INVALID_REQUEST', `A workflow of ${stages} stages cannot be tuned; 1 to ${MOST_STAGES} can.`);
  if (!(slaMs > 0)) throw new MetronomeError('INVALID_REQUEST', `The SLA must be more than 0 ms, not ${slaMs}.`);
  const dimensions = 2 * stages;
  const points: number[][] = [];
  const evaluations: Evaluation[] = [];
  const isAborted = (): boolean => signal?.aborted === true;
  const evaluate = async (point: number[]): Promise<void> => {
    const sizes = sizesAt(point, bounds);
    const { latencyMs, stageMs } = await problem.measure(sizes);
    const evaluation: Evaluation = { sizes, latencyMs, cost: costOf(sizes, stageMs), isFeasible: latencyMs <= slaMs };
    points.push(point);
    evaluations.push(evaluation);
    problem.onEvaluated?.(evaluation, evaluations.length);
  };
  let anomalies = 0, stable = 0, before = Infinity;
  const end = (endedBecause: Tuning['endedBecause']): Tuning => ({ best: bestOf(evaluations), evaluations, anomalies, endedBecause });
  for (const point of quasiRandom(Math.min(initial, maxEvaluations), dimensions, random)) {
    if (isAborted()) return end('aborted');
    await evaluate(point);
  }
  while (evaluations.length < maxEvaluations) {
    if (isAborted()) return end('aborted');
    const costs = evaluations.map(({ cost }) => Math.log(Math.max(1e-9, cost)));
    const excesses = evaluations.map(({ latencyMs }) => Math.log(Math.min(ENDLESS, latencyMs / slaMs)));
    const kept = withoutAnomalies(points, excesses, random);
    anomalies = points.length - kept.length;
    const learned = { points: kept.map((i) => points[i] as number[]), costs: kept.map((i) => costs[i] as number), excesses: kept.map((i) => excesses[i] as number) };
    let cost = fitGaussianProcess(learned.points, learned.costs, random), excess = fitGaussianProcess(learned.points, learned.excesses, random);
    const incumbent = bestOf(evaluations);
    const round: number[][] = [];
    for (let i = 0; i < Math.min(batch, maxEvaluations - evaluations.length); i++) {
      const next = maximise(createAcquisition(cost, excess, random), dimensions, incumbent === undefined ? undefined : points[evaluations.indexOf(incumbent)], random);
      round.push(next);
      // The believer: as if it had been measured, and had come as expected.
      learned.points.push(next);
      learned.costs.push(cost.at(next).mean);
      learned.excesses.push(excess.at(next).mean);
      cost = fitGaussianProcess(learned.points, learned.costs, random, cost.hyper);
      excess = fitGaussianProcess(learned.points, learned.excesses, random, excess.hyper);
    }
    for (const point of round) {
      if (isAborted()) return end('aborted');
      await evaluate(point);
    }
    const now = bestOf(evaluations)?.cost ?? Infinity;
    stable = now < Infinity && Math.abs(before - now) <= STABLE_CHANGE * now ? stable + 1 : 0;
    before = now;
    if (stable >= STABLE_ROUNDS) return end('stable');
  }
  return end('evaluationsUsed');
}

function bestOf(evaluations: readonly Evaluation[]): Evaluation | undefined {
  let best: Evaluation | undefined;
  for (const each of evaluations) if (each.isFeasible && (best === undefined || each.cost < best.cost)) best = each;
  return best;
}

/** Indexes of what is learned from: all but the few that the others contradict most. */
function withoutAnomalies(points: readonly (readonly number[])[], values: readonly number[], random: Random): number[] {
  const process: GaussianProcess = fitGaussianProcess(points, values, random);
  const surprises = process.leaveOneOut().map(({ mean, variance }, i) => ({ i, z: Math.abs((values[i] as number) - mean) / Math.sqrt(variance) }));
  const dropped = new Set(surprises.filter(({ z }) => z > INTERVAL).sort((a, b) => b.z - a.z).slice(0, Math.floor(MOST_ANOMALOUS * points.length)).map(({ i }) => i));
  return points.map((_, i) => i).filter((i) => !dropped.has(i));
}

/** The best of many points, of neighbours of the incumbent, and of small steps from the best of those. */
function maximise(acquisition: (point: readonly number[]) => number, dimensions: number, incumbent: readonly number[] | undefined, random: Random): number[] {
  const near = (point: readonly number[], width: number): number[] => point.map((u) => Math.min(1, Math.max(0, u + width * normal(random))));
  let best: number[] = [], most = -Infinity;
  const consider = (point: number[]): void => {
    const value = acquisition(point);
    if (value > most) {
      best = point;
      most = value;
    }
  };
  for (const point of quasiRandom(CANDIDATES, dimensions, random)) consider(point);
  for (let i = 0; i < NEIGHBOURS && incumbent !== undefined; i++) consider(near(incumbent, i % 2 === 0 ? 0.05 : 0.2));
  for (let i = 0; i < REFINEMENTS; i++) consider(near(best, 0.1 * (1 - i / REFINEMENTS) + 0.005));
  return best;
}
