/**
 * The cluster as the scheduler sees it: the paper's local state cache. Scalars stand in shared memory, written by the I/O
 * thread that ends the agents' streams and read here without a message; what can change a decision comes as calls.
 */
import type { Invocation } from '../core/invocation.ts';
import { MetronomeError } from '../core/errors.ts';
import { NodesByLoad } from '../core/nodes-by-load.ts';

/** Life of a node; the numbers are those of the protobuf enum NodeStatus and the states of machines/node.ts. */
export const JOINING = 1, READY = 2, STALE = 3, DRAINING = 4, LOST = 5;
export const NODE_STATES = ['unspecified', 'joining', 'ready', 'stale', 'draining', 'lost'] as const;

/** The scalars of NodeMetrics, which agents tell. */
export const TOLD_METRICS = [
  'cpuUtilisation', 'loadPerCore', 'cpuPressure', 'memoryUtilisation', 'memoryFreeMb', 'diskReadBytesPerS', 'diskWriteBytesPerS',
  'networkRxBytesPerS', 'networkTxBytesPerS', 'fetchBytesPerS', 'running', 'idleSandboxes', 'zygotes', 'sandboxMemoryMb', 'objectBytes',
  'ioPressure', 'memoryPressure', 'networkPacketsPerS', 'cachedPackages', 'packageBytes', 'zygoteMemoryMb',
  'diskUtilisation', 'transfers', 'runnable', 'sampleUs', 'linkUtilisation',
] as const;
/** All scalars of a node, in the order of the shared table: the agent's, then what the I/O thread measures itself. */
export const METRIC_NAMES = [...TOLD_METRICS, 'roundTripMs'] as const;
export type MetricName = (typeof METRIC_NAMES)[number];

/** Shared memory of the node scalars: row n holds METRIC_NAMES.length numbers, then the time of the state (ms since 1970). */
export const NODE_ROW = METRIC_NAMES.length + 2;
/** Column of the round trip to the agent, ms, smoothed; 0: not measured yet. */
export const ROUND_TRIP = TOLD_METRICS.length;
/** Column of the time at which the agent sent the state. */
export const SENT_AT = METRIC_NAMES.length;
/** Column of the time at which the I/O thread received it. */
export const RECEIVED_AT = METRIC_NAMES.length + 1;

/** Shared memory for `maxNodes` nodes. */
export function createNodeTable(maxNodes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(maxNodes * NODE_ROW * Float64Array.BYTES_PER_ELEMENT);
}

/** What an agent says of itself when it registers. */
export interface NodeInfo {
  readonly name: string;
  readonly address: string;
  readonly dataUrl: string;
  readonly epoch: number;
  readonly slots: number;
  readonly memoryMb: number;
  /** For people: no decision looks at them. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Kinds of isolation it offers, its default first. @default process */
  readonly isolation?: readonly string[];
  /** What it keeps while nothing runs: for recordings, no decision looks at it. @default not known */
  readonly keeping?: NodeKeeping;
}

/** What an agent keeps while nothing runs. */
export interface NodeKeeping {
  /** agent.keepAlivePolicy. */
  readonly policy: string;
  /** How long "ttl" keeps an idle sandbox, ms. */
  readonly keepAliveMs: number;
  /** Memory that zygotes may take, MiB; 0: none are kept. */
  readonly zygoteMemoryMb: number;
}

/** Waiters ahead that expectedWaitMs follows one by one. */
const MAX_STEPS = 64;
/** Nothing that runs is over already, ms. */
const LEAST_LEFT_MS = 0.1;

export class ClusterView {
  readonly maxNodes: number;
  /** Nodes known; their indexes are 0 … count − 1 and never move. */
  count = 0;
  readonly info: NodeInfo[] = [];
  readonly status: Uint8Array;
  readonly slots: Int32Array;
  /** Slots given away, foreign ones included. */
  readonly used: Int32Array;
  /** After a refusal the node gets nothing until then, or until its next state. */
  readonly refusesUntilMs: Float64Array;
  /** Refusals since its last result: each doubles the pause. */
  readonly refusals: Uint8Array;
  readonly running: Invocation[][] = [];
  /** Ids that run on the node but are not known here (work of a former scheduler). */
  readonly foreign: Set<string>[] = [];
  readonly repairs: Int32Array;
  readonly draining: Uint8Array;
  /** 1: its streams stand, and a snapshot came on them. */
  readonly connected: Uint8Array;
  /** Node scalars, shared with the I/O thread. */
  readonly table: Float64Array;
  readonly objectCount: Int32Array;
  /** Scratch of expectedWaitMs. */
  readonly #left: number[] = [];
  readonly #byName = new Map<string, number>();
  /** By kind of isolation that functions ask for: 1 where a node does not offer it, and the others by load. */
  readonly #kinds = new Map<string, { readonly unable: Uint8Array; readonly byLoad: NodesByLoad }>();
  /** Nodes that may get work, and their slots together. */
  readyNodes = 0;
  readySlots = 0;

