/**
 * The simulator: the scheduler of the daemon, unchanged, on virtual time with virtual nodes. Only clock, transport and nodes differ
 * from the daemon's (docs/guide/simulating.md). Deterministic: the same options and the same calls give the same digest.
 */
import { createVirtualClock, type Clock, type VirtualClock } from '../core/clock.ts';
import { importId } from '../core/zygote-distance.ts';
import { MetronomeError } from '../core/errors.ts';
import type { InputObject, Invocation, InvocationEvent, RunResult } from '../core/invocation.ts';
import type { Random } from '../core/random.ts';
import { createMovingAveragePredictor } from '../predictor/moving-average.ts';
import { WARM, type Predictor } from '../predictor/predictor.ts';
import { METRIC_NAMES, NODE_ROW, RECEIVED_AT, SENT_AT, createNodeTable, type MetricName, type NodeInfo } from '../scheduler/cluster-view.ts';
import type { FunctionSettings } from '../scheduler/function-table.ts';
import { Scheduler, type SchedulerOptions, type Submission } from '../scheduler/scheduler.ts';
import type { ZygoteFacts } from '../scheduler/zygote-index.ts';
import { Digest } from './digest.ts';
import { createJumpingClock, type JumpingClock } from './jumping-clock.ts';
import { Network } from './network.ts';
import { SlotLeases } from './slot-leases.ts';
import { Host } from './processor.ts';
import { PLAIN_PROFILE, type FunctionProfile } from './profiles.ts';
import { VirtualNode, type NodeWorld, type VirtualFunction, type VirtualNodeOptions } from './virtual-node.ts';

/** The scheduler's own parameters; defaults are those of the configuration. */
export type SchedulerParameters = Partial<Pick<SchedulerOptions, 'engine' | 'policy' | 'localityGain' | 'safetyMargin' | 'strict' | 'waitPerGain' | 'lookahead' | 'ruleDelay' | 'xfaas' | 'pools' | 'localityThreshold' | 'decideOn' | 'blindTo' | 'monitorIntervalMs' | 'staleAfterMs' | 'lostAfterMs' | 'maxLive' | 'maxWaitMs' | 'maxObjects' | 'rememberDecisions' | 'candidates' | 'candidateLimit'>>;

/** What is simulated. */
export interface SimulationOptions extends SchedulerParameters {
  readonly seed: number;
  /** The nodes, in order. */
  readonly nodes: readonly VirtualNodeOptions[];
  /** Places for nodes that come later. @default 0 */
  readonly moreNodes?: number;
  /** Capacity of each node's link in either direction, bytes per ms. @default 125 000 (1 Gbit/s) */
  readonly bytesPerMs?: number;
  /** Until the first byte of a transfer, ms. @default 0.5 */
  readonly latencyMs?: number;
  /** A message between scheduler and node, one way, ms. @default 0.5 */
  readonly messageMs?: number;
  /** One machine on which all nodes stand, as emulated ones do: its cores, and how much longer everything takes with all of them busy (processor.ts). @default each node has its own */
  readonly host?: { readonly cores: number; readonly contention?: number };
  /** How often nodes push their scalars, ms. @default 50 */
  readonly pushMs?: number;
  /** `simulation` may be called once the simulation is made. @default moving averages */
  readonly predictor?: (world: { readonly clock: VirtualClock; readonly nodeTable: SharedArrayBuffer; simulation(): Simulation }) => Predictor;
  /** Makes the scheduler, for who wants to listen in (a recording). @default new Scheduler */
  readonly createScheduler?: (options: SchedulerOptions) => Scheduler;
  /** Schedulers that share the work by function, each with leases of the nodes' slots (slot-leases.ts). @default 1 */
  readonly shards?: number;
  /** A shard died with what lived in it: nobody will tell what became of it. What runs on nodes runs on. */
  readonly onShardLost?: (lost: readonly Invocation[]) => void;
  /** The scheduler's clock may be put forward (jumpClock). @default false: it is that of the world */
  readonly clockJumps?: boolean;
  readonly onTransition?: (invocation: Invocation, from: number, to: number, event: InvocationEvent) => void;
  readonly onDecided?: (invocation: Invocation) => void;
  readonly onSettled?: (invocation: Invocation) => void;
  readonly onNodeChanged?: (node: number, status: number) => void;
  /** A node calls the handler for an invocation, whoever hears of it. */
  readonly onHandlerCalled?: (id: string, node: number) => void;
}

