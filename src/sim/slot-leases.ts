/**
 * Slots of nodes, leased to the shards of a sharded scheduler (ARCHITECTURE.md, "What grows"). Each shard is a whole scheduler for some of the
 * functions; it sees all nodes, and of each node so many slots as it has leased. Every slot is leased to one shard, or lies with its node:
 *
 * - at first a node's slots are dealt out evenly;
 * - a shard whose invocations wait asks: for the node that they wait for, or, when they wait for any room, nodes that are known to have some;
 * - the node gives what lies with it, else it recalls idle slots from the shard that has most of them;
 * - once per period a shard returns the slots that it never used in it but one; the node gives them to the shard whose lease is used most.
 *
 * A shard gives up a slot the moment it answers, and uses one only after it came: no slot is ever used twice. Every arrow is a message that
 * takes its time and is counted.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

/** How often a shard looks at who waits, ms. */
const LOOK_MS = 20;
/** Slots that lay idle for so long go back, ms. */
const PERIOD_MS = 1_000;
/** Idle slots that a shard keeps on a node that it uses. */
const KEPT = 1;
/** Most slots of one question, and nodes that are asked at once for any room. */
const MOST_SLOTS = 4, MOST_NODES = 4;

/** What it is made of. */
export interface SlotLeaseOptions {
  readonly clock: Clock;
  /** One way, ms. */
  readonly messageMs: number;
  readonly shards: readonly Scheduler[];
}

export class SlotLeases {
  readonly #options: SlotLeaseOptions;
  /** By node: all its slots, and those that are leased to nobody. */
  readonly #slots: number[] = [];
  readonly #pool: number[] = [];
  /** By shard and node: asked and not answered. */
  readonly #asked: Set<number>[];
  /** By shard and node: fewest idle slots since the period began. */
  readonly #leastIdle: number[][];
  readonly #timers: TimerHandle[] = [];
  #looks = 0;
  /** Messages so far. */
  messages = 0;

  constructor(options: SlotLeaseOptions) {
    this.#options = options;
    this.#asked = options.shards.map(() => new Set());
    this.#leastIdle = options.shards.map(() => []);
    this.#again();
  }

  /** A node with so many slots; dealt out evenly, what is left over to other shards on each node. */
  addNode(node: number, slots: number): void {
    this.#slots[node] = slots;
    this.#pool[node] = 0;
  }

  /** What a shard has of a node at first. */
  first(shard: number, node: number): number {
    const { length } = this.#options.shards;
    const slots = this.#slots[node] ?? 0;
    return Math.floor(slots / length) + ((shard + node) % length < slots % length ? 1 : 0);
  }

  stop(): void {
    for (const timer of this.#timers) this.#options.clock.clearTimer(timer);
  }

  #again(): void {
    const { clock, shards } = this.#options;
    this.#timers[0] = clock.setTimer(clock.nowMs() + LOOK_MS, () => {
      this.#looks++;
      const isEnd = (this.#looks * LOOK_MS) % PERIOD_MS === 0;
      shards.forEach((_, shard) => this.#look(shard, isEnd));
      this.#again();
    });
  }

  #message(what: () => void): void {
    const { clock, messageMs } = this.#options;
    this.messages++;
    clock.setTimer(clock.nowMs() + messageMs, what);
  }

  // ── at a shard ────────────────────────────────────────────────────────────────────────────────────────────────

  #idle(shard: number, node: number): number {
    const { cluster } = this.#options.shards[shard] as Scheduler;
    return (cluster.slots[node] as number) - (cluster.used[node] as number);
  }

  #look(shard: number, isEnd: boolean): void {
    const { cluster, lines } = this.#options.shards[shard] as Scheduler;
    const leastIdle = this.#leastIdle[shard] as number[];
    let places = lines.capacity > 0 ? MOST_NODES : 0;
    for (let i = 0; i < cluster.count; i++) {
      const node = (i + this.#looks) % cluster.count;
      const idle = this.#idle(shard, node);
      leastIdle[node] = Math.min(leastIdle[node] ?? idle, idle);
      if (idle > 0) continue;
      const waiting = lines.waitingFor(node);
      if (waiting > 0) this.#ask(shard, node, waiting);
      else if (places > 0 && this.#hasRoom(node)) {
        places--;
        this.#ask(shard, node, Math.ceil(lines.capacity / MOST_NODES));
      }
    }
    if (!isEnd) return;
    for (let node = 0; node < cluster.count; node++) {
      const surplus = (leastIdle[node] ?? 0) - KEPT;
      leastIdle[node] = this.#idle(shard, node);
      if (surplus > 0) this.#giveUp(shard, node, surplus, -1);
    }
  }

  #ask(shard: number, node: number, count: number): void {
    const asked = this.#asked[shard] as Set<number>;
    if (asked.has(node)) return;
    asked.add(node);
    this.#message(() => this.#answer(shard, node, Math.min(MOST_SLOTS, count)));
  }

  /** The shard has so many slots less, as far as they are idle; the node hears of it. `asker`: who gets them, -1: nobody yet. */
  #giveUp(shard: number, node: number, count: number, asker: number): void {
    const scheduler = this.#options.shards[shard] as Scheduler;
    const given = Math.max(0, Math.min(count, this.#idle(shard, node)));
    if (given > 0) scheduler.nodeSlots(node, (scheduler.cluster.slots[node] as number) - given);
    if (given > 0 || asker >= 0) this.#message(() => (asker >= 0 ? this.#grant(asker, node, given) : this.#returned(shard, node, given)));
  }

  // ── at a node ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** What its state says to all shards: less runs there than it has slots. */
  #hasRoom(node: number): boolean {
    let used = 0;
    for (const { cluster } of this.#options.shards) used += cluster.used[node] as number;
    return used < (this.#slots[node] as number);
  }

  #answer(asker: number, node: number, count: number): void {
    const pooled = Math.min(count, this.#pool[node] as number);
    if (pooled > 0) {
      this.#pool[node] = (this.#pool[node] as number) - pooled;
      return this.#grant(asker, node, pooled);
    }
    // It knows what it runs for whom.
    let richest = -1;
    for (let shard = 0; shard < this.#options.shards.length; shard++) if (shard !== asker && this.#idle(shard, node) > (richest < 0 ? 0 : this.#idle(richest, node))) richest = shard;
    if (richest < 0) return this.#grant(asker, node, 0);
    this.#message(() => this.#giveUp(richest, node, count, asker));
  }

  #returned(from: number, node: number, count: number): void {
    // To whom has most use of what it has; to nobody when nobody uses half.
    let needy = -1, most = 0.5;
    this.#options.shards.forEach(({ cluster }, shard) => {
      const share = (cluster.used[node] as number) / Math.max(1, cluster.slots[node] as number);
      if (shard !== from && share > most) {
        needy = shard;
        most = share;
      }
    });
    if (needy < 0) this.#pool[node] = (this.#pool[node] as number) + count;
    else this.#grant(needy, node, count);
  }

  /** The answer, with as many slots as there are, or none. */
  #grant(shard: number, node: number, count: number): void {
    this.#message(() => {
      (this.#asked[shard] as Set<number>).delete(node);
      const scheduler = this.#options.shards[shard] as Scheduler;
      if (count > 0) scheduler.nodeSlots(node, (scheduler.cluster.slots[node] as number) + count);
    });
  }
}
