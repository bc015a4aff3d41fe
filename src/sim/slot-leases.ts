/**
 * Slots of nodes, leased to the shards of a sharded scheduler (ARCHITECTURE.md, "What grows"). Each shard is a whole scheduler for some of the
 * functions; it sees all nodes, and of each node so many slots as it has leased. Every slot is leased to one shard, or lies with its node:
 *
 * - at first a node's slots are dealt out evenly;
 * - a shard whose invocations wait asks: for the node that they wait for, or, when they wait for any room, nodes that are known to have some;
 * - the node gives what lies with it, else it recalls idle slots from the shard that has most of them;
 * - once per period a shard returns the slots that it never used in it but one; the node gives them to the shard whose lease is used most.
 *
 * A shard gives up a slot the moment it answers, and uses one only after it came: no slot is ever used twice. Messages take their time, and may be lost, late
 * or out of order. So they carry sums and no amounts: all that the node ever granted to the shard, all that the shard ever gave back. Whoever hears a greater sum
 * takes it; who missed a message has the same from the next one, at the latest from the node's states, which go to all shards anyway. The node decides: a slot
 * is free for others when its return was heard. Sums begin anew (a term) when a node opens new streams and when a shard dies or comes back; what was said in
 * an earlier term is not heard any more.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';
import { createRandom, type Random } from '../core/random.ts';
import { READY } from '../scheduler/cluster-view.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

/** How often a shard looks at who waits, ms. */
const LOOK_MS = 20;
/** Slots that lay idle for so long go back, ms. States are compared as often. */
const PERIOD_MS = 1_000;
/** A question without an answer is asked again after this, ms. */
const ASK_AGAIN_MS = 200;
/** Idle slots that a shard keeps on a node that it uses. */
const KEPT = 1;
/** Most slots of one question, and nodes that are asked at once for any room. */
const MOST_SLOTS = 4, MOST_NODES = 4;
/** A returned slot goes to who uses more than this of what it has. */
const NEEDY_FROM = 0.5;

/** What it is made of. */
export interface SlotLeaseOptions {
  readonly clock: Clock;
  readonly seed: number;
  /** One way, ms. */
  readonly messageMs: number;
  /** By index; a shard that comes back stands in its old place. */
  readonly shards: readonly Scheduler[];
  isUp(shard: number): boolean;
  /** Its streams stand, and it speaks. */
  isReachable(node: number): boolean;
  /** By shard: what runs on a node for it, results that were not delivered included. */
  runningOn(node: number): readonly number[];
}

/** What one side knows of the lease between a node and a shard: sums since the term began. */
interface Sums {
  term: number;
  granted: number;
  returned: number;
}

/** How a node's slots are dealt to a shard, on its way to it. */
export type Deal = Readonly<Pick<Sums, 'term' | 'granted'>>;

/** What happens to messages about leases for a while. */
export interface Disturbance {
  /** Share that is lost, 0 to 1. */
  readonly lost: number;
  /** Each takes up to so much longer, ms, and may be overtaken. */
  readonly lateMs: number;
}

export class SlotLeases {
  readonly #options: SlotLeaseOptions;
  readonly #random: Random;
  /** By node: all its slots. */
  readonly #slots: number[] = [];
  /** By node and shard: what the node knows. */
  readonly #ledger: Sums[][] = [];
  /** By shard and node: what the shard knows. */
  readonly #held: Sums[][];
  /** By shard and node: when it asked, ms; absent: it was answered. */
  readonly #asked: Map<number, number>[];
  /** By shard and node: fewest idle slots since the period began. */
  readonly #leastIdle: number[][];
  #timer: TimerHandle;
  #looks = 0;
  #terms = 0;
  /** Messages so far, those included that were lost. */
  messages = 0;
  /** Messages that were lost. */
  lost = 0;
  disturbance: Disturbance = { lost: 0, lateMs: 0 };

  constructor(options: SlotLeaseOptions) {
    this.#options = options;
    this.#random = createRandom(options.seed, 600);
    this.#held = options.shards.map(() => []);
    this.#asked = options.shards.map(() => new Map());
    this.#leastIdle = options.shards.map(() => []);
    this.#again();
  }

