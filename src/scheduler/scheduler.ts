/**
 * The centre: one event loop that owns all scheduling state. Facts come in as calls (submit, results, node events), time
 * comes from the injected clock, and what follows goes out through Transport and Observer. It does no I/O, waits for no
 * promise and logs nothing, so the daemon and the simulator run this very file. Design: docs/decisions, ARCHITECTURE.md.
 */
import { invocationMachine } from '../../machines/invocation.ts';
import { createMachineHost, type Engine, type HostedMachine, type MachineHost } from '../../machines/host.ts';
import type { MachineFlow } from '../../machines/flow.ts';
import { nodeMachine, type NodeContext, type NodeEvent } from '../../machines/node.ts';
import type { Clock, TimerHandle } from '../core/clock.ts';
import { MetronomeError, type ErrorRecord } from '../core/errors.ts';
import { DeadlineHeap } from '../core/heap.ts';
import { ALONE, ARRIVING, CLASSIFIED, DELAYING, DISPATCHED, Invocation, isTerminal, type InputObject, type InvocationEvent, type InvocationHost, type RunResult, type StepPlace } from '../core/invocation.ts';
import { createRandom } from '../core/random.ts';
import type { Reason } from '../core/reasons.ts';
import { createDecision, dispatchTo, type Candidates, type ClusterFacts, type Decision, type DecisionView, type FunctionFacts, type LookaheadOptions, type Policy, type PolicyControl, type PolicyOptions, type PoolOptions, type RuleDelayOptions, type XfaasOptions } from '../policy/policy.ts';
import { createPolicies, isPolicyName, unknownPolicy } from '../policy/registry.ts';
import { NO_SITUATION, NO_TICKET, WARM, type Exclusion, type Predictor } from '../predictor/predictor.ts';
import { createBlindClassifier } from './blind-classifier.ts';
import { createCandidates, createClassifier, type Classifier } from './classify.ts';
import { ClusterView, DRAINING, LOST, METRIC_NAMES, NODE_ROW, READY, RECEIVED_AT, STALE, upperRemainingOf, type NodeInfo } from './cluster-view.ts';
import { DecisionRing } from './decision-ring.ts';
import type { BlindTo, DecideOn } from './experiments.ts';
import { BUSY, FunctionTable, IDLE, type FunctionEntry, type FunctionSettings } from './function-table.ts';
import { ObjectDirectory } from './object-directory.ts';
import { Shadow } from './shadow.ts';
import { WaitingLines } from './waiting-lines.ts';
import { PackageIndex } from './package-index.ts';
import { ZygoteIndex, type ZygoteFacts } from './zygote-index.ts';

/** Where dispatches go. */
export interface Transport {
  /** Run it on this node. Must not call back synchronously. */
  execute(invocation: Invocation, node: number): void;
  /** Stop it on this node; its result still comes. */
  cancel(invocation: Invocation, node: number): void;
  /** Makes idle sandboxes ready, until there are `count`. Absent: policies that ask for it ask in vain. */
  prewarm?(functionName: string, node: number, count: number): void;
  /** Ends `count` idle sandboxes. */
  evict?(functionName: string, node: number, count: number): void;
}

/** Who is told what happened, synchronously; must be quick and must not throw. */
export interface SchedulerObserver {
  transitioned(invocation: Invocation, from: number, to: number, event: InvocationEvent): void;
  /** It reached a terminal state; result and error are final. */
  settled(invocation: Invocation): void;
  nodeChanged?(node: number, status: number): void;
  /** A policy decided, or a dispatch followed from an earlier decision; it stands in the ring. Both tables are the scheduler's own and change with the next decision. */
  decided?(invocation: Invocation, policyName: string, candidates: Candidates, decision: Decision): void;
}

/** Which nodes come into question for a decision. */
export type CandidateMode = 'auto' | 'all' | 'indexed';
/** `auto` looks at all nodes of clusters up to this size. */
export const ALL_UP_TO = 128;

/** What the scheduler needs. All bounds are documented in the configuration schema. */
export interface SchedulerOptions {
  readonly clock: Clock;
  readonly seed: number;
  readonly engine: Engine;
  /** Name of the policy for functions without their own. */
  readonly policy: string;
  readonly localityGain: number;
  readonly safetyMargin: number;
  readonly strict: boolean;
  readonly waitPerGain?: number;
  /** Parameters of single policies. */
  readonly ruleDelay?: RuleDelayOptions;
  readonly lookahead?: LookaheadOptions;
  readonly xfaas?: XfaasOptions;
  readonly pools?: PoolOptions;
  readonly localityThreshold: number;
  /** Experiment: decide again when something happens, or only every monitorIntervalMs, as printed. @default 'events' */
  readonly decideOn?: DecideOn;
  /** Experiment: a kind of locality that is not seen. @default 'nothing' */
  readonly blindTo?: BlindTo;
  readonly monitorIntervalMs: number;
  readonly staleAfterMs: number;
  readonly lostAfterMs: number;
  readonly maxLive: number;
  readonly maxNodes: number;
  readonly maxObjects: number;
  /** Longest wait for room, ms; then it fails with NO_NODES or QUEUE_FULL. */
  readonly maxWaitMs: number;
  /** Which nodes a policy is shown: all, those that the indexes name, or all in small clusters (auto). @default auto */
  readonly candidates?: CandidateMode;
  /** Most that the indexes name. @default 64 */
  readonly candidateLimit?: number;
  readonly rememberDecisions: number;
  /** Prefix of invocation ids, unique per start of the process. */
  readonly idPrefix: string;
  readonly nodeTable: SharedArrayBuffer;
  readonly predictor: Predictor;
  readonly transport: Transport;
  readonly observer: SchedulerObserver;
}

/** One request for the scheduler. */
export interface Submission {
  readonly functionName: string;
  /** 0: the function's. */
  readonly slaMs: number;
  /** Infinity: none. */
  readonly expiresAtMs: number;
  readonly inputs: readonly InputObject[];
  readonly localityKey: string;
  /** '': the function's. */
  readonly policyName: string;
  /** Bytes of the request itself. @default 0 */
  readonly payloadBytes?: number;
  /** Its place in a workflow; absent: it runs alone. */
  readonly place?: StepPlace;
  /** Of a former life (asynchronous ones after a restart); undefined: a new one. */
  readonly id?: string;
  readonly attempt?: number;
  /** Accepted already (durable, or a step of a run): it waits even when no node is there, and no bound refuses it now. */
  readonly patient?: boolean;
  readonly cargo: unknown;
}

/** Counters since the start. */
export interface Counters {
  submitted: number;
  refused: number;
  decisions: number;
  dispatched: number;
  delayed: number;
  completed: number;
  failed: number;
  cancelled: number;
  timedOut: number;
  rejected: number;
  retried: number;
  nodesLost: number;
  slotRepairs: number;
  slackExhausted: number;
  slaMissed: number;
  localDispatches: number;
}

/** A dry run; its tables are the scheduler's own and change with the next event. */
export interface Plan {
  readonly invocation: Invocation;
  readonly candidates: Candidates;
  readonly decision: Decision;
  readonly policy: string;
}

/** Plans that may wait for their predictions at once. */
const MAX_PLANS = 1_024;
/** Locality waiters whose monitors may be late: beyond this many, the monitor interval is stretched in proportion. */
const MONITORS_PER_INTERVAL = 1_000;
/** Deadlines handled in one turn before others get theirs. */
const DEADLINES_PER_TURN = 256;
/** After a refusal a node gets nothing for so long, unless its next state comes first, ms. */
const REFUSAL_PAUSE_MS = 50;
/** By how much a zygote must be nearer than before for waiters to look again. */
const WORTH_A_LOOK = 0.05;
/** Nodes that are asked how long it will take until one has room. */
const HINT_NODES = 64;
/** Executions over which the mean service time of the cluster moves. */
const MEAN_OVER = 1_000;
/** An arrival decides without its prediction after so long, ms. A predictor answers long before, or says that it cannot: this is for one that broke. */
const PREDICTION_GRACE_MS = 2_000;
/** After its deadline a dispatched invocation has so long to be reported by the agent, ms. */
const RESULT_GRACE_MS = 5_000;

