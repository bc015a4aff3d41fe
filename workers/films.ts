/** Piscina entry of the page's simulations: the films of one request. */
import { MetronomeError } from '../src/core/errors.ts';
import type { FilmsAnswer, FilmsTask } from '../src/gateway/films-protocol.ts';
import { recordFrames } from '../src/sim/frames.ts';
import { recordingFilms } from '../src/what-if/recording-films.ts';

/** Makes them, one after the other. */
export default function films(task: FilmsTask): FilmsAnswer {
  try {
    return { runs: task.kind === 'recording' ? recordingFilms(task) : task.policies.map((policy) => recordFrames(task.scenario, policy, task.seed, task)) };
  } catch (error) {
    return { error: MetronomeError.from(error).toRecord() };
  }
}
