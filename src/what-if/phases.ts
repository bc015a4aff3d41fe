/**
 * Where the time of invocations went, recorded and simulated side by side: an error of the control is found in the phase that has it. Sums, so that replicas
 * add up; of invocations that completed in the recording.
 */
import type { RecordedOutcome } from '../recording/history.ts';

/** Times of one or many invocations, ms. */
export interface PhaseTimes {
  /** From arrival to the last dispatch: waiting for a prediction, for locality, for room. */
  readonly waitedMs: number;
  /** Bringing inputs; those that were there already count to the run. */
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  readonly ranMs: number;
  /** What is left: messages, and the loops at both ends. */
  readonly otherMs: number;
}

export const PHASES = ['waitedMs', 'fetchedMs', 'initialisedMs', 'ranMs', 'otherMs'] as const satisfies readonly (keyof PhaseTimes)[];

/** Of many, with what their sandboxes started from. */
export interface PhaseSums extends PhaseTimes {
  readonly invocations: number;
  /** How many began cold, with packages, from a zygote, warm. */
  readonly starts: readonly [cold: number, packages: number, zygote: number, warm: number];
}

/** Recorded phases with their start state. */
export interface PhasesOfOne extends PhaseTimes {
  readonly startState: number;
}

/** Phases of a recorded invocation; undefined: it did not complete, or never ran. */
export function recordedPhases(outcome: RecordedOutcome | undefined): PhasesOfOne | undefined {
  if (outcome?.state !== 'completed' || outcome.startState === 0) return undefined;
  return phasesOf(outcome, Math.max(0, outcome.untilDispatchMs), outcome.totalMs);
}

/** Phases from what a node measured. */
export function phasesOf({ fetchedMs, fetchedBytes, initialisedMs, ranMs, startState }: Pick<RecordedOutcome, 'fetchedMs' | 'fetchedBytes' | 'initialisedMs' | 'ranMs' | 'startState'>, waitedMs: number, totalMs: number): PhasesOfOne {
  const broughtMs = fetchedBytes === 0 ? 0 : fetchedMs;
  return { waitedMs, fetchedMs: broughtMs, initialisedMs, ranMs: ranMs + fetchedMs - broughtMs, otherMs: totalMs - waitedMs - fetchedMs - initialisedMs - ranMs, startState };
}

/** Adds up. */
export class PhaseSum implements PhaseSums {
  invocations = 0;
  waitedMs = 0;
  fetchedMs = 0;
  initialisedMs = 0;
  ranMs = 0;
  otherMs = 0;
  readonly starts: [number, number, number, number] = [0, 0, 0, 0];

  add(one: PhasesOfOne): void {
    this.invocations++;
    for (const phase of PHASES) this[phase] += one[phase];
    const place = one.startState - 1;
    if (place in this.starts) this.starts[place] = (this.starts[place] as number) + 1;
  }

  /** Those of another replica too. */
  merge(other: PhaseSums): void {
    this.invocations += other.invocations;
    for (const phase of PHASES) this[phase] += other[phase];
    other.starts.forEach((count, place) => void (this.starts[place] = (this.starts[place] as number) + count));
  }
}

/** Means per invocation, and shares of start states. */
export interface PhaseMeans extends PhaseTimes {
  readonly starts: PhaseSums['starts'];
}

/** Zeros for none. */
export function meansOf(sums: PhaseSums): PhaseMeans {
  const per = (value: number): number => (sums.invocations === 0 ? 0 : value / sums.invocations);
  const [cold, packages, zygote, warm] = sums.starts;
  return { waitedMs: per(sums.waitedMs), fetchedMs: per(sums.fetchedMs), initialisedMs: per(sums.initialisedMs), ranMs: per(sums.ranMs), otherMs: per(sums.otherMs), starts: [per(cold), per(packages), per(zygote), per(warm)] };
}
