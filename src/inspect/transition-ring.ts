/** The last transitions of all invocations, in a preallocated ring. Writing one is a handful of stores; readers follow by number and learn what they missed. */
import type { Invocation, InvocationEvent } from '../core/invocation.ts';
import type { Reason } from '../core/reasons.ts';

/** One transition as it was. */
export interface TransitionRecord {
  readonly invocation: Invocation;
  readonly from: number;
  readonly to: number;
  readonly event: InvocationEvent['type'];
  readonly reason: Reason;
  /** Node index; −1: none. */
  readonly node: number;
  readonly atMs: number;
  readonly delayingFor: string;
}

export class TransitionRing {
  readonly #size: number;
  #next = 0;
  readonly #invocation: (Invocation | undefined)[];
  readonly #event: InvocationEvent['type'][];
  readonly #reason: Reason[];
  readonly #delayingFor: string[];
  readonly #states: Uint8Array;
  readonly #node: Int32Array;
  readonly #atMs: Float64Array;

  /** A ring of `size` transitions, 1 to 2^22. */
  constructor(size: number) {
    this.#size = size;
    this.#invocation = new Array<Invocation | undefined>(size).fill(undefined);
    this.#event = new Array<InvocationEvent['type']>(size).fill('PREDICTED');
    this.#reason = new Array<Reason>(size).fill('arrived');
    this.#delayingFor = new Array<string>(size).fill('');
    this.#states = new Uint8Array(size * 2);
    this.#node = new Int32Array(size);
    this.#atMs = new Float64Array(size);
  }

  /** Number that the next transition will get. */
  get next(): number {
    return this.#next;
  }

  record(invocation: Invocation, from: number, to: number, event: InvocationEvent): void {
    const at = this.#next++ % this.#size;
    this.#invocation[at] = invocation;
    this.#event[at] = event.type;
    this.#reason[at] = event.reason;
    this.#delayingFor[at] = invocation.delayingFor;
    this.#states[at * 2] = from;
    this.#states[at * 2 + 1] = to;
    this.#node[at] = invocation.node >= 0 ? invocation.node : invocation.target;
    this.#atMs[at] = invocation.host.nowMs;
  }

  /** Transitions from number `from` on, at most `limit`, with the number to go on from and how many were overwritten. */
  read(from: number, limit: number): { readonly records: TransitionRecord[]; readonly next: number; readonly missed: number } {
    const oldest = Math.max(0, this.#next - this.#size);
    const start = Math.max(from, oldest);
    const end = Math.min(this.#next, start + limit);
    const records: TransitionRecord[] = [];
    for (let i = start; i < end; i++) records.push(this.#read(i % this.#size));
    return { records, next: end, missed: start - from };
  }

  /** Transitions still remembered of one invocation, oldest first. Scans the ring. */
  of(invocation: Invocation): TransitionRecord[] {
    const found: TransitionRecord[] = [];
    for (let i = Math.max(0, this.#next - this.#size); i < this.#next; i++) if (this.#invocation[i % this.#size] === invocation) found.push(this.#read(i % this.#size));
    return found;
  }

  #read(at: number): TransitionRecord {
    return {
      invocation: this.#invocation[at] as Invocation,
      from: this.#states[at * 2] as number,
      to: this.#states[at * 2 + 1] as number,
      event: this.#event[at] as InvocationEvent['type'],
      reason: this.#reason[at] as Reason,
      node: this.#node[at] as number,
      atMs: this.#atMs[at] as number,
      delayingFor: this.#delayingFor[at] as string,
    };
  }
}