  // ── terms ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A node hears of new streams to all shards: to each what runs there for it, and the rest evenly. By shard; each deal is told to its shard with the snapshot. */
  open(node: number, slots: number): Deal[] {
    const { shards, isUp } = this.#options;
    this.#slots[node] = slots;
    const dealt = [...this.#options.runningOn(node)];
    let left = slots - dealt.reduce((sum, count) => sum + count, 0);
    while (left > 0) {
      let next = -1, missing = 0;
      for (let shard = 0; shard < shards.length; shard++) {
        const lacks = this.#share(node, shard) - (dealt[shard] as number);
        if (isUp(shard) && lacks > missing) [next, missing] = [shard, lacks];
      }
      if (next < 0) break;
      dealt[next] = (dealt[next] as number) + 1;
      left--;
    }
    const deals = dealt.map((granted): Sums => ({ term: ++this.#terms, granted, returned: 0 }));
    this.#ledger[node] = deals;
    return deals.map(({ term, granted }) => ({ term, granted }));
  }

  /** The same for one shard that came back: what still runs for it, and of its even share what lies with the node. */
  openFor(node: number, shard: number): Deal {
    const running = this.#options.runningOn(node)[shard] ?? 0;
    const ledger = this.#ledger[node]?.[shard];
    if (ledger === undefined) return { term: 0, granted: 0 };
    ledger.returned = ledger.granted - running;
    const more = Math.max(0, Math.min(this.#pool(node), this.#share(node, shard) - running));
    Object.assign(ledger, { term: ++this.#terms, granted: running + more, returned: 0 } satisfies Sums);
    return { term: ledger.term, granted: ledger.granted };
  }

  /** A shard hears of its deal. Returns how many slots it has. */
  opened(shard: number, node: number, { term, granted }: Deal): number {
    (this.#held[shard] as Sums[])[node] = { term, granted, returned: 0 };
    this.#asked[shard]?.delete(node);
    (this.#leastIdle[shard] as number[])[node] = granted;
    return granted;
  }

  /** A shard died. Nodes notice that its streams are gone: what it ran runs on, all else lies with them. */
  shardGone(shard: number): void {
    this.#held[shard] = [];
    this.#asked[shard]?.clear();
    this.#leastIdle[shard] = [];
    this.#ledger.forEach((byShard, node) => {
      Object.assign(byShard[shard] as Sums, { term: ++this.#terms, granted: this.#options.runningOn(node)[shard] ?? 0, returned: 0 } satisfies Sums);
    });
  }

  stop(): void {
    this.#options.clock.clearTimer(this.#timer);
  }

  /** What must always hold: no node has leased more than it has, and no shard counts on more than it was granted. */
  breaches(): string[] {
    const found: string[] = [];
    this.#ledger.forEach((byShard, node) => {
      if (this.#pool(node) < 0) found.push(`node ${node} has leased ${(this.#slots[node] as number) - this.#pool(node)} of ${this.#slots[node]} slots`);
      byShard.forEach(({ term, granted, returned }, shard) => {
        const held = this.#held[shard]?.[node];
        if (held === undefined || held.term !== term) return;
        if (held.granted > granted || held.returned < returned) found.push(`shard ${shard} has ${held.granted} − ${held.returned} slots of node ${node}, which says ${granted} − ${returned}`);
        // A node that registered and opened no streams yet gets no work.
        const { cluster } = this.#options.shards[shard] as Scheduler;
        const slots = cluster.slots[node];
        if (cluster.status[node] === READY && slots !== held.granted - held.returned) found.push(`shard ${shard} uses ${slots} slots of node ${node} and has ${held.granted - held.returned}`);
      });
    });
    return found;
  }

  #share(node: number, shard: number): number {
    const { length } = this.#options.shards;
    const slots = this.#slots[node] ?? 0;
    return Math.floor(slots / length) + ((shard + node) % length < slots % length ? 1 : 0);
  }

  // ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────

  #message(what: () => void): void {
    const { clock, messageMs } = this.#options;
    const { lost, lateMs } = this.disturbance;
    this.messages++;
    if (lost > 0 && this.#random.uniform() < lost) return void this.lost++;
    clock.setTimer(clock.nowMs() + messageMs + (lateMs > 0 ? lateMs * this.#random.uniform() : 0), what);
  }

  /** To a node, with what the shard knows. */
  #toNode(shard: number, node: number, what: () => void): void {
    const sums = this.#held[shard]?.[node];
    if (sums === undefined) return;
    const { term, returned } = sums;
    this.#message(() => {
      const ledger = this.#ledger[node]?.[shard];
      if (ledger?.term !== term || !this.#options.isReachable(node)) return;
      ledger.returned = Math.max(ledger.returned, returned);
      what();
    });
  }

  /** To a shard, with what the node knows. `isState`: it goes with a state, which is no message of its own. */
  #toShard(shard: number, node: number, what: (returnedHeard: number) => void, isState = false): void {
    const ledger = this.#ledger[node]?.[shard];
    if (ledger === undefined || !this.#options.isReachable(node)) return;
    const { term, granted, returned } = ledger;
    const hear = (): void => {
      const held = this.#held[shard]?.[node];
      if (held?.term !== term || !this.#options.isUp(shard)) return;
      if (granted > held.granted) {
        held.granted = granted;
        this.#setSlots(shard, node);
      }
      what(returned);
    };
    if (isState) this.#options.clock.setTimer(this.#options.clock.nowMs() + this.#options.messageMs, hear);
    else this.#message(hear);
  }

  #again(): void {
    const { clock, shards } = this.#options;
    this.#timer = clock.setTimer(clock.nowMs() + LOOK_MS, () => {
      this.#looks++;
      const isEnd = (this.#looks * LOOK_MS) % PERIOD_MS === 0;
      shards.forEach((_, shard) => this.#options.isUp(shard) && this.#look(shard, isEnd));
      this.#again();
    });
  }

  // ── at a shard ────────────────────────────────────────────────────────────────────────────────────────────────

  #idle(shard: number, node: number): number {
    const { cluster } = this.#options.shards[shard] as Scheduler;
    return (cluster.slots[node] as number) - (cluster.used[node] as number);
  }

  #setSlots(shard: number, node: number): void {
    const held = this.#held[shard]?.[node] as Sums; // who calls has looked
    (this.#options.shards[shard] as Scheduler).nodeSlots(node, held.granted - held.returned);
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
      // The node's states say what it granted and what it heard of returns; one that it did not hear is told again.
      else this.#toShard(shard, node, (heard) => heard < (this.#held[shard]?.[node]?.returned ?? 0) && this.#toNode(shard, node, () => this.#offer(shard, node)), true);
    }
  }

  #ask(shard: number, node: number, count: number): void {
    const now = this.#options.clock.nowMs();
    const asked = this.#asked[shard] as Map<number, number>;
    if (now - (asked.get(node) ?? -Infinity) < ASK_AGAIN_MS) return;
    asked.set(node, now);
    this.#toNode(shard, node, () => this.#answer(shard, node, Math.min(MOST_SLOTS, count)));
  }

  /** The shard has so many slots less, as far as they are idle; the node hears of it. `asker`: who gets them, -1: nobody yet. */
  #giveUp(shard: number, node: number, count: number, asker: number): void {
    const held = this.#held[shard]?.[node];
    if (held === undefined) return;
    const given = Math.max(0, Math.min(count, this.#idle(shard, node)));
    held.returned += given;
    if (given > 0) this.#setSlots(shard, node);
    if (given > 0 || asker >= 0) this.#toNode(shard, node, () => (asker >= 0 ? this.#grant(asker, node, given) : this.#offer(shard, node)));
  }

  // ── at a node ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Slots that lie with it. */
  #pool(node: number): number {
    return (this.#ledger[node] as Sums[]).reduce((left, { granted, returned }) => left - granted + returned, this.#slots[node] as number);
  }

  /** What its state says to all shards: less runs there than it has slots. */
  #hasRoom(node: number): boolean {
    return this.#ledger[node] !== undefined && this.#options.runningOn(node).reduce((sum, count) => sum + count, 0) < (this.#slots[node] as number);
  }

  #answer(asker: number, node: number, count: number): void {
    if (this.#pool(node) > 0) return this.#grant(asker, node, count);
    // It knows what it runs for whom.
    const running = this.#options.runningOn(node);
    let richest = -1, most = 0;
    (this.#ledger[node] as Sums[]).forEach(({ granted, returned }, shard) => {
      const idle = granted - returned - (running[shard] ?? 0);
      if (shard !== asker && this.#options.isUp(shard) && idle > most) [richest, most] = [shard, idle];
    });
    if (richest < 0) return this.#grant(asker, node, 0);
    this.#toShard(richest, node, () => this.#giveUp(richest, node, count, asker));
  }

  /** What came back goes to whom has most use of what it has; to nobody when nobody uses half. */
  #offer(from: number, node: number): void {
    const pool = this.#pool(node);
    if (pool <= 0) return;
    const running = this.#options.runningOn(node);
    let needy = -1, most = NEEDY_FROM;
    (this.#ledger[node] as Sums[]).forEach(({ granted, returned }, shard) => {
      const share = (running[shard] ?? 0) / Math.max(1, granted - returned);
      if (shard !== from && this.#options.isUp(shard) && share > most) [needy, most] = [shard, share];
    });
    if (needy >= 0) this.#grant(needy, node, pool);
  }

  /** The answer, with as many slots as there are of those, or none. */
  #grant(shard: number, node: number, count: number): void {
    const ledger = this.#ledger[node]?.[shard];
    if (ledger === undefined || !this.#options.isUp(shard)) return;
    ledger.granted += Math.max(0, Math.min(count, this.#pool(node)));
    this.#toShard(shard, node, () => void this.#asked[shard]?.delete(node));
  }
}