/** What a submission of the simulation carries. */
export interface SimulatedWork {
  /** A number that is the same under every policy: it decides what the invocation costs. */
  readonly key: number;
  /** What its run takes in a warm sandbox on an idle node, where that was measured, ms. @default drawn from the function's profile */
  readonly runMs?: number;
  readonly onSettled?: (invocation: Invocation) => void;
}

/** When simulated time begins, ms. Small enough for fractions of a nanosecond to count, and not 0, which means never. */
export const EPOCH_MS = 1_000_000;
const MAX_BURST = 1e9;
/** Columns of the node table that virtual nodes fill; looked up once, for they are written some thousand times per second. */
const COLUMN = Object.fromEntries(METRIC_NAMES.map((name, column) => [name, column])) as Record<MetricName, number>; // one entry for each name

/** A zygote of a package set as a node tells of it. */
function zygoteOf(packageSet: string, isHere: boolean): ZygoteFacts {
  return { packageSet, runtime: 'node', isolation: '', defaultIsolation: true, network: true, sameSet: false, function: '', idle: isHere ? 1 : 0, packages: [importId(packageSet, '1')], importMs: [1] };
}

interface Link {
  /** Its regular states do not come. */
  isSilent: boolean;
  /** Number of the present streams; what was sent on former ones never arrives. */
  stream: number;
  /** Streams of the last snapshot that each scheduler had. What was decided before a later one is not sent on it, as the daemon's links do it: the snapshot counts it as missing. */
  readonly told: number[];
  isConnected: boolean;
  /** Each message takes so much longer, ms. */
  extraMs: number;
  /** No message overtakes an earlier one on the same stream. */
  lastAtMs: number;
  duplicates: boolean;
  /** What the node says of its slots; undefined: the truth. */
  claimedSlots: number | undefined;
  /** It said something else once. */
  hasLied: boolean;
  lossy: Lossy | undefined;
  /** Dispatches and states travel apart and take times of their own; undefined: as one. */
  reordered: { readonly random: Random; lastStateAtMs: number } | undefined;
  /** Results that could not be delivered. */
  readonly kept: Map<string, { readonly attempt: number; readonly result: RunResult }>;
}

/** Streams that lose a share of their messages, and break by it. */
export interface Lossy {
  readonly random: Random;
  readonly share: number;
}

/** A broken stream stands again after so long, ms. */
const RECONNECT_MS = 20;
/** Messages on different streams take up to so much longer than each other, ms. */
const REORDER_MS = 50;

export class Simulation {
  readonly clock: VirtualClock;
  /** The scheduler's own; the same unless it may jump. */
  readonly schedulerClock: Clock;
  readonly #jumping: JumpingClock | undefined;
  /** All schedulers: more than one when sharded. One that died stands in its place until another does. */
  readonly schedulers: readonly Scheduler[];
  readonly #schedulers: Scheduler[];
  readonly #createScheduler: (shard: number, life: number) => Scheduler;
  /** By shard: how often it died, and whether it lives. */
  readonly #lives: number[];
  readonly #isUp: boolean[];
  readonly leases: SlotLeases | undefined;
  /** The only one that hears what nodes tell now; undefined: all do. */
  #onlyTo: number | undefined;
  /** Messages between schedulers and nodes so far, leases included; regular states of nodes are not counted. */
  #messages = 0;
  readonly network: Network;
  readonly nodes: VirtualNode[] = [];
  readonly digest = new Digest();
  readonly options: SimulationOptions;
  readonly #links: Link[] = [];
  readonly #functions = new Map<string, VirtualFunction>();
  readonly #table: Float64Array;
  readonly #world: NodeWorld;
  readonly #messageMs: number;
  readonly #pushMs: number;
  readonly #bytesPerMs: number;
  readonly #usedBefore: number[] = [];
  #submitted = 0;

