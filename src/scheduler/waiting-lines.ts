/**
 * Who waits for what: one line per node (ordered by slack deadline, then arrival), one for any room and further ones that policies
 * keep for room on some nodes, one per function at its concurrency limit. Waking is by index: a release looks at the head of one line, however many wait elsewhere.
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
/** Places of a line that "who comes before me" looks at. */
const MOST_LOOKED_AT = 64;

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
  /** Lines for room: 0 is the general one, "bubblewrap 0" the general one of those who need that isolation. */
  readonly #rooms = new Map<number | string, Line>([[0, new Line()]]);
  readonly #functions = new Map<number, Line>();
  /** Invocations that wait for locality. */
  locality = 0;
  /** Invocations that wait for room or for their function's concurrency. */
  capacity = 0;

  /** Lists a waiter under its target, which comes first, and the other nodes that would do. `key`: its place, smaller first. */
  addForNodes(invocation: Invocation, nodes: number[], key = invocation.slackDeadlineMs): void {
    invocation.lineNodes = nodes;
    invocation.lineKeyMs = key;
    for (const node of nodes) (this.#nodes[node] ??= new Line()).add(invocation, key);
    this.locality++;
  }

  /** Lists a waiter for room. `key`: its urgency, ms; smaller first. `line`: 0 for any room; negative: in none, only its deadline wakes it. */
  addForRoom(invocation: Invocation, key: number, line: number | string = 0): void {
    invocation.lineNodes = ROOM;
    invocation.roomLine = line;
    if (typeof line === 'string' || line >= 0) {
      let room = this.#rooms.get(line);
      if (room === undefined) this.#rooms.set(line, (room = new Line()));
      room.add(invocation, key);
    }
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
      this.#rooms.get(invocation.roomLine)?.left();
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

  /**
   * The first waiter of the general line for room and of this other one (0: of the general one only), and of those that need one of
   * the kinds of isolation that are offered: the most urgent of them.
   */
  headOfRoom(line = 0, offered: readonly string[] = []): Invocation | undefined {
    let first = this.#rooms.get(0)?.head();
    if (line > 0) first = moreUrgent(first, this.#rooms.get(line)?.head());
    // Only the general line and the others of today's policy: nobody, in most clusters.
    for (let i = 0; i < offered.length && this.#rooms.size > 1; i++) {
      first = moreUrgent(first, this.#rooms.get(`${offered[i] as string} 0`)?.head());
      if (line > 0) first = moreUrgent(first, this.#rooms.get(`${offered[i] as string} ${line}`)?.head());
    }
    return first;
  }

  headOfFunction(functionIndex: number): Invocation | undefined {
    return this.#functions.get(functionIndex)?.head();
  }

  /**
   * Who comes before `invocation` in the line of a node: those with a smaller key than `key`, or, without one, those whose SLA ends earlier. How many goes into
   * `out.count`, and what they are expected to take together into `out.sumMs`; who would take other nodes too counts as his share. Of a line longer than 64 places the first
   * are looked at and stand for all. O(line, at most 64).
   */
  before(node: number, invocation: Invocation, out: { count: number; sumMs: number }, key = Number.NaN): void {
    out.count = out.sumMs = 0;
    const line = this.#nodes[node];
    if (line === undefined || line.living === 0) return;
    const { heap } = line;
    const endMs = invocation.arrivedAtMs + invocation.slaMs;
    const places = Math.min(heap.size, MOST_LOOKED_AT);
    let living = 0;
    for (let place = 0; place < places; place++) {
      const entry = heap.at(place) as Entry;
      if (!isAlive(entry)) continue;
      living++;
      const { invocation: other } = entry;
      if (other === invocation) continue;
      const mine = Number.isNaN(key) ? endMs : key, theirs = Number.isNaN(key) ? other.arrivedAtMs + other.slaMs : other.lineKeyMs;
      if (theirs > mine || (theirs === mine && other.seq > invocation.seq)) continue;
      const share = 1 / (other.lineNodes?.length ?? 1);
      out.count += share;
      out.sumMs += share * other.targetMs;
    }
    const scale = places === heap.size || living === 0 ? 1 : line.living / living;
    out.count = Math.round(out.count * scale);
    out.sumMs *= scale;
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

function moreUrgent(one: Invocation | undefined, other: Invocation | undefined): Invocation | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return other.arrivedAtMs + other.slaMs < one.arrivedAtMs + one.slaMs ? other : one;
}

const ROOM: number[] = [];
const FUNCTION: number[] = [];
