/**
 * Entry point of the I/O thread in which all agents' streams end. It writes node scalars into shared memory and wakes the
 * loop only for what can change a decision: results, releases, warmth, data, loss. One message per turn, whatever came in.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { credentials, type ClientDuplexStream, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js';
import { MetronomeError, isErrorCode } from '../core/errors.ts';
import type { RunResult } from '../core/invocation.ts';
import { AgentServiceClient, type DispatchCommand, type DispatchEvent, type DispatchRequest, type DispatchResponse, type NodeMetrics, type Result, type WatchStateResponse } from '../rpc/gen/metronome/v1/agent.ts';
import type { FunctionMessage as DeployedFunction } from '../rpc/gen/metronome/v1/function.ts';
import { MAX_BATCH_BYTES, MAX_BATCH_ITEMS } from '../rpc/limits.ts';
import { fromErrorDetail, fromStatus } from '../rpc/status.ts';
import { NODE_ROW, RECEIVED_AT, ROUND_TRIP, SENT_AT, TOLD_METRICS } from '../scheduler/cluster-view.ts';
import type { LinkEvent, LinksData, LinksRequest } from './links-protocol.ts';

const MAX_MESSAGE_BYTES = 64 * 1024 ** 2;
/** Commands that wait for a slow agent before the link is given up. */
const MAX_BACKLOG = 50_000;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1_000;
/** How often the round trip to an agent is measured, ms. */
const PING_EVERY_MS = 2_000;
/** Weight of a new round trip among the earlier ones, as TCP smooths its own (RFC 6298). */
const ROUND_TRIP_WEIGHT = 1 / 8;
/** Refused connections in a row after which the agent counts as gone. */
const REFUSALS_TILL_GONE = 2;

const port = parentPort;
if (port === null) throw new Error('links-thread.ts runs only as a worker thread.');
const { nodeTable } = workerData as LinksData;
const table = new Float64Array(nodeTable);
const definitions = new Map<string, DeployedFunction>();
const links = new Map<number, Link>();
let connections = 0;
const nowMs = (): number => performance.timeOrigin + performance.now();

let outgoing: LinkEvent[] = [];
let flushing = false;
function report(event: LinkEvent): void {
  outgoing.push(event);
  if (flushing) return;
  flushing = true;
  // After all streams that had something in this turn: waking the loop costs more than a decision.
  setImmediate(() => {
    flushing = false;
    const items = outgoing;
    outgoing = [];
    port!.postMessage({ items });
  });
}

class Link {
  readonly node: number;
  readonly address: string;
  readonly epoch: number;
  readonly intervalMs: number;
  #client: AgentServiceClient | undefined;
  #dispatch: ClientDuplexStream<DispatchRequest, DispatchResponse> | undefined;
  #state: ClientReadableStream<WatchStateResponse> | undefined;
  #sequence = 0;
  /** Number of the present connection, unique in this thread. */
  #connection = 0;
  #retryMs = FIRST_RETRY_MS;
  #retry: NodeJS.Timeout | undefined;
  #refusals = 0;
  #closed = false;
  #backlog: DispatchCommand[] = [];
  #flushing = false;
  #blocked = false;
  #pinging: NodeJS.Timeout | undefined;
  /** When the last ping left, and its number; 0: it is answered. */
  #pingedAtMs = 0;
  /** What came before the snapshot of this connection, at most what the agent keeps; undefined: the snapshot is there. */
  #early: DispatchEvent[] | undefined;
  readonly #defined = new Map<string, string>();

  constructor(node: number, address: string, epoch: number, intervalMs: number) {
    this.node = node;
    this.address = address;
    this.epoch = epoch;
    this.intervalMs = intervalMs;
    table[node * NODE_ROW + ROUND_TRIP] = 0; // the place may have been another node's
    this.#open();
  }

