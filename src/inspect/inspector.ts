/**
 * The inspector of the loop: one synchronous observer that keeps aggregates of everything and detail of some. Machines count their states
 * and edges themselves (machines/flow.ts); here are the ring of transitions, what ended, and the selected invocations. Everything has a
 * fixed size. What it costs is measured by `npm run -s bench -- inspect-overhead`. Decision: docs/decisions/020-inspector.md.
 */
import { ARRIVING, type Invocation, type InvocationEvent } from '../core/invocation.ts';
import type { DecisionRecord, DecisionRing } from '../scheduler/decision-ring.ts';
import { DECISIONS_EACH, Details, TRANSITIONS_EACH, keepLast, type Detail, type DetailOptions } from './details.ts';
import { Traffic } from './traffic.ts';
import { TransitionRing, type TransitionRecord } from './transition-ring.ts';

/** What the inspector is made with. */
export interface InspectorOptions extends DetailOptions {
  /** Transitions of all invocations that are kept. */
  readonly transitions: number;
  /** The scheduler's decisions; asked for when the first one was made. */
  readonly decisions: () => DecisionRing;
}

export class Inspector {
  readonly transitions: TransitionRing;
  readonly traffic = new Traffic();
  readonly details: Details;
  readonly #decisions: () => DecisionRing;

  constructor(options: InspectorOptions) {
    this.transitions = new TransitionRing(options.transitions);
    this.details = new Details(options);
    this.#decisions = options.decisions;
  }

  // ── told by the scheduler ─────────────────────────────────────────────────────────────────────────────────────

  transitioned(invocation: Invocation, from: number, to: number, event: InvocationEvent): void {
    this.transitions.record(invocation, from, to, event);
    if (from === ARRIVING) this.details.consider(invocation);
    const detail = invocation.detail as Detail | undefined; // nobody else sets it
    if (detail !== undefined) keepLast(detail, detail.transitions, this.transitions.last(), TRANSITIONS_EACH);
  }

  decided(invocation: Invocation): void {
    const detail = invocation.detail as Detail | undefined;
    if (detail !== undefined) keepLast(detail, detail.decisions, this.#decisions().last(invocation), DECISIONS_EACH);
  }

  settled(invocation: Invocation): void {
    this.traffic.ended(invocation);
    // What is remembered of ended invocations must not hold detail longer than the inspector does.
    invocation.detail = undefined;
  }

  // ── asked by people ───────────────────────────────────────────────────────────────────────────────────────────

  /** What is known of one invocation, oldest first; one that lives is followed in full detail from now on. */
  explain(invocation: Invocation, isLive: boolean): { readonly transitions: readonly TransitionRecord[]; readonly decisions: readonly DecisionRecord[] } {
    const transitions = this.transitions.of(invocation.id);
    const decisions = this.#decisions().of(invocation);
    if (isLive) this.details.select(invocation, transitions, decisions);
    const detail = this.details.get(invocation.id);
    if (detail === undefined) return { transitions, decisions };
    return { transitions: longer(detail.transitions, transitions), decisions: longer(detail.decisions, decisions) };
  }
}

function longer<T>(a: readonly T[], b: readonly T[]): readonly T[] {
  return a.length >= b.length ? a : b;
}