export class Scheduler implements InvocationHost {
  nowMs: number;
  readonly observer: SchedulerObserver;
  readonly cluster: ClusterView;
  readonly functions: FunctionTable;
  readonly objects: ObjectDirectory;
  readonly zygotes: ZygoteIndex;
  readonly packages: PackageIndex;
  readonly lines = new WaitingLines();
  readonly decisions: DecisionRing;
  readonly predictor: Predictor;
  readonly live = new Map<string, Invocation>();
  readonly counters: Counters = {
    submitted: 0, refused: 0, decisions: 0, dispatched: 0, delayed: 0, completed: 0, failed: 0, cancelled: 0, timedOut: 0, rejected: 0,
    retried: 0, nodesLost: 0, slotRepairs: 0, slackExhausted: 0, slaMissed: 0, localDispatches: 0,
  };
  readonly #options: SchedulerOptions;
  readonly #clock: Clock;
  readonly #transport: Transport;
  readonly #machines: MachineHost<Invocation, InvocationEvent>;
  readonly #nodeMachines: MachineHost<NodeContext, NodeEvent>;
  readonly #nodes: HostedMachine<NodeEvent>[] = [];
  readonly #deadlines = new DeadlineHeap<Invocation>();
  /** Invocations whose predictions are on their way, by serial number. */
  readonly #unpredicted = new Map<number, Invocation>();
  /** Plans whose predictions are on their way, by ticket. */
  readonly #unplanned = new Map<number, () => void>();
  #lastPlan = NO_TICKET;
  readonly #classifier: Classifier;
  /** Releases wake nobody: who waits looks every monitorIntervalMs. */
  readonly #polls: boolean;
  readonly #candidates: Candidates;
  readonly #one: Candidates = createCandidates(1);
  readonly #decision: Decision = createDecision();
  /** Scratch of the view's expectedWaitMs. */
  readonly #before = { count: 0, sumMs: 0 };
  readonly #remainingMs: ((dispatched: Invocation) => number | undefined) | undefined;
  readonly #upperRemainingMs: (dispatched: Invocation) => number;
  readonly #facts: { readyNodes: number; readySlots: number; meanServiceMs: number; waiting: number } = { readyNodes: 0, readySlots: 0, meanServiceMs: 0, waiting: 0 };
  readonly #view: { candidates: Candidates; readonly cluster: ClusterFacts; function: FunctionFacts; invocation: Invocation; nowMs: number; mayRun: boolean; rentMs(): number; fits(node: number): boolean; expectedWaitMs(node: number, keyMs?: number): number; upperWaitMs(node: number, keyMs?: number): number };
  #policies: ReadonlyMap<string, Policy>;
  #policy: Policy;
  #timer: TimerHandle = undefined;
  #timerAtMs = Infinity;
  #watch: TimerHandle = undefined;
  #ticker: TimerHandle = undefined;
  #shadow: Shadow | undefined = undefined;
  #shadowTicker: TimerHandle = undefined;
  #seq = 0;
  /** Successful executions so far. */
  #served = 0;
  #draining = false;
  #stopped = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.nowMs = options.clock.nowMs();
    this.observer = options.observer;
    this.#transport = options.transport;
    const { predictor } = options;
    this.predictor = predictor;
    this.#remainingMs = predictor.remainingMs === undefined ? undefined : (dispatched) => predictor.remainingMs?.(dispatched);
    this.#upperRemainingMs = (dispatched) => predictor.remainingMs?.(dispatched) ?? upperRemainingOf(dispatched, this.nowMs);
    this.cluster = new ClusterView(options.maxNodes, options.nodeTable);
    this.functions = new FunctionTable(options.maxNodes);
    this.packages = new PackageIndex(options.maxNodes);
    this.zygotes = new ZygoteIndex(this.functions, options.maxNodes);
    this.objects = new ObjectDirectory(this.cluster, options.maxObjects);
    this.decisions = new DecisionRing(options.rememberDecisions);
    this.#machines = createMachineHost(invocationMachine, options.engine);
    this.#nodeMachines = createMachineHost(nodeMachine, options.engine);
    this.#classifier = createBlindClassifier(createClassifier(this.cluster, this.objects, options.predictor, options.localityThreshold, options.candidateLimit), options.blindTo ?? 'nothing', options.localityThreshold);
    this.#polls = options.decideOn === 'polls';
    this.#candidates = createCandidates(options.maxNodes);
    this.#view = {
      candidates: this.#candidates,
      cluster: this.#facts,
      function: undefined as unknown as FunctionFacts, // these two are set before every use
      invocation: undefined as unknown as Invocation,
      nowMs: 0,
      mayRun: true,
      rentMs: () => (this.functions.entries[this.#view.invocation.functionIndex] as FunctionEntry).rentMs(this.nowMs),
      fits: (node) => (this.cluster.info[node]?.memoryMb ?? Infinity) - (this.functions.sandboxMb[node] as number) >= this.#view.function.memoryMb,
      expectedWaitMs: (node, keyMs) => {
        const before = this.#before;
        this.lines.before(node, this.#view.invocation, before, keyMs);
        return this.cluster.expectedWaitMs(node, this.nowMs, before.count, before.sumMs, this.#remainingMs);
      },
      upperWaitMs: (node, keyMs) => {
        const before = this.#before;
        this.lines.before(node, this.#view.invocation, before, keyMs);
        return this.cluster.expectedWaitMs(node, this.nowMs, before.count, before.sumMs, this.#upperRemainingMs);
      },
    };
    this.#policies = createPolicies(this.#policyOptions());
    this.#policy = this.#policyNamed(options.policy);
    this.predictor.attach({ host: this, nodes: this.cluster, metrics: METRIC_NAMES, rowLength: NODE_ROW, receivedAt: RECEIVED_AT, functions: this.functions.entries });
    this.predictor.listen(this.#predicted);
    this.#watchNodes();
    this.#armTick();
  }

  // ── functions and policies ────────────────────────────────────────────────────────────────────────────────────

  get policyName(): string {
    return this.#policy.name;
  }

  get engine(): Engine {
    return this.#machines.engine;
  }

  get isDraining(): boolean {
    return this.#draining;
  }

  /** How many invocations and nodes are in which state, and the ways they took. */
  get flows(): { readonly invocation: MachineFlow; readonly node: MachineFlow } {
    return { invocation: this.#machines.flow, node: this.#nodeMachines.flow };
  }

  /** Changes the policy for all functions without their own, from the next decision on. Throws POLICY_UNKNOWN. */
  setPolicy(name: string): string {
    const previous = this.#policy.name;
    this.#policy = this.#policyNamed(name);
    if (previous !== name) {
      if (this.#ticker !== undefined) this.#clock.clearTimer(this.#ticker);
      this.#armTick();
    }
    return previous;
  }

  /** Calls the policy between decisions, if it wants that. */
  #armTick(): void {
    const policy = this.#policy;
    this.#ticker = undefined;
    if (policy.tick === undefined || policy.tickMs === undefined) return;
    this.#ticker = this.#clock.setTimer(this.#clock.nowMs() + policy.tickMs, () => {
      if (this.#stopped || this.#policy !== policy) return;
      this.#tick();
      policy.tick?.(this.#controlOf());
      this.#armTick();
    });
  }

  /** The policy that decides beside the one in force, if there is one. */
  get shadow(): Shadow | undefined {
    return this.#shadow;
  }

  /** Lets a second policy decide too, without effect; '': none any more. Throws POLICY_UNKNOWN. Comparing begins anew. Returns the one before. */
  setShadow(name: string): string {
    const previous = this.#shadow?.policy ?? '';
    if (name !== '' && !isPolicyName(name)) throw unknownPolicy(name);
    if (this.#shadowTicker !== undefined) this.#clock.clearTimer(this.#shadowTicker);
    this.#shadowTicker = undefined;
    // Policies of its own: what they remember must not mix with that of the policy in force.
    this.#shadow = name === '' ? undefined : new Shadow(createPolicies(this.#policyOptions()).get(name) as Policy);
    this.#armShadowTick();
    return previous;
  }

  #armShadowTick(): void {
    const shadow = this.#shadow;
    if (shadow?.tickMs === undefined) return;
    this.#shadowTicker = this.#clock.setTimer(this.#clock.nowMs() + shadow.tickMs, () => {
      if (this.#stopped || this.#shadow !== shadow) return;
      this.#tick();
      const { entries } = this.functions;
      shadow.tick({ ...this.#controlOf(), takePeak: (index) => entries[index]?.peak ?? 0, prewarm() {}, evict() {} });
      this.#armShadowTick();
    });
  }

  #controlOf(): PolicyControl {
    const { cluster } = this;
    const { entries } = this.functions;
    const transport = this.#transport;
    return {
      nowMs: this.nowMs,
      cluster: this.#facts,
      nodes: cluster.count,
      isReady: (node) => cluster.status[node] === READY,
      slots: (node) => cluster.slots[node] ?? 0,
      used: (node) => cluster.used[node] ?? 0,
      memoryMb: (node) => cluster.info[node]?.memoryMb ?? 0,
      functions: entries.length,
      functionOf: (index) => (entries[index]?.deleted === false ? entries[index].settings : undefined),
      idle: (index, node) => entries[index]?.idle(node) ?? 0,
      busy: (index, node) => entries[index]?.busy(node) ?? 0,
      takePeak(index) {
        const entry = entries[index];
        if (entry === undefined) return 0;
        const { peak } = entry;
        entry.peak = entry.running;
        return peak;
      },
      prewarm: (index, node, count) => transport.prewarm?.(entries[index]?.settings.name ?? '', node, count),
      evict: (index, node, count) => transport.evict?.(entries[index]?.settings.name ?? '', node, count),
    };
  }

  /** All policies with what they work with at the moment. */
  listPolicies(): { name: string; description: string; parameters: Readonly<Record<string, string>> }[] {
    return [...this.#policies.values()].map((policy) => ({ name: policy.name, description: policy.description, parameters: policy.parameters?.(this.#facts) ?? {} }));
  }

  #policyOptions(): PolicyOptions {
    const { localityGain, safetyMargin, strict, waitPerGain, ruleDelay, lookahead, xfaas, pools, seed } = this.#options;
    return { localityGain, safetyMargin, strict, ...(waitPerGain === undefined ? {} : { waitPerGain }), ...(ruleDelay === undefined ? {} : { ruleDelay }), ...(lookahead === undefined ? {} : { lookahead }), ...(xfaas === undefined ? {} : { xfaas }), ...(pools === undefined ? {} : { pools }), random: createRandom(seed) };
  }

  putFunction(settings: FunctionSettings): FunctionEntry {
    if (settings.policy !== '') this.#policyNamed(settings.policy);
    const entry = this.functions.put(settings);
    entry.unable = this.cluster.unableFor(settings.isolation ?? '');
    this.zygotes.functionPut(entry);
    this.packages.functionPut(entry);
    this.predictor.functionPut(entry.index);
    // A higher limit is a chance for those who wait for their turn.
    this.#tick();
    this.#nextTurns(entry);
    this.#rearm();
    return entry;
  }

  /** Removes a function; what waits for it fails, what runs ends normally. */
  deleteFunction(name: string): boolean {
    const entry = this.functions.delete(name);
    if (entry === undefined) return false;
    this.zygotes.functionDeleted(entry);
    this.packages.functionDeleted(entry);
    this.predictor.functionDeleted(entry.index);
    this.#tick();
    for (const invocation of [...this.live.values()]) {
      if (invocation.functionIndex !== entry.index || invocation.state === DISPATCHED) continue;
      this.#leaveLines(invocation);
      this.#finish(invocation, functionDeleted(invocation));
    }
    return true;
  }

  /** The index under which predictions know a function; a place is kept for a name that is not deployed. */
  placeFor(name: string): number {
    return this.functions.indexFor(name);
  }

  #policyNamed(name: string): Policy {
    const policy = this.#policies.get(name);
    if (policy === undefined) throw unknownPolicy(name);
    return policy;
  }

  // ── invocations in ────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes in one request and decides on it. Throws FUNCTION_NOT_FOUND, POLICY_UNKNOWN, DRAINING, NO_NODES or QUEUE_FULL, and
   * then nothing was taken in. Otherwise it ends in exactly one terminal state, of which the observer is told.
   */
  submit(request: Submission): Invocation {
    const now = this.#tick();
    const entry = this.functions.get(request.functionName);
    if (entry === undefined) throw new MetronomeError('FUNCTION_NOT_FOUND', `There is no function "${request.functionName}". \`metronome function list\` shows what is deployed.`, { component: 'scheduler' });
    const { settings } = entry;
    if (request.policyName !== '' && !isPolicyName(request.policyName)) throw unknownPolicy(request.policyName);
    if (this.#draining && request.patient !== true) throw new MetronomeError('DRAINING', 'The scheduler is shutting down and takes no new work.', { component: 'scheduler' });
    if (this.live.size >= this.#options.maxLive && request.patient !== true) {
      this.counters.refused++;
      throw new MetronomeError('QUEUE_FULL', `${this.live.size} invocations live already (limits.maxLive); try again later.`, { component: 'scheduler', retryAfterMs: this.#retryHintMs() });
    }
    if (request.patient !== true && !this.cluster.hasHope(entry.unable)) throw new MetronomeError('NO_NODES', this.#noNodes(settings), { component: 'scheduler', retryAfterMs: 1_000 });
    const seq = this.#seq++;
    let inputBytes = 0;
    for (let i = 0; i < request.inputs.length; i++) inputBytes += request.inputs[i]!.sizeBytes;
    const invocation = new Invocation(this, {
      seq,
      id: request.id ?? this.#options.idPrefix + seq.toString(36).padStart(6, '0'),
      functionName: request.functionName,
      functionIndex: entry.index,
      arrivedAtMs: now,
      slaMs: request.slaMs > 0 ? request.slaMs : settings.slaMs,
      expiresAtMs: request.expiresAtMs,
      inputs: request.inputs,
      inputBytes,
      localityKey: request.localityKey === '' ? settings.localityKey : request.localityKey,
      policyName: request.policyName === '' ? settings.policy : request.policyName,
      idempotent: settings.idempotent,
      maxAttempts: 1 + settings.retries,
      payloadBytes: request.payloadBytes ?? 0,
      place: request.place ?? ALONE,
    });
    invocation.cargo = request.cargo;
    if (request.attempt !== undefined) invocation.attempt = request.attempt;
    this.counters.submitted++;
    this.live.set(invocation.id, invocation);
    invocation.machine = this.#machines.start(invocation);
    this.#classifyAndDecide(invocation, entry, seq);
    return invocation;
  }

  /** Cancels; a running function is stopped on its node. False if there is no such living invocation. */
  cancel(id: string, error: ErrorRecord = { code: 'CANCELLED', message: 'The invocation was cancelled.', component: 'scheduler', invocationId: id }): boolean {
    const invocation = this.live.get(id);
    if (invocation === undefined) return false;
    this.#tick();
    this.#end(invocation, { type: 'CANCEL', reason: 'callerCancelled', error });
    return true;
  }

  /**
   * What would be decided now, without deciding: candidates and decision of a fresh policy. `answer` is called once with them, at once or
   * when the predictions came, and reads them at once. Throws FUNCTION_NOT_FOUND, POLICY_UNKNOWN or QUEUE_FULL.
   */
  plan(request: Submission, answer: (plan: Plan) => void): void {
    const now = this.#tick();
    const entry = this.functions.get(request.functionName);
    if (entry === undefined) throw new MetronomeError('FUNCTION_NOT_FOUND', `There is no function "${request.functionName}".`, { component: 'scheduler' });
    const name = request.policyName !== '' ? request.policyName : entry.settings.policy !== '' ? entry.settings.policy : this.#policy.name;
    if (!isPolicyName(name)) throw unknownPolicy(name);
    let inputBytes = 0;
    for (const input of request.inputs) inputBytes += input.sizeBytes;
    const invocation = new Invocation(this, {
      seq: -1, id: 'plan', functionName: request.functionName, functionIndex: entry.index, arrivedAtMs: now, slaMs: request.slaMs > 0 ? request.slaMs : entry.settings.slaMs,
      expiresAtMs: Infinity, inputs: request.inputs, inputBytes, localityKey: request.localityKey, policyName: name, idempotent: true, maxAttempts: 1, payloadBytes: request.payloadBytes ?? 0, place: request.place ?? ALONE,
    });
    const policy = createPolicies(this.#policyOptions()).get(name) as Policy;
    const decision = createDecision();
    const ask = (ticket: number): boolean => {
      this.#classify(invocation, entry, policy);
      return this.predictor.predict(invocation, this.#candidates, ticket);
    };
    const decide = (): void => {
      policy.decide(this.#viewOf(invocation, entry), decision);
      answer({ invocation, candidates: this.#candidates, decision, policy: name });
    };
    if (this.#unplanned.size >= MAX_PLANS) throw new MetronomeError('QUEUE_FULL', `${MAX_PLANS} plans wait for their predictions already.`, { component: 'scheduler', retryAfterMs: 50 });
    const ticket = --this.#lastPlan;
    if (ask(ticket)) return decide();
    this.#unplanned.set(ticket, () => {
      ask(NO_TICKET);
      decide();
    });
    // Like an arrival: the prediction may never come.
    this.#clock.setTimer(now + PREDICTION_GRACE_MS, () => this.#predicted(ticket));
  }

  // ── deciding ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Only an arrival waits for its prediction (ticket); whoever is looked at again gets the best that is known now, so that one
   * release does not take everybody out of the lines at once.
   */
  #classifyAndDecide(invocation: Invocation, entry: FunctionEntry, ticket = NO_TICKET): void {
    this.#classify(invocation, entry, this.#policyOf(invocation));
    if (!this.predictor.predict(invocation, this.#candidates, ticket)) {
      this.#unpredicted.set(invocation.seq, invocation);
      // The prediction may never come; the time still runs.
      this.#arm(invocation, Math.min(this.nowMs + PREDICTION_GRACE_MS, this.#waitLimitMs(invocation)));
      return;
    }
    if (invocation.state === ARRIVING) invocation.machine!.send({ type: 'PREDICTED', reason: 'predicted' });
    this.#decide(invocation, entry);
  }

  /** A prediction came that an invocation in `arriving` or a plan waits for. */
  readonly #predicted = (ticket: number): void => {
    const plan = this.#unplanned.get(ticket);
    if (plan !== undefined) {
      this.#unplanned.delete(ticket);
      this.#tick();
      return plan();
    }
    const invocation = this.#unpredicted.get(ticket);
    this.#unpredicted.delete(ticket);
    if (invocation === undefined || invocation.state !== ARRIVING) return;
    this.#tick();
    this.#classifyAndDecide(invocation, this.functions.entries[invocation.functionIndex] as FunctionEntry);
    this.#rearm();
  };

  #policyOf({ policyName }: Invocation): Policy {
    return policyName === '' ? this.#policy : (this.#policies.get(policyName) ?? this.#policy);
  }

  /** Fills the table of candidates for a decision of this policy. */
  #classify(invocation: Invocation, entry: FunctionEntry, { needsAllNodes }: Policy): void {
    const { candidates = 'auto' } = this.#options;
    const isIndexed = needsAllNodes !== true && this.#shadow?.needsAllNodes !== true && (candidates === 'indexed' || (candidates === 'auto' && this.cluster.count > ALL_UP_TO));
    this.#classifier.classify(invocation, entry, this.nowMs, this.#candidates, isIndexed);
  }

  #viewOf(invocation: Invocation, entry: FunctionEntry): DecisionView {
    const view = this.#view;
    view.invocation = invocation;
    view.function = entry.settings;
    view.nowMs = this.nowMs;
    this.#facts.waiting = this.lines.locality + this.lines.capacity;
    view.mayRun = entry.settings.concurrency === 0 || entry.running < entry.settings.concurrency;
    return view;
  }

  /** Lets the policy decide on the candidates in the table, and does as it says. */
  #decide(invocation: Invocation, entry: FunctionEntry): void {
    const candidates = this.#candidates, decision = this.#decision;
    const policy = this.#policyOf(invocation);
    policy.decide(this.#viewOf(invocation, entry), decision);
    this.counters.decisions++;
    this.#shadow?.compare(this.#view, decision);
    invocation.decidedBy = policy.name;
    const node = decision.row < 0 ? -1 : (candidates.node[decision.row] as number);
    const dispatch = decision.action === 'dispatch';
    const waitMs = dispatch || node < 0 ? 0 : this.#view.expectedWaitMs(node);
    this.decisions.record(invocation, policy.name, this.nowMs, candidates, decision, waitMs);
    this.observer.decided?.(invocation, policy.name, candidates, decision);
    if (dispatch) this.#dispatch(invocation, entry, candidates, decision.row, { type: 'DISPATCH', reason: decision.reason, node });
    else {
      // Once per invocation, however often it is looked at again.
      if (node >= 0 && invocation.firstDelayedAtMs === 0) entry.payRent(waitMs, this.nowMs);
      this.#delay(invocation, entry, candidates, decision, node);
    }
  }

  #dispatch(invocation: Invocation, entry: FunctionEntry, candidates: Candidates, row: number, event: InvocationEvent): void {
    const node = candidates.node[row] as number;
    invocation.predictedRunMs = candidates.meanMs[row] as number;
    invocation.predictedSpreadMs = candidates.spreadMs[row] as number;
    invocation.predictedP95Ms = candidates.p95Ms[row] as number;
    invocation.predictedP99Ms = candidates.p99Ms[row] as number;
    const local = candidates.local[row] as number;
    invocation.localClass = local === 1 ? 1 : 2;
    this.counters.localDispatches += local;
    invocation.degree = candidates.degree[row] as number;
    invocation.degreeData = candidates.degreeData[row] as number;
    invocation.degreeInfrastructure = candidates.degreeInfrastructure[row] as number;
    this.#leaveLines(invocation);
    // Before the slot is taken: the situation that was predicted.
    invocation.situation = this.predictor.dispatched(invocation, candidates, row);
    invocation.machine!.send(event);
    const { cluster } = this;
    cluster.setUsed(node, (cluster.used[node] as number) + 1);
    const running = cluster.running[node] as Invocation[];
    invocation.runPlace = running.length;
    running.push(invocation);
    if ((candidates.startState[row] as number) < WARM) entry.boughtSandbox();
    if (++entry.running > entry.peak) entry.peak = entry.running;
    const idle = entry.idle(node);
    entry.set(node, BUSY, entry.busy(node) + 1);
    if (idle > 0) entry.set(node, IDLE, idle - 1);
    if (invocation.localityKey !== '') entry.rememberKey(invocation.localityKey, node);
    this.counters.dispatched++;
    if (invocation.expiresAtMs < Infinity) this.#arm(invocation, invocation.expiresAtMs);
    else this.#deadlines.delete(invocation);
    this.#transport.execute(invocation, node);
  }

  #delay(invocation: Invocation, entry: FunctionEntry, candidates: Candidates, decision: Decision, node: number): void {
    this.#leaveLines(invocation);
    this.counters.delayed++;
    const forLocality = node >= 0;
    invocation.machine!.send({ type: 'DELAY', reason: decision.reason, for: forLocality ? 'locality' : 'capacity', node });
    invocation.seenGeneration = entry.generation;
    if (!forLocality) {
      if (decision.reason === 'concurrencyLimit') this.lines.addForFunction(invocation);
      else this.lines.addForRoom(invocation, Number.isNaN(decision.keyMs) ? invocation.arrivedAtMs + invocation.slaMs : decision.keyMs, roomLine(decision.line, entry.settings));
      invocation.slackDeadlineMs = this.#polls && typeof invocation.roomLine === 'number' && invocation.roomLine >= 0 ? Math.min(decision.deadlineMs, this.#nextPollMs()) : decision.deadlineMs;
      this.#arm(invocation, Math.min(invocation.slackDeadlineMs, this.#waitLimitMs(invocation)));
      return;
    }
    if (invocation.firstDelayedAtMs === 0) {
      invocation.firstDelayedAtMs = this.nowMs;
      const best = fastestRow(candidates);
      if (best >= 0) invocation.passedOverMs = candidates.meanMs[best] as number;
    }
    invocation.slackDeadlineMs = Math.min(decision.deadlineMs, this.#waitLimitMs(invocation));
    invocation.targetMs = candidates.meanMs[decision.row] as number;
    invocation.targetWasLocal = candidates.local[decision.row] === 1;
    invocation.targetStartState = candidates.startState[decision.row] as number;
    invocation.targetMissingBytes = candidates.missingBytes[decision.row] as number;
    const nodes = [node];
    for (let i = 0; i < decision.alsoCount; i++) nodes.push(candidates.node[decision.also[i] as number] as number);
    this.lines.addForNodes(invocation, nodes, Number.isNaN(decision.keyMs) ? invocation.slackDeadlineMs : decision.keyMs);
    this.#arm(invocation, this.#nextLookMs(invocation));
  }

  #leaveLines(invocation: Invocation): void {
    this.lines.remove(invocation);
  }

  /** Classifies again and decides, from `delaying`. */
  #reconsider(invocation: Invocation, event: InvocationEvent): void {
    this.#leaveLines(invocation);
    invocation.machine!.send(event);
    this.#classifyAndDecide(invocation, this.functions.entries[invocation.functionIndex] as FunctionEntry);
  }

  /** When a waiter for locality is looked at again: its deadline, or the monitor interval. */
  #nextLookMs(invocation: Invocation): number {
    return Math.min(invocation.slackDeadlineMs, this.#nextPollMs(), this.#waitLimitMs(invocation));
  }

  /** One monitor interval from now, stretched when many wait. */
  #nextPollMs(): number {
    const waiters = this.#polls ? this.lines.locality + this.lines.capacity : this.lines.locality;
    return this.nowMs + this.#options.monitorIntervalMs * Math.max(1, waiters / MONITORS_PER_INTERVAL);
  }

  #waitLimitMs(invocation: Invocation): number {
    return Math.min(invocation.expiresAtMs, invocation.arrivedAtMs + this.#options.maxWaitMs);
  }

  // ── rooms ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A slot of this node became free, or the node may get work again: its line first, then who waits for any room. */
  #nodeReleased(node: number): void {
    if (this.#polls) return;
    const line = this.#policy.lineOf?.(node) ?? 0;
    const offered = this.cluster.info[node]?.isolation ?? [];
    for (let turns = 0; turns < DEADLINES_PER_TURN && this.cluster.room(node, this.nowMs) > 0; turns++) {
      const waiter = this.lines.headOfNode(node);
      if (waiter !== undefined) {
        this.#wake(waiter, node);
        this.#nextTurns(this.functions.entries[waiter.functionIndex] as FunctionEntry);
        continue;
      }
      const first = this.lines.headOfRoom(line, offered);
      if (first === undefined) return;
      this.#reconsider(first, { type: 'CLASSIFY', reason: 'roomAppeared' });
      this.#nextTurns(this.functions.entries[first.functionIndex] as FunctionEntry);
      // The policy does not want this room for it: nor will it for the next one in the same moment.
      if (this.lines.headOfRoom(line, offered) === first) return;
    }
  }

  /**
   * Lets those who wait for the concurrency of their function decide, in their order, until no more of it may run. The first one
   * without room ends it: it stands in the line for room for all of them, and they come after it.
   */
  #nextTurns(entry: FunctionEntry): void {
    const { concurrency } = entry.settings;
    for (let turns = 0; turns < DEADLINES_PER_TURN && (concurrency === 0 || entry.running < concurrency); turns++) {
      const next = this.lines.headOfFunction(entry.index);
      if (next === undefined) return;
      this.#reconsider(next, { type: 'CLASSIFY', reason: 'roomAppeared' });
      if (next.state === DELAYING && next.delayingFor === 'capacity') return;
    }
  }

  /** Offers room on `node` to a waiter for locality. If the node is not what it was, it is classified again. */
  #wake(waiter: Invocation, node: number): void {
    const entry = this.functions.entries[waiter.functionIndex] as FunctionEntry;
    const { settings } = entry;
    const mayRun = settings.concurrency === 0 || entry.running < settings.concurrency;
    this.#classifier.classifyOne(waiter, entry, node, this.nowMs, this.#one);
    this.#one.local[0] = 1;
    this.predictor.predict(waiter, this.#one, NO_TICKET);
    // The target with all it had is what was waited for, even if runs are expected to take longer by now: everywhere.
    const asItWas = node === waiter.target && (this.#one.startState[0] as number) >= waiter.targetStartState && (this.#one.missingBytes[0] as number) <= waiter.targetMissingBytes;
    const asGood = asItWas || this.#options.localityGain * (this.#one.meanMs[0] as number) <= waiter.targetMs;
    if (mayRun && asGood) {
      const reason = node === waiter.target ? 'localNodeReleased' : 'otherLocalNodeReleased';
      this.#recordDispatch(waiter, this.#one, 0, reason);
      this.#dispatch(waiter, entry, this.#one, 0, { type: 'NODE_RELEASED', reason, node });
    } else this.#reconsider(waiter, { type: 'CLASSIFY', reason: mayRun ? 'localityLost' : 'concurrencyLimit' });
  }

  /** A dispatch that followed from an earlier decision is a decision too: explain shows it with its outcome. */
  #recordDispatch(invocation: Invocation, candidates: Candidates, row: number, reason: Reason): void {
    dispatchTo(this.#decision, row, reason, invocation.slackDeadlineMs - this.nowMs);
    this.decisions.record(invocation, invocation.decidedBy, this.nowMs, candidates, this.#decision, 0);
    this.observer.decided?.(invocation, invocation.decidedBy, candidates, this.#decision);
  }

  // ── results ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The agent called the handler. */
  started(id: string, node: number, startState: number): void {
    const invocation = this.live.get(id);
    if (invocation === undefined || invocation.node !== node || invocation.state !== DISPATCHED) return;
    this.#tick();
    invocation.machine!.send({ type: 'STARTED', reason: 'started', startState });
  }

  /** A run ended. Results of unknown or superseded runs are ignored (they may free a foreign slot); false then. */
  result(id: string, node: number, result: RunResult): boolean {
    this.#tick();
    const invocation = this.live.get(id);
    if (invocation === undefined || invocation.node !== node || invocation.state !== DISPATCHED) {
      this.#releaseForeign(id, node);
      return false;
    }
    const entry = this.functions.entries[invocation.functionIndex] as FunctionEntry;
    const failed = result.error !== undefined;
    const wasBusy = this.#freeSlot(invocation, entry);
    this.cluster.refusals[node] = 0;
    if (wasBusy && entry.settings.reuse && (!failed || result.error?.code === 'FUNCTION_FAILED')) this.#gainWarm(entry, node, 1);
    if (!failed) {
      const facts = this.#facts;
      // The plain mean at first, then a slow moving one: behaviour changes, and one long run must not count for long.
      const serviceMs = result.fetchedMs + result.initialisedMs + result.ranMs;
      facts.meanServiceMs += (serviceMs - facts.meanServiceMs) / Math.min(++this.#served, MEAN_OVER);
      this.#policies.get(invocation.decidedBy)?.served?.(invocation.functionIndex, serviceMs, this.nowMs - invocation.arrivedAtMs);
      this.#shadow?.served(invocation.functionIndex, serviceMs, this.nowMs - invocation.arrivedAtMs);
      // Whose function is gone teaches nobody: the model may know another one in its place.
      if (entry.deleted) this.#teachesNothing(invocation, 'deleted');
      else this.predictor.observe({
        functionIndex: invocation.functionIndex, node, startState: result.startState, zygoteDistance: result.zygoteDistance ?? 0, inputBytes: invocation.inputBytes, fetchedBytes: result.fetchedBytes,
        fetchedMs: result.fetchedMs, initialisedMs: result.initialisedMs, ranMs: result.ranMs, predictedMs: invocation.predictedRunMs, predictedP95Ms: invocation.predictedP95Ms, predictedP99Ms: invocation.predictedP99Ms, situation: invocation.situation,
      });
      invocation.situation = NO_SITUATION;
    } else this.#teachesNothing(invocation, exclusionOf(result.error.code));
    const reason: Reason = !failed ? 'completed' : result.error.code === 'CANCELLED' ? 'callerCancelled' : result.error.code === 'DEADLINE_EXCEEDED' || result.error.code === 'FUNCTION_TIMEOUT' ? 'deadlineExceeded' : result.error.code.startsWith('FUNCTION') || result.error.code === 'MEMORY_EXCEEDED' || result.error.code === 'RESULT_TOO_LARGE' ? 'functionFailed' : 'platformFailed';
    for (const output of result.outputs) this.objects.add(output.id, output.sizeBytes, node);
    // It was found running there when the node came back, and was sent there again: one run, booked twice.
    if (this.cluster.foreign[node]?.delete(id) === true) this.cluster.setUsed(node, (this.cluster.used[node] as number) - 1);
    const again = this.#leaveNode(invocation, { type: 'RESULT', reason, result });
    // A retry must not overtake who waits for this slot: the lines first.
    this.#afterRelease(entry, node);
    if (again) this.#decideAgain(invocation, entry);
    return true;
  }

  /** The agent refused it. */
  rejected(id: string, node: number, error: ErrorRecord): void {
    const invocation = this.live.get(id);
    if (invocation === undefined || invocation.node !== node || invocation.state !== DISPATCHED) return;
    const now = this.#tick();
    this.counters.rejected++;
    const entry = this.functions.entries[invocation.functionIndex] as FunctionEntry;
    this.#freeSlot(invocation, entry);
    // Each further refusal doubles the pause; a result ends it. A node that drains by its own wish gets nothing more.
    const refusals = Math.min(5, this.cluster.refusals[node] as number);
    this.cluster.refusals[node] = refusals + 1;
    const pauseMs = REFUSAL_PAUSE_MS * 2 ** refusals;
    this.cluster.setRefusal(node, now + pauseMs);
    if (error.code === 'DRAINING') this.#nodes[node]?.send({ type: 'DRAIN' });
    if (this.#leaveNode(invocation, { type: 'REJECTED', reason: 'rejectedByNode', error })) this.#decideAgain(invocation, entry);
    this.#nextTurns(entry);
    // The pause ends without an event of its own when no state comes in between.
    this.#clock.setTimer(now + pauseMs, () => {
      if (this.#stopped) return;
      // A later refusal has a timer of its own.
      if ((this.cluster.refusesUntilMs[node] as number) <= this.#tick()) this.cluster.setRefusal(node, 0);
      this.#nodeReleased(node);
      this.#rearm();
    });
    this.#rearm();
  }

  /** Sends an event that takes the invocation away from its node. True: it is classified again and the caller has to let it decide. */
  #leaveNode(invocation: Invocation, event: InvocationEvent): boolean {
    this.#deadlines.delete(invocation);
    // A result was observed or excluded by what it says. Whatever else takes it away must not leave its situation behind: the next dispatch keeps another.
    if (event.type !== 'RESULT') this.#teachesNothing(invocation, event.type === 'NODE_LOST' ? 'lost' : 'refused');
    invocation.machine!.send(event);
    if (isTerminal(invocation.state)) this.#settle(invocation);
    return invocation.state === CLASSIFIED;
  }

  #teachesNothing(invocation: Invocation, why: Exclusion): void {
    this.predictor.exclude(invocation.situation, why);
    invocation.situation = NO_SITUATION;
  }

  /** The next attempt of one that left its node. */
  #decideAgain(invocation: Invocation, entry: FunctionEntry): void {
    this.counters.retried++;
    if (entry.deleted) this.#finish(invocation, functionDeleted(invocation));
    else this.#classifyAndDecide(invocation, entry);
  }

  /** Takes the invocation off its node. True if its sandbox counted as busy; if not, the agent's own count came first. */
  #freeSlot(invocation: Invocation, entry: FunctionEntry): boolean {
    const { cluster } = this;
    const { node } = invocation;
    cluster.setUsed(node, (cluster.used[node] as number) - 1);
    const running = cluster.running[node] as Invocation[];
    const last = running.pop() as Invocation;
    if (last !== invocation) {
      running[invocation.runPlace] = last;
      last.runPlace = invocation.runPlace;
    }
    invocation.runPlace = -1;
    entry.running--;
    const busy = entry.busy(node);
    if (busy > 0) entry.set(node, BUSY, busy - 1);
    return busy > 0;
  }

  #afterRelease(entry: FunctionEntry, node: number): void {
    this.#nodeReleased(node);
    this.#nextTurns(entry);
    this.#rearm();
  }

  #releaseForeign(id: string, node: number): void {
    if (this.cluster.foreign[node]?.delete(id) !== true) return;
    this.cluster.setUsed(node, (this.cluster.used[node] as number) - 1);
    this.#nodeReleased(node);
    this.#rearm();
  }

  /** Takes back what a former scheduler had dispatched: it runs there already, and its result will come. */
  adopt(request: Submission & { readonly id: string }, node: number, attempt: number): Invocation | undefined {
    const entry = this.functions.get(request.functionName);
    if (entry === undefined || this.cluster.foreign[node]?.has(request.id) !== true) return undefined;
    const now = this.#tick();
    const invocation = new Invocation(this, {
      seq: this.#seq++, id: request.id, functionName: request.functionName, functionIndex: entry.index, arrivedAtMs: now, slaMs: request.slaMs > 0 ? request.slaMs : entry.settings.slaMs,
      expiresAtMs: request.expiresAtMs, inputs: request.inputs, inputBytes: 0, localityKey: '', policyName: request.policyName, idempotent: entry.settings.idempotent, maxAttempts: 1 + entry.settings.retries,
    });
    invocation.cargo = request.cargo;
    invocation.attempt = attempt - 1;
    this.live.set(invocation.id, invocation);
    invocation.machine = this.#machines.start(invocation);
    invocation.machine.send({ type: 'PREDICTED', reason: 'predicted' });
    // The foreign slot becomes its own.
    this.cluster.foreign[node]?.delete(request.id);
    invocation.machine.send({ type: 'DISPATCH', reason: 'adopted', node });
    const running = this.cluster.running[node] as Invocation[];
    invocation.runPlace = running.length;
    running.push(invocation);
    entry.running++;
    if (invocation.expiresAtMs < Infinity) this.#arm(invocation, invocation.expiresAtMs);
    return invocation;
  }

  // ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Cancels or expires: at once while it waits, by way of the agent while it runs. */
  #end(invocation: Invocation, event: InvocationEvent): void {
    if (invocation.state === DISPATCHED) {
      const first = invocation.cancelError === undefined;
      invocation.machine!.send(event);
      if (!first) return;
      this.#transport.cancel(invocation, invocation.node);
      this.#arm(invocation, this.nowMs + RESULT_GRACE_MS);
    } else {
      this.#leaveLines(invocation);
      this.#finish(invocation, event);
      // It may have stood in the line for room for others of its function.
      this.#nextTurns(this.functions.entries[invocation.functionIndex] as FunctionEntry);
    }
  }

  #finish(invocation: Invocation, event: InvocationEvent): void {
    this.#unpredicted.delete(invocation.seq);
    this.#deadlines.delete(invocation);
    invocation.machine!.send(event);
    if (isTerminal(invocation.state)) this.#settle(invocation);
  }

  #settle(invocation: Invocation): void {
    this.live.delete(invocation.id);
    const { counters } = this;
    if (invocation.error === undefined) {
      counters.completed++;
      if (invocation.endedAtMs - invocation.arrivedAtMs > invocation.slaMs) counters.slaMissed++;
    } else if (invocation.error.code === 'CANCELLED') counters.cancelled++;
    else if (invocation.error.code === 'DEADLINE_EXCEEDED' || invocation.error.code === 'FUNCTION_TIMEOUT') counters.timedOut++;
    else counters.failed++;
    invocation.machine = undefined;
    this.observer.settled(invocation);
  }

  // ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Reads the clock, once per event. */
  #tick(): number {
    return (this.nowMs = this.#clock.nowMs());
  }

  #arm(invocation: Invocation, atMs: number): void {
    this.#deadlines.set(invocation, atMs);
    if (atMs < this.#timerAtMs) this.#rearm();
  }

  #rearm(): void {
    const next = this.#deadlines.nextMs;
    if (next === this.#timerAtMs || this.#stopped) return;
    // A timer that fires too early costs less than re-arming it at every decision.
    if (next > this.#timerAtMs && this.#timer !== undefined) return;
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#timerAtMs = next;
    if (next < Infinity) this.#timer = this.#clock.setTimer(next, this.#fire);
  }

  readonly #fire = (): void => {
    this.#timer = undefined;
    this.#timerAtMs = Infinity;
    if (this.#stopped) return;
    const now = this.#tick();
    for (let turns = 0; turns < DEADLINES_PER_TURN; turns++) {
      const due = this.#deadlines.popDue(now);
      if (due === undefined) break;
      this.#due(due);
    }
    this.#rearm();
  };

  /** The deadline or monitor of an invocation is due. */
  #due(invocation: Invocation): void {
    const now = this.nowMs;
    const { id } = invocation;
    if (invocation.state === DISPATCHED) {
      if (invocation.cancelError === undefined) {
        this.#end(invocation, { type: 'EXPIRE', reason: 'deadlineExceeded', error: { code: 'DEADLINE_EXCEEDED', message: `The deadline passed ${Math.round(now - invocation.expiresAtMs)} ms ago while it ran on "${this.cluster.name(invocation.node)}".`, component: 'scheduler', invocationId: id } });
        return;
      }
      // The agent never answered: take the slot back; if it is wrong, the agent refuses the next one.
      const entry = this.functions.entries[invocation.functionIndex] as FunctionEntry;
      const { node } = invocation;
      this.#freeSlot(invocation, entry);
      this.counters.slotRepairs++;
      this.cluster.repairs[node] = (this.cluster.repairs[node] as number) + 1;
      this.#leaveNode(invocation, { type: 'NODE_LOST', reason: 'nodeLost', error: invocation.cancelError });
      this.#afterRelease(entry, node);
      return;
    }
    if (invocation.expiresAtMs <= now) return this.#end(invocation, { type: 'EXPIRE', reason: 'deadlineExceeded', error: { code: 'DEADLINE_EXCEEDED', message: 'The deadline passed while the invocation waited.', component: 'scheduler', invocationId: id } });
    if (invocation.state === ARRIVING && invocation.arrivedAtMs + this.#options.maxWaitMs > now) {
      // Its prediction did not come: the best that is known at once will do.
      this.#unpredicted.delete(invocation.seq);
      return this.#classifyAndDecide(invocation, this.functions.entries[invocation.functionIndex] as FunctionEntry);
    }
    // Who waits for a better node and not for room takes another one when its wait is over.
    if (invocation.state === DELAYING && invocation.delayingFor === 'locality') return this.#monitor(invocation);
    if (invocation.arrivedAtMs + this.#options.maxWaitMs <= now) {
      const { settings, unable } = this.functions.entries[invocation.functionIndex] as FunctionEntry;
      const code = this.cluster.hasHope(unable) ? 'QUEUE_FULL' : 'NO_NODES';
      const why = code === 'NO_NODES' && this.cluster.hasHope() ? `${this.#noNodes(settings)} ` : '';
      return this.#end(invocation, { type: 'FAIL', reason: 'platformFailed', error: { code, message: `${why}No node had room for ${Math.round((now - invocation.arrivedAtMs) / 1_000)} s (limits.maxWait).`, component: 'scheduler', invocationId: id, retryAfterMs: this.#retryHintMs() } });
    }
    if (invocation.state === DELAYING && invocation.slackDeadlineMs <= now) {
      this.#reconsider(invocation, { type: 'CLASSIFY', reason: 'askedAgain' });
      return this.#nextTurns(this.functions.entries[invocation.functionIndex] as FunctionEntry);
    }
    this.#arm(invocation, Math.min(invocation.slackDeadlineMs, this.#waitLimitMs(invocation)));
  }

