/**
 * What a recording consists of: facts in the order in which they happened. An *entry* begins with one input of the scheduler (a call, a timer,
 * a prediction that came) and goes on with what the scheduler read because of it (clock, node times, predictions) and what it did (decisions,
 * commands, transitions). Numbers stand on one tape, everything else on a second one; a fact begins with its number from OP.
 */
import type { InputName } from './inputs.ts';

/** Numbers of the facts on the tape. Never reused: a recording outlives the build that wrote it. */
export const OP = {
  begin: 1, call: 2, timer: 3, predicted: 4, end: 5, gap: 6,
  clock: 10, heard: 11, initialise: 12, bandwidth: 13, observations: 14, answer: 15, later: 16,
  decided: 20, execute: 21, cancel: 22, prewarm: 23, evict: 24, transition: 25, threw: 26, accepted: 27,
} as const;

/** Numbers of one row of an answer: node × 16 + start state × 2 + source, missing bytes, mean, spread, P95, P99. */
export const ANSWER_ROW = 6;

/** What was known of functions and nodes when a gap ended, for those who only want the arrivals behind it. */
export interface Context {
  readonly functions: readonly unknown[];
  readonly nodes: readonly unknown[];
}

/** One candidate as it was predicted. */
export interface AnswerRow {
  readonly node: number;
  readonly startState: number;
  /** Index into SOURCES. */
  readonly source: number;
  readonly missingBytes: number;
  readonly meanMs: number;
  readonly spreadMs: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** Inputs: each begins an entry. */
export type InputFact =
  /** The scheduler was made. */
  | { readonly kind: 'begin' }
  | { readonly kind: 'call'; readonly name: InputName; readonly args: readonly unknown[] }
  /** The timer that was set as number `timer` fired. */
  | { readonly kind: 'timer'; readonly timer: number }
  | { readonly kind: 'predicted'; readonly ticket: number }
  /** The recording ended in order. */
  | { readonly kind: 'end' }
  /** So many entries are missing here: the writer could not follow. */
  | { readonly kind: 'gap'; readonly entries: number; readonly context: Context };

/** What was read because of an input. */
export type ReadFact =
  | { readonly kind: 'clock'; readonly ms: number }
  | { readonly kind: 'heard'; readonly node: number; readonly ms: number }
  | { readonly kind: 'initialise'; readonly ms: number }
  | { readonly kind: 'bandwidth'; readonly bytesPerMs: number }
  | { readonly kind: 'observations'; readonly count: number }
  | { readonly kind: 'answer'; readonly rows: readonly AnswerRow[] }
  /** The prediction comes later. */
  | { readonly kind: 'later' };

/** A decision with the room and the class of each candidate, in the order of the answer before it. */
export interface DecidedFact {
  readonly kind: 'decided';
  /** Serial number of the invocation. */
  readonly seq: number;
  readonly policy: string;
  readonly action: 'dispatch' | 'delay';
  readonly reason: string;
  readonly node: number;
  readonly deadlineMs: number;
  readonly slackMs: number;
  readonly rooms: readonly number[];
  readonly local: readonly boolean[];
}

/** What followed from an input. */
export type OutputFact =
  | DecidedFact
  | { readonly kind: 'execute'; readonly seq: number; readonly node: number; readonly attempt: number }
  | { readonly kind: 'cancel'; readonly seq: number; readonly node: number }
  | { readonly kind: 'prewarm' | 'evict'; readonly function: string; readonly node: number; readonly count: number }
  /** States by number (core/invocation.ts). */
  | { readonly kind: 'transition'; readonly seq: number; readonly from: number; readonly to: number; readonly reason: string; readonly node: number }
  /** The call threw. */
  | { readonly kind: 'threw'; readonly code: string }
  /** A submission was taken in under this number. */
  | { readonly kind: 'accepted'; readonly seq: number };

export type Fact = InputFact | ReadFact | OutputFact;

/** What a submission was for, beside what the scheduler looks at: told by who embeds it. */
export interface Purpose {
  /** Id of the workflow run that it is a step of. */
  readonly run: string;
  readonly workflow: string;
  readonly runArrivedAtMs: number;
  readonly runSlaMs: number;
  /** Name of its step, its number among the calls of the run, and the steps whose results it reads. */
  readonly step: string;
  readonly call: number;
  readonly after: readonly string[];
}


/** True for a fact that begins an entry. */
export function isInput(fact: Fact): fact is InputFact {
  return fact.kind === 'begin' || fact.kind === 'call' || fact.kind === 'timer' || fact.kind === 'predicted' || fact.kind === 'end' || fact.kind === 'gap';
}
