/**
 * The one interface of all scheduling policies. A policy decides from what it is shown and from nothing else: no I/O, no
 * clock, no other state than its own. One policy per file; src/policy/registry.ts knows them all.
 */
import type { Invocation } from '../core/invocation.ts';
import type { Random } from '../core/random.ts';
import type { Reason } from '../core/reasons.ts';
import type { PredictionRows } from '../predictor/predictor.ts';

/** The nodes that come into question for one invocation at one moment, as parallel arrays. Only ready nodes are in it. */
export interface Candidates extends PredictionRows {
  /** 1: local (degree ≥ threshold, or the locality key says so); 0: not. */
  readonly local: Uint8Array;
  /** Locality degree and its two parts, 0 to 1. */
  readonly degree: Float64Array;
  readonly degreeData: Float64Array;
  readonly degreeInfrastructure: Float64Array;
  /** Free slots; ≤ 0: none. */
  readonly room: Int32Array;
  /** Busy slots divided by slots, 0 to 1. */
  readonly load: Float64Array;
  /** Bit 1: has input data; bit 2: has an idle warm sandbox; bit 4: has the packages. */
  readonly kinds: Uint8Array;
}

/** What a policy is shown. */
export interface DecisionView {
  readonly candidates: Candidates;
  readonly invocation: Invocation;
  readonly nowMs: number;
  /** False when the function runs as often as it may: no node has room for it. */
  readonly mayRun: boolean;
  /** Predicted time until the node has room, ms; 0 when it has. O(slots of the node). */
  expectedWaitMs(node: number): number;
}

/** What a policy says. One object, reused: set all fields by the helpers below. */
export interface Decision {
  action: 'dispatch' | 'delay';
  reason: Reason;
  /** dispatch: row of the candidates. delay: row of the target, or -1 when any room will do. */
  row: number;
  /** delay for locality: when to stop waiting, ms; Infinity: never (only `strict`). */
  deadlineMs: number;
  /** Safe delay left, ms. */
  slackMs: number;
  /** delay for locality: rows of other local nodes that would do as well; the first `alsoCount` entries. */
  readonly also: Int32Array;
  alsoCount: number;
}

/** Nodes under which a waiter is listed beside its target. */
export const MAX_ALSO = 8;

/** An empty decision. */
export function createDecision(): Decision {
  return { action: 'delay', reason: 'noRoom', row: -1, deadlineMs: Infinity, slackMs: 0, also: new Int32Array(MAX_ALSO), alsoCount: 0 };
}

/** Run on the node of this row. */
export function dispatchTo(out: Decision, row: number, reason: Reason, slackMs: number): void {
  out.action = 'dispatch';
  out.row = row;
  out.reason = reason;
  out.deadlineMs = Infinity;
  out.slackMs = slackMs;
  out.alsoCount = 0;
}

/** Wait for the first room anywhere. */
export function delayForRoom(out: Decision, reason: Reason): void {
  out.action = 'delay';
  out.row = -1;
  out.reason = reason;
  out.deadlineMs = Infinity;
  out.slackMs = 0;
  out.alsoCount = 0;
}

/** Wait for the node of this row until `deadlineMs`. */
export function delayFor(out: Decision, row: number, reason: Reason, deadlineMs: number, slackMs: number): void {
  out.action = 'delay';
  out.row = row;
  out.reason = reason;
  out.deadlineMs = deadlineMs;
  out.slackMs = slackMs;
  out.alsoCount = 0;
}

/** A scheduling policy. */
export interface Policy {
  readonly name: string;
  /** One sentence for people. */
  readonly description: string;
  /**
   * Decides. Called at arrival, and again whenever something that matters changed while the invocation waits. Must
   * not dispatch to a row without room. Work O(candidates), no allocation.
   */
  decide(view: DecisionView, out: Decision): void;
  /**
   * While the invocation delays for locality: the deadline as of now, ms, from fresh predictions; undefined when the policy does
   * not move deadlines. Called every monitorIntervalMs.
   */
  deadlineMs?(view: DecisionView): number;
}

/** Parameters of the policies; the symbols are the paper's. */
export interface PolicyOptions {
  /** α: wait only if the local prediction is below α × the alternative. @default 0.85, 0 < α < 1 */
  readonly localityGain: number;
  /** β: share of the SLA kept in reserve. @default 0.1, 0 ≤ β < 1 */
  readonly safetyMargin: number;
  /** Algorithm 1 exactly as printed, with its faults. @default false */
  readonly strict: boolean;
  readonly random: Random;
}
