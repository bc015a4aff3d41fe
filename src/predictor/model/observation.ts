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
/** What a prediction at dispatch said, ms. */
export interface Served {
  readonly meanMs: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** Columns of what had been predicted at dispatch, behind the phases; 0: nothing. For recordings: the model learns nothing from them. */
export const SERVED_MS: number = SITUATION_WIDTH + 3, SERVED_P95_MS: number = SITUATION_WIDTH + 4, SERVED_P99_MS: number = SITUATION_WIDTH + 5;
/** Longest phase that is learned from, ms: more than eleven days. */
export const MOST_PHASE_MS = 1e9;
/** Numbers per observation. */
export const OBSERVATION_WIDTH: number = SITUATION_WIDTH + 6;

/** Why an execution taught the model nothing. */
export const EXCLUSIONS = ['failed', 'cancelled', 'timedOut', 'invalid'] as const;
export type Exclusion = (typeof EXCLUSIONS)[number];

const NOT_SERVED: Served = { meanMs: 0, p95Ms: 0, p99Ms: 0 };

/** Writes one observation at `offset`. */
export function encodeObservation(situation: Situation, phases: Phases, out: Float64Array, offset = 0, served = NOT_SERVED): void {
  encodeSituation(situation, out, offset);
  out[offset + FETCHED_MS] = phases.fetchedMs;
  out[offset + INITIALISED_MS] = phases.initialisedMs;
  out[offset + RAN_MS] = phases.ranMs;
  out[offset + SERVED_MS] = served.meanMs;
  out[offset + SERVED_P95_MS] = served.p95Ms;
  out[offset + SERVED_P99_MS] = served.p99Ms;
}
