/** Transitions and decisions of some time or of one invocation: what is exported, in whatever form. */
import type { TransitionRow } from '../page-api.ts';

/** What happened, oldest first. */
export interface Excerpt {
  /** What it is of, for people. */
  readonly title: string;
  readonly transitions: readonly TransitionRow[];
  /** Decisions by invocation id, oldest first, as the JSON of the contract's Decision. Not every invocation needs to have them. */
  readonly decisions: ReadonlyMap<string, readonly unknown[]>;
  /** Transitions of the time asked for that nobody remembers any more. */
  readonly missed: number;
}

/** One stay in one state. */
export interface Stay {
  readonly state: string;
  /** Node that it was sent to or waited for; '': none. */
  readonly node: string;
  readonly delayingFor: string;
  readonly reason: string;
  readonly fromMs: number;
  /** Undefined: it was not left within the excerpt. */
  readonly toMs: number | undefined;
}

/** One invocation as far as it is in the excerpt. */
export interface ExcerptInvocation {
  readonly id: string;
  readonly function: string;
  readonly stays: readonly Stay[];
}

/** The states that nothing follows. */
const FINAL = new Set(['completed', 'failed', 'cancelled', 'timedOut']);

/** The stays of each invocation, in the order in which they first appear. */
export function invocationsOf({ transitions }: Excerpt): ExcerptInvocation[] {
  const found = new Map<string, { id: string; function: string; stays: (Omit<Stay, 'toMs'> & { toMs: number | undefined })[] }>();
  for (const { id, function: name, to, node, delayingFor, reason, atMs } of transitions) {
    let invocation = found.get(id);
    if (invocation === undefined) found.set(id, (invocation = { id, function: name, stays: [] }));
    const last = invocation.stays.at(-1);
    // A transition within a state (its handler began) is no new stay; what is waited for may change.
    if (last !== undefined && last.state === to && last.delayingFor === delayingFor && last.node === node) continue;
    if (last !== undefined) last.toMs = atMs;
    invocation.stays.push({ state: to, node, delayingFor, reason, fromMs: atMs, toMs: FINAL.has(to) ? atMs : undefined });
  }
  return [...found.values()];
}
