/**
 * Full detail of selected invocations: their own short rings of transitions and decisions, which stay when the global rings have gone
 * round. Selected are all of some functions, one in so many of the rest, and whoever somebody asked about while it lived. What is left
 * out is counted.
 */
import type { Invocation } from '../core/invocation.ts';
import type { DecisionRecord } from '../scheduler/decision-ring.ts';
import type { TransitionRecord } from './transition-ring.ts';

/** What decides about who is selected, and how much is kept. */
export interface DetailOptions {
  /** Invocations of which detail is kept; the oldest is forgotten. */
  readonly keep: number;
  /** One in so many is selected; 0: none. */
  readonly sampleEvery: number;
  /** All of these functions are. */
  readonly functions: readonly string[];
}

/** Transitions and decisions kept of one invocation. */
export const TRANSITIONS_EACH = 64;
export const DECISIONS_EACH = 32;

/** One selected invocation. Lists are oldest first. */
export interface Detail {
  readonly id: string;
  readonly transitions: TransitionRecord[];
  readonly decisions: DecisionRecord[];
  /** Records that its rings lost. */
  lost: number;
}

export class Details {
  readonly #options: DetailOptions;
  readonly #functions: ReadonlySet<string>;
  readonly #kept = new Map<string, Detail>();
  /** Invocations selected, and not, since the start. */
  selected = 0;
  leftOut = 0;

  constructor(options: DetailOptions) {
    this.#options = options;
    this.#functions = new Set(options.functions);
  }

  /** Looks at a new invocation. */
  consider(invocation: Invocation): void {
    const { sampleEvery } = this.#options;
    if ((sampleEvery > 0 && invocation.seq % sampleEvery === 0) || (this.#functions.size > 0 && this.#functions.has(invocation.functionName))) this.select(invocation, [], []);
    else this.leftOut++;
  }

  /** Keeps detail of it from now on, beginning with what is known already. Nothing changes when it is selected. */
  select(invocation: Invocation, transitions: readonly TransitionRecord[], decisions: readonly DecisionRecord[]): void {
    if (this.#options.keep === 0 || this.#kept.has(invocation.id)) return;
    const detail: Detail = { id: invocation.id, transitions: transitions.slice(-TRANSITIONS_EACH), decisions: decisions.slice(-DECISIONS_EACH), lost: 0 };
    invocation.detail = detail;
    this.#kept.set(invocation.id, detail);
    this.selected++;
    if (this.#kept.size > this.#options.keep) for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      break;
    }
  }

  /** Detail of one that is selected and not forgotten. */
  get(id: string): Detail | undefined {
    return this.#kept.get(id);
  }
}

/** Adds to one of the short rings. */
export function keepLast<T>(detail: Detail, ring: T[], record: T, most: number): void {
  ring.push(record);
  if (ring.length <= most) return;
  ring.shift();
  detail.lost++;
}
