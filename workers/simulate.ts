/** Piscina entry of the simulator: one replica of a scenario per task. */
import type { CellResult } from '../src/evaluation/backend.ts';
import { simulateCell, type SimulatedCellTask } from '../src/evaluation/simulate-cell.ts';
import { runScenario, type Scenario, type ScenarioResult } from '../src/sim/scenario.ts';

/** What a task is given; plain data. */
export interface SimulateTask {
  readonly scenario: Scenario;
  readonly policy: string;
  readonly seed: number;
}

/** Runs it to its end. */
export default function simulate({ scenario, policy, seed }: SimulateTask): ScenarioResult {
  return runScenario(scenario, policy, seed);
}

/** A cell of the evaluation (metronome bench paper --where simulation). */
export function evaluate(task: SimulatedCellTask): CellResult {
  return simulateCell(task);
}
