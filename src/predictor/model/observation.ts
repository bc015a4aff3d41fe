/**
 * What the model learns from: a situation at dispatch and the phases that the agent measured. A batch of observations is one array of
 * numbers, `OBSERVATION_WIDTH` per observation, so that it travels to the training thread without a copy.
 *
 * The situation is the one at dispatch, with what really happened in place of what was expected: `startState` from the result, and
 * `missingBytes` = bytes that were really moved. Only successful executions are observations; the others are counted (`exclude`).
 */
import { encodeSituation, SITUATION_WIDTH, type Situation } from '../features.ts';

/** Measured phases of one execution, ms. */
export interface Phases {
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  readonly ranMs: number;
}

/** Columns of the phases behind those of the situation. */
export const FETCHED_MS: number = SITUATION_WIDTH, INITIALISED_MS: number = SITUATION_WIDTH + 1, RAN_MS: number = SITUATION_WIDTH + 2;
/** Longest phase that is learned from, ms: more than eleven days. */
export const MOST_PHASE_MS = 1e9;
/** Numbers per observation. */
export const OBSERVATION_WIDTH: number = SITUATION_WIDTH + 3;

/** Why an execution taught the model nothing. */
export const EXCLUSIONS = ['failed', 'cancelled', 'timedOut', 'invalid'] as const;
export type Exclusion = (typeof EXCLUSIONS)[number];

/** Writes one observation at `offset`. */
export function encodeObservation(situation: Situation, phases: Phases, out: Float64Array, offset = 0): void {
  encodeSituation(situation, out, offset);
  out[offset + FETCHED_MS] = phases.fetchedMs;
  out[offset + INITIALISED_MS] = phases.initialisedMs;
  out[offset + RAN_MS] = phases.ranMs;
}
