/**
 * The last decisions with all that they rested on, in preallocated rings: writing one is copying numbers. Read by explain,
 * plan and the inspector. At most 16 candidates are kept per decision; the rest is counted.
 */
import type { Invocation } from '../core/invocation.ts';
import type { Reason } from '../core/reasons.ts';
import type { Candidates, Decision } from '../policy/policy.ts';

/** Candidates kept per decision. */
export const KEPT_CANDIDATES = 16;

/** One candidate as it was seen. */
export interface CandidateRecord {
  readonly node: number;
  readonly local: boolean;
  readonly degree: number;
  readonly degreeData: number;
  readonly degreeInfrastructure: number;
  readonly predictedMs: number;
  readonly spreadMs: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  /** Who predicted it, an index into SOURCES. */
  readonly source: number;
  readonly waitMs: number;
  readonly room: number;
  readonly load: number;
  readonly startState: number;
  readonly zygoteDistance: number;
  readonly missingBytes: number;
}

/** One decision as it was made. */
export interface DecisionRecord {
  readonly invocation: Invocation;
  readonly atMs: number;
  readonly policy: string;
  readonly action: 'dispatch' | 'delay';
  readonly reason: Reason;
  /** -1: none (waiting for any room). */
  readonly node: number;
  readonly slackMs: number;
  readonly deadlineMs: number;
  readonly predictedMs: number;
  readonly candidates: readonly CandidateRecord[];
  readonly candidatesInAll: number;
}

const COLUMNS = 14;

export class DecisionRing {
  readonly #size: number;
  #next = 0;
  /** Serial numbers, not invocations: the ring must not keep thousands of ended ones alive. */
  readonly #seq: Float64Array;
  readonly #policy: string[];
  readonly #action: Uint8Array;
  readonly #reason: Reason[];
  readonly #node: Int32Array;
  readonly #kept: Uint8Array;
  readonly #inAll: Int32Array;
  readonly #numbers: Float64Array;
  readonly #candidateNode: Int32Array;
  readonly #candidates: Float64Array;

  /** A ring of `size` decisions, 1 to 2^20. */
  constructor(size: number) {
    this.#size = size;
    this.#seq = new Float64Array(size).fill(-1);
    this.#policy = new Array<string>(size).fill('');
    this.#reason = new Array<Reason>(size).fill('arrived');
    this.#action = new Uint8Array(size);
    this.#node = new Int32Array(size);
    this.#kept = new Uint8Array(size);
    this.#inAll = new Int32Array(size);
    this.#numbers = new Float64Array(size * 4);
    this.#candidateNode = new Int32Array(size * KEPT_CANDIDATES);
    this.#candidates = new Float64Array(size * KEPT_CANDIDATES * COLUMNS);
  }

  /** Decisions recorded so far. */
  get total(): number {
    return this.#next;
  }

  /** Records a decision. O(min(candidates, 16)) writes and one scan when there are more. */
  record(invocation: Invocation, policy: string, nowMs: number, candidates: Candidates, decision: Decision, targetWaitMs: number): void {
    const at = this.#next++ % this.#size;
    this.#seq[at] = invocation.seq;
    this.#policy[at] = policy;
    this.#reason[at] = decision.reason;
    this.#action[at] = decision.action === 'dispatch' ? 1 : 2;
    this.#node[at] = decision.row < 0 ? -1 : (candidates.node[decision.row] as number);
    this.#numbers[at * 4] = nowMs;
    this.#numbers[at * 4 + 1] = decision.slackMs;
    this.#numbers[at * 4 + 2] = decision.deadlineMs;
    this.#numbers[at * 4 + 3] = decision.row < 0 ? 0 : (candidates.meanMs[decision.row] as number);
    const { count } = candidates;
    this.#inAll[at] = count;
    const base = at * KEPT_CANDIDATES;
    let kept = 0;
    if (count <= KEPT_CANDIDATES) {
      for (let row = 0; row < count; row++) this.#keep(base + kept++, candidates, row, row === decision.row ? targetWaitMs : 0);
    } else {
      // The chosen one, the local ones, then others with room: what a reader wants to see. The scan stops when it is full.
      if (decision.row >= 0) this.#keep(base + kept++, candidates, decision.row, targetWaitMs);
      for (let row = 0; row < count && kept < KEPT_CANDIDATES - 4; row++) if (candidates.local[row] === 1 && row !== decision.row) this.#keep(base + kept++, candidates, row, 0);
      for (let row = 0; row < count && kept < KEPT_CANDIDATES; row++) if (candidates.local[row] === 0 && row !== decision.row && (candidates.room[row] as number) > 0) this.#keep(base + kept++, candidates, row, 0);
    }
    this.#kept[at] = kept;
  }

  #keep(slot: number, candidates: Candidates, row: number, waitMs: number): void {
    this.#candidateNode[slot] = candidates.node[row] as number;
    const to = this.#candidates;
    const at = slot * COLUMNS;
    to[at] = candidates.local[row] as number;
    to[at + 1] = candidates.degreeData[row] as number;
    to[at + 2] = candidates.degreeInfrastructure[row] as number;
    to[at + 3] = candidates.meanMs[row] as number;
    to[at + 4] = candidates.spreadMs[row] as number;
    to[at + 5] = candidates.room[row] as number;
    to[at + 6] = candidates.load[row] as number;
    to[at + 7] = candidates.startState[row] as number;
    to[at + 8] = candidates.missingBytes[row] as number;
    to[at + 9] = waitMs;
    to[at + 10] = candidates.p95Ms[row] as number;
    to[at + 11] = candidates.p99Ms[row] as number;
    to[at + 12] = candidates.source[row] as number;
    to[at + 13] = candidates.zygoteDistance[row] as number;
  }

  /** The decisions still remembered for one invocation, oldest first. Scans the ring. */
  of(invocation: Invocation): DecisionRecord[] {
    const found: DecisionRecord[] = [];
    for (let i = Math.max(0, this.#next - this.#size); i < this.#next; i++) {
      const at = i % this.#size;
      if (this.#seq[at] === invocation.seq) found.push(this.#read(at, invocation));
    }
    return found;
  }

  /** The decision that was recorded last; it must be one on this invocation. */
  last(invocation: Invocation): DecisionRecord {
    return this.#read((this.#next - 1) % this.#size, invocation);
  }

  #read(at: number, invocation: Invocation): DecisionRecord {
    const candidates: CandidateRecord[] = [];
    for (let k = 0; k < (this.#kept[at] as number); k++) {
      const slot = at * KEPT_CANDIDATES + k;
      const n = (column: number): number => this.#candidates[slot * COLUMNS + column] as number;
      candidates.push({
        node: this.#candidateNode[slot] as number, local: n(0) === 1, degree: n(1) + n(2), degreeData: n(1), degreeInfrastructure: n(2),
        predictedMs: n(3), spreadMs: n(4), room: n(5), load: n(6), startState: n(7), missingBytes: n(8), waitMs: n(9), p95Ms: n(10), p99Ms: n(11), source: n(12), zygoteDistance: n(13),
      });
    }
    candidates.sort((a, b) => a.predictedMs - b.predictedMs);
    const number = (column: number): number => this.#numbers[at * 4 + column] as number;
    return {
      invocation, atMs: number(0), policy: this.#policy[at] as string, action: this.#action[at] === 1 ? 'dispatch' : 'delay', reason: this.#reason[at] as Reason,
      node: this.#node[at] as number, slackMs: number(1), deadlineMs: number(2), predictedMs: number(3), candidates, candidatesInAll: this.#inAll[at] as number,
    };
  }
}
