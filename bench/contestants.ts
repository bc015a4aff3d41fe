/** Who takes part in the benches of the model beside the model and the moving averages (src/workload/test-then-train.ts). */
import { RandomForestRegression } from 'ml-random-forest';
import { SITUATION_WIDTH, encodeSituation } from '../src/predictor/features.ts';
import type { Execution } from '../src/workload/observation-file.ts';
import { measuredMs, type Contestant } from '../src/workload/test-then-train.ts';

/** Weight of a new value in moving averages: that of the model's own. */
const RECENT = 0.2;

/** What a function did so far: the model's columns of history, for one that has no model. */
interface History {
  count: number;
  usualInputLog: number;
  fetchMs: number;
  runMs: number;
  totalMs: number;
  /** By start state. */
  readonly initialiseMs: number[];
}

/** Knobs of `libraryContestant`. */
export interface LibraryOptions {
  /** Rows that it trains on: the last ones. */
  readonly window: number;
  /** Executions between two trainings. */
  readonly every: number;
  readonly trees: number;
}

/**
 * `ml-random-forest` as its manual shows it: the whole forest trained again on the last executions, on the scheduler's features, the columns of history that the model
 * has too (those that come from its baseline are what it is compared with), and the logarithms of the times. It keeps nothing between trainings, so it
 * is trained when it is asked, and not in a warm-up.
 */
export function libraryContestant({ window, every, trees }: LibraryOptions, seed: number): Contestant {
  const recent: { readonly row: number[]; readonly log: number }[] = [];
  const row = new Float64Array(SITUATION_WIDTH);
  const histories = new Map<number, History>();
  const updateMs: number[] = [];
  let forest: RandomForestRegression | undefined;
  let since = 0, mean = 0;
  const inputLogOf = ({ situation }: Execution): number => Math.log2(1 + (situation.inputBytes ?? 0));
  const rowOf = (execution: Execution): number[] => {
    const { functionIndex, startState = 1 } = execution.situation;
    encodeSituation(execution.situation, row);
    const history = histories.get(functionIndex);
    const of = history === undefined ? [0, 0, 0, 0, 0, 0] : [Math.log2(1 + history.count), history.fetchMs, history.initialiseMs[startState] ?? 0, history.runMs, history.totalMs, inputLogOf(execution) - history.usualInputLog];
    return [...row, ...of];
  };
  const remember = (execution: Execution): void => {
    const { situation: { functionIndex, startState = 1 }, phases } = execution;
    const history = histories.get(functionIndex) ?? { count: 0, usualInputLog: inputLogOf(execution), fetchMs: phases.fetchedMs, runMs: phases.ranMs, totalMs: measuredMs(execution), initialiseMs: [] };
    histories.set(functionIndex, history);
    const weight = Math.max(RECENT, 1 / ++history.count);
    const moved = (before: number, value: number): number => before + (value - before) * weight;
    history.usualInputLog = moved(history.usualInputLog, inputLogOf(execution));
    history.fetchMs = moved(history.fetchMs, phases.fetchedMs);
    history.runMs = moved(history.runMs, phases.ranMs);
    history.totalMs = moved(history.totalMs, measuredMs(execution));
    history.initialiseMs[startState] = moved(history.initialiseMs[startState] ?? phases.initialisedMs, phases.initialisedMs);
  };
  const train = (): void => {
    since = 0;
    const begin = performance.now();
    forest = new RandomForestRegression({ nEstimators: trees, seed, maxFeatures: 0.7, replacement: false, useSampleBagging: true, noOOB: true, treeOptions: { maxDepth: 12 } });
    forest.train(recent.map((one) => one.row), recent.map(({ log }) => log));
    updateMs.push(performance.now() - begin);
  };
  return {
    name: 'library_window', updateMs,
    predict(execution) {
      if (recent.length >= window / 2 && (forest === undefined || since >= every)) train();
      return { meanMs: Math.exp(forest?.predict([rowOf(execution)])[0] ?? mean) };
    },
    learn(execution) {
      recent.push({ row: rowOf(execution), log: Math.log(measuredMs(execution)) });
      if (recent.length > window) recent.shift();
      mean = recent.reduce((sum, { log }) => sum + log, 0) / recent.length;
      since++;
      remember(execution);
    },
  };
}

/** Options of the on-line model that never trains a tree. */
export const BASELINE_ONLY = { bootstrapAfter: 100_000 } as const;
