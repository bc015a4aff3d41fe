/** Simulated runs that came from the daemon or from a file, checked as far as the page relies on them. */
import type { SimulationRun } from '../../src/inspect/page-api.ts';

/** Frames of one run that the page takes. */
const MAX_FRAMES = 20_000;
const MAX_RUNS = 8;

/** One run or a list of them. Throws an error that names the place. */
export function readRuns(given: unknown): SimulationRun[] {
  const runs: unknown[] = Array.isArray(given) ? given : [given];
  if (runs.length === 0) throw new Error('There is no run in it.');
  if (runs.length > MAX_RUNS) throw new Error(`${runs.length} runs are too many: at most ${MAX_RUNS} stand side by side.`);
  runs.forEach((run, i) => {
    const place = runs.length === 1 ? 'the run' : `run ${i + 1}`;
    if (!isObject(run) || typeof run['policy'] !== 'string') throw new Error(`In ${place} there is no "policy".`);
    const { frames } = run;
    if (!Array.isArray(frames) || frames.length === 0) throw new Error(`In ${place} there are no "frames".`);
    if (frames.length > MAX_FRAMES) throw new Error(`${place} has ${frames.length} frames; at most ${MAX_FRAMES} can be played.`);
    const bad = frames.findIndex((frame) => !isObject(frame) || typeof frame['simulatedMs'] !== 'number' || !Array.isArray(frame['counts']) || !Array.isArray(frame['nodes']) || !Array.isArray(frame['transitions']));
    if (bad >= 0) throw new Error(`Frame ${bad + 1} of ${place} lacks one of simulatedMs, counts, nodes, transitions.`);
    if (!isObject(run['summary'])) throw new Error(`In ${place} there is no "summary".`);
    const { notes = [] } = run;
    if (!Array.isArray(notes) || notes.some((note) => typeof note !== 'string')) throw new Error(`In ${place} the "notes" are no sentences.`);
  });
  return runs as SimulationRun[]; // checked above
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
