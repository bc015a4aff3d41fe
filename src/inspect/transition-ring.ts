/**
 * The last transitions of all invocations, in a preallocated ring. Writing one is a handful of stores; readers follow by number and learn
 * what they missed. The ring holds names and numbers, never the invocation itself: that would keep thousands of ended ones alive for the collector.
 */
import type { Invocation, InvocationEvent } from '../core/invocation.ts';
import type { Reason } from '../core/reasons.ts';

/** One transition as it was. */
export interface TransitionRecord {
  readonly id: string;
  readonly functionName: string;
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
  readonly #id: string[];
  readonly #functionName: string[];
  readonly #event: InvocationEvent['type'][];
  readonly #reason: Reason[];
  readonly #delayingFor: string[];
  readonly #states: Uint8Array;
  readonly #node: Int32Array;
  readonly #atMs: Float64Array;

  /** A ring of `size` transitions, 1 to 2^22. */
  constructor(size: number) {
    this.#size = size;
    this.#id = new Array<string>(size).fill('');
    this.#functionName = new Array<string>(size).fill('');
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
    this.#id[at] = invocation.id;
    this.#functionName[at] = invocation.functionName;
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

  /**
   * Transitions from number `from` on, at most `limit`. When there are more, whole invocations are left out, so that those which are shown
   * are shown entirely; `missed` counts what was left out or overwritten. O(transitions since `from`) comparisons, at most `limit` objects.
   */
  sample(from: number, limit: number): { readonly records: TransitionRecord[]; readonly next: number; readonly missed: number } {
    const start = Math.max(from, this.#next - this.#size, 0);
    const every = Math.max(1, Math.ceil((this.#next - start) / limit));
    const records: TransitionRecord[] = [];
    for (let i = start; i < this.#next && records.length < limit; i++) {
      const at = i % this.#size;
      if (every === 1 || serialOf(this.#id[at] as string) % every === 0) records.push(this.#read(at));
    }
    return { records, next: this.#next, missed: this.#next - from - records.length };
  }

  /** The transition that was recorded last. There must be one. */
  last(): TransitionRecord {
    return this.#read((this.#next - 1) % this.#size);
  }

  /** Transitions still remembered of one invocation, oldest first. Scans the ring. */
  of(id: string): TransitionRecord[] {
    const found: TransitionRecord[] = [];
    for (let i = Math.max(0, this.#next - this.#size); i < this.#next; i++) if (this.#id[i % this.#size] === id) found.push(this.#read(i % this.#size));
    return found;
  }

  #read(at: number): TransitionRecord {
    return {
      id: this.#id[at] as string,
      functionName: this.#functionName[at] as string,
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

/** The number at the end of an id, base 36, its last four digits. */
function serialOf(id: string): number {
  let serial = 0;
  for (let i = Math.max(0, id.length - 4); i < id.length; i++) {
    const code = id.charCodeAt(i);
    serial = serial * 36 + (code < 58 ? code - 48 : code - 87);
  }
  return serial;
}