  /** Algorithm 1, lines 12–32, for one waiter: is the target still good, and how long is waiting still safe? */
  #monitor(invocation: Invocation): void {
    const entry = this.functions.entries[invocation.functionIndex] as FunctionEntry;
    const candidates = this.#candidates;
    const policy = this.#policies.get(invocation.decidedBy) ?? this.#policy;
    if (this.cluster.status[invocation.target] !== READY) return this.#reconsider(invocation, { type: 'TARGET_LOST', reason: 'targetLost' });
    if (entry.generation !== invocation.seenGeneration) return this.#reconsider(invocation, { type: 'CLASSIFY', reason: 'localityGained' });
    this.#classify(invocation, entry, policy);
    this.predictor.predict(invocation, candidates, NO_TICKET);
    for (let row = 0; row < candidates.count && invocation.targetWasLocal; row++) {
      if (candidates.node[row] === invocation.target && candidates.local[row] === 0) return this.#reconsider(invocation, { type: 'CLASSIFY', reason: 'localityLost' });
    }
    if (this.#polls) {
      // What a release would have told: the first of its nodes that has room by now.
      const free = invocation.lineNodes?.find((node) => this.cluster.room(node, this.nowMs) > 0);
      if (free !== undefined) return this.#wake(invocation, free);
    }
    let wantedMs = policy.deadlineMs?.(this.#viewOf(invocation, entry)) ?? invocation.slackDeadlineMs;
    if (policy.decidesAgain === true) {
      const decision = this.#decision;
      policy.decide(this.#viewOf(invocation, entry), decision);
      if (decision.action === 'dispatch' || decision.row < 0 || candidates.node[decision.row] !== invocation.target) return this.#reconsider(invocation, { type: 'CLASSIFY', reason: 'revised' });
      wantedMs = decision.deadlineMs;
    }
    const deadlineMs = Math.min(wantedMs, this.#waitLimitMs(invocation));
    if (Math.abs(deadlineMs - invocation.slackDeadlineMs) > 1) {
      // Another deadline is another place in the lines.
      const nodes = invocation.lineNodes as number[];
      const key = invocation.lineKeyMs === invocation.slackDeadlineMs ? deadlineMs : invocation.lineKeyMs; // a policy's own place stays
      this.lines.remove(invocation);
      invocation.slackDeadlineMs = deadlineMs;
      this.lines.addForNodes(invocation, nodes, key);
    }
    if (invocation.slackDeadlineMs > this.nowMs) return this.#arm(invocation, this.#nextLookMs(invocation));
    this.counters.slackExhausted++;
    const view = this.#viewOf(invocation, entry);
    const best = policy.fallback === undefined ? fastestRow(candidates) : policy.fallback(view);
    if (best >= 0 && view.mayRun) {
      this.#recordDispatch(invocation, candidates, best, 'slackExhausted');
      return this.#dispatch(invocation, entry, candidates, best, { type: 'SLACK_EXHAUSTED', reason: 'slackExhausted', node: candidates.node[best] as number });
    }
    this.#leaveLines(invocation);
    invocation.machine!.send({ type: 'SLACK_EXHAUSTED', reason: 'slackExhausted', node: -1 });
    if (best >= 0) this.lines.addForFunction(invocation); // there is room, but as many of it run as may
    else this.lines.addForRoom(invocation, invocation.slackDeadlineMs, roomLine(0, entry.settings));
    invocation.slackDeadlineMs = this.#polls ? this.#nextPollMs() : Infinity;
    this.#arm(invocation, Math.min(invocation.slackDeadlineMs, this.#waitLimitMs(invocation)));
  }

  /** Why no node will do. */
  #noNodes({ name, isolation = '' }: FunctionSettings): string {
    if (isolation === '' || !this.cluster.hasHope()) return 'No node is ready. `metronome node list` shows what the scheduler knows.';
    return `No node offers the isolation "${isolation}" that the function "${name}" asks for. \`metronome node list -o wide\` shows what nodes offer, and \`metronome doctor\`, on a node, what is missing there.`;
  }

  /** When a refused caller may come again, ms: until the first slot is expected to be free, at least 50. */
  #retryHintMs(): number {
    let least = Infinity, left = HINT_NODES;
    const look = (node: number): boolean => {
      least = Math.min(least, this.cluster.expectedWaitMs(node, this.nowMs));
      return --left > 0 && least > 0;
    };
    const byLoad = this.cluster.nodesByLoad('');
    byLoad.forFree(this.#seq, look);
    if (least > 0 && left > 0) byLoad.forFull(this.#seq, look);
    return Math.round(Math.min(10_000, Math.max(50, least)));
  }

  // ── nodes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An agent registered. A greater epoch under the same name is a restarted agent: what ran there is lost. */
  nodeRegistered(info: NodeInfo): number {
    this.#tick();
    const known = this.cluster.indexOf(info.name);
    if (known >= 0 && this.cluster.status[known] !== LOST && (this.cluster.info[known] as NodeInfo).epoch !== info.epoch) this.#nodes[known]?.send({ type: 'SILENT_TOO_LONG' });
    if (known >= 0 && (this.cluster.info[known] as NodeInfo).epoch === info.epoch && this.cluster.status[known] !== LOST) {
      this.cluster.tell(known, info);
      return known;
    }
    const node = this.cluster.put(info);
    // Silence counts from now, not from a former life.
    this.cluster.table[node * NODE_ROW + RECEIVED_AT] = this.nowMs;
    const machine = (this.#nodes[node] ??= this.#nodeMachines.start({ node, entered: (n, status) => this.#nodeEntered(n, status), isHeard: (n) => this.#isHeard(n) }));
    machine.send({ type: 'REGISTERED' });
    this.#rearm();
    return node;
  }

  /**
   * A full snapshot of the node's truth arrived on fresh streams. `runningIds`: what runs there or waits to be
   * acknowledged. `connectedAtMs`: when the dispatch stream was opened; whatever was sent before and is not in the snapshot never arrived.
   */
  nodeSnapshot(node: number, slots: number, runningIds: readonly string[], connectedAtMs: number): void {
    this.#tick();
    const { cluster } = this;
    const truth = new Set(runningIds);
    // Equal times are from before: while its streams are broken the node gets nothing.
    const missing = (cluster.running[node] as Invocation[]).filter((invocation) => !truth.has(invocation.id) && invocation.dispatchedAtMs <= connectedAtMs);
    const foreign = cluster.foreign[node] as Set<string>;
    for (const id of foreign) if (!truth.has(id)) foreign.delete(id);
    for (const id of truth) {
      const known = this.live.get(id);
      if (known === undefined || known.node !== node || known.state !== DISPATCHED) foreign.add(id);
      else foreign.delete(id);
    }
    const used = (cluster.running[node] as Invocation[]).length + foreign.size;
    if (cluster.used[node] !== used) {
      this.counters.slotRepairs++;
      cluster.repairs[node] = (cluster.repairs[node] as number) + 1;
      cluster.setUsed(node, used);
    }
    cluster.setSlots(node, slots);
    this.#countReady();
    cluster.connected[node] = 1;
    // A wish to cancel that was told on broken streams was lost with them.
    for (const invocation of cluster.running[node] as Invocation[]) if (invocation.cancelError !== undefined && truth.has(invocation.id)) this.#transport.cancel(invocation, node);
    const again: Invocation[] = [];
    for (const invocation of missing) {
      this.counters.slotRepairs++;
      cluster.repairs[node] = (cluster.repairs[node] as number) + 1;
      this.#freeSlot(invocation, this.functions.entries[invocation.functionIndex] as FunctionEntry);
      // What had begun is not simply sent again: it may have done its work.
      const event: InvocationEvent = invocation.started
        ? { type: 'NODE_LOST', reason: 'nodeLost', error: { code: 'NODE_LOST', message: `"${cluster.name(node)}" began the run and knows nothing of it any more.`, component: 'scheduler', invocationId: invocation.id } }
        : { type: 'REJECTED', reason: 'rejectedByNode', error: { code: 'NODE_LOST', message: `The dispatch to "${cluster.name(node)}" never arrived.`, component: 'scheduler', invocationId: invocation.id } };
      if (this.#leaveNode(invocation, event)) again.push(invocation);
    }
    this.#nodes[node]?.send({ type: 'STATE_ARRIVED' });
    this.#nodeReleased(node);
    for (const invocation of again) this.#decideAgain(invocation, this.functions.entries[invocation.functionIndex] as FunctionEntry);
    for (const invocation of missing) this.#nextTurns(this.functions.entries[invocation.functionIndex] as FunctionEntry);
    this.#rearm();
  }

  /** A state message of the node arrived (its scalars stand in the shared table already). */
  nodeHeard(node: number): void {
    this.#tick();
    this.cluster.setRefusal(node, 0);
    // On broken streams the last state says nothing: only a snapshot on new ones brings the node back.
    if (this.cluster.status[node] === STALE && this.cluster.connected[node] === 1) this.#nodes[node]?.send({ type: 'STATE_ARRIVED' });
    this.#nodeReleased(node);
    this.#rearm();
  }

  /** The node has so many slots for this scheduler from now on. What runs beyond them runs on. */
  nodeSlots(node: number, slots: number): void {
    this.#tick();
    this.cluster.setSlots(node, slots);
    this.#countReady();
    this.#nodeReleased(node);
    this.#rearm();
  }

  /** The streams to the node broke. */
  nodeDisconnected(node: number): void {
    this.#tick();
    this.cluster.connected[node] = 0;
    this.#nodes[node]?.send({ type: 'CONNECTION_LOST' });
    this.#rearm();
  }

  /** Nobody listens at the node's address any more: its process is gone. */
  nodeGone(node: number): void {
    this.#tick();
    this.#nodes[node]?.send({ type: 'SILENT_TOO_LONG' });
    this.#rearm();
  }

  /** No new work for this node, or work again. */
  drainNode(node: number, drain: boolean): void {
    this.#tick();
    this.cluster.draining[node] = drain ? 1 : 0;
    this.#nodes[node]?.send({ type: drain ? 'DRAIN' : 'RESTORE' });
    this.#rearm();
  }

  /** Sandboxes of a function on a node, as the agent counts them. */
  setWarm(functionName: string, version: string, node: number, idle: number, busy: number): void {
    const entry = this.functions.get(functionName);
    if (entry === undefined) return;
    // Without a version the node has nothing of the function at all; of another version: nothing that could be used.
    if (version !== entry.settings.version && (version !== '' || idle + busy > 0)) return;
    const gained = idle - entry.idle(node);
    entry.set(node, IDLE, idle);
    entry.set(node, BUSY, busy);
    if (gained > 0) this.#gainWarm(entry, node, 0);
    else if (idle + busy === 0) this.#lookAgain(node, entry.index);
  }

  setPackages(packageSet: string, node: number, present: boolean): void {
    this.packages.setSet(node, packageSet, present);
    if (!present && this.lines.waitingFor(node) > 0) for (const entry of this.functions.withPackageSet(packageSet)) this.#lookAgain(node, entry.index);
  }

  /** A package of a node's own store, as its agent measured it. */
  packageAdded(node: number, id: string, bytes: number): void {
    this.packages.add(node, id, bytes);
  }

  packageRemoved(node: number, id: string): void {
    // Like an object that goes: who waits for this node because of it notices at its next monitor.
    this.packages.remove(node, id);
  }

  /** Zygotes of one kind on a node, as its agent counts them. */
  setZygote(node: number, facts: ZygoteFacts): void {
    this.zygotes.set(node, facts, (entry, before, after) => {
      if (after > before) this.#lookAgain(node, entry.index);
      else if (before - after >= WORTH_A_LOOK) entry.generation++;
    });
  }

  /** Whatever was known of sandboxes, packages, zygotes and objects of a node does not hold any more: a snapshot follows, or nothing. */
  forgetLocality(node: number): void {
    this.functions.forgetNode(node);
    this.zygotes.forgetNode(node);
    this.packages.forgetNode(node);
    this.objects.removeNode(node);
  }

  objectAdded(id: string, sizeBytes: number, node: number): void {
    this.objects.add(id, sizeBytes, node);
  }

  objectRemoved(id: string, node: number): void {
    // Who waits for this node because of it notices at its next monitor.
    this.objects.remove(id, node);
  }

  #gainWarm(entry: FunctionEntry, node: number, more: number): void {
    if (more !== 0) entry.set(node, IDLE, entry.idle(node) + more);
    // Only waiters elsewhere can profit; the monitors look again.
    if (more === 0) entry.generation++;
  }

  /** What made the node good for the waiters of this function may be gone: their next look is now. */
  #lookAgain(node: number, functionIndex: number): void {
    this.lines.forNode(node, (waiter) => {
      if (waiter.functionIndex === functionIndex) this.#deadlines.set(waiter, this.nowMs);
    });
    this.#rearm();
  }

  /** Its streams stand and its last state is fresh. */
  #isHeard(node: number): boolean {
    return this.cluster.connected[node] === 1 && this.nowMs - this.cluster.receivedAtMs(node) <= this.#options.staleAfterMs;
  }

  #nodeEntered(node: number, status: number): void {
    this.cluster.setStatus(node, status);
    this.#countReady();
    this.observer.nodeChanged?.(node, status);
    if (status === READY) {
      if (this.cluster.draining[node] === 1) this.#nodes[node]?.send({ type: 'DRAIN' });
      else this.#nodeReleased(node);
      return;
    }
    // Nobody waits for a node that gets no work.
    if (status === STALE || status === DRAINING || status === LOST) this.lines.forNode(node, (waiter) => waiter.target === node && this.#deadlines.set(waiter, this.nowMs));
    if (status === LOST) this.#nodeLost(node);
  }

  #countReady(): void {
    this.#facts.readyNodes = this.cluster.readyNodes;
    this.#facts.readySlots = this.cluster.readySlots;
  }

