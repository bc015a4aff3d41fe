/**
 * The one interface of all scheduling policies. A policy decides from what it is shown and from nothing else: no I/O, no
 * clock, no other state than its own. One policy per file; src/policy/registry.ts knows them all.
 */
import type { Invocation } from '../core/invocation.ts';
import type { Random } from '../core/random.ts';
import type { Reason } from '../core/reasons.ts';
import type { PredictionRows } from '../predictor/predictor.ts';

/**
 * The nodes that come into question for one invocation at one moment, as parallel arrays, in order of node indexes. Only ready nodes are in
 * it; in large clusters only some of them, unless the policy needs all (Policy.needsAllNodes).
 */
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

/** What the scheduler knows of the cluster as a whole. */
export interface ClusterFacts {
  /** Nodes that may get work, and their slots together. */
  readonly readyNodes: number;
  readonly readySlots: number;
  /** Mean of fetch + initialise + run over all successful executions of all functions so far, ms; 0: none yet. */
  readonly meanServiceMs: number;
  /** Invocations that wait for a better node or for room. */
  readonly waiting: number;
}

/** What a policy may know of a function. */
export interface FunctionFacts {
  readonly name: string;
  readonly slaMs: number;
  /** Memory limit of one sandbox, MiB. */
  readonly memoryMb: number;
  /** User-facing: must not be put off. */
  readonly critical: boolean;
}

/** What a policy is shown. */
export interface DecisionView {
  readonly cluster: ClusterFacts;
  readonly function: FunctionFacts;
  readonly candidates: Candidates;
  readonly invocation: Invocation;
  readonly nowMs: number;
  /** False when the function runs as often as it may: no node has room for it. */
  readonly mayRun: boolean;
  /** What invocations of the function have waited for warm nodes since one of them last made a sandbox, ms; waits of a minute ago count for 1/e. */
  rentMs(): number;
  /** Whether the node has memory for one more sandbox of the function beside all that it has. */
  fits(node: number): boolean;
  /**
   * Predicted time until the node has room for this invocation, ms: until one of its slots is free, those who stand in its line and
   * come before it included; 0 when it has room now. `keyMs`: the place in the line that it would take (Decision.keyMs). O(slots + line, at most 64).
   */
  expectedWaitMs(node: number, keyMs?: number): number;
  /** What that wait stays below if what runs there takes as long as its upper quantile, ms. */
  upperWaitMs(node: number, keyMs?: number): number;
}

/** What a policy says. One object, reused: set all fields by the helpers below. */
export interface Decision {
  action: 'dispatch' | 'delay';
  reason: Reason;
  /** dispatch: row of the candidates. delay: row of the target, or -1 when any room will do. */
  row: number;
  /** When to stop waiting, ms; Infinity: never (only `strict`). For any room: when to ask the policy again at the latest. */
  deadlineMs: number;
  /** Safe delay left, ms. */
  slackMs: number;
  /** delay for locality: rows of other local nodes that would do as well; the first `alsoCount` entries. */
  readonly also: Int32Array;
  alsoCount: number;
  /** delay for any room: the line to stand in, 0 to MAX_LINES − 1 (see Policy.lineOf), or HELD. */
  line: number;
  /** Its place in the line, smaller first. NaN: for any room, when its SLA ends, ms; for a node, when the wait ends. */
  keyMs: number;
}

/** Lines for room that policies may use beside the general one, 0. */
export const MAX_LINES = 64;
/** No line: room does not wake it, only its deadline does. */
export const HELD = -1;

/** Nodes under which a waiter is listed beside its target. */
export const MAX_ALSO = 8;