  constructor(maxNodes: number, table: SharedArrayBuffer) {
    this.maxNodes = maxNodes;
    this.#kinds.set('', { unable: new Uint8Array(maxNodes), byLoad: new NodesByLoad(maxNodes) }); // every node gives its own default
    this.status = new Uint8Array(maxNodes);
    this.slots = new Int32Array(maxNodes);
    this.used = new Int32Array(maxNodes);
    this.refusesUntilMs = new Float64Array(maxNodes);
    this.refusals = new Uint8Array(maxNodes);
    this.repairs = new Int32Array(maxNodes);
    this.draining = new Uint8Array(maxNodes);
    this.connected = new Uint8Array(maxNodes);
    this.objectCount = new Int32Array(maxNodes);
    this.table = new Float64Array(table);
  }

  /** Index of a node by name; -1 if unknown. */
  indexOf(name: string): number {
    return this.#byName.get(name) ?? -1;
  }

  name(node: number): string {
    return this.info[node]?.name ?? '';
  }

  /** Puts in a node, or replaces what is known of it. Returns its index. Lost nodes give up their place when all are taken. */
  put(info: NodeInfo): number {
    let node = this.indexOf(info.name);
    if (node < 0) {
      if (this.count < this.maxNodes) node = this.count++;
      else {
        for (let n = 0; n < this.count && node < 0; n++) if (this.status[n] === LOST) node = n;
        if (node < 0) throw new MetronomeError('QUEUE_FULL', `There are ${this.maxNodes} nodes already (limits.maxNodes); "${info.name}" cannot join.`);
        this.#byName.delete(this.name(node));
        this.draining[node] = 0;
        this.repairs[node] = 0;
      }
      this.#byName.set(info.name, node);
      this.running[node] = [];
      this.foreign[node] = new Set();
    }
    this.tell(node, info);
    this.connected[node] = 0;
    this.refusesUntilMs[node] = 0;
    this.used[node] = 0;
    this.setSlots(node, info.slots);
    return node;
  }

  /** Another state of its life. */
  setStatus(node: number, status: number): void {
    this.#count(node, -1);
    this.status[node] = status;
    this.#count(node, 1);
    this.#rank(node);
  }

  /** It has so many slots from now on. */
  setSlots(node: number, slots: number): void {
    this.#count(node, -1);
    this.slots[node] = slots;
    this.#count(node, 1);
    this.#rank(node);
  }

  /** So many of its slots are given away; never below 0. */
  setUsed(node: number, used: number): void {
    this.used[node] = Math.max(0, used);
    this.#rank(node);
  }

  /** It gets nothing until then; 0: it does. Who sets a time in the future calls again when it has come. */
  setRefusal(node: number, untilMs: number): void {
    this.refusesUntilMs[node] = untilMs;
    this.#rank(node);
  }

  /** Nodes that may get work and offer an isolation that some function asked for, by load. */
  nodesByLoad(isolation: string): NodesByLoad {
    return this.#kind(isolation).byLoad;
  }

