/** A film: what was in which state, and what happened, in even steps of time; of a simulation, or of a recording that is replayed. */
import type { Invocation, InvocationEvent } from '../core/invocation.ts';
import { toTransitionRow } from '../inspect/invocation-rows.ts';
import { NodeCells } from '../inspect/node-cells.ts';
import type { SimulationFrame, TransitionRow } from '../inspect/page-api.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

/** How much of it is kept. */
export interface FilmBounds {
  readonly frames: number;
  readonly nodesEach: number;
  readonly transitionsEach: number;
}

export class Film {
  readonly frames: SimulationFrame[] = [];
  /** Transitions beyond the bound of a frame. */
  leftOut = 0;
  readonly #bounds: FilmBounds;
  readonly #everyMs: number;
  #cells: NodeCells | undefined;
  #rows: TransitionRow[] = [];

  constructor(bounds: FilmBounds, durationMs: number) {
    this.#bounds = bounds;
    this.#everyMs = durationMs / bounds.frames;
  }

  /** When the next frame is due, ms since the beginning; Infinity: all are there. */
  get dueMs(): number {
    return this.frames.length < this.#bounds.frames ? this.frames.length * this.#everyMs : Infinity;
  }

  /** Takes a frame of how things stand, with the transitions since the last one. */
  look(scheduler: Scheduler, ms: number): void {
    this.#cells ??= new NodeCells(scheduler);
    // Of what ended the machine counts all since the start; the others are how many there are now.
    this.frames.push({ simulatedMs: ms, counts: Array.from(scheduler.flows.invocation.counts), nodes: this.#cells.all(this.#bounds.nodesEach), transitions: this.#rows });
    this.#rows = [];
  }

  /** Notes a transition, `ms` since the beginning. */
  transitioned({ cluster }: Scheduler, invocation: Invocation, from: number, to: number, event: InvocationEvent, ms: number): void {
    if (this.#rows.length >= this.#bounds.transitionsEach) {
      this.leftOut++;
      return;
    }
    this.#rows.push(toTransitionRow({ id: invocation.id, functionName: invocation.functionName, from, to, event: event.type, reason: event.reason, node: invocation.node >= 0 ? invocation.node : invocation.target, atMs: ms, delayingFor: invocation.delayingFor }, (node) => cluster.name(node)));
  }
}
