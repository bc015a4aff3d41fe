/** Piscina entry of the simulator: one replica of a scenario per task. */
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
