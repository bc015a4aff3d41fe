/**
 * A cluster on virtual time: the real scheduler over nodes that are counters. A node runs what it is sent for a given time, refuses
 * when it is full, keeps results until they can be delivered, and can be silent, disconnected, lost, drained or restarted.
 */
import type { Engine } from '../../machines/host.ts';
import { createVirtualClock, type VirtualClock } from '../../src/core/clock.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { INVOCATION_STATES, type Invocation, type InvocationEvent, type RunResult } from '../../src/core/invocation.ts';
import type { Predictor } from '../../src/predictor/predictor.ts';
import { createNodeTable, LOST, NODE_ROW, RECEIVED_AT } from '../../src/scheduler/cluster-view.ts';
import type { FunctionSettings } from '../../src/scheduler/function-table.ts';
import { Scheduler, type SchedulerOptions, type Submission } from '../../src/scheduler/scheduler.ts';
import { createFakePredictor } from './fake-predictor.ts';

/** Milliseconds that a message to or from a node takes. */
export const HOP_MS = 1;
/** Milliseconds between two states of a node. */
export const PUSH_MS = 50;

/** What a submission carries for the fake nodes. */
export interface Work {
  readonly ranMs: number;
  /** The run ends with this error. */
  readonly fails?: ErrorCode;
}

interface Run {
  readonly invocation: Invocation;
  readonly attempt: number;
  readonly timer: unknown;
}

/** A node of the fake cluster. */
export interface FakeNode {
  readonly name: string;
  readonly index: number;
  epoch: number;
  slots: number;
  /** What runs now, by invocation id. */
  readonly runs: Map<string, Run>;
  /** Ids whose results were sent but not delivered. */
  readonly unacknowledged: Map<string, { readonly attempt: number; readonly result: RunResult }>;
  /** Number of its present streams; what was sent on former ones never arrives. */
  stream: number;
  /** False: its process is gone. */
  isAlive: boolean;
  /** False: no stream; what is sent to it is lost, what it sends waits. */
  isConnected: boolean;
  /** True: it sends no states. */
  isSilent: boolean;
  /** The next so many executes are refused. */
  refusals: number;
  /** Why it refuses. */
  refusalCode: 'NODE_FULL' | 'INTERNAL' | 'DRAINING';
  /** Most that ever ran at once. */
  mostRunning: number;
  /** Executes that came while all slots were busy. */
  oversold: number;
  /** It counted as lost while its process lived. */
  wasLost: boolean;
}

/** How a cluster is made. */
export interface ClusterOptions extends Partial<Pick<SchedulerOptions, 'engine' | 'policy' | 'strict' | 'maxLive' | 'maxWaitMs' | 'monitorIntervalMs' | 'localityThreshold' | 'decideOn' | 'blindTo' | 'maxNodes' | 'seed' | 'candidates' | 'candidateLimit'>> {
  /** Slots of each node. */
  readonly slots?: readonly number[];
  readonly predictor?: Predictor;
  /** Keeps every transition as text in `trace`. @default true */
  readonly traces?: boolean;
}

/** A result as an agent reports it. */
export function resultOf(more: Partial<RunResult> & { readonly code?: ErrorCode } = {}): RunResult {
  const { code, ...rest } = more;
  return {
    ...(code === undefined ? {} : { error: { code, message: `It ended with ${code}.` } }),
    payload: new Uint8Array(), contentType: '', outputs: [], fetchedMs: 0, initialisedMs: 0, installedMs: 0, ranMs: 0, startState: 4, fetchedBytes: 0, acceptedAtMs: 0, releasedAtMs: 0, ...rest,
  };
}

