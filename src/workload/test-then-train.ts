/**
 * Test-then-train: whoever takes part predicts an execution before it is shown what it took, so every error is an honest one. For
 * `metronome model evaluate` and the benches of the model.
 */
import { SITUATION_WIDTH, encodeSituation } from '../predictor/features.ts';
import { createPredictionOut } from '../predictor/model/model-view.ts';
import { OBSERVATION_WIDTH, encodeObservation } from '../predictor/model/observation.ts';
import { createOnlineModel, type FunctionProfile, type OnlineModel, type OnlineModelOptions } from '../predictor/model/online-model.ts';
import { createMovingAveragePredictor } from '../predictor/moving-average.ts';
import { NO_SITUATION, NO_TICKET, createPredictionRows } from '../predictor/predictor.ts';
import type { Execution } from './observation-file.ts';

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

/** The on-line model in this thread. `options.bootstrapAfter` beyond the number of executions: its baseline alone. `nowMs` times the updates. */
export function modelContestant(name: string, functions: readonly FunctionProfile[], options: OnlineModelOptions, nowMs: () => number = () => 0): Contestant & { readonly model: OnlineModel } {
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
      const begin = nowMs();
      model.update();
      updateMs.push(nowMs() - begin);
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

/** How good one was. Errors are |predicted − measured| / measured. */
export interface Score {
  readonly count: number;
  readonly medianError: number;
  readonly p90Error: number;
  readonly p95Error: number;
  readonly p99Error: number;
  /** Share of executions that did not take longer than the P95 and the P99 that were predicted. */
  readonly coverageP95: number;
  readonly coverageP99: number;
}

/** Lets one predict and learn all executions in their order; the first `warmUp` do not count. Scores of all, and by function index. */
export function score(contestant: Contestant, executions: readonly Execution[], warmUp: number): { readonly all: Score; readonly functions: ReadonlyMap<number, Score> } {
  const all = new Tally(), functions = new Map<number, Tally>();
  executions.forEach((execution, at) => {
    if (at >= warmUp) {
      const { functionIndex } = execution.situation;
      const own = functions.get(functionIndex) ?? new Tally();
      functions.set(functionIndex, own);
      const predicted = contestant.predict(execution), measured = measuredMs(execution);
      all.add(predicted, measured);
      own.add(predicted, measured);
    }
    contestant.learn(execution);
  });
  return { all: all.score(), functions: new Map([...functions].map(([index, tally]) => [index, tally.score()])) };
}

/** How good the predictions were that decisions rested on, as far as the recording has them; undefined: it has none that counts. */
export function scoreServed(executions: readonly Execution[], warmUp: number): ReturnType<typeof score> | undefined {
  const recorded = executions.slice(warmUp).filter(({ served }) => served !== undefined);
  return recorded.length === 0 ? undefined : score({ name: 'served', predict: ({ served = { meanMs: 0 } }) => served, learn() {} }, recorded, 0);
}

class Tally {
  readonly #errors: number[] = [];
  #below95 = 0;
  #below99 = 0;

  add({ meanMs, p95Ms = Infinity, p99Ms = Infinity }: ReturnType<Contestant['predict']>, measured: number): void {
    this.#errors.push(Math.abs(meanMs - measured) / measured);
    if (measured <= p95Ms) this.#below95++;
    if (measured <= p99Ms) this.#below99++;
  }

  score(): Score {
    const errors = this.#errors.sort((a, b) => a - b);
    const at = (share: number): number => errors[Math.min(errors.length - 1, Math.floor(share * errors.length))] ?? 0;
    const count = errors.length;
    return { count, medianError: at(0.5), p90Error: at(0.9), p95Error: at(0.95), p99Error: at(0.99), coverageP95: count === 0 ? 0 : this.#below95 / count, coverageP99: count === 0 ? 0 : this.#below99 / count };
  }
}
