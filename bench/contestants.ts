/** Who takes part in the benches of the model beside the model and the moving averages (src/workload/test-then-train.ts). */
import { RandomForestRegression } from 'ml-random-forest';
import { SITUATION_WIDTH, encodeSituation } from '../src/predictor/features.ts';
import type { Execution } from '../src/workload/observation-file.ts';
import { measuredMs, type Contestant } from '../src/workload/test-then-train.ts';

/** `ml-random-forest` as its manual shows it: the whole forest trained again on the last executions, on their features and the logarithms of their times. */
export function libraryContestant(window: number, every: number, trees: number, seed: number): Contestant {
  const recent: { readonly row: number[]; readonly log: number }[] = [];
  const row = new Float64Array(SITUATION_WIDTH);
  const updateMs: number[] = [];
  let forest: RandomForestRegression | undefined;
  let since = 0, mean = 0;
  const rowOf = (execution: Execution): number[] => {
    encodeSituation(execution.situation, row);
    return Array.from(row);
  };
  return {
    name: 'library_window', updateMs,
    predict: (execution) => ({ meanMs: Math.exp(forest?.predict([rowOf(execution)])[0] ?? mean) }),
    learn(execution) {
      recent.push({ row: rowOf(execution), log: Math.log(measuredMs(execution)) });
      if (recent.length > window) recent.shift();
      mean = recent.reduce((sum, { log }) => sum + log, 0) / recent.length;
      if (++since < every || recent.length < window / 2) return;
      since = 0;
      const begin = performance.now();
      forest = new RandomForestRegression({ nEstimators: trees, seed, maxFeatures: 0.7, replacement: false, useSampleBagging: true, noOOB: true, treeOptions: { maxDepth: 12 } });
      forest.train(recent.map((one) => one.row), recent.map(({ log }) => log));
      updateMs.push(performance.now() - begin);
    },
  };
}

/** Options of the on-line model that never trains a tree. */
export const BASELINE_ONLY = { bootstrapAfter: 100_000 } as const;
