/**
 * What every bench shares: the shape of its report, percentiles, and the facts about machine and commit. With --json, stdout is
 * one object; people get a table. Figure names are a stable interface.
 */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { confidenceOf } from '../src/report/confidence.ts';

/** One figure of a report. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** The median over the rounds (or over the samples, for percentile figures of one round); of overSeeds the mean over the seeds. */
  readonly value: number;
  /** Samples behind it. */
  readonly n: number;
  /** Least and greatest value over the rounds; of overSeeds the bounds of the 95 % confidence interval of the mean. */
  readonly low: number;
  readonly high: number;
}

/** A finished bench. */
export interface Report {
  readonly name: string;
  readonly mode: 'real' | 'sim' | 'micro';
  readonly machine: { readonly cpus: number; readonly model: string; readonly memoryGib: number; readonly node: string; readonly kernel: string };
  readonly commit: string;
  readonly seed: number;
  readonly figures: readonly Figure[];
  readonly params: Readonly<Record<string, unknown>>;
}

/** What a bench is told. */
export interface BenchContext {
  readonly seed: number;
  readonly quick: boolean;
  /** Folder for plots; undefined: none are wanted. */
  readonly out: string | undefined;
  /** A recording to work on, for those benches that do. */
  readonly recording: string | undefined;
  /** For people, on stderr. */
  progress(text: string): void;
}

/** What a bench gives back. */
export interface BenchResult {
  readonly mode: Report['mode'];
  readonly figures: readonly Figure[];
  readonly params: Readonly<Record<string, unknown>>;
}

/** A bench: its name is that of its file. */
export interface Bench {
  readonly description: string;
  run(context: BenchContext): Promise<BenchResult>;
}

/** The value below which `share` of the sorted values lie. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** A figure from one value per round: the median with its range. `samples`: how many measurements stand behind all rounds. */
export function overRounds(name: string, unit: string, rounds: readonly number[], samples: number): Figure {
  const sorted = [...rounds].sort((a, b) => a - b);
  return { name, unit, value: round(quantile(sorted, 0.5)), n: samples, low: round(sorted[0] ?? Number.NaN), high: round(sorted.at(-1) ?? Number.NaN) };
}

/** A figure from one value per seed: the mean with its 95 % confidence interval (Student's t). Needs two seeds at least. */
export function overSeeds(name: string, unit: string, values: readonly number[], samples: number): Figure {
  const { mean, low, high } = confidenceOf(values);
  return { name, unit, value: round(mean), n: samples, low: round(low), high: round(high) };
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

/** The report around a result. */
export function toReport(name: string, seed: number, result: BenchResult): Report {
  let commit = 'unknown';
  try {
    commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    // Not a checkout: the report says so.
  }
  return {
    name, mode: result.mode, commit, seed, figures: result.figures, params: result.params,
    machine: { cpus: availableParallelism(), model: cpus()[0]?.model ?? 'unknown', memoryGib: Math.round(totalmem() / 1024 ** 3), node: process.version, kernel: release() },
  };
}