/** Makes it; its nodes are ready. `predictor` of the result is the fake one, which only works when none is given. */
export function createCluster(options: ClusterOptions = {}) {
  const clock: VirtualClock = createVirtualClock(1_000_000);
  const nodeTable = createNodeTable(options.maxNodes ?? 64);
  const table = new Float64Array(nodeTable);
  const predictor = createFakePredictor();
  const trace: string[] = [];
  const settled: Invocation[] = [];
  const ends = new Map<string, number>();
  /** How often the handler of each invocation was called. */
  const starts = new Map<string, number>();
  const sent: { kind: 'execute' | 'cancel'; id: string; node: number; atMs: number }[] = [];
  const nodes: FakeNode[] = [];
  const traces = options.traces ?? true;

  const scheduler: Scheduler = new Scheduler({
    clock, seed: options.seed ?? 1, engine: options.engine ?? ('table' satisfies Engine), policy: options.policy ?? 'metronome', localityGain: 0.85, safetyMargin: 0.1, strict: options.strict ?? false,
    localityThreshold: options.localityThreshold ?? 0.1, decideOn: options.decideOn ?? 'events', blindTo: options.blindTo ?? 'nothing', monitorIntervalMs: options.monitorIntervalMs ?? 100, staleAfterMs: 150, lostAfterMs: 1_000, maxLive: options.maxLive ?? 100_000,
    maxNodes: options.maxNodes ?? 64, maxObjects: 1_000, maxWaitMs: options.maxWaitMs ?? 600_000, rememberDecisions: 1_024, idPrefix: 'i', nodeTable, predictor: options.predictor ?? predictor,
    candidates: options.candidates ?? 'auto', candidateLimit: options.candidateLimit ?? 64,
    transport: {
      execute(invocation, index) {
        sent.push({ kind: 'execute', id: invocation.id, node: index, atMs: clock.nowMs() });
        const node = nodes[index]!;
        const { attempt } = invocation;
        onStream(node, () => take(node, invocation, attempt));
      },
      cancel(invocation, index) {
        sent.push({ kind: 'cancel', id: invocation.id, node: index, atMs: clock.nowMs() });
        const node = nodes[index]!;
        onStream(node, () => finish(node, invocation.id, resultOf({ code: 'CANCELLED' })));
      },
    },
    observer: {
      transitioned(invocation: Invocation, from: number, to: number, event: InvocationEvent) {
        if (traces) trace.push(`${clock.nowMs() - 1_000_000} ${invocation.id} ${INVOCATION_STATES[from]}>${INVOCATION_STATES[to]} ${event.type} ${event.reason} node ${invocation.node} target ${invocation.target}`);
      },
      settled(invocation) {
        settled.push(invocation);
        ends.set(invocation.id, (ends.get(invocation.id) ?? 0) + 1);
      },
      nodeChanged(node, status) {
        if (status === LOST && nodes[node]?.isAlive === true) nodes[node].wasLost = true;
        if (traces) trace.push(`${clock.nowMs() - 1_000_000} node ${node} is ${status}`);
      },
    },
  });

  /** Does it one hop later, if the streams of now still stand then. */
  const onStream = (node: FakeNode, what: () => void): void => {
    const { stream } = node;
    if (node.isConnected) clock.setTimer(clock.nowMs() + HOP_MS, () => node.isConnected && node.stream === stream && what());
  };
  const take = (node: FakeNode, invocation: Invocation, attempt: number): void => {
    const { id } = invocation;
    if (node.runs.has(id)) return; // delivered again: its result is on its way
    const kept = node.unacknowledged.get(id);
    if (kept !== undefined && kept.attempt >= attempt) return deliver(node, id);
    node.unacknowledged.delete(id);
    if (node.refusals > 0 || node.runs.size >= node.slots) {
      const refused = node.refusals > 0;
      if (refused) node.refusals--;
      else {
        node.oversold++;
        trace.push(`${clock.nowMs() - 1_000_000} OVERSOLD ${node.name} with ${id}`);
      }
      onStream(node, () => scheduler.rejected(id, node.index, { code: refused ? node.refusalCode : 'NODE_FULL', message: 'No slot.' }));
      return;
    }
    starts.set(id, (starts.get(id) ?? 0) + 1);
    const work = invocation.cargo as Work; // every submission of these tests carries one
    const timer = clock.setTimer(clock.nowMs() + work.ranMs, () => finish(node, id, resultOf({ ranMs: work.ranMs, ...(work.fails === undefined ? {} : { code: work.fails }) })));
    node.runs.set(id, { invocation, attempt, timer });
    node.mostRunning = Math.max(node.mostRunning, node.runs.size);
    onStream(node, () => scheduler.started(id, node.index, 4));
  };
  const finish = (node: FakeNode, id: string, result: RunResult): void => {
    const run = node.runs.get(id);
    if (run === undefined) return;
    clock.clearTimer(run.timer);
    node.runs.delete(id);
    node.unacknowledged.set(id, { attempt: run.attempt, result });
    deliver(node, id);
  };
  const deliver = (node: FakeNode, id: string): void => {
    const kept = node.unacknowledged.get(id);
    if (kept === undefined) return;
    onStream(node, () => {
      if (node.unacknowledged.get(id) === kept) node.unacknowledged.delete(id);
      scheduler.result(id, node.index, kept.result);
    });
  };
  const push = (node: FakeNode): void => {
    if (node.isAlive && node.isConnected && !node.isSilent) {
      table[node.index * NODE_ROW + RECEIVED_AT] = clock.nowMs();
      scheduler.nodeHeard(node.index);
    }
    clock.setTimer(clock.nowMs() + PUSH_MS, () => push(node));
  };
  /** New streams: one hop until the node hears of them and tells what it has, one hop back; results that wait are sent behind that. */
  const open = (node: FakeNode): void => {
    node.isConnected = true;
    node.stream++;
    const connectedAtMs = clock.nowMs();
    onStream(node, () => {
      const running = [...node.runs.keys(), ...node.unacknowledged.keys()];
      onStream(node, () => {
        table[node.index * NODE_ROW + RECEIVED_AT] = clock.nowMs();
        scheduler.nodeSnapshot(node.index, node.slots, running, connectedAtMs);
      });
      for (const id of node.unacknowledged.keys()) deliver(node, id);
    });
  };
  const register = (node: FakeNode): void => {
    scheduler.nodeRegistered({ name: node.name, address: '', dataUrl: '', epoch: node.epoch, slots: node.slots, memoryMb: 1_024 });
    open(node);
  };

  const cluster = {
    clock, scheduler, predictor, nodes, trace, settled, ends, starts, sent,
    /** A new node that registers now; ready after two hops. */
    addNode(slots: number, name = `n${nodes.length}`): FakeNode {
      const node: FakeNode = {
        name, index: nodes.length, epoch: 1, slots, runs: new Map(), unacknowledged: new Map(), stream: 0, isAlive: true, isConnected: true, isSilent: false, refusals: 0, refusalCode: 'NODE_FULL', mostRunning: 0, oversold: 0, wasLost: false,
      };
      nodes.push(node);
      register(node);
      push(node);
      return node;
    },
    /** Deploys a function. */
    deploy(name = 'f', settings: Partial<FunctionSettings> = {}) {
      return scheduler.putFunction({ name, version: '1', packageSet: `p-${name}`, slaMs: 1_000, timeoutMs: 60_000, concurrency: 0, idempotent: true, retries: 2, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false, ...settings });
    },
    /** Submits one invocation that runs `ranMs` on its node. */
    submit(functionName = 'f', ranMs = 100, more: Partial<Submission> & { readonly fails?: ErrorCode } = {}): Invocation {
      const { fails, ...request } = more;
      const cargo: Work = { ranMs, ...(fails === undefined ? {} : { fails }) };
      return scheduler.submit({ functionName, slaMs: 0, expiresAtMs: Infinity, inputs: [], localityKey: '', policyName: '', cargo, ...request });
    },
    /** The streams to the node break; it goes on with what it has. */
    disconnect(node: FakeNode): void {
      node.isConnected = false;
      scheduler.nodeDisconnected(node.index);
    },
    /** The streams stand again: a snapshot, then what could not be delivered. */
    reconnect(node: FakeNode): void {
      open(node);
    },
    /** Registers again: the same process (after it counted as lost) or, with `restart`, a new one that has nothing. */
    comeBack(node: FakeNode, restart: boolean): void {
      if (restart) {
        cluster.kill(node, false);
        node.epoch++;
      }
      node.isAlive = true;
      node.isSilent = false;
      register(node);
    },
    /** The process is gone; `noticed`: and somebody saw it go. */
    kill(node: FakeNode, noticed: boolean): void {
      for (const { timer } of node.runs.values()) clock.clearTimer(timer);
      node.runs.clear();
      node.unacknowledged.clear();
      node.isAlive = false;
      node.isConnected = false;
      if (noticed) scheduler.nodeGone(node.index);
    },
    /** Makes the function warm on a node, as its agent reports it. */
    warm(functionName: string, node: FakeNode, idle = 1, busy = 0): void {
      scheduler.setWarm(functionName, '1', node.index, idle, busy);
    },
    advance: (ms: number) => clock.advance(ms),
    state: (invocation: Invocation) => INVOCATION_STATES[invocation.state],
  };
  for (const slots of options.slots ?? []) cluster.addNode(slots);
  if ((options.slots?.length ?? 0) > 0) clock.advance(2 * HOP_MS);
  return cluster;
}

export type Cluster = ReturnType<typeof createCluster>;
