/** The control plane: one handler per method of the gateway's protocol. Everything is answered from the loop's own state or the store. */
import { MetronomeError } from '../core/errors.ts';
import type { ControlMethods, LoopMessage } from '../gateway/protocol.ts';
import type { Inspector } from '../inspect/inspector.ts';
import type { TransitionRing } from '../inspect/transition-ring.ts';
import type { WatchInvocationsRequest } from '../rpc/gen/metronome/v1/invoke.ts';
import { Invocation as InvocationMessage } from '../rpc/gen/metronome/v1/invoke.ts';
import { INVOCATION_STATES } from '../core/invocation.ts';
import { LOST, READY, STALE } from '../scheduler/cluster-view.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { Store } from '../store/store.ts';
import type { InspectDesk } from './inspect-desk.ts';
import type { Links } from './links.ts';
import type { ModelDesk } from './model-desk.ts';
import { toDecision, toNode, toPlan, toTransition } from './messages.ts';
import type { Recent } from './recent.ts';
import type { Registry } from './registry.ts';
import type { Work } from './work.ts';

/** What the control plane works on. */
export interface ControlOptions {
  readonly scheduler: Scheduler;
  readonly registry: Registry;
  readonly work: Work;
  readonly store: Store;
  readonly links: Links;
  readonly inspector: Inspector;
  readonly inspect: InspectDesk;
  /** Where the page is; '' while nobody knows. */
  readonly pageUrl: () => string;
  readonly stateAge: Recent;
  readonly releaseSeen: Recent;
  readonly nowMs: () => number;
  readonly startedAtMs: number;
  readonly version: string;
  readonly model: ModelDesk;
  readonly localityThreshold: number;
  readonly pushIntervalMs: number;
  /** Undefined: nothing is recorded. */
  readonly recording?: { readonly counters: { readonly entries: number; readonly dropped: number }; readonly writtenBytes: number } | undefined;
}

type Handlers = { readonly [M in keyof ControlMethods]: (request: ControlMethods[M][0]) => ControlMethods[M][1] | Promise<ControlMethods[M][1]> };

/** Transitions in one page. */
const MAX_TRANSITIONS = 10_000;
const MAX_LABELS = 16;
const MAX_LABEL_LENGTH = 160;