  #open(): void {
    if (this.#closed) return;
    this.#client = new AgentServiceClient(this.address, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES, 'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.initial_reconnect_backoff_ms': FIRST_RETRY_MS, 'grpc.max_reconnect_backoff_ms': LAST_RETRY_MS, 'grpc.use_local_subchannel_pool': 1,
    });
    this.#defined.clear();
    this.#sequence = 0;
    this.#blocked = false;
    this.#early = [];
    this.#connection = ++connections;
    // The dispatch stream first: then the snapshot is the truth about everything sent on earlier streams.
    const dispatch = this.#client.dispatch();
    this.#dispatch = dispatch;
    const broken = (error: unknown): void => {
      if (this.#dispatch === dispatch) this.#broken(error);
    };
    dispatch.on('data', (message: DispatchResponse) => this.#onEvents(message.events));
    dispatch.on('error', broken);
    dispatch.on('end', () => broken(undefined));
    dispatch.on('drain', () => {
      this.#blocked = false;
      this.#flush();
    });
    const state = this.#client.watchState({ intervalMs: this.intervalMs });
    this.#state = state;
    state.on('data', (message: WatchStateResponse) => this.#onState(message, broken));
    state.on('error', broken);
    state.on('end', () => broken(undefined));
  }

  #broken(error: unknown): void {
    const { code, details } = (error ?? {}) as Partial<ServiceError>;
    const refused = code === 14 && /ECONNREFUSED/.test(details ?? '');
    this.#tearDown();
    if (this.#closed) return;
    report({ kind: 'disconnected', node: this.node });
    this.#refusals = refused ? this.#refusals + 1 : 0;
    if (this.#refusals >= REFUSALS_TILL_GONE) {
      // Its process is gone. Should it come back, it registers again and gets a new link.
      this.close();
      links.delete(this.node);
      report({ kind: 'gone', node: this.node });
      return;
    }
    this.#retry = setTimeout(() => this.#open(), this.#retryMs);
    this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
  }

  #tearDown(): void {
    const dispatch = this.#dispatch, state = this.#state, client = this.#client;
    this.#dispatch = this.#state = this.#client = undefined;
    clearInterval(this.#pinging);
    // What was not sent never arrives: the snapshot of the next connection says so, and the loop schedules it again.
    this.#backlog = [];
    for (const stream of [dispatch, state]) {
      stream?.removeAllListeners();
      stream?.on('error', () => {}); // a cancelled stream still reports its cancellation
      stream?.cancel();
    }
    client?.close();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#tearDown();
  }

  /** Sends an execution unless it was decided on the truth of another connection. */
  execute(command: DispatchCommand, connection: number): void {
    if (connection === this.#connection) this.send(command);
  }

  send(command: DispatchCommand): void {
    if (this.#dispatch === undefined) return; // see #tearDown
    const { execute } = command;
    if (execute !== undefined && this.#defined.get(execute.function) !== execute.version) {
      const definition = definitions.get(execute.function);
      if (definition?.version === execute.version) {
        execute.definition = definition;
        this.#defined.set(execute.function, execute.version);
      }
    }
    this.#backlog.push(command);
    if (this.#backlog.length > MAX_BACKLOG) {
      this.#broken(new Error(`${MAX_BACKLOG} commands wait for the agent`));
      return;
    }
    if (this.#flushing || this.#blocked) return;
    this.#flushing = true;
    // All commands of one message of the loop, no later.
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  /** A ping that waits for room in the stream would measure the queue. */
  readonly #ping = (): void => {
    if (this.#blocked) return;
    this.#pingedAtMs = performance.now();
    this.send({ ping: this.#pingedAtMs });
  };

  #onPong(pong: number): void {
    if (pong !== this.#pingedAtMs || pong === 0) return; // of an earlier ping
    this.#pingedAtMs = 0;
    const tookMs = performance.now() - pong;
    const at = this.node * NODE_ROW + ROUND_TRIP;
    const before = table[at] as number;
    table[at] = before === 0 ? tookMs : before + ROUND_TRIP_WEIGHT * (tookMs - before);
  }

  #flush(): void {
    while (this.#dispatch !== undefined && !this.#blocked && this.#backlog.length > 0) {
      // A message over the receiver's limit would break the stream, and with it all other work of the node.
      let count = 0;
      for (let bytes = 0; count < this.#backlog.length && count < MAX_BATCH_ITEMS && (count === 0 || bytes < MAX_BATCH_BYTES); count++) bytes += this.#backlog[count]?.execute?.payload.length ?? 0;
      const commands = this.#backlog.slice(0, count);
      this.#backlog = this.#backlog.slice(count);
      this.#blocked = !this.#dispatch.write({ commands });
    }
  }

  #onEvents(events: readonly DispatchEvent[]): void {
    const { node } = this;
    // The agent repeats what was not acknowledged, and its snapshot counts that as running: the snapshot first, or its slots would stay taken for good.
    if (this.#early !== undefined) return void this.#early.push(...events);
    for (const event of events) {
      const id = event.invocationId;
      if (event.result !== undefined) report({ kind: 'result', node, id, result: toRunResult(event.result) });
      else if (event.started !== undefined) report({ kind: 'started', node, id, startState: event.started.startState });
      else if (event.rejected !== undefined) {
        const { code, message: text } = event.rejected;
        report({ kind: 'rejected', node, id, error: { code: isErrorCode(code) ? code : 'INTERNAL', message: text, component: 'agent', invocationId: id } });
      } else if (event.pong !== undefined) this.#onPong(event.pong);
    }
  }

  #onState(message: WatchStateResponse, broken: (error: unknown) => void): void {
    // A process of another epoch answers here: an agent was restarted on the same port. It registers by itself.
    if (message.epoch !== this.epoch) {
      this.close();
      links.delete(this.node);
      report({ kind: 'gone', node: this.node });
      return;
    }
    if (message.sequence !== this.#sequence + 1) return broken(new Error(`gap in the state: ${message.sequence} after ${this.#sequence}`));
    this.#sequence = message.sequence;
    if (message.metrics !== undefined) writeMetrics(this.node, message.metrics);
    table[this.node * NODE_ROW + SENT_AT] = message.sentAtUnixMs;
    table[this.node * NODE_ROW + RECEIVED_AT] = nowMs();
    const change = {
      warm: message.warm,
      zygotes: message.zygotes,
      packageSetsAdded: message.packageSetsAdded,
      packageSetsRemoved: message.packageSetsRemoved,
      packagesAdded: message.packagesAdded,
      packagesRemoved: message.packagesRemoved,
      objectsAdded: message.objectsAdded.map(({ id, sizeBytes }) => ({ id, sizeBytes })),
      objectsRemoved: message.objectsRemoved,
    };
    if (message.snapshot) {
      this.#retryMs = FIRST_RETRY_MS;
      this.#refusals = 0;
      report({ kind: 'snapshot', node: this.node, epoch: message.epoch, slots: message.slots, running: message.running, connection: this.#connection, change });
      const early = this.#early ?? [];
      this.#early = undefined;
      this.#onEvents(early);
      clearInterval(this.#pinging);
      this.#pinging = setInterval(this.#ping, PING_EVERY_MS);
      this.#ping();
    } else if (message.warm.length + message.zygotes.length + message.packageSetsAdded.length + message.packageSetsRemoved.length + message.packagesAdded.length + message.packagesRemoved.length + message.objectsAdded.length + message.objectsRemoved.length > 0) {
      report({ kind: 'delta', node: this.node, change });
    }
  }

  prewarm({ call, definition, count, zygotes }: Extract<LinksRequest, { kind: 'prewarm' }>): void {
    if (this.#client === undefined) return this.#unreachable(call);
    this.#client.prewarm({ function: definition, count, zygotes }, (error, response) => {
      report({ kind: 'answered', call, ...(error === null ? { count: response.idle } : { count: 0, error: fromStatus(error).toRecord() }) });
    });
  }

  evict({ call, functionName, count, zygotes }: Extract<LinksRequest, { kind: 'evict' }>): void {
    if (this.#client === undefined) return this.#unreachable(call);
    this.#client.evict({ function: functionName, count, zygotes }, (error, response) => {
      report({ kind: 'answered', call, ...(error === null ? { count: response.evicted } : { count: 0, error: fromStatus(error).toRecord() }) });
    });
  }

  #unreachable(call: number): void {
    report({ kind: 'answered', call, count: 0, error: { code: 'UNAVAILABLE', message: `The agent at ${this.address} cannot be reached.`, component: 'scheduler' } });
  }
}

function writeMetrics(node: number, metrics: NodeMetrics): void {
  const at = node * NODE_ROW;
  for (let i = 0; i < TOLD_METRICS.length; i++) table[at + i] = metrics[TOLD_METRICS[i]!];
}

/** Plain data that survives the thread boundary: payloads as arrays of their own, not as views of a large buffer. */
function toRunResult(result: Result): RunResult {
  return {
    ...(result.error === undefined ? {} : { error: fromErrorDetail(result.error) }),
    payload: Uint8Array.from(result.payload),
    contentType: result.contentType,
    outputs: result.outputs,
    fetchedMs: result.fetchedMs,
    initialisedMs: result.initialisedMs,
    installedMs: result.installedMs,
    startedMs: result.startedMs,
    loadedMs: result.loadedMs,
    ranMs: result.ranMs,
    startState: result.startState,
    zygoteDistance: result.zygoteDistance,
    fetchedBytes: result.fetchedBytes,
    ...(result.logs === undefined ? {} : { logs: result.logs }),
    acceptedAtMs: result.acceptedAtUnixMs,
    releasedAtMs: result.releasedAtUnixMs,
  };
}

port.on('message', (request: LinksRequest) => {
  switch (request.kind) {
    case 'commands':
      for (const item of request.items) {
        const link = links.get(item.node);
        if (link === undefined) continue;
        if (item.kind === 'execute') {
          const { payload } = item.execute;
          link.execute({ execute: { ...item.execute, payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength), definition: undefined } }, item.connection);
        } else if (item.kind === 'cancel') link.send({ cancel: item.id });
        else if (item.kind === 'acknowledge') link.send({ acknowledge: item.id });
        else if (item.kind === 'retain') link.send({ retain: { owner: item.owner, objectIds: item.objectIds, ttlMs: item.ttlMs } });
        else link.send({ release: { owner: item.owner, objectIds: item.objectIds } });
      }
      return;
    case 'connect': {
      const known = links.get(request.node);
      if (known !== undefined && known.epoch === request.epoch && known.address === request.address) return;
      known?.close();
      links.set(request.node, new Link(request.node, request.address, request.epoch, request.intervalMs));
      return;
    }
    case 'disconnect':
      links.get(request.node)?.close();
      links.delete(request.node);
      return;
    case 'define':
      definitions.set(request.definition.spec?.name ?? '', request.definition);
      return;
    case 'undefine':
      definitions.delete(request.name);
      return;
    case 'prewarm':
    case 'evict': {
      const link = links.get(request.node);
      if (link === undefined) report({ kind: 'answered', call: request.call, count: 0, error: new MetronomeError('UNAVAILABLE', 'The node is not connected.').toRecord() });
      else if (request.kind === 'prewarm') link.prewarm(request);
      else link.evict(request);
      return;
    }
    case 'stop':
      for (const link of links.values()) link.close();
      links.clear();
      port.close();
  }
});
