/**
 * Which functions of an application XFaaS should treat as critical, when its owner does not say: all annotations are tried on a calibration run, and the one with
 * the lowest mean latency of those that miss the fewest targets is kept (docs/guide/policies.md). 2^k runs for k functions.
 */
import { MetronomeError } from '../core/errors.ts';

/** What a calibration run with some functions critical gave. */
export interface CalibrationRun {
  readonly meanMs: number;
  /** Share of executions that missed their target. */
  readonly missed: number;
}

/** An annotation and what came of it. */
export interface Annotation extends CalibrationRun {
  /** Names of the critical functions. */
  readonly critical: readonly string[];
}

/** More would be more runs than anybody waits for. */
const MOST_FUNCTIONS = 6;

/** Tries all annotations of `functions`. Returns them in order of preference, the best first; of equal ones that with fewer critical functions. INVALID_REQUEST for more than six. */
export async function searchCriticality(functions: readonly string[], run: (critical: readonly string[]) => Promise<CalibrationRun> | CalibrationRun): Promise<readonly Annotation[]> {
  if (functions.length > MOST_FUNCTIONS) throw new MetronomeError('INVALID_REQUEST', `${functions.length} functions have ${2 ** functions.length} annotations; at most ${MOST_FUNCTIONS} can be searched. Annotate some by hand (critical: true in the manifest).`);
  const annotations: Annotation[] = [];
  for (let bits = 0; bits < 2 ** functions.length; bits++) {
    const critical = functions.filter((_, i) => (bits & (1 << i)) !== 0);
    annotations.push({ critical, ...(await run(critical)) });
  }
  return annotations.sort((a, b) => a.missed - b.missed || a.meanMs - b.meanMs || a.critical.length - b.critical.length);
}