/** An empty decision. */
export function createDecision(): Decision {
  return { action: 'delay', reason: 'noRoom', row: -1, deadlineMs: Infinity, slackMs: 0, also: new Int32Array(MAX_ALSO), alsoCount: 0, line: 0, keyMs: Number.NaN };
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

/** Wait for the first room anywhere, or on the nodes of a line. */
export function delayForRoom(out: Decision, reason: Reason, line = 0): void {
  out.action = 'delay';
  out.row = -1;
  out.reason = reason;
  out.deadlineMs = Infinity;
  out.slackMs = 0;
  out.alsoCount = 0;
  out.line = line;
  out.keyMs = Number.NaN;
}

/** Wait until `untilMs` whatever becomes free meanwhile; then the policy is asked again. */
export function hold(out: Decision, reason: Reason, untilMs: number): void {
  delayForRoom(out, reason, HELD);
  out.deadlineMs = untilMs;
}

/** Wait for the node of this row until `deadlineMs`. */
export function delayFor(out: Decision, row: number, reason: Reason, deadlineMs: number, slackMs: number): void {
  out.action = 'delay';
  out.row = row;
  out.reason = reason;
  out.deadlineMs = deadlineMs;
  out.slackMs = slackMs;
  out.alsoCount = 0;
  out.keyMs = Number.NaN;
}

/** A scheduling policy. */
export interface Policy {
  readonly name: string;
  /** One sentence for people. */
  readonly description: string;
  /** True: it must be shown every ready node, however many there are; a decision costs O(nodes) then. @default false */
  readonly needsAllNodes?: boolean;
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
  /**
   * True: while an invocation delays for locality the policy decides again every monitorIntervalMs, and a decision for another node
   * counts. `view.invocation.target` is the node that it waits for.
   */
  readonly decidesAgain?: boolean;
  /** Where a wait for locality goes when its deadline has passed: a row with room, or -1 if there is none. Default: the one with the least predicted time. */
  fallback?(view: DecisionView): number;
  /** The line for room (Decision.line) that a release of this node serves beside the general one. */
  lineOf?(node: number): number;
  /** How often `tick` is called while this is the scheduler's policy, ms. */
  readonly tickMs?: number;
  /** Between decisions: for policies that keep statistics or manage sandboxes. O(functions × nodes) is allowed here. */
  tick?(control: PolicyControl): void;
  /** An execution that this policy placed succeeded: fetch + initialise + run, and from arrival to result, ms. */
  served?(functionIndex: number, serviceMs: number, totalMs: number): void;
  /** What it works with at the moment, for people: names and values. */
  parameters?(facts: ClusterFacts): Readonly<Record<string, string>>;
}

/** What a policy may look at and do between decisions. Nodes and functions go by index; indexes never change their meaning while they live. */
export interface PolicyControl {
  readonly nowMs: number;
  readonly cluster: ClusterFacts;
  /** Indexes of nodes are below this. */
  readonly nodes: number;
  isReady(node: number): boolean;
  slots(node: number): number;
  /** Slots in use. */
  used(node: number): number;
  /** Memory for sandboxes, MiB. */
  memoryMb(node: number): number;
  /** Indexes of functions are below this. */
  readonly functions: number;
  /** Undefined: deleted. */
  functionOf(index: number): FunctionFacts | undefined;
  idle(functionIndex: number, node: number): number;
  busy(functionIndex: number, node: number): number;
  /** Most executions of the function at once since this was called for it the last time. */
  takePeak(functionIndex: number): number;
  /** Asks for so many idle sandboxes of the function on the node. Its cost falls on the node; nothing is said of the outcome. */
  prewarm(functionIndex: number, node: number, count: number): void;
  /** Ends so many idle sandboxes of the function on the node. */
  evict(functionIndex: number, node: number, count: number): void;
}

/** The row with room and the least load; among equals the first. -1: none has room. */
export function leastLoadedRow({ count, room, load }: Candidates): number {
  let best = -1;
  for (let row = 0; row < count; row++) if ((room[row] as number) > 0 && (best < 0 || (load[row] as number) < (load[best] as number))) best = row;
  return best;
}

/** Parameters of the policies; the symbols are the paper's. */
export interface PolicyOptions {
  /** α: wait only if the local prediction is below α × the alternative. @default 0.85, 0 < α < 1 */
  readonly localityGain: number;
  /** β: share of the SLA kept in reserve. @default 0.1, 0 ≤ β < 1 */
  readonly safetyMargin: number;
  /** Algorithm 1 exactly as printed, with its faults. @default false */
  readonly strict: boolean;
  /** How long a wait of `metronome` may take, times what it saves (α · T_f − T_l, and slots for others). @default 0.75 */
  readonly waitPerGain?: number;
  /** Parameters of single policies; their defaults stand with them. */
  readonly ruleDelay?: RuleDelayOptions;
  readonly lookahead?: LookaheadOptions;
  readonly xfaas?: XfaasOptions;
  readonly pools?: PoolOptions;
  readonly random: Random;
}

/** Parameters of the policies that keep pools of sandboxes: `aquatope` and `icebreaker`. */
export interface PoolOptions {
  /** Length of the windows of their series, ms. @default 60000 */
  readonly windowMs?: number;
  /** z of aquatope: how many standard deviations are kept beyond the mean. @default 1 */
  readonly margin?: number;
}

/** Parameters of `xfaas`. */
export interface XfaasOptions {
  /** Keeps one sandbox of each function ready on every worker of its group, as Meta's system has code everywhere. @default false */
  readonly prefetch?: boolean;
}

/** Parameters of `rule-delay`. */
export interface RuleDelayOptions {
  /** W: how long to wait for a node with the data, ms; 0: from the environment, by the formulas of rule-delay.ts. @default 0 */
  readonly waitMs?: number;
  /** λ: share of local launches aimed at, 0 < λ < 1. @default 0.95 */
  readonly locality?: number;
}

/** Parameters of `lookahead`. */
export interface LookaheadOptions {
  /** γ: a wait must end before γ × what can be had at once, a revision must win by as much, and nodes that differ by less are near-ties, 0 < γ ≤ 1. @default 0.8 */
  readonly hysteresis?: number;
  /** κ: what a millisecond beyond the least execution time costs others, times (waiters ÷ slots + load), ≥ 0. @default 1 */
  readonly price?: number;
  /** ρ: share of the waits since its last new sandbox that is credited to making another one, ≥ 0. @default 1 */
  readonly rent?: number;
  /** Experiment: W as predicted, always 0, or one constant for all nodes and functions (the mean service time). @default 'predicted' */
  readonly wait?: LookaheadWait;
  /** Experiment: the risk of waiting is bounded by upper quantiles, or by means as if predictions were exact. @default 'quantile' */
  readonly risk?: LookaheadRisk;
}

/** What `lookahead` takes for the wait. */
export const LOOKAHEAD_WAITS = ['predicted', 'none', 'constant'] as const;
export type LookaheadWait = (typeof LOOKAHEAD_WAITS)[number];

/** What `lookahead` bounds risk by. */
export const LOOKAHEAD_RISKS = ['quantile', 'mean'] as const;
export type LookaheadRisk = (typeof LOOKAHEAD_RISKS)[number];