  constructor(options: SimulationOptions) {
    this.options = options;
    const clock = createVirtualClock(EPOCH_MS);
    this.clock = clock;
    this.#jumping = options.clockJumps === true ? createJumpingClock(clock) : undefined;
    const schedulerClock = this.#jumping ?? clock;
    this.schedulerClock = schedulerClock;
    this.#messageMs = options.messageMs ?? 0.5;
    this.#pushMs = options.pushMs ?? 50;
    this.#bytesPerMs = options.bytesPerMs ?? 125_000;
    this.network = new Network({ clock, bytesPerMs: this.#bytesPerMs, latencyMs: options.latencyMs ?? 0.5 });
    const maxNodes = options.nodes.length + (options.moreNodes ?? 0);
    const nodeTable = createNodeTable(maxNodes);
    this.#table = new Float64Array(nodeTable);
    const { digest } = this;
    const createScheduler = options.createScheduler ?? ((all: SchedulerOptions) => new Scheduler(all));
    const shards = options.shards ?? 1;
    this.#lives = Array.from({ length: shards }, () => 0);
    this.#isUp = Array.from({ length: shards }, () => true);
    this.#createScheduler = (shard, life) => createScheduler({
      clock: schedulerClock, seed: options.seed, engine: options.engine ?? 'table', policy: options.policy ?? 'metronome', localityGain: options.localityGain ?? 0.85, safetyMargin: options.safetyMargin ?? 0.1, strict: options.strict ?? false, waitPerGain: options.waitPerGain ?? 0.75,
      ...(options.lookahead === undefined ? {} : { lookahead: options.lookahead }), ...(options.ruleDelay === undefined ? {} : { ruleDelay: options.ruleDelay }), ...(options.xfaas === undefined ? {} : { xfaas: options.xfaas }), ...(options.pools === undefined ? {} : { pools: options.pools }),
      localityThreshold: options.localityThreshold ?? 0.1, decideOn: options.decideOn ?? 'events', blindTo: options.blindTo ?? 'nothing', monitorIntervalMs: options.monitorIntervalMs ?? 100, staleAfterMs: options.staleAfterMs ?? 3 * this.#pushMs, lostAfterMs: options.lostAfterMs ?? 60 * this.#pushMs,
      maxLive: options.maxLive ?? 1_000_000, maxNodes, maxObjects: options.maxObjects ?? 1_000_000, maxWaitMs: options.maxWaitMs ?? 600_000, rememberDecisions: options.rememberDecisions ?? 1, candidates: options.candidates ?? 'auto', candidateLimit: options.candidateLimit ?? 64, idPrefix: shards === 1 ? 's' : life === 0 ? `s${shard}.` : `s${shard}.${life}.`, nodeTable,
      predictor: options.predictor?.({ clock, nodeTable, simulation: () => this }) ?? createMovingAveragePredictor(),
      transport: {
        execute: (invocation, node) => {
          const { attempt } = invocation;
          const link = this.#links[node] as Link;
          if (link.told[shard] === link.stream) this.#later(node, () => this.#take(node, invocation, attempt), shard);
        },
        cancel: (invocation, node) => this.#later(node, () => this.nodes[node]?.cancel(invocation.id), shard),
        prewarm: (name, node, count) => this.#later(node, () => {
          const of = this.#functions.get(name);
          if (of !== undefined) this.nodes[node]?.prewarm(of, count);
        }, shard),
        evict: (name, node, count) => this.#later(node, () => {
          const of = this.#functions.get(name);
          if (of !== undefined) this.nodes[node]?.evictIdle(of, count);
        }, shard),
      },
      observer: {
        transitioned(invocation, from, to, event) {
          digest.add(clock.nowMs() - EPOCH_MS, invocation.seq, from * 16 + to, invocation.node);
          options.onTransition?.(invocation, from, to, event);
        },
        ...(options.onDecided === undefined ? {} : { decided: options.onDecided }),
        settled(invocation) {
          options.onSettled?.(invocation);
          (invocation.cargo as SimulatedWork).onSettled?.(invocation); // every submission here carries it
        },
        nodeChanged: (node, status) => options.onNodeChanged?.(node, status),
      },
    });
    this.#schedulers = Array.from({ length: shards }, (_, shard) => this.#createScheduler(shard, 0));
    this.schedulers = this.#schedulers;
    this.leases = shards === 1 ? undefined : new SlotLeases({
      clock, seed: options.seed, messageMs: this.#messageMs, shards: this.schedulers, isUp: (shard) => this.#isUp[shard] === true,
      isReachable: (node) => this.nodes[node]?.isAlive === true && !this.nodes[node].isHanging && this.#links[node]?.isConnected === true, runningOn: (node) => this.#runningOn(node),
    });
    this.#world = {
      clock, network: this.network, seed: options.seed, host: options.host === undefined ? undefined : new Host(options.host.cores, options.host.contention),
      functionOf: (name) => this.#functions.get(name),
      holderOf: (object, butNot) => this.#holderOf(object, butNot),
      keyOf: ({ cargo }) => (cargo as SimulatedWork | undefined)?.key ?? 0, // what is only planned carries nothing
      runMsOf: ({ cargo }) => (cargo as SimulatedWork | undefined)?.runMs,
      events: {
        started: (node, id, startState) => {
          options.onHandlerCalled?.(id, node);
          this.#toShard(node, this.#shardOf(id), (scheduler) => scheduler.started(id, node, startState));
        },
        rejected: (node, id, error) => this.#toShard(node, this.#shardOf(id), (scheduler) => scheduler.rejected(id, node, error)),
        result: (node, id, result) => this.#keepResult(node, id, result),
        warm: (node, name, version, idle, busy) => this.#toShard(node, this.#shardFor(name), (scheduler) => scheduler.setWarm(name, version, node, idle, busy), true),
        packages: (node, set, isHere) => this.#toAll(node, (scheduler) => scheduler.setPackages(set, node, isHere)),
        zygote: (node, set, isHere) => this.#toAll(node, (scheduler) => scheduler.setZygote(node, zygoteOf(set, isHere))),
        object: (node, id, sizeBytes, isHere) => this.#toAll(node, (scheduler) => (isHere ? scheduler.objectAdded(id, sizeBytes, node) : scheduler.objectRemoved(id, node))),
      },
    };
    for (const each of options.nodes) this.addNode(each);
    this.#push();
    // Two hops: they have registered, and their snapshots came.
    clock.advance(2 * this.#messageMs + 0.001);
  }

  // ── from outside ──────────────────────────────────────────────────────────────────────────────────────────────

  /** A new node registers. */
  addNode(options: VirtualNodeOptions): VirtualNode {
    const index = this.nodes.length;
    const node = new VirtualNode(this.#world, index, `n${index}`, options);
    this.nodes.push(node);
    this.#links.push({ isSilent: false, stream: 0, told: [], isConnected: false, extraMs: 0, lastAtMs: 0, duplicates: false, claimedSlots: undefined, hasLied: false, lossy: undefined, reordered: undefined, kept: new Map() });
    this.network.addNode();
    this.#register(node);
    return node;
  }

  /** Deploys or replaces a function. */
  deploy(settings: Partial<FunctionSettings> & { readonly name: string }, profile: Partial<FunctionProfile> = {}): void {
    const whole: FunctionSettings = {
      version: '1', packageSet: `packages of ${settings.name}`, slaMs: 10_000, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 2, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false, ...settings,
    };
    const { packageSet } = whole;
    // One package stands for the whole set: virtual zygotes cover all of a function's imports or none.
    const id = importId(packageSet, '1');
    const deployed: FunctionSettings = { ...whole, zygote: { runtime: 'node', isolation: '', network: true, imports: { direct: [id], byName: new Map([[packageSet, id]]) } } };
    this.#functions.set(whole.name, { settings: deployed, profile: { ...PLAIN_PROFILE, ...profile } });
    const shard = this.#shardFor(whole.name);
    if (this.#isUp[shard] === true) (this.#schedulers[shard] as Scheduler).putFunction(deployed); // one that comes back is told then
  }

  /** Idle sandboxes that a node has from the beginning (VirtualNode.warm); of functions that are deployed. */
  warm(node: number, functionName: string, count: number): void {
    const of = this.#functions.get(functionName);
    if (of !== undefined) this.nodes[node]?.warm(of, count);
  }

  /** Submits one invocation now. Throws what the scheduler throws, and UNAVAILABLE while its shard is dead. */
  submit(functionName: string, more: Partial<Submission> & Partial<SimulatedWork> = {}): Invocation {
    const { key, runMs, onSettled, ...request } = more;
    const cargo: SimulatedWork = { key: key ?? this.#submitted, ...(runMs === undefined ? {} : { runMs }), ...(onSettled === undefined ? {} : { onSettled }) };
    this.#submitted++;
    const shard = this.#shardFor(functionName);
    if (this.#isUp[shard] !== true) throw new MetronomeError('UNAVAILABLE', `The scheduler of "${functionName}", shard ${shard}, is down.`, { retryAfterMs: 100 });
    return (this.#schedulers[shard] as Scheduler).submit({ functionName, slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo, ...request });
  }

  /** Puts an object on a node and tells the scheduler. */
  upload(node: number, id: string, sizeBytes: number): InputObject {
    const where = this.nodes[node] as VirtualNode;
    where.put(id, sizeBytes);
    return { id, sizeBytes, digest: '', name: '', holders: [where.name] };
  }

  /** What a function costs; undefined: it is not deployed. */
  profileOf(functionName: string): FunctionProfile | undefined {
    return this.#functions.get(functionName)?.profile;
  }

  /** What an invocation would really take on a node (VirtualNode.trueExecutionMs), ms. */
  trueExecutionMs(invocation: Invocation, node: number, startState: number, onTheMean = false): number {
    const of = this.#functions.get(invocation.functionName);
    return of === undefined ? 0 : (this.nodes[node] as VirtualNode).trueExecutionMs(invocation, of, startState === WARM, onTheMean);
  }

  /** Until a dispatched invocation really ends (VirtualNode.trueRemainingMs), ms; undefined: it is not there. */
  trueRemainingMs({ id, node }: { readonly id: string; readonly node: number }): number | undefined {
    return this.nodes[node]?.trueRemainingMs(id);
  }

  /** Invocations that live. */
  get live(): number {
    return this.#schedulers.reduce((sum, { live }, shard) => sum + (this.#isUp[shard] === true ? live.size : 0), 0);
  }

  /** The first scheduler, or the only one. */
  get scheduler(): Scheduler {
    return this.#schedulers[0] as Scheduler;
  }

  /** All schedulers that live. */
  living(): readonly Scheduler[] {
    return this.#schedulers.length === 1 ? this.#schedulers : this.#schedulers.filter((_, shard) => this.#isUp[shard]);
  }

  /** The scheduler of an invocation, dead or alive. */
  schedulerOf(id: string): Scheduler {
    return this.#schedulers[this.#shardOf(id)] as Scheduler;
  }

  /** Messages between schedulers and nodes so far; the regular states of nodes are not counted. */
  get messages(): number {
    return this.#messages + (this.leases?.messages ?? 0);
  }

  /** Those of them that move leases of slots between shards. */
  get leaseMessages(): number {
    return this.leases?.messages ?? 0;
  }

  /** Simulated time since the start, ms. */
  get elapsedMs(): number {
    return this.clock.nowMs() - EPOCH_MS;
  }

  /** Calls `what` at a simulated time, ms since the start. */
  at(ms: number, what: () => void): void {
    this.clock.setTimer(EPOCH_MS + ms, what);
  }

  /** Lets `ms` pass. */
  advance(ms: number): void {
    this.clock.advance(ms);
  }

  /** Goes on until nothing lives any more, at most `ms`. Returns how many live on. */
  settle(ms: number): number {
    const until = this.clock.nowMs() + ms;
    while (this.live > 0 && this.clock.nowMs() < until) {
      const next = this.clock.nextTimerMs();
      if (next === undefined || next > until) break;
      this.clock.advanceTo(next);
    }
    return this.live;
  }

  /** Ends it: the scheduler's timers are gone. */
  stop(): void {
    for (const scheduler of this.schedulers) scheduler.stop();
    this.leases?.stop();
  }

  // ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The streams to a node break; it goes on with what it has, and keeps its results. */
  disconnect(index: number): void {
    const link = this.#links[index] as Link;
    if (!link.isConnected) return;
    link.isConnected = false;
    for (const scheduler of this.living()) scheduler.nodeDisconnected(index);
  }

  /** The streams stand again: a snapshot, then what could not be delivered. */
  reconnect(index: number): void {
    const node = this.nodes[index] as VirtualNode;
    if (node.isAlive && !(this.#links[index] as Link).isConnected) this.#open(node);
  }

  /** The node's process dies. `noticed`: connections to it are refused. */
  kill(index: number, noticed = true): void {
    const link = this.#links[index] as Link;
    this.nodes[index]?.die();
    link.isConnected = false;
    link.kept.clear();
    if (noticed) for (const scheduler of this.living()) scheduler.nodeGone(index);
  }

  /** A node that counts as lost, or whose streams broke, registers with what it has. */
  registerAgain(index: number): void {
    const node = this.nodes[index] as VirtualNode;
    if (!node.isAlive) return;
    (this.#links[index] as Link).isConnected = false;
    // With several schedulers nothing may be sent by what was leased before the new streams.
    if (this.schedulers.length > 1) for (const scheduler of this.living()) if (scheduler.cluster.count > index) scheduler.nodeDisconnected(index);
    this.#register(node);
  }

  /** Messages from and to a node take so much longer from now on, ms; they stay in order. */
  slowMessages(index: number, extraMs: number): void {
    (this.#links[index] as Link).extraMs = extraMs;
  }

  /** Nothing is heard of a node's regular states from now on, or again; it works on, and what it does is told. */
  silence(index: number, isSilent: boolean): void {
    (this.#links[index] as Link).isSilent = isSilent;
  }

  /** Results of a node come twice from now on, or once again. */
  duplicateResults(index: number, twice: boolean): void {
    (this.#links[index] as Link).duplicates = twice;
  }

  /** A node says that it has so many slots, on new streams; undefined: the truth. Not with shards, which have leases of their own. */
  claimSlots(index: number, slots: number | undefined): void {
    const link = this.#links[index] as Link;
    if (this.leases !== undefined || link.claimedSlots === slots) return;
    link.claimedSlots = slots;
    link.hasLied = true;
    this.disconnect(index);
    this.reconnect(index);
  }

  /** Whether a node ever said something else of its slots than the truth. */
  hasLied(index: number): boolean {
    return (this.#links[index] as Link).hasLied;
  }

  /** The streams to a node lose messages from now on, and break by that; undefined: no longer. */
  loseMessages(index: number, lossy: Lossy | undefined): void {
    (this.#links[index] as Link).lossy = lossy;
  }

  /** What a node tells of its state and what concerns dispatches overtake each other from now on; undefined: no longer. */
  reorderMessages(index: number, random: Random | undefined): void {
    const link = this.#links[index] as Link;
    const lastStateAtMs = Math.max(link.lastAtMs, link.reordered?.lastStateAtMs ?? 0);
    if (random === undefined) link.lastAtMs = lastStateAtMs;
    link.reordered = random === undefined ? undefined : { random, lastStateAtMs };
  }

  /** The scheduler's clock jumps forward; nothing without `clockJumps`. */
  jumpClock(ms: number): void {
    this.#jumping?.jump(ms);
  }

  /** A killed node starts again: its disk is there, its memory is not. */
  restart(index: number): void {
    const node = this.nodes[index] as VirtualNode;
    if (node.isAlive) this.kill(index, false);
    node.comeBack();
    this.#register(node);
  }

  /** A shard dies with all that it had in memory, and its streams break. Only where there are several. */
  killShard(shard: number): void {
    const scheduler = this.#schedulers[shard];
    if (scheduler === undefined || this.leases === undefined || this.#isUp[shard] !== true) return;
    this.#isUp[shard] = false;
    this.#lives[shard] = (this.#lives[shard] as number) + 1;
    scheduler.stop();
    this.leases.shardGone(shard);
    this.options.onShardLost?.([...scheduler.live.values()]);
  }

  /** Another one takes its place: its functions come from its store, all else from the nodes. */
  restartShard(shard: number): void {
    const { leases } = this;
    if (this.#schedulers[shard] === undefined || leases === undefined || this.#isUp[shard] === true) return;
    const scheduler = this.#createScheduler(shard, this.#lives[shard] as number);
    this.#schedulers[shard] = scheduler;
    this.#isUp[shard] = true;
    for (const [name, { settings }] of this.#functions) if (this.#shardFor(name) === shard) scheduler.putFunction(settings);
    for (const node of this.nodes) {
      scheduler.nodeRegistered(this.#infoOf(node));
      const link = this.#links[node.index] as Link;
      if (!link.isConnected) continue; // it opens streams to all when it comes back
      this.#later(node.index, () => {
        const running = this.#idsOn(node).filter((id) => this.#shardOf(id) === shard);
        const deal = leases.openFor(node.index, shard);
        this.#toShard(node.index, shard, (own) => {
          link.told[shard] = link.stream;
          own.nodeSnapshot(node.index, leases.opened(shard, node.index, deal), running, Infinity);
        });
        this.#onlyTo = shard;
        node.tellAll();
        this.#onlyTo = undefined;
        for (const id of link.kept.keys()) if (this.#shardOf(id) === shard) this.#deliver(node.index, id);
      }, shard);
    }
  }

  // ── between scheduler and nodes ───────────────────────────────────────────────────────────────────────────────

  /**
   * Does it one message later, if the streams of now still stand then, and the shard that it is from or for lives on. -1: it concerns all of them.
   * `isState`: on the stream of states.
   */
  #later(index: number, what: (scheduler: Scheduler) => void, shard = -1, isState = false): void {
    const link = this.#links[index] as Link;
    if (!link.isConnected) return;
    const { stream, lossy, reordered } = link;
    const life = this.#lives[shard];
    this.#messages++;
    if (lossy !== undefined && lossy.random.uniform() < lossy.share) return this.#break(index, stream);
    let atMs = this.clock.nowMs() + this.#messageMs + link.extraMs + (reordered === undefined ? 0 : REORDER_MS * reordered.random.uniform());
    if (isState && reordered !== undefined) reordered.lastStateAtMs = atMs = Math.max(reordered.lastStateAtMs, atMs);
    else link.lastAtMs = atMs = Math.max(link.lastAtMs, atMs);
    this.clock.setTimer(atMs, () => {
      if (link.isConnected && link.stream === stream && (shard < 0 || this.#lives[shard] === life)) what(this.#schedulers[shard] as Scheduler); // who concerns all does not ask for it
    });
  }

  /** A message was lost: its stream breaks before anything else arrives, and is opened again. */
  #break(index: number, stream: number): void {
    const link = this.#links[index] as Link;
    this.clock.setTimer(this.clock.nowMs(), () => {
      if (!link.isConnected || link.stream !== stream) return;
      this.disconnect(index);
      this.clock.setTimer(this.clock.nowMs() + RECONNECT_MS, () => this.reconnect(index));
    });
  }

  /** A state, the same to every scheduler. */
  #toAll(index: number, what: (scheduler: Scheduler) => void): void {
    for (let shard = 0; shard < this.#schedulers.length; shard++) this.#toShard(index, shard, what, true);
  }

  /** To one of them, if it lives. */
  #toShard(index: number, shard: number, what: (scheduler: Scheduler) => void, isState = false): void {
    if (this.#isUp[shard] !== true || (this.#onlyTo !== undefined && this.#onlyTo !== shard)) return;
    if (this.nodes[index]?.isHanging !== true) this.#later(index, what, shard, isState);
  }

  /** The shard of a function: by its name. */
  #shardFor(functionName: string): number {
    const { length } = this.#schedulers;
    if (length === 1) return 0;
    // FNV-1a, its high bits folded down.
    let hash = 0x811c_9dc5;
    for (let i = 0; i < functionName.length; i++) hash = Math.imul(hash ^ functionName.charCodeAt(i), 0x0100_0193);
    return ((hash ^ (hash >>> 15)) >>> 0) % length;
  }

  /** The shard of an invocation: its id says. */
  #shardOf(id: string): number {
    return this.#schedulers.length === 1 ? 0 : Number.parseInt(id.slice(1), 10);
  }

  /** What runs on a node, and what it could not deliver. */
  #idsOn(node: VirtualNode): string[] {
    return [...node.runs.keys(), ...(this.#links[node.index] as Link).kept.keys()];
  }

  #runningOn(node: number): number[] {
    const counts = this.#schedulers.map(() => 0);
    const count = (id: string): void => {
      const shard = this.#shardOf(id);
      counts[shard] = (counts[shard] ?? 0) + 1;
    };
    for (const id of (this.nodes[node] as VirtualNode).runs.keys()) count(id);
    for (const id of (this.#links[node] as Link).kept.keys()) count(id);
    return counts;
  }

  #take(index: number, invocation: Invocation, attempt: number): void {
    const kept = this.#links[index]?.kept.get(invocation.id);
    // Its result waits for an acknowledgement: nothing runs again.
    if (kept !== undefined && kept.attempt >= attempt) return this.#deliver(index, invocation.id);
    this.nodes[index]?.execute(invocation, attempt);
  }

  #keepResult(index: number, id: string, result: RunResult): void {
    (this.#links[index] as Link).kept.set(id, { attempt: this.schedulerOf(id).live.get(id)?.attempt ?? 0, result });
    this.#deliver(index, id);
  }

  #deliver(index: number, id: string): void {
    const link = this.#links[index] as Link;
    const kept = link.kept.get(id);
    if (kept === undefined) return;
    const shard = this.#shardOf(id);
    this.#toShard(index, shard, (scheduler) => {
      if (link.kept.get(id) === kept) link.kept.delete(id);
      scheduler.result(id, index, kept.result);
      // An acknowledgement was lost: it is told once more.
      if (link.duplicates) this.#toShard(index, shard, (again) => again.result(id, index, kept.result));
    });
  }

  /** What a node says of its slots. */
  #slotsOf(node: VirtualNode): number {
    return this.#links[node.index]?.claimedSlots ?? node.options.slots;
  }

  #infoOf(node: VirtualNode): NodeInfo {
    const { name, epoch, options: { memoryMb, keepAliveMs, zygoteMb } } = node;
    return { name, address: '', dataUrl: '', epoch, slots: this.#slotsOf(node), memoryMb, keeping: { policy: 'ttl', keepAliveMs, zygoteMemoryMb: zygoteMb } };
  }

  #register(node: VirtualNode): void {
    for (const scheduler of this.living()) scheduler.nodeRegistered(this.#infoOf(node));
    this.#open(node);
  }

  #open(node: VirtualNode): void {
    const link = this.#links[node.index] as Link;
    link.isConnected = true;
    link.stream++;
    // The node hears of the new streams, and what it tells then comes back one message later.
    this.#later(node.index, () => {
      const running = this.#idsOn(node);
      const { leases } = this;
      const deals = leases?.open(node.index, node.options.slots);
      const lives = [...this.#lives];
      this.#later(node.index, () => {
        this.#table[node.index * NODE_ROW + RECEIVED_AT] = this.schedulerClock.nowMs();
        this.#schedulers.forEach((scheduler, shard) => {
          if (this.#isUp[shard] !== true || lives[shard] !== this.#lives[shard]) return;
          const deal = deals?.[shard];
          link.told[shard] = link.stream;
          const own = deal === undefined ? running : running.filter((id) => this.#shardOf(id) === shard);
          scheduler.nodeSnapshot(node.index, deal === undefined || leases === undefined ? this.#slotsOf(node) : leases.opened(shard, node.index, deal), own, Infinity);
        });
      });
      node.tellAll();
      for (const id of [...link.kept.keys()]) this.#deliver(node.index, id);
    });
  }

  #holderOf(object: InputObject, butNot: number): number {
    const { objects, cluster } = this.living()[0] ?? this.scheduler;
    for (const name of objects.holderNames(object)) {
      const index = cluster.indexOf(name);
      if (index !== butNot && this.nodes[index]?.holds(object.id) === true) return index;
    }
    return -1;
  }

  /** All nodes push their scalars. */
  #push(): void {
    const now = this.clock.nowMs(), heardMs = this.schedulerClock.nowMs();
    const table = this.#table;
    for (const node of this.nodes) {
      const { index } = node;
      const link = this.#links[index] as Link;
      if (!node.isAlive || node.isHanging || link.isSilent || !link.isConnected) continue;
      const at = index * NODE_ROW;
      const usedMs = node.processor.usedMs;
      table[at + COLUMN.cpuUtilisation] = Math.min(1, (usedMs - (this.#usedBefore[index] ?? 0)) / (this.#pushMs * node.processor.cores));
      table[at + COLUMN.loadPerCore] = node.processor.demand / node.processor.cores;
      table[at + COLUMN.memoryFreeMb] = Math.max(0, node.options.memoryMb - node.usedMb);
      table[at + COLUMN.memoryUtilisation] = node.usedMb / node.options.memoryMb;
      table[at + COLUMN.running] = node.runs.size;
      table[at + COLUMN.idleSandboxes] = node.idleCount();
      table[at + COLUMN.objectBytes] = node.objectBytes;
      table[at + COLUMN.fetchBytesPerS] = Math.min(MAX_BURST, (this.#bytesPerMs * 1_000) / Math.max(1, this.network.transfersOf(index)));
      table[at + COLUMN.linkUtilisation] = this.network.utilisationOf(index);
      table[at + COLUMN.roundTripMs] = 2 * this.#messageMs;
      this.#usedBefore[index] = usedMs;
      table[at + SENT_AT] = heardMs - this.#messageMs;
      table[at + RECEIVED_AT] = heardMs;
    }
    this.clock.setTimer(now + this.#pushMs, () => this.#push());
  }
}