/** All methods. Each throws a MetronomeError for what it refuses. */
export function createControl(o: ControlOptions): Handlers {
  const { scheduler, registry, work, store } = o;
  const { cluster } = scheduler;
  const node = (name: string): number => {
    const index = cluster.indexOf(name);
    if (index < 0) throw new MetronomeError('NODE_NOT_FOUND', `There is no node "${name}". Known nodes: ${cluster.info.map((info) => info.name).join(', ') || 'none'}.`, { component: 'scheduler' });
    return index;
  };
  const found = async (id: string, withResult: boolean): Promise<InvocationMessage> => {
    const here = work.find(id, withResult);
    // Large results are not kept in memory; those of accepted work stand in the store.
    const isWhole = !withResult || here?.response === undefined || here.response.payload.length > 0;
    if (here !== undefined && isWhole) return here;
    const row = await store.getInvocation(id);
    if (row === undefined && here !== undefined) return here;
    if (row === undefined) throw new MetronomeError('INVOCATION_NOT_FOUND', `The invocation "${id}" is unknown or no longer remembered (limits.rememberInvocations).`, { component: 'scheduler', invocationId: id });
    if (row.status === 'ended') return InvocationMessage.decode(row.outcome);
    return InvocationMessage.fromPartial({ id, function: row.target, state: INVOCATION_STATES.indexOf('arriving') as InvocationMessage['state'], reason: 'arrived', arrivedAtUnixMs: row.acceptedAtMs });
  };
  const nodeMessage = (index: number): ReturnType<typeof toNode> => toNode(index, cluster, scheduler.functions, scheduler.lines.waitingFor(index), o.nowMs());

  return {
    async getInvocation({ invocationId, waitMs }) {
      await work.waitForEnd(invocationId, Math.min(60_000, waitMs));
      return { invocation: await found(invocationId, true) };
    },
    listInvocations: ({ function: name, state, limit }) => ({ invocations: work.list(name, state, limit === 0 ? 100 : Math.min(limit, 1_000)) }),
    async cancelInvocation({ invocationId }) {
      if (!work.cancel(invocationId, 'Somebody asked to cancel it.')) return { state: (await found(invocationId, false)).state };
      return { state: work.find(invocationId, false)?.state ?? (await found(invocationId, false)).state };
    },
    applyFunction: (request) => registry.applyFunction(request),
    getFunction({ name }) {
      const definition = registry.functions.get(name);
      if (definition === undefined) throw registry.unknown(name);
      return { function: definition };
    },
    listFunctions: () => ({ functions: Array.from(registry.functions.values(), (known) => ({ ...known, lock: undefined })).sort((a, b) => ((a.spec?.name ?? '') < (b.spec?.name ?? '') ? -1 : 1)) }),
    async deleteFunction({ name }) {
      await registry.deleteFunction(name);
      return {};
    },
    async getBundle({ digest }) {
      const bundle = await store.getBundle(digest);
      if (bundle === undefined) throw new MetronomeError('BUNDLE_NOT_FOUND', `There is no function code of digest "${digest}".`, { component: 'scheduler' });
      return { bundle };
    },
    applyWorkflow: (request) => registry.applyWorkflow(request),
    getWorkflow({ name }) {
      const workflow = registry.workflows.get(name);
      if (workflow === undefined) throw new MetronomeError('WORKFLOW_NOT_FOUND', `There is no workflow "${name}".`, { component: 'scheduler' });
      return { workflow };
    },
    listWorkflows: () => ({ workflows: [...registry.workflows.values()].sort((a, b) => ((a.spec?.name ?? '') < (b.spec?.name ?? '') ? -1 : 1)) }),
    async deleteWorkflow({ name }) {
      await registry.deleteWorkflow(name);
      return {};
    },
    registerNode(request) {
      if (request.name === '' || request.address === '' || request.slots < 1) throw new MetronomeError('INVALID_REQUEST', 'A node needs a name, an address and at least one slot.', { component: 'scheduler' });
      const known = cluster.indexOf(request.name);
      if (known >= 0) {
        const info = cluster.info[known];
        const status = cluster.status[known];
        const alive = status === READY || (status === STALE && o.nowMs() - cluster.receivedAtMs(known) < 1_000);
        // A restarted agent has a greater epoch and, mostly, another port; one that still answers is another process.
        if (info !== undefined && alive && info.epoch !== request.epoch && info.address !== request.address) {
          throw new MetronomeError('NODE_NAME_TAKEN', `A living agent at ${info.address} has the name "${request.name}". Give this one another (agent.name).`, { component: 'scheduler' });
        }
      }
      const labels = Object.entries(request.labels);
      if (labels.length > MAX_LABELS || labels.some(([name, value]) => name.length + value.length > MAX_LABEL_LENGTH)) throw new MetronomeError('INVALID_REQUEST', `A node may have at most ${MAX_LABELS} labels of at most ${MAX_LABEL_LENGTH} characters; "${request.name}" has ${labels.length}.`, { component: 'scheduler' });
      const index = scheduler.nodeRegistered({ name: request.name, address: request.address, dataUrl: request.dataUrl, epoch: request.epoch, slots: request.slots, memoryMb: request.memoryMb, isolation: request.isolation.length === 0 ? ['process'] : request.isolation.slice(0, MAX_ISOLATIONS), labels: request.labels, ...(request.keeping === undefined ? {} : { keeping: request.keeping }) });
      o.links.connect(index, request.address, request.epoch, o.pushIntervalMs);
      return { pushIntervalMs: o.pushIntervalMs };
    },
    listNodes: () => ({ nodes: Array.from({ length: cluster.count }, (_, index) => nodeMessage(index)).sort((a, b) => (a.name < b.name ? -1 : 1)) }),
    drainNode({ name, drain }) {
      const index = node(name);
      if (cluster.status[index] === LOST) throw new MetronomeError('UNAVAILABLE', `The node "${name}" is lost.`, { component: 'scheduler' });
      scheduler.drainNode(index, drain);
      return { node: nodeMessage(index) };
    },
    async prewarmNode({ name, function: functionName, count, zygotes }) {
      const index = node(name);
      const definition = registry.functions.get(functionName);
      if (definition === undefined) throw registry.unknown(functionName);
      return { idle: await o.links.prewarm(index, definition, Math.max(1, Math.min(64, count)), zygotes) };
    },
    async evictNode({ name, function: functionName, count, zygotes }) {
      const index = node(name);
      if (functionName !== '' && !registry.functions.has(functionName)) throw registry.unknown(functionName);
      return { evicted: await o.links.evict(index, functionName, count, zygotes) };
    },
    async explain({ invocationId }) {
      const invocation = await found(invocationId, false);
      const record = scheduler.live.get(invocationId) ?? work.remembered.get(invocationId);
      if (record === undefined || !('host' in record)) return { invocation, decisions: [], transitions: [] };
      const { decisions, transitions } = o.inspector.explain(record, scheduler.live.has(invocationId));
      return {
        invocation,
        decisions: decisions.map((decision) => toDecision(decision, cluster, o.localityThreshold)),
        transitions: transitions.map((transition) => toTransition(transition, cluster)),
      };
    },
    async plan({ request }) {
      if (request === undefined) throw new MetronomeError('INVALID_REQUEST', 'The request is missing.', { violations: [{ field: 'request', description: 'is required' }] });
      if (registry.workflows.has(request.function)) throw new MetronomeError('INVALID_REQUEST', `"${request.function}" is a workflow; plan one of its functions.`, { component: 'scheduler' });
      if (!registry.functions.has(request.function)) throw registry.unknown(request.function);
      const submission = { functionName: request.function, slaMs: request.slaMs, expiresAtMs: Infinity, inputs: request.inputs, localityKey: request.localityKey, policyName: request.policy, cargo: undefined };
      const { promise, resolve } = Promise.withResolvers<ReturnType<typeof toPlan>>();
      scheduler.plan(submission, ({ policy, decision, candidates }) => resolve(toPlan(policy, decision, candidates, cluster, scheduler.nowMs, o.localityThreshold)));
      return { decision: await promise };
    },
    listPolicies: () => ({ policies: scheduler.listPolicies().map(({ parameters, ...policy }) => ({ ...policy, parameters: { ...parameters } })), active: scheduler.policyName, shadow: scheduler.shadow?.policy ?? '' }),
    setPolicy({ policy }) {
      const previous = scheduler.setPolicy(policy);
      return { previous, active: scheduler.policyName };
    },
    setShadowPolicy({ policy }) {
      const previous = scheduler.setShadow(policy);
      return { previous, active: scheduler.shadow?.policy ?? '' };
    },
    readTransitions({ from, limit, function: functionName, sinceUnixMs, untilUnixMs }) {
      const { records, next, missed } = o.inspector.transitions.read(from, limit === 0 ? MAX_TRANSITIONS : Math.min(limit, MAX_TRANSITIONS));
      const fits = records.filter(({ functionName: name, atMs }) => (functionName === '' || name === functionName) && atMs >= sinceUnixMs && (untilUnixMs === 0 || atMs <= untilUnixMs));
      return { transitions: fits.map((record) => toTransition(record, cluster)), next, end: next >= o.inspector.transitions.next, missed };
    },
    inspectInvocations: (request) => o.inspect.invocations(request),
    inspectNodes: ({ limit }) => o.inspect.nodes(limit),
    inspectNode: ({ name }) => o.inspect.node(name),
    async getStatus() {
      const states: Record<string, number> = {};
      for (const invocation of scheduler.live.values()) {
        const name = INVOCATION_STATES[invocation.state] ?? 'unspecified';
        states[name] = (states[name] ?? 0) + 1;
      }
      const { delays } = o.inspector.traffic;
      const { open, waiting } = await store.stats().then((stats) => ({ open: stats.openInvocations, waiting: stats.waiting }), () => ({ open: -1, waiting: -1 }));
      return {
        version: o.version, policy: scheduler.policyName, predictor: scheduler.predictor.name, engine: scheduler.engine, draining: scheduler.isDraining,
        live: scheduler.live.size, delayingForLocality: scheduler.lines.locality, delayingForCapacity: scheduler.lines.capacity,
        counters: {
          ...scheduler.counters, workflowRuns: work.runs.size, transitions: o.inspector.transitions.next, detailed: o.inspector.details.selected, notDetailed: o.inspector.details.leftOut, delayWaitedMs: delays.waitedMs, delaySavedMs: delays.savedMs, delayLostMs: delays.lostMs, shadowCompared: scheduler.shadow?.compared ?? 0, shadowAgreed: scheduler.shadow?.agreed ?? 0, storedOpen: open, storeWaiting: waiting,
          ...(o.recording === undefined ? {} : { recordedEntries: o.recording.counters.entries, recordingDropped: o.recording.counters.dropped, recordingBytes: o.recording.writtenBytes }),
          stateAgeP50Ms: o.stateAge.quantile(0.5), stateAgeP95Ms: o.stateAge.quantile(0.95), releaseSeenP50Ms: o.releaseSeen.quantile(0.5), releaseSeenP95Ms: o.releaseSeen.quantile(0.95),
        },
        startedAtUnixMs: o.startedAtMs, states, shadowPolicy: scheduler.shadow?.policy ?? '', pageUrl: o.pageUrl(),
      };
    },
    predict: (request) => o.model.predict(request),
    observe: (request) => o.model.observe(request),
    getModelStatus: () => o.model.status(),
    exportModel: () => o.model.exportSnapshot(),
    importModel: ({ bytes }) => o.model.importSnapshot(bytes),
  };
}

