/**
 * Who waits for what: one line per node (ordered by slack deadline, then arrival), one for any room, one per function at its
 * concurrency limit. Waking is by index: a release looks at the head of one line, however many wait elsewhere.
 * Entries die lazily by stamp and are swept when most of a line is dead, so that a line stays O(living).
 */
import type { Invocation } from '../core/invocation.ts';
import { Heap } from '../core/heap.ts';

interface Entry {
  readonly invocation: Invocation;
  readonly stamp: number;
}

const isAlive = (entry: Entry): boolean => entry.invocation.lineStamp === entry.stamp;
const SWEEP_FROM = 64;

class Line {
  readonly heap = new Heap<Entry>();
  living = 0;

  add(invocation: Invocation, key: number): void {
    this.heap.push(key, invocation.seq, { invocation, stamp: invocation.lineStamp });
    this.living++;
  }

  head(): Invocation | undefined {
    for (;;) {
      const entry = this.heap.peek();
      if (entry === undefined) return undefined;
      if (isAlive(entry)) return entry.invocation;
      this.heap.pop();
    }
  }

  left(): void {
    this.living--;
    if (this.heap.size > SWEEP_FROM && this.heap.size > 2 * this.living) this.heap.retain(isAlive);
  }
}

export class WaitingLines {
  readonly #nodes: (Line | undefined)[] = [];
  readonly #room = new Line();
  readonly #functions = new Map<number, Line>();
  /** Invocations that wait for locality. */
  locality = 0;
  /** Invocations that wait for room or for their function's concurrency. */
  capacity = 0;

  /** Lists a waiter under its target and the other nodes that would do. */
  addForNodes(invocation: Invocation, nodes: number[]): void {
    invocation.lineNodes = nodes;
    for (const node of nodes) (this.#nodes[node] ??= new Line()).add(invocation, invocation.slackDeadlineMs);
    this.locality++;
  }

  /** Lists a waiter for any room. `key`: its urgency, ms; smaller first. */
  addForRoom(invocation: Invocation, key: number): void {
    invocation.lineNodes = ROOM;
    this.#room.add(invocation, key);
    this.capacity++;
  }

  /** Lists a waiter for its function's turn. */
  addForFunction(invocation: Invocation): void {
    invocation.lineNodes = FUNCTION;
    let line = this.#functions.get(invocation.functionIndex);
    if (line === undefined) this.#functions.set(invocation.functionIndex, (line = new Line()));
    line.add(invocation, invocation.arrivedAtMs);
    this.capacity++;
  }

  /** Takes a waiter out of all its lines; harmless when it is in none. */
  remove(invocation: Invocation): void {
    const nodes = invocation.lineNodes;
    if (nodes === undefined) return;
    invocation.lineNodes = undefined;
    invocation.lineStamp++;
    if (nodes === ROOM) {
      this.capacity--;
      this.#room.left();
    } else if (nodes === FUNCTION) {
      this.capacity--;
      const line = this.#functions.get(invocation.functionIndex);
      line?.left();
      if (line?.living === 0) this.#functions.delete(invocation.functionIndex);
    } else {
      this.locality--;
      for (const node of nodes) this.#nodes[node]?.left();
    }
  }

  /** The first waiter of a node's line, or undefined. */
  headOfNode(node: number): Invocation | undefined {
    return this.#nodes[node]?.head();
  }

  headOfRoom(): Invocation | undefined {
    return this.#room.head();
  }

  headOfFunction(functionIndex: number): Invocation | undefined {
    return this.#functions.get(functionIndex)?.head();
  }

  /** How many stand in a node's line. */
  waitingFor(node: number): number {
    return this.#nodes[node]?.living ?? 0;
  }

  /** Every waiter in a node's line, in no order. O(line). */
  forNode(node: number, each: (invocation: Invocation) => void): void {
    // retain() with a visitor that keeps the living: one pass, and the dead are swept on the way.
    this.#nodes[node]?.heap.retain((entry) => {
      if (!isAlive(entry)) return false;
      each(entry.invocation);
      return true;
    });
  }

}

const ROOM: number[] = [];
const FUNCTION: number[] = [];
