/**
 * Shadow mode: a second policy decides too, on the very same view, and nothing is dispatched for it. What it would have chosen is compared
 * with what was chosen, by predictions only: the road not taken has no measured time. The policy is made for this alone, so neither
 * policy can see or change the other's state.
 */
import { createDecision, type Decision, type DecisionView, type Policy } from '../policy/policy.ts';

/** What became of comparing two policies over some decisions: sums. */
export interface ShadowComparison {
  /** The second policy. */
  readonly policy: string;
  readonly decisions: number;
  /** Same action and same node. */
  readonly agreed: number;
  /** Predicted completion (expected wait + predicted time) of what was chosen, and of what the second policy would have chosen, ms. */
  readonly activeMs: number;
  readonly shadowMs: number;
}

/** Rows that are looked at for the first room anywhere. */
const MAX_ROWS = 64;

export class Shadow {
  readonly #policy: Policy;
  readonly #decision: Decision = createDecision();
  #decisions = 0;
  #agreed = 0;
  #activeMs = 0;
  #shadowMs = 0;
  /** Decisions compared and agreed upon since it was put in force. */
  compared = 0;
  agreed = 0;

  constructor(policy: Policy) {
    this.#policy = policy;
  }

  get policy(): string {
    return this.#policy.name;
  }

  get needsAllNodes(): boolean {
    return this.#policy.needsAllNodes === true;
  }

  /** How often its policy wants to be called between decisions, ms; undefined: never. */
  get tickMs(): number | undefined {
    return this.#policy.tick === undefined ? undefined : this.#policy.tickMs;
  }

  /** Calls its policy between decisions. What it asks for must come to nothing. */
  tick(control: Parameters<NonNullable<Policy['tick']>>[0]): void {
    this.#policy.tick?.(control);
  }

  served(functionIndex: number, serviceMs: number, totalMs: number): void {
    this.#policy.served?.(functionIndex, serviceMs, totalMs);
  }

  /** Decides on what `chosen` was decided on. Decisions without any candidate are not compared: there was no choice. */
  compare(view: DecisionView, chosen: Decision): void {
    if (view.candidates.count === 0) return;
    const own = this.#decision;
    this.#policy.decide(view, own);
    const activeMs = completionMs(view, chosen), shadowMs = completionMs(view, own);
    if (!Number.isFinite(activeMs + shadowMs)) return;
    const same = own.action === chosen.action && own.row === chosen.row ? 1 : 0;
    this.#decisions++;
    this.#agreed += same;
    this.#activeMs += activeMs;
    this.#shadowMs += shadowMs;
    this.compared++;
    this.agreed += same;
  }

  /** The comparison since the last call. */
  take(): ShadowComparison {
    const taken = { policy: this.policy, decisions: this.#decisions, agreed: this.#agreed, activeMs: this.#activeMs, shadowMs: this.#shadowMs };
    this.#decisions = this.#agreed = this.#activeMs = this.#shadowMs = 0;
    return taken;
  }
}

/** When the invocation would be done, as predicted: expected wait plus execution, ms from now. */
function completionMs(view: DecisionView, { action, row }: Decision): number {
  const { node, meanMs, count } = view.candidates;
  if (row >= 0) return (action === 'dispatch' ? 0 : view.expectedWaitMs(node[row] as number)) + (meanMs[row] as number);
  let leastMs = Infinity;
  for (let each = 0; each < count && each < MAX_ROWS; each++) leastMs = Math.min(leastMs, view.expectedWaitMs(node[each] as number) + (meanMs[each] as number));
  return leastMs;
}