/** Kinds of isolation that a node may name. */
const MAX_ISOLATIONS = 8;
/** How often watchers get what happened, ms. */
const WATCH_EVERY_MS = 20;
/** Transitions per message to a watcher. */
const WATCH_BATCH = 2_048;

/** Streams of transitions for watchers: nothing is done while nobody watches. */
export class Watchers {
  readonly #ring: TransitionRing;
  readonly #work: Work;
  readonly #scheduler: Scheduler;
  readonly #post: (message: LoopMessage) => void;
  readonly #watchers = new Map<number, { request: WatchInvocationsRequest; next: number; missed: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(ring: TransitionRing, work: Work, scheduler: Scheduler, post: (message: LoopMessage) => void) {
    this.#work = work;
    this.#ring = ring;
    this.#scheduler = scheduler;
    this.#post = post;
  }

  open(call: number, request: WatchInvocationsRequest): void {
    this.#watchers.set(call, { request, next: this.#ring.next, missed: 0 });
    this.#timer ??= setInterval(() => this.#push(), WATCH_EVERY_MS);
  }

  close(call: number): void {
    this.#watchers.delete(call);
    if (this.#watchers.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #push(): void {
    for (const [call, watcher] of this.#watchers) {
      const { records, next, missed } = this.#ring.read(watcher.next, WATCH_BATCH);
      watcher.next = next;
      watcher.missed += missed;
      const { invocationId, function: name } = watcher.request;
      const wanted = records.filter((record) => (invocationId === '' || record.id === invocationId || this.#work.runOf(record.id) === invocationId) && (name === '' || record.functionName === name));
      if (wanted.length > 0 || missed > 0) this.#post({ kind: 'transitions', call, transitions: wanted.map((record) => toTransition(record, this.#scheduler.cluster)), missed: watcher.missed });
    }
  }
}