  #nodeLost(node: number): void {
    this.counters.nodesLost++;
    this.cluster.connected[node] = 0;
    this.forgetLocality(node);
    const { cluster } = this;
    (cluster.foreign[node] as Set<string>).clear();
    const orphans = (cluster.running[node] as Invocation[]).slice();
    for (const invocation of orphans) {
      const entry = this.functions.entries[invocation.functionIndex] as FunctionEntry;
      this.#freeSlot(invocation, entry);
      const why = invocation.idempotent ? 'its attempts are used up' : 'it is not idempotent, so it was not run again';
      const again = this.#leaveNode(invocation, { type: 'NODE_LOST', reason: 'nodeLost', error: { code: 'NODE_LOST', message: `The node "${cluster.name(node)}" was lost while it ran the invocation; ${why}.`, component: 'scheduler', invocationId: invocation.id } });
      if (again) this.#decideAgain(invocation, entry);
      this.#nextTurns(entry);
    }
    cluster.setUsed(node, 0);
  }

  /** Looks for silence, three times per staleness interval. */
  #watchNodes(): void {
    const everyMs = Math.max(10, this.#options.staleAfterMs / 3);
    let expectedMs = this.nowMs + everyMs;
    const look = (): void => {
      if (this.#stopped) return;
      const now = this.#tick();
      // So late, it was we who slept: what the nodes said meanwhile is still to be read.
      const overslept = now > expectedMs + 2 * everyMs;
      for (let node = 0; node < this.cluster.count && !overslept; node++) {
        const heardMs = this.cluster.receivedAtMs(node);
        if (heardMs === 0) continue;
        const status = this.cluster.status[node];
        const silentMs = now - heardMs;
        if (silentMs > this.#options.lostAfterMs && status !== LOST) this.#nodes[node]?.send({ type: 'SILENT_TOO_LONG' });
        else if (silentMs > this.#options.staleAfterMs && status === READY) this.#nodes[node]?.send({ type: 'SILENT' });
        else if (silentMs <= this.#options.staleAfterMs && status === STALE && this.cluster.connected[node] === 1) this.nodeHeard(node);
      }
      this.#rearm();
      expectedMs = now + everyMs;
      this.#watch = this.#clock.setTimer(expectedMs, look);
    };
    this.#watch = this.#clock.setTimer(expectedMs, look);
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** No new work from now on; what lives goes on to its end. */
  drain(): void {
    this.#draining = true;
  }

  /** Stops all timers. What lives is left as it is (crash-only). */
  stop(): void {
    this.#stopped = true;
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    if (this.#watch !== undefined) this.#clock.clearTimer(this.#watch);
    if (this.#ticker !== undefined) this.#clock.clearTimer(this.#ticker);
    if (this.#shadowTicker !== undefined) this.#clock.clearTimer(this.#shadowTicker);
  }
}

/** Who asks for an isolation stands in lines of its own: a node without it must not be held up by them, nor they be served by it. */
function roomLine(line: number, { isolation = '' }: FunctionSettings): number | string {
  return isolation === '' || line < 0 ? line : `${isolation} ${line}`;
}

function exclusionOf(code: ErrorRecord['code']): Exclusion {
  if (code === 'CANCELLED') return 'cancelled';
  if (code === 'DEADLINE_EXCEEDED' || code === 'FUNCTION_TIMEOUT') return 'timedOut';
  return code === 'MEMORY_EXCEEDED' ? 'memoryExceeded' : 'failed';
}

/** The row with room and the least predicted time; -1: none has room. */
function fastestRow({ count, room, meanMs }: Candidates): number {
  let best = -1;
  for (let row = 0; row < count; row++) if ((room[row] as number) > 0 && (best < 0 || (meanMs[row] as number) < (meanMs[best] as number))) best = row;
  return best;
}

function functionDeleted(invocation: Invocation): InvocationEvent {
  return { type: 'FAIL', reason: 'functionDeleted', error: { code: 'FUNCTION_NOT_FOUND', message: `The function "${invocation.functionName}" was deleted while the invocation waited.`, component: 'scheduler', invocationId: invocation.id } };
}
