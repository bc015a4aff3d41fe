/** Films of simulations, and a run of a scenario as one. */
import { MetronomeError } from '../core/errors.ts';
import type { SimulationRun } from '../inspect/page-api.ts';
import { Film, type FilmBounds } from './film.ts';
import { EPOCH_MS, type Simulation } from './simulation.ts';
import { runScenario, type Scenario, type SimulationWatcher } from './scenario.ts';

/** Takes the frames of a simulation. */
export function watcherFor(film: Film): SimulationWatcher {
  let sim: Simulation | undefined;
  return {
    begin(running) {
      sim = running;
      const look = (): void => {
        film.look(running.scheduler, running.elapsedMs);
        if (film.dueMs < Infinity) running.at(film.dueMs, look);
      };
      running.at(0, look);
    },
    transitioned(invocation, from, to, event) {
      const { scheduler } = sim as Simulation; // begin came first
      film.transitioned(scheduler, invocation, from, to, event, scheduler.nowMs - EPOCH_MS);
    },
    end({ scheduler, elapsedMs }) {
      // Between two frames: without this one the last picture would be of something that was still running.
      if (film.dueMs < Infinity) film.look(scheduler, elapsedMs);
    },
  };
}

/** Runs it to its end and returns the film with figures. Transitions beyond the bound of a frame are left out; `transitionsLeftOut` counts them. */
export function recordFrames(scenario: Scenario, policy: string, seed: number, bounds: FilmBounds): SimulationRun {
  if ((scenario.shards ?? 1) > 1) throw new MetronomeError('CONFIG_INVALID', `A film shows one scheduler, and the scenario has ${scenario.shards} shards; take \`shards\` out of it, or use \`metronome sim run\`.`);
  const film = new Film(bounds, scenario.durationMs);
  const result = runScenario(scenario, policy, seed, false, watcherFor(film));
  const figures = Object.entries(result).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
  return { policy, frames: film.frames, summary: { ...Object.fromEntries(figures), transitionsLeftOut: film.leftOut } };
}
