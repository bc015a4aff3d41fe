/**
 * The scheduler daemon: puts the centre, the store, the I/O thread of the agents' streams and the gateway together, and
 * passes messages between them. One process; the loop is its main thread.
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { schedulerParameters } from '../config/scheduler-parameters.ts';
import { createSystemClock } from '../core/clock.ts';
import { MetronomeError } from '../core/errors.ts';
import type { Invocation } from '../core/invocation.ts';
import type { ControlMethod, GatewayMessage, LoopMessage } from '../gateway/protocol.ts';
import { DEFAULT_GATEWAY_CONFIG } from '../gateway/gateway-config.ts';
import { spawnGatewayProcess, spawnGatewayThread } from '../gateway/spawn-gateway.ts';
import { createTracing } from '../inspect/tracing.ts';
import { Inspector } from '../inspect/inspector.ts';
import { NodeCells } from '../inspect/node-cells.ts';
import type { FunctionProfile, OnlineModelOptions } from '../predictor/model/online-model.ts';
import { createMovingAveragePredictor } from '../predictor/moving-average.ts';
import { startForest, type ForestOptions } from '../predictor/pool/forest.ts';
import { UNKNOWN_PROFILE } from '../predictor/predictor.ts';
import { formatAddress } from '../rpc/server.ts';
import { LOST, createNodeTable } from '../scheduler/cluster-view.ts';
import type { Purpose } from '../recording/facts.ts';
import { startRecording } from '../recording/start-recording.ts';
import { createTappedScheduler } from '../recording/tapped-scheduler.ts';
import { Scheduler, type SchedulerOptions } from '../scheduler/scheduler.ts';
import { openSqliteStore } from '../store/sqlite-store.ts';
import { createControl, Watchers } from './control.ts';
import { createInspectDesk } from './inspect-desk.ts';
import { InspectFeed } from './inspect-feed.ts';
import { createModelDesk } from './model-desk.ts';
import type { LinkEvent, LocalityChange } from './links-protocol.ts';
import { startLinks } from './links.ts';
import { Recent } from './recent.ts';
import { Recovery } from './recovery.ts';
import { Registry } from './registry.ts';
import { LEASE_MS, Retention } from './retention.ts';
import { Work, type Cargo } from './work.ts';

/** The part of a pino logger that the daemon uses. */
export interface DaemonLog {
  debug(fields: object, event: string): void;
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
}

/** A running daemon. */
export interface Daemon {
  /** host:port of the gRPC services. */
  readonly grpcAddress: string;
  /** Base URL of the HTTP door. */
  readonly httpUrl: string;
  /** Refuses new work, lets what lives end (at most drainGraceMs), then ends all threads. */
  stop(): Promise<void>;
  /** Resolves when the daemon cannot go on; the process should end then. */
  readonly failed: Promise<MetronomeError>;
}

/** Transitions kept for watch and explain, per remembered decision. */
const TRANSITIONS_PER_DECISION = 4;
const PRUNE_EVERY_MS = 60_000;
const REMEMBER_ENDED_MS = 24 * 3_600_000;
const BUNDLE_GRACE_MS = 3_600_000;
/** Agents that a restarted scheduler hears nothing of for so long beyond lostAfterMs count as gone. */
const RECOVERY_GRACE_MS = 5_000;

