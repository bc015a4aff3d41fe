/** Synthetic executions as batches, for tests of the model. */
import { SITUATION_WIDTH, encodeSituation } from '../../src/predictor/features.ts';
import { OBSERVATION_WIDTH, encodeObservation } from '../../src/predictor/model/observation.ts';
import type { OnlineModel } from '../../src/predictor/model/online-model.ts';
import { createSyntheticExecutions, type SyntheticExecution, type SyntheticExecutions } from '../../src/workload/synthetic-executions.ts';

/** `count` executions from `source`. */
export function take(source: SyntheticExecutions, count: number): SyntheticExecution[] {
  return Array.from({ length: count }, () => source.next());
}

export function situationsOf(executions: readonly SyntheticExecution[]): Float64Array {
  const rows = new Float64Array(executions.length * SITUATION_WIDTH);
  executions.forEach(({ situation }, at) => encodeSituation(situation, rows, at * SITUATION_WIDTH));
  return rows;
}

export function observationsOf(executions: readonly SyntheticExecution[]): Float64Array {
  const batch = new Float64Array(executions.length * OBSERVATION_WIDTH);
  executions.forEach(({ situation, phases }, at) => encodeObservation(situation, phases, batch, at * OBSERVATION_WIDTH));
  return batch;
}

/** Lets a model learn from executions, with the updates that become due. */
export function teach(model: OnlineModel, executions: readonly SyntheticExecution[]): void {
  for (const execution of executions) {
    model.observe(observationsOf([execution]), 1);
    if (model.updateDue !== undefined) model.update();
  }
}

/** A source whose functions the model knows. */
export function introduce(model: OnlineModel, seed: number): SyntheticExecutions {
  const source = createSyntheticExecutions(seed);
  for (const profile of source.functions) model.setFunction(profile);
  return source;
}
