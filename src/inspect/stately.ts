/**
 * Stately Inspector: forwards selected invocations to it, as actors with their states and events, through its manual interface. The package is
 * the user's own (`npm install @statelyai/inspect`): nothing here depends on it. That inspector draws every actor that it hears of, so few are told
 * at a time and the rest is counted; for all of them there is our own page.
 */
import { MetronomeError } from '../core/errors.ts';
import type { TransitionRow } from './page-api.ts';

/** The part of its inspector that is used. */
export interface StatelyInspector {
  actor(id: string, snapshot?: { readonly status: string; readonly value: string; readonly context?: unknown }, info?: { readonly definition?: string }): void;
  event(id: string, event: { readonly type: string; readonly [field: string]: unknown }): void;
  snapshot(id: string, snapshot: { readonly status: string; readonly value: string; readonly context?: unknown }, info?: { readonly event?: { readonly type: string } }): void;
  stop(): void;
}

export interface StatelyOptions {
  /** The machine's definition as JSON, for its chart. */
  readonly definition: string;
  /** Invocations that are followed at once, 1 to 200. */
  readonly most: number;
  /** One in so many of those that begin. */
  readonly every: number;
}

/** Forwards transitions. */
export class StatelyForwarder {
  readonly #inspector: StatelyInspector;
  readonly #options: StatelyOptions;
  readonly #followed = new Set<string>();
  #begun = 0;
  /** Invocations told and left out. */
  forwarded = 0;
  leftOut = 0;

  constructor(inspector: StatelyInspector, options: StatelyOptions) {
    this.#inspector = inspector;
    this.#options = options;
  }

  /** Tells one transition, if its invocation is followed. One that was already under way is not begun. */
  told({ id, function: name, from, to, event, reason, node, delayingFor }: TransitionRow): void {
    if (!this.#followed.has(id)) {
      if (from !== 'arriving') return;
      if (this.#begun++ % this.#options.every !== 0 || this.#followed.size >= this.#options.most) {
        this.leftOut++;
        return;
      }
      this.#followed.add(id);
      this.forwarded++;
      this.#inspector.actor(id, { status: 'active', value: from, context: { function: name } }, { definition: this.#options.definition });
    }
    const isOver = to === 'completed' || to === 'failed' || to === 'cancelled' || to === 'timedOut';
    this.#inspector.event(id, { type: event, reason, node });
    this.#inspector.snapshot(id, { status: isOver ? 'done' : 'active', value: to, context: { function: name, node, delayingFor, reason } }, { event: { type: event } });
    if (isOver) this.#followed.delete(id);
  }
}

/** Loads the user's package and connects. Throws UNIMPLEMENTED with the line that installs it when it is not there. `load` is for tests. */
export async function connectStately(url: string, load: (name: string) => Promise<unknown> = (name) => import(name)): Promise<StatelyInspector> {
  let found: unknown;
  try {
    found = await load('@statelyai/inspect');
  } catch (cause) {
    throw new MetronomeError('UNIMPLEMENTED', 'Stately Inspector is not installed. To use it: npm install @statelyai/inspect', { cause });
  }
  const create = typeof found === 'object' && found !== null && 'createWebSocketInspector' in found ? found.createWebSocketInspector : undefined;
  if (typeof create !== 'function') throw new MetronomeError('UNIMPLEMENTED', 'The installed @statelyai/inspect has no createWebSocketInspector; Metronome knows its versions from 0.4 on.');
  return (create as (options: { readonly url: string }) => StatelyInspector)({ url }); // its documented interface
}