/** Starts the daemon. Rejects with PORT_IN_USE, STATE_LOCKED, STATE_CORRUPT or POLICY_UNKNOWN; then nothing is left running. */
export async function startDaemon(options: { readonly config: Config; readonly log: DaemonLog }): Promise<Daemon> {
  const { config, log } = options;
  const clock = createSystemClock();
  const nowMs = (): number => clock.nowMs();
  const startedAtMs = nowMs();
  const idPrefix = `inv-${Math.floor(startedAtMs).toString(36)}-`;
  const store = await openSqliteStore({ dir: join(config.scheduler.dataDir, 'store') });
  const cleanUp: (() => Promise<unknown> | void)[] = [() => store.close()];
  const undo = async (): Promise<void> => {
    for (const step of cleanUp.reverse()) await step();
  };
  try {
    const version = (JSON.parse(readFileSync(packageFile(), 'utf8')) as { version: string }).version;
    const tracing = createTracing(version, (node) => scheduler.cluster.name(node));
    const nodeTable = createNodeTable(config.limits.maxNodes);
    const inspector: Inspector = new Inspector({
      transitions: Math.max(1_024, config.limits.rememberDecisions * TRANSITIONS_PER_DECISION), decisions: () => scheduler.decisions,
      keep: config.inspect.keep, sampleEvery: config.inspect.sampleEvery, functions: listOf(config.inspect.functions),
    });
    const { transitions } = inspector;
    /** Connection of each node's last snapshot. */
    const connections = new Int32Array(config.limits.maxNodes);
    const stateAge = new Recent(), releaseSeen = new Recent();
    const { promise: failed, resolve: fail } = Promise.withResolvers<MetronomeError>();
    let post: (message: LoopMessage) => void = () => {};

    const forest = config.scheduler.predictor === 'forest' ? startForest(forestOptions(config, { clock, log, profileOf: (index) => profileOf(scheduler, index), functionName: (index) => scheduler.functions.entries[index]?.settings.name ?? '', nodeName: (node) => scheduler.cluster.name(node) })) : undefined;
    cleanUp.push(() => forest?.stop());
    const schedulerOptions: SchedulerOptions = {
      ...schedulerParameters(config), clock, seed: Math.floor(startedAtMs) % 2 ** 31,
      maxNodes: config.limits.maxNodes, maxObjects: 1_000_000, rememberDecisions: Math.max(1, config.limits.rememberDecisions), idPrefix, nodeTable,
      predictor: forest?.predictor ?? createMovingAveragePredictor(),
      transport: {
        execute(invocation, node) {
          const sentAtMs = scheduler.cluster.sentAtMs(node);
          if (sentAtMs > 0) stateAge.add(scheduler.nowMs - sentAtMs);
          if ((invocation.cargo as Cargo).durable) sendDurable(invocation, node);
          else send(invocation, node, connections[node] as number);
        },
        cancel: (invocation, node) => links.command({ kind: 'cancel', node, id: invocation.id }),
        prewarm(functionName, node, count) {
          const definition = registry.functions.get(functionName);
          if (definition === undefined) return;
          // A wish of the policy: what comes of it shows in the node's state.
          links.prewarm(node, definition, count).catch((error: unknown) => log.debug({ function: functionName, node: scheduler.cluster.name(node), error: MetronomeError.from(error).message }, 'prewarm.failed'));
        },
        evict(functionName, node, count) {
          links.evict(node, functionName, count).catch((error: unknown) => log.debug({ function: functionName, node: scheduler.cluster.name(node), error: MetronomeError.from(error).message }, 'evict.failed'));
        },
      },
      observer: {
        transitioned(invocation, from, to, event) {
          inspector.transitioned(invocation, from, to, event);
          const { trace } = invocation.cargo as Cargo;
          if (trace !== undefined) tracing?.transitioned(trace, invocation, from, to, event);
        },
        decided: (invocation) => inspector.decided(invocation),
        settled(invocation) {
          inspector.settled(invocation);
          work.settled(invocation);
        },
        nodeChanged(node, status) {
          // Its streams may stand although it was silent for too long: broken, they make it register again, with a snapshot.
          if (status === LOST) links.disconnect(node);
          log.info({ node: scheduler.cluster.name(node), status }, 'node.changed');
        },
      },
    };
    const recording = config.recording.dir === '' ? undefined : startRecording({
      scheduler: schedulerOptions, log, version, purposeOf, model: forest === undefined ? undefined : { ...modelOptions(config), updatePauseMs: config.model.updatePauseMs }, dir: config.recording.dir, segmentBytes: config.recording.segmentBytes, maxBytes: config.recording.maxBytes, onFull: config.recording.onFull, keep: config.recording.keep,
      context: () => ({ functions: scheduler.functions.entries.filter(({ deleted }) => !deleted).map(({ settings }) => settings), nodes: scheduler.cluster.info }),
    });
    cleanUp.push(() => recording?.stop());
    const scheduler: Scheduler = recording === undefined ? new Scheduler(schedulerOptions) : createTappedScheduler(schedulerOptions, recording.recorder);
    cleanUp.push(() => scheduler.stop());
    scheduler.setShadow(config.scheduler.shadowPolicy);
    const links = startLinks(nodeTable, (events) => {
      for (const event of events) onLinkEvent(event);
    });
    cleanUp.push(() => links.stop());
    const registry = new Registry({ store, scheduler, links, maxFunctions: config.limits.maxFunctions, nowMs });
    const retention = new Retention({ nowMs, log, command: (command) => links.command(command), forHolders: (object, each) => scheduler.objects.forHolders(object, each) });
    cleanUp.push(() => retention.stop());
    const work: Work = new Work({
      retention, tracing, scheduler, registry, store, nowMs, idPrefix, engine: config.scheduler.engine, log,
      post: (message) => post(message),
      acknowledge: (node, id) => links.command({ kind: 'acknowledge', node, id }),
      rememberInvocations: config.limits.rememberInvocations, maxWorkflowRuns: config.limits.maxWorkflowRuns, maxLive: config.limits.maxLive, maxPayloadBytes: config.limits.maxPayloadBytes,
    });
    const recovery = new Recovery(work);
    cleanUp.push(() => recovery.stop());

    /** What a recording says of a step beside what the scheduler knows: what it waits for in its run. */
    function purposeOf(cargo: unknown): Purpose | undefined {
      const { run, step, call } = cargo as Cargo; // all invocations here carry it
      if (run === undefined) return undefined;
      const name = step.replace(/\[\d+\]$/, '');
      const after = registry.workflows.get(run.name)?.spec?.steps.find((known) => known.name === name)?.after ?? [];
      return { run: run.id, workflow: run.name, runArrivedAtMs: run.arrivedAtMs, runSlaMs: run.slaMs, step: name, call, after };
    }

    function send(invocation: Invocation, node: number, connection: number): void {
      const cargo = invocation.cargo as Cargo; // all invocations here carry it
      const definition = registry.functions.get(invocation.functionName);
      const holderUrls: Record<string, string> = {};
      const inputs = invocation.inputs.map((input) => {
        const holders = scheduler.objects.holderNames(input);
        for (const holder of holders) {
          const info = scheduler.cluster.info[scheduler.cluster.indexOf(holder)];
          if (info !== undefined) holderUrls[holder] = info.dataUrl;
        }
        return { id: input.id, sizeBytes: input.sizeBytes, digest: input.digest, name: input.name, holders };
      });
      links.command({
        kind: 'execute',
        node,
        connection,
        execute: {
          invocationId: invocation.id, attempt: invocation.attempt, function: invocation.functionName, version: definition?.version ?? '', payload: cargo.payload as Buffer, contentType: cargo.contentType,
          inputs, holderUrls, deadlineUnixMs: Number.isFinite(invocation.expiresAtMs) ? invocation.expiresAtMs : 0, traceparent: cargo.traceparent,
          owner: cargo.runId, ownerTtlMs: cargo.runId === '' ? 0 : LEASE_MS,
        },
      });
      if (cargo.runId !== '') retention.dispatched(cargo.runId, node);
    }

    /** What must survive a restart is sent only after the store knows where it went. */
    function sendDurable(invocation: Invocation, node: number): void {
      const { attempt } = invocation;
      const connection = connections[node] as number;
      const isStillThere = (): boolean => scheduler.live.get(invocation.id) === invocation && invocation.node === node && invocation.attempt === attempt;
      store.markDispatched(invocation.id, scheduler.cluster.name(node), scheduler.cluster.info[node]?.epoch ?? 0, attempt).then(
        (noted) => {
          if (noted && isStillThere() && invocation.cancelError === undefined) send(invocation, node, connection);
          else if (isStillThere()) scheduler.rejected(invocation.id, node, invocation.cancelError ?? { code: 'INTERNAL', message: 'It ended before it was sent.', component: 'scheduler', invocationId: invocation.id });
        },
        (error: unknown) => {
          log.error({ err: error, id: invocation.id }, 'store.markDispatched.failed');
          if (isStillThere()) scheduler.rejected(invocation.id, node, MetronomeError.from(error).toRecord());
        },
      );
    }

    function applyChange(node: number, change: LocalityChange): void {
      for (const set of change.packageSetsAdded) scheduler.setPackages(set, node, true);
      for (const set of change.packageSetsRemoved) scheduler.setPackages(set, node, false);
      for (const { id, unpackedBytes } of change.packagesAdded) scheduler.packageAdded(node, id, unpackedBytes);
      for (const id of change.packagesRemoved) scheduler.packageRemoved(node, id);
      for (const zygote of change.zygotes) scheduler.setZygote(node, zygote);
      for (const warm of change.warm) scheduler.setWarm(warm.function, warm.version, node, warm.idle, warm.busy);
      for (const object of change.objectsAdded) scheduler.objectAdded(object.id, object.sizeBytes, node);
      for (const id of change.objectsRemoved) scheduler.objectRemoved(id, node);
    }

    function onLinkEvent(event: LinkEvent): void {
      switch (event.kind) {
        case 'result': {
          if (!scheduler.result(event.id, event.node, event.result)) {
            // Nobody waits for it any more: the agent may forget it, unless its end is not stored yet.
            if (!work.storing.has(event.id)) links.command({ kind: 'acknowledge', node: event.node, id: event.id });
            return;
          }
          // An attempt that is followed by another one; of the last one the agent is told when its end is stored.
          if (scheduler.live.has(event.id)) links.command({ kind: 'acknowledge', node: event.node, id: event.id });
          releaseSeen.add(scheduler.nowMs - event.result.releasedAtMs);
          return;
        }
        case 'started':
          return scheduler.started(event.id, event.node, event.startState);
        case 'rejected':
          return scheduler.rejected(event.id, event.node, event.error);
        case 'delta':
          return applyChange(event.node, event.change);
        case 'snapshot':
          scheduler.forgetLocality(event.node);
          applyChange(event.node, event.change);
          // What was decided before this snapshot and is not in it will not be sent any more: the link refuses it.
          connections[event.node] = event.connection;
          scheduler.nodeSnapshot(event.node, event.slots, event.running, Infinity);
          retention.nodeReported(event.node, event.epoch);
          recovery.nodeReported(scheduler.cluster.name(event.node), event.node, event.epoch);
          return;
        case 'disconnected':
          return scheduler.nodeDisconnected(event.node);
        case 'gone':
          return scheduler.nodeGone(event.node);
        case 'answered':
          return;
      }
    }

    await registry.load();
    // Before anybody can register: an agent's first snapshot must find what it is to decide on.
    const resumed = await recovery.begin(store, config.nodes.lostAfterMs + RECOVERY_GRACE_MS);
    if (resumed > 0) log.info({ invocations: resumed }, 'recovery.began');
    const gateway = (config.scheduler.gateway === 'process' ? spawnGatewayProcess : spawnGatewayThread)({
      ...DEFAULT_GATEWAY_CONFIG, host: config.scheduler.host, grpcPort: config.scheduler.grpcPort, httpPort: config.scheduler.httpPort, maxPayloadBytes: config.limits.maxPayloadBytes, maxInputs: config.limits.maxInputs,
      maxInFlight: config.limits.maxInFlight, maxStreamInFlight: config.limits.maxInFlight, reflection: config.scheduler.reflection, inspectClients: config.inspect.clients, inspectHosts: listOf(config.inspect.hosts), origins: listOf(config.scheduler.origins), version, logLevel: config.scheduler.logLevel,
      recordings: { dir: config.recording.dir, running: recording === undefined ? '' : basename(recording.folder) },
    });
    cleanUp.push(() => gateway.kill());
    post = (message) => gateway.line.post(message);
    const model = createModelDesk({ scheduler, forest, maxNames: config.limits.maxFunctions });
    const cells = new NodeCells(scheduler);
    let pageUrl = '';
    const feed = new InspectFeed({
      scheduler, inspector, cells, workflow: work.flow, model: forest?.flow, nowMs, version, startedAtMs, post: (message) => post(message),
      counters: () => ({ workflowRuns: work.runs.size, transitions: transitions.next, detailed: inspector.details.selected, notDetailed: inspector.details.leftOut }),
    });
    cleanUp.push(() => feed.close());
    const inspect = createInspectDesk({ scheduler, work, cells, nowMs });
    const control = createControl({ recording, model, scheduler, registry, work, store, links, inspector, inspect, pageUrl: () => pageUrl, stateAge, releaseSeen, nowMs, startedAtMs, version, localityThreshold: config.delay.localityThreshold, pushIntervalMs: config.nodes.pushIntervalMs });
    const watchers = new Watchers(transitions, work, scheduler, (message) => post(message));

    const answer = async (call: number, method: ControlMethod, request: unknown): Promise<void> => {
      try {
        // The protocol pairs each method with its request; the table cannot express it.
        const response: unknown = await (control[method] as (given: unknown) => unknown)(request);
        post({ kind: 'reply', call, response });
      } catch (error) {
        const known = MetronomeError.from(error);
        if (known.code === 'INTERNAL') log.error({ err: error, method }, 'control.failed');
        post({ kind: 'failed', call, error: known.toRecord() });
      }
    };
    const { promise: listening, resolve: nowListening, reject: notListening } = Promise.withResolvers<{ grpcPort: number; httpPort: number }>();
    gateway.line.onMessage((message: GatewayMessage) => {
      switch (message.kind) {
        case 'submit': return work.submit(message.items);
        case 'cancel': return work.cancelTickets(message.tickets);
        case 'call': return void answer(message.call, message.method, message.request);
        case 'watch': return watchers.open(message.call, message.request);
        case 'inspect': return message.wanted ? feed.open() : feed.close();
        case 'endCall': return watchers.close(message.call);
        case 'listening': return nowListening(message);
        case 'fatal': {
          const error = MetronomeError.fromRecord(message.error);
          notListening(error);
          return fail(error);
        }
      }
    });
    let stopping = false;
    void gateway.exited.then((code) => {
      if (stopping) return;
      const error = new MetronomeError('INTERNAL', `The gateway ended unexpectedly with code ${code}.`);
      notListening(error);
      fail(error);
    });
    void store.failed.then(fail);
    void links.failed.then(fail);
    const ports = await listening;
    pageUrl = `http://${formatAddress(config.scheduler.host, ports.httpPort)}/inspect/`;
    const prune = setInterval(() => {
      store.pruneEnded(REMEMBER_ENDED_MS, config.limits.rememberInvocations).then(() => store.pruneBundles(BUNDLE_GRACE_MS)).catch((error: unknown) => log.warn({ err: error }, 'store.prune.failed'));
    }, PRUNE_EVERY_MS);
    cleanUp.push(() => clearInterval(prune));
    post({ kind: 'serving', serving: true });
    log.info({ grpcPort: ports.grpcPort, httpPort: ports.httpPort, policy: scheduler.policyName, functions: registry.functions.size }, 'scheduler.listening');

    let stopped: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      stopping = true;
      scheduler.drain();
      post({ kind: 'serving', serving: false });
      log.info({ inHand: work.inHand }, 'scheduler.draining');
      const until = nowMs() + config.scheduler.drainGraceMs;
      while (work.inHand > 0 && nowMs() < until) await new Promise((resolve) => setTimeout(resolve, 20));
      if (work.inHand > 0) log.warn({ inHand: work.inHand }, 'scheduler.drain.cutOff');
      for (const invocation of [...scheduler.live.values()]) {
        // What is durable goes on after the restart, runs of workflows included; the others' callers learn that it is over.
        const { durable, run } = invocation.cargo as Cargo;
        if (!durable && run?.durable !== true) work.cancel(run?.id ?? invocation.id, 'The scheduler shut down.');
      }
      post({ kind: 'stop', graceMs: 1_000 });
      await Promise.race([gateway.exited, new Promise((resolve) => setTimeout(resolve, 3_000).unref())]);
      await undo();
      log.info({}, 'scheduler.stopped');
    };
    return { grpcAddress: `${config.scheduler.host}:${ports.grpcPort}`, httpUrl: `http://${config.scheduler.host}:${ports.httpPort}`, failed, stop: () => (stopped ??= stop()) };
  } catch (error) {
    await undo();
    throw error;
  }
}

