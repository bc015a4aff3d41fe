/** A run of a scenario as a film: what was in which state, and what happened, in even steps of simulated time. */
import { toTransitionRow } from '../inspect/invocation-rows.ts';
import { NodeCells } from '../inspect/node-cells.ts';
import type { SimulationFrame, SimulationRun, TransitionRow } from '../inspect/page-api.ts';
import { EPOCH_MS, type Simulation } from './simulation.ts';
import { runScenario, type Scenario } from './scenario.ts';

/** How much of it is kept. */
export interface FrameOptions {
  readonly frames: number;
  readonly nodesEach: number;
  readonly transitionsEach: number;
}

/** Runs it to its end and returns the film with figures. Transitions beyond the bound of a frame are left out; `transitionsLeftOut` counts them. */
export function recordFrames(scenario: Scenario, policy: string, seed: number, { frames, nodesEach, transitionsEach }: FrameOptions): SimulationRun {
  const film: SimulationFrame[] = [];
  const everyMs = scenario.durationMs / frames;
  let sim: Simulation | undefined;
  let rows: TransitionRow[] = [];
  let leftOut = 0;
  const result = runScenario(scenario, policy, seed, false, {
    begin(running) {
      sim = running;
      const cells = new NodeCells(running.scheduler);
      // Of what ended the machine counts all since the start; the others are how many there are now.
      const look = (): void => {
        film.push({ simulatedMs: running.elapsedMs, counts: Array.from(running.scheduler.flows.invocation.counts), nodes: cells.all(nodesEach), transitions: rows });
        rows = [];
        if (film.length < frames) running.at(film.length * everyMs, look);
      };
      running.at(0, look);
    },
    transitioned(invocation, from, to, event) {
      if (rows.length >= transitionsEach) {
        leftOut++;
        return;
      }
      const { cluster, nowMs } = (sim as Simulation).scheduler; // begin came first
      rows.push(toTransitionRow({ id: invocation.id, functionName: invocation.functionName, from, to, event: event.type, reason: event.reason, node: invocation.node >= 0 ? invocation.node : invocation.target, atMs: nowMs - EPOCH_MS, delayingFor: invocation.delayingFor }, (node) => cluster.name(node)));
    },
  });
  const figures = Object.entries(result).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
  return { policy, frames: film, summary: { ...Object.fromEntries(figures), transitionsLeftOut: leftOut } };
}
