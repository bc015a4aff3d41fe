/** Who takes part in the benches of the model: each predicts an execution before it is shown what it took (test-then-train). */
import { RandomForestRegression } from 'ml-random-forest';
import { SITUATION_WIDTH, encodeSituation } from '../src/predictor/features.ts';
import { createPredictionOut } from '../src/predictor/model/model-view.ts';
import { OBSERVATION_WIDTH, encodeObservation } from '../src/predictor/model/observation.ts';
import { createOnlineModel, type FunctionProfile, type OnlineModel, type OnlineModelOptions } from '../src/predictor/model/online-model.ts';
import { createMovingAveragePredictor } from '../src/predictor/moving-average.ts';
import { NO_SITUATION, NO_TICKET, createPredictionRows } from '../src/predictor/predictor.ts';
import type { Execution } from '../src/workload/observation-file.ts';

/** One that predicts and learns. */
export interface Contestant {
  readonly name: string;
  /** Expected time, ms; `p95Ms` and `p99Ms` where it knows them. */
  predict(execution: Execution): { readonly meanMs: number; readonly p95Ms?: number; readonly p99Ms?: number };
  learn(execution: Execution): void;
  /** Time of each update of its model so far, ms. */
  readonly updateMs?: readonly number[];
}

/** What an execution took. */
export const measuredMs = ({ phases }: Execution): number => phases.fetchedMs + phases.initialisedMs + phases.ranMs;

/** The on-line model in this thread. `options.bootstrapAfter` beyond the number of executions: its baseline alone. */
export function modelContestant(name: string, functions: readonly FunctionProfile[], options: OnlineModelOptions): Contestant & { readonly model: OnlineModel } {
  const model = createOnlineModel(options);
  for (const profile of functions) model.setFunction(profile);
  const row = new Float64Array(SITUATION_WIDTH), observation = new Float64Array(OBSERVATION_WIDTH), out = createPredictionOut(1);
  const updateMs: number[] = [];
  return {
    name, model, updateMs,
    predict({ situation }) {
      encodeSituation(situation, row);
      model.predict(row, 0, 1, out, 0);
      return { meanMs: out.meanMs[0] as number, p95Ms: out.p95Ms[0] as number, p99Ms: out.p99Ms[0] as number };
    },
    learn({ situation, phases }) {
      encodeObservation(situation, phases, observation);
      model.observe(observation, 1);
      if (model.updateDue === undefined) return;
      const begin = performance.now();
      model.update();
      updateMs.push(performance.now() - begin);
    },
  };
}

/** The moving averages of the cold start. */
export function movingAverageContestant(): Contestant {
  const predictor = createMovingAveragePredictor();
  const rows = createPredictionRows(1);
  rows.count = 1;
  return {
    name: 'moving_average',
    predict({ situation }) {
      rows.node[0] = situation.nodeIndex;
      rows.startState[0] = situation.startState ?? 1;
      rows.missingBytes[0] = situation.missingBytes ?? 0;
      rows.zygoteDistance[0] = distanceOf(situation);
      const { functionIndex, inputBytes = 0, inputs = 0, payloadBytes = 0, stage = 0, predecessors = 0, fanOut = 1 } = situation;
      predictor.predict({ functionIndex, inputBytes, inputs: { length: inputs }, payloadBytes, stage, predecessors, fanOut }, rows, NO_TICKET);
      return { meanMs: rows.meanMs[0] as number, p95Ms: rows.p95Ms[0] as number, p99Ms: rows.p99Ms[0] as number };
    },
    learn({ situation, phases }) {
      predictor.observe({ functionIndex: situation.functionIndex, node: situation.nodeIndex, startState: situation.startState ?? 1, zygoteDistance: distanceOf(situation), inputBytes: situation.inputBytes ?? 0, fetchedBytes: situation.missingBytes ?? 0, ...phases, predictedMs: 0, situation: NO_SITUATION });
    },
  };
}

/** Share of its imports that an execution had still to do. */
function distanceOf({ startState = 1, zygoteDistance = -1, dependencies = 0 }: Execution['situation']): number {
  if (startState === 4) return 0;
  return startState === 3 && dependencies > 0 ? Math.min(1, Math.max(0, zygoteDistance) / dependencies) : 1;
}

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