/** The names in a setting that is separated by commas. */
function listOf(text: string): string[] {
  return text === '' ? [] : text.split(',');
}

/** What the model needs, from the configuration. */
function forestOptions(config: Config, rest: Pick<ForestOptions, 'clock' | 'log' | 'profileOf' | 'functionName' | 'nodeName'>): ForestOptions {
  const { model, scheduler, limits } = config;
  return {
    ...rest, engine: scheduler.engine, threads: model.threads, lateAfterMs: model.lateAfterMs, maxRows: limits.maxNodes, dir: join(scheduler.dataDir, 'model'), snapshotEveryMs: model.snapshotEveryMs, updatePauseMs: model.updatePauseMs,
    model: modelOptions(config),
    recording: model.observationLog === '' ? undefined : { folder: model.observationLog, maxBytes: model.observationLogFileBytes, files: model.observationLogFiles },
  };
}

/** The knobs of the model. It must not depend on when it was started: the same observations give the same trees. */
function modelOptions({ model }: Config): OnlineModelOptions {
  return { seed: 1, trainer: model.trainer, trees: model.trees, window: model.window, bootstrapAfter: model.bootstrapAfter, updateEvery: model.updateEvery, replace: model.replace, forgetting: model.forgetting };
}

function profileOf(scheduler: Scheduler, index: number): Omit<FunctionProfile, 'index'> | undefined {
  const entry = scheduler.functions.entries[index];
  return entry === undefined ? undefined : { name: entry.settings.name, ...(entry.settings.profile ?? UNKNOWN_PROFILE) };
}

/** package.json stands two folders up in the source, three in the build. */
function packageFile(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? '../../package.json' : '../../../package.json', import.meta.url);
}