  #count(node: number, sign: 1 | -1): void {
    if (this.status[node] !== READY) return;
    this.readyNodes += sign;
    this.readySlots += sign * (this.slots[node] as number);
  }

  /** Puts the node where it belongs in the indexes by load. */
  #rank(node: number): void {
    const isCandidate = this.status[node] === READY && this.refusesUntilMs[node] === 0;
    for (const { unable, byLoad } of this.#kinds.values()) {
      if (isCandidate && unable[node] === 0) byLoad.put(node, this.used[node] as number, this.slots[node] as number);
      else byLoad.remove(node);
    }
  }

  /** What a node says of itself, heard anew. */
  tell(node: number, info: NodeInfo): void {
    this.info[node] = info;
    for (const [isolation, { unable }] of this.#kinds) if (isolation !== '') unable[node] = offers(info, isolation) ? 0 : 1;
    this.#rank(node);
  }

  /** 1 for each node that does not offer a kind of isolation; kept up to date. '': the default of a node, which all offer. */
  unableFor(isolation: string): Uint8Array {
    return this.#kind(isolation).unable;
  }

  #kind(isolation: string): { readonly unable: Uint8Array; readonly byLoad: NodesByLoad } {
    let kind = this.#kinds.get(isolation);
    if (kind === undefined) {
      kind = { unable: new Uint8Array(this.maxNodes), byLoad: new NodesByLoad(this.maxNodes) };
      this.#kinds.set(isolation, kind);
      for (let node = 0; node < this.count; node++) {
        kind.unable[node] = offers(this.info[node] as NodeInfo, isolation) ? 0 : 1;
        this.#rank(node);
      }
    }
    return kind;
  }

  /** Free slots of a node that may get work; 0 for one that may not. */
  room(node: number, nowMs: number): number {
    if (this.status[node] !== READY || (this.refusesUntilMs[node] as number) > nowMs) return 0;
    return (this.slots[node] as number) - (this.used[node] as number);
  }

  /** True while some node may get work now or soon. `unable`: see unableFor. */
  hasHope(unable?: Uint8Array): boolean {
    for (let n = 0; n < this.count; n++) {
      const status = this.status[n] as number;
      if ((status === READY || status === STALE || status === JOINING) && unable?.[n] !== 1) return true;
    }
    return false;
  }

  metric(node: number, name: MetricName): number {
    return this.table[node * NODE_ROW + METRIC_NAMES.indexOf(name)] ?? 0;
  }

  /** When the agent sent its last state, ms since 1970; 0: never. */
  sentAtMs(node: number): number {
    return this.table[node * NODE_ROW + SENT_AT] as number;
  }

  receivedAtMs(node: number): number {
    return this.table[node * NODE_ROW + RECEIVED_AT] as number;
  }

  /**
   * Predicted time until a slot is free for one that comes behind `ahead` others, who are expected to take `aheadMs` together, ms; 0 when there is room now.
   * `remainingMs` knows better than the prediction at dispatch how long something still runs, or says undefined. O((slots + ahead) · slots).
   */
  expectedWaitMs(node: number, nowMs: number, ahead = 0, aheadMs = 0, remainingMs?: (dispatched: Invocation) => number | undefined): number {
    const room = this.room(node, nowMs);
    if (room > ahead) return 0;
    const running = this.running[node] ?? [];
    const left = this.#left;
    left.length = 0;
    for (let i = 0; i < running.length; i++) {
      const invocation = running[i] as Invocation;
      left.push(Math.max(LEAST_LEFT_MS, remainingMs?.(invocation) ?? remainingOf(invocation, nowMs)));
    }
    if (left.length === 0) return Infinity;
    const eachMs = ahead > 0 ? Math.max(LEAST_LEFT_MS, aheadMs / ahead) : 0;
    // Who is ahead takes the slot that is free first, one after the other; beyond some the average is good enough.
    const steps = Math.min(ahead - Math.max(0, room), MAX_STEPS);
    let waitMs = 0;
    for (let step = 0; step <= steps; step++) {
      let first = 0;
      for (let i = 1; i < left.length; i++) if ((left[i] as number) < (left[first] as number)) first = i;
      waitMs = left[first] as number;
      left[first] = waitMs + eachMs;
    }
    return waitMs + (Math.max(0, ahead - Math.max(0, room) - MAX_STEPS) * eachMs) / left.length;
  }
}

/**
 * What something is expected to need still, ms: the rest of its prediction; near its end and beyond, what predictions are usually off by; and once it overran by
 * more than that, as much again as it overran.
 */
function remainingOf({ dispatchedAtMs, predictedRunMs, predictedSpreadMs }: Invocation, nowMs: number): number {
  const leftMs = predictedRunMs - (nowMs - dispatchedAtMs);
  return Math.max(leftMs, Math.min(predictedSpreadMs, predictedRunMs), -leftMs);
}

/** What something that runs will not need more than in 95 of 100 cases, ms; beyond that, as much again as it overran. */
export function upperRemainingOf(dispatched: Invocation, nowMs: number): number {
  return Math.max(dispatched.predictedP95Ms - (nowMs - dispatched.dispatchedAtMs), remainingOf(dispatched, nowMs));
}

function offers({ isolation = ['process'] }: NodeInfo, kind: string): boolean {
  return isolation.includes(kind);
}
