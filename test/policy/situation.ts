/** Hand-made situations for policies: rows of candidates, and what was decided in words. */
import { Invocation, type InvocationHost } from '../../src/core/invocation.ts';
import { createRandom } from '../../src/core/random.ts';
import { createDecision, type Candidates, type ClusterFacts, type Decision, type DecisionView, type FunctionFacts, type Policy, type PolicyOptions } from '../../src/policy/policy.ts';
import { createCandidates } from '../../src/scheduler/classify.ts';

/** One candidate. T is its predicted execution time, ms. */
export interface Row {
  readonly T: number;
  readonly local?: boolean;
  /** @default 0 */
  readonly room?: number;
  /** Busy share, 0 to 1. @default 0 */
  readonly load?: number;
  /** Bits: 1 data, 2 warm, 4 packages. @default 0 */
  readonly kinds?: number;
  /** Node index. @default its place */
  readonly node?: number;
  /** Predicted wait for room, ms. @default 0 */
  readonly wait?: number;
  /** What that stays below. @default wait */
  readonly upperWait?: number;
  /** @default 0 */
  readonly spread?: number;
  /** Upper quantile P95. @default T + 2 spread */
  readonly p95?: number;
  /** @default 0 */
  readonly missing?: number;
  /** Expected start state: 1 cold, 2 packages, 3 zygote, 4 warm. @default 0, unknown */
  readonly startState?: number;
}

/** A moment of one invocation. */
export interface Situation {
  readonly rows: readonly Row[];
  /** θ, ms. @default 1000 */
  readonly slaMs?: number;
  readonly arrivedAtMs?: number;
  readonly nowMs?: number;
  readonly mayRun?: boolean;
  /** Waits of the function since it last made a sandbox, ms. @default 0 */
  readonly rentMs?: number;
  /** Nodes without memory for another sandbox. @default none */
  readonly full?: readonly number[];
  readonly cluster?: Partial<ClusterFacts>;
  readonly function?: Partial<FunctionFacts>;
  readonly functionIndex?: number;
  /** It was decided on before. */
  readonly decidedBy?: string;
  /** Node that it waits for already. */
  readonly target?: number;
  /** Nodes in whose lines it stands. */
  readonly lineNodes?: number[];
  /** When it first delayed. */
  readonly firstDelayedAtMs?: number;
}

/** What a policy said, as data. */
export interface Said {
  readonly action: 'dispatch' | 'delay';
  readonly row: number;
  readonly reason: string;
  readonly deadlineMs: number;
  readonly slackMs: number;
  readonly also: readonly number[];
}

export const PAPER: PolicyOptions = { localityGain: 0.85, safetyMargin: 0.1, strict: false, random: createRandom(1) };

/** What the policy is shown. */
export function viewOf(situation: Situation): DecisionView {
  const nowMs = situation.nowMs ?? situation.arrivedAtMs ?? 0;
  const candidates: Candidates = createCandidates(Math.max(1, situation.rows.length));
  candidates.count = situation.rows.length;
  situation.rows.forEach((row, i) => {
    candidates.node[i] = row.node ?? i;
    candidates.meanMs[i] = row.T;
    candidates.local[i] = row.local === true ? 1 : 0;
    candidates.room[i] = row.room ?? 0;
    candidates.load[i] = row.load ?? 0;
    candidates.kinds[i] = row.kinds ?? 0;
    candidates.spreadMs[i] = row.spread ?? 0;
    candidates.p95Ms[i] = row.p95 ?? row.T + 2 * (row.spread ?? 0);
    candidates.missingBytes[i] = row.missing ?? 0;
    candidates.startState[i] = row.startState ?? 0;
  });
  const host: InvocationHost = { nowMs, observer: { transitioned: () => {} } };
  const invocation = new Invocation(host, {
    seq: 0, id: 'i', functionName: 'f', functionIndex: situation.functionIndex ?? 0, arrivedAtMs: situation.arrivedAtMs ?? 0, slaMs: situation.slaMs ?? 1_000, expiresAtMs: Infinity, inputs: [], inputBytes: 0, localityKey: '', policyName: '', idempotent: true, maxAttempts: 1,
  });
  invocation.target = situation.target ?? -1;
  invocation.firstDelayedAtMs = situation.firstDelayedAtMs ?? 0;
  const waits = new Map(situation.rows.map((row, i) => [row.node ?? i, row.wait ?? 0]));
  const upperWaits = new Map(situation.rows.map((row, i) => [row.node ?? i, row.upperWait ?? row.wait ?? 0]));
  const cluster: ClusterFacts = { readyNodes: situation.rows.length, readySlots: situation.rows.length, meanServiceMs: 0, waiting: 0, ...situation.cluster };
  invocation.decidedBy = situation.decidedBy ?? '';
  invocation.lineNodes = situation.lineNodes;
  return { candidates, cluster, function: { name: 'f', slaMs: 1_000, memoryMb: 256, critical: false, ...situation.function }, invocation, nowMs, mayRun: situation.mayRun ?? true, rentMs: () => situation.rentMs ?? 0, fits: (node) => situation.full?.includes(node) !== true, expectedWaitMs: (node) => waits.get(node) ?? 0, upperWaitMs: (node) => upperWaits.get(node) ?? 0 };
}

/** Asks the policy. */
export function decide(policy: Policy, situation: Situation, into: Decision = createDecision()): Said {
  policy.decide(viewOf(situation), into);
  return { action: into.action, row: into.row, reason: into.reason, deadlineMs: into.deadlineMs, slackMs: into.slackMs, also: [...into.also.subarray(0, into.alsoCount)] };
}
