/**
 * The agent of a node: runs functions in sandboxes, keeps objects, and tells the scheduler about both. This file puts the
 * parts together and takes them apart again; executor.ts is the centre. The contract of handlers stands at the top of
 * sandbox/shims/node-shim.mjs and sandbox/shims/python-shim.py.
 *
 * dataDir: epoch, metronome.lock, isolation/, bundles/<digest>, packages/<package>, layers/<package set>, sandboxes/<id> (gone after stop), objects/.
 */
import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { MetronomeError } from '../core/errors.ts';
import { createClient, type SchedulerClient } from '../rpc/client.ts';
import { AgentServiceService, type AgentServiceServer, type DispatchCommand, type NodeMetrics } from '../rpc/gen/metronome/v1/agent.ts';
import { unaryHandler } from '../rpc/handlers.ts';
import { createRpcServer, formatAddress, rpcService, type RpcServer } from '../rpc/server.ts';
import { lockDirectory } from '../store/directory-lock.ts';
import type { AgentLog, AgentOptions } from './agent-options.ts';
import { ProgramCache } from './packages/program-cache.ts';
import { startDataThread } from './objects/data-thread.ts';
import { DispatchHub } from './dispatch-hub.ts';
import { nextEpoch } from './epoch.ts';
import { Executor } from './executor.ts';
import { readLinkRate } from './metrics/link-rate.ts';
import { openNodeMetrics } from './metrics/node-metrics.ts';
import { ObjectFetcher } from './objects/object-fetch.ts';
import { ObjectStore } from './objects/object-store.ts';
import { openIsolation } from './sandbox/open-isolation.ts';
import { createKeepAlive } from './sandbox/keep-alive/registry.ts';
import { MemoryBudget } from './sandbox/memory-budget.ts';
import { createPythonLookup } from './sandbox/python-interpreter.ts';
import { startRegistration, type Registration } from './registration.ts';
import { SandboxPool } from './sandbox/sandbox-pool.ts';
import { StateHub } from './state-hub.ts';
import { ZygoteKeeper } from './zygotes/zygote-keeper.ts';

export type { AgentLog, AgentOptions } from './agent-options.ts';

/** An agent that runs. */
export interface RunningAgent {
  readonly name: string;
  /** host:port of its AgentService. */
  readonly grpcAddress: string;
  /** Base URL of its object store. */
  readonly dataUrl: string;
  readonly epoch: number;
  /** Takes no new work, waits at most `graceMs` for what runs and for its results to be acknowledged, then cancels the rest. Call `stop` after it. */
  drain(graceMs: number): Promise<void>;
  /** Ends everything at once: afterwards no process, no open port and no sandbox directory is left. Calling it again returns the same promise. */
  stop(): Promise<void>;
  /** Resolves when it cannot go on; stop it then. */
  readonly failed: Promise<MetronomeError>;
}

const MAX_PREWARM = 64;
/** While all slots are busy, zygotes are made only as long as less than this share of the CPU is. */
const IDLE_CPU = 0.5;
/** A function may write files of twice the object quota (the store then says that it is full), and of this size at least. */
const LEAST_FILE_BYTES = 1024 ** 3;
/** Of a drain's grace, how long acknowledgements of cancelled work may take at least, ms. */
const LAST_WORDS_MS = 250;

/**
 * Starts an agent. Rejects with PORT_IN_USE, CONFIG_INVALID, STATE_LOCKED (another agent uses the directory) or NODE_NAME_TAKEN
 * (another living agent has the name); nothing is left running then. A scheduler that cannot be reached is no reason to
 * reject: the agent goes on trying.
 */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  // What was set up, to be taken down in reverse order.
  const teardown: (() => void | Promise<void>)[] = [];
  let stopping: Promise<void> | undefined;
  const takeDown = async (): Promise<void> => {
    for (let step = teardown.pop(); step !== undefined; step = teardown.pop()) await step();
  };
  const stop = (): Promise<void> => (stopping ??= takeDown());
  try {
    return await assemble(options, teardown, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function assemble(options: AgentOptions, teardown: (() => void | Promise<void>)[], stop: () => Promise<void>): Promise<RunningAgent> {
  const { name, host, slots, log } = options;
  await mkdir(options.dataDir, { recursive: true });
  // Sandboxes are found again by this path, whatever links lead to it.
  const dataDir = await realpath(options.dataDir);
  const lock = lockDirectory(dataDir, 0);
  teardown.push(() => lock.release());
  const epoch = await nextEpoch(dataDir);

  // The kernel does not see what the data plane imitates: then the rate is not known.
  const linkRate = options.linkRateBytesPerS || ((options.linkBytesPerS ?? 0) > 0 ? 0 : readLinkRate());
  const metrics = openNodeMetrics(options.metricsSource ?? 'auto', linkRate);
  teardown.push(() => metrics.close());
  const python = createPythonLookup(options.pythonPath);
  teardown.push(() => python.stop());

  const client = options.schedulerAddress === undefined ? undefined : createClient({ address: options.schedulerAddress });
  teardown.push(() => client?.close());

  // The parts tell it of changes as soon as they are there; readers come only at the end.
  let state: StateHub | undefined;
  let zygotes: ZygoteKeeper | undefined;
  const thread = startDataThread({ link: { bytesPerS: options.linkBytesPerS ?? 0, latencyMs: options.linkLatencyMs ?? 0 }, log });
  teardown.push(() => thread.stop());
  const store = await ObjectStore.open({
    dir: join(dataDir, 'objects'), node: name, quotaBytes: options.objectQuotaBytes, ttlMs: options.objectTtlMs ?? 0, digestOf: thread.digestOf,
    onAdded: (object) => state?.objectAdded(object), onRemoved: (id) => state?.objectRemoved(id),
  });
  teardown.push(() => store.close());
  const fetcher = new ObjectFetcher({ store, node: name, thread });
  teardown.push(() => fetcher.close());
  const programs = await ProgramCache.open({
    dataDir,
    packageQuotaBytes: options.packageQuotaBytes ?? 8 * 1024 ** 3,
    npmRegistry: options.npmRegistry ?? '',
    python: () => python.find(),
    fetchBundle: options.fetchBundle ?? ((digest) => fetchBundle(client, digest)),
    onSetAdded: (digest) => state?.packageSetAdded(digest),
    onSetRemoved: (digest) => {
      zygotes?.layerRetired(digest);
      state?.packageSetRemoved(digest);
    },
    onPackageAdded: (id, unpackedBytes) => state?.packageAdded({ id, unpackedBytes }),
    onPackageRemoved: (id) => state?.packageRemoved(id),
    log,
  });
  teardown.push(() => programs.close());

  const driver = await openIsolation({ choice: options.isolation ?? 'process', limits: options.limits ?? 'isolated', dataDir, python: () => python.find(), maxFileBytes: Math.max(LEAST_FILE_BYTES, 2 * options.objectQuotaBytes), log });
  await driver.sweep();
  teardown.push(() => driver.close());
  // In the background: the first Python function should not wait for it.
  python.find().catch((error: unknown) => log.info({ error: MetronomeError.from(error).message }, 'python.missing'));
  const budget = new MemoryBudget(options.memoryMb);
  const keeping = {
    policy: options.keepAlivePolicy ?? 'ttl', keepAliveMs: options.keepAliveMs,
    zygoteMemoryMb: options.zygotes === false ? 0 : Math.floor(options.memoryMb * (options.zygoteMemory ?? 0.25)),
  };
  zygotes = options.zygotes === false ? undefined : new ZygoteKeeper({
    driver,
    budget,
    limitMb: keeping.zygoteMemoryMb,
    stock: options.zygoteStock ?? 1,
    tryAcquire: (source) => programs.tryAcquire(source),
    hasTime: () => executor.runningCount < slots || machine.cpuUtilisation < IDLE_CPU,
    onChange: (kind, now) => state?.zygotesChanged(kind, now),
    log,
  });
  teardown.push(() => zygotes?.close());
  const pool = new SandboxPool({
    driver,
    budget,
    ...(zygotes === undefined ? {} : { zygotes }),
    keepAlive: createKeepAlive(keeping.policy, keeping.keepAliveMs),
    maxResultBytes: options.maxResultBytes,
    logBytes: options.logBytes,
    onChange: (functionName, isUrgent) => state?.warmChanged(functionName, isUrgent),
  });
  teardown.push(() => pool.close());

  let registration: Registration | undefined;
  const onStreams = (isOpen: boolean): void => {
    if (!isOpen) registration?.wake();
  };
  const dispatch = new DispatchHub({ onCommand: (command) => obey(command, executor, store, log), onStream: onStreams, log });
  const executor: Executor = new Executor({ slots, pool, programs, store, fetcher, events: dispatch, log, onSlots: (released) => state?.slotsChanged(released) });
  const nodeMetrics = (resample: boolean): NodeMetrics => {
    machine = resample ? metrics.sample() : machine;
    return {
      ...machine,
      fetchBytesPerS: fetcher.bytesPerS,
      running: executor.runningCount,
      idleSandboxes: pool.idleCount,
      zygotes: zygotes?.count ?? 0,
      sandboxMemoryMb: pool.residentMb,
      objectBytes: store.usedBytes,
      cachedPackages: programs.packageCount,
      packageBytes: programs.packageBytes,
      zygoteMemoryMb: zygotes?.residentMb ?? 0,
      transfers: fetcher.inFlight,
    };
  };
  let machine = metrics.sample();
  const readers = new StateHub({
    source: {
      epoch,
      slots,
      running: () => [...new Set([...executor.runningIds(), ...dispatch.unacknowledgedIds()])],
      warm: () => pool.warm(),
      warmOf: (functionName) => pool.warmOf(functionName),
      zygotes: () => zygotes?.states() ?? [],
      packageSets: () => programs.sets(),
      packages: () => programs.packages(),
      objects: () => store.list(),
      metrics: nodeMetrics,
    },
    intervalMs: options.pushIntervalMs,
    onReaders: onStreams,
  });
  state = readers;
  let rpc: RpcServer | undefined;
  teardown.push(() => rpc?.stop(LAST_WORDS_MS));
  // Work that is cancelled in the next step still tells its end on the streams, which end here.
  teardown.push(() => {
    dispatch.close();
    readers.close();
  });
  teardown.push(async () => {
    executor.refuse(new MetronomeError('DRAINING', `The agent "${name}" is shutting down.`));
    executor.cancelAll(new MetronomeError('NODE_LOST', `The agent "${name}" was stopped.`, { component: 'agent' }));
    await executor.whenIdle();
  });

  const dataPort = await thread.serve(store, host, options.dataPort);
  const service: AgentServiceServer = {
    watchState: (stream) => readers.attach(stream),
    dispatch: (stream) => dispatch.attach(stream),
    prewarm: unaryHandler(async ({ function: message, count, zygotes: isForZygotes }) => {
      const deployed = message === undefined ? undefined : executor.define(message);
      if (deployed === undefined || count < 1 || count > MAX_PREWARM) throw new MetronomeError('INVALID_REQUEST', `Prewarm needs a function with its spec and a count from 1 to ${MAX_PREWARM}, not ${count}.`, { component: 'agent' });
      if (!isForZygotes) return { idle: await pool.prewarm(deployed, count, () => programs.acquire(deployed)) };
      if (zygotes === undefined) throw new MetronomeError('INVALID_REQUEST', `The node "${name}" keeps no zygotes (agent.zygotes is off).`, { component: 'agent' });
      const program = await programs.acquire(deployed);
      try {
        return { idle: await zygotes.prewarm(pool.specOf(deployed, program), deployed, count) };
      } finally {
        program.release();
      }
    }),
    evict: unaryHandler(({ function: functionName, count, zygotes: isForZygotes }) => ({ evicted: isForZygotes ? (zygotes?.evict(functionName, count) ?? 0) : pool.evict(functionName, count) })),
  };
  const server = await createRpcServer({ host, port: options.grpcPort, services: [rpcService(AgentServiceService, service)], reflection: false });
  rpc = server;
  server.setServing(true);
  const grpcAddress = formatAddress(host, server.port);
  const dataUrl = `http://${formatAddress(host, dataPort)}`;

  if (client !== undefined) {
    registration = startRegistration({
      request: { name, address: grpcAddress, dataUrl, epoch, slots, memoryMb: options.memoryMb, isolation: [...driver.isolations], labels: { ...options.labels, metrics: metrics.source, limits: driver.limited.join('+') || 'none' }, keeping },
      register: (request, signal) => client.registerNode(request, { signal, timeoutMs: 5_000 }),
      isConnected: () => dispatch.isOpen && readers.hasReaders,
      onRegistered: ({ pushIntervalMs }) => readers.setInterval(pushIntervalMs),
      log,
    });
    teardown.push(() => registration?.stop());
    await registration.first;
  }
  log.info({ node: name, address: grpcAddress, dataUrl, epoch, slots, memoryMb: options.memoryMb, isolation: driver.isolations, limited: driver.limited, metrics: metrics.source }, 'agent.started');

  const drain = async (graceMs: number): Promise<void> => {
    executor.refuse(new MetronomeError('DRAINING', `The agent "${name}" is shutting down.`));
    server.setServing(false);
    registration?.stop();
    const untilMs = performance.now() + graceMs;
    await within(executor.whenIdle(), graceMs);
    executor.cancelAll(new MetronomeError('NODE_LOST', `The agent "${name}" was stopped before the invocation ended.`, { component: 'agent' }));
    await executor.whenIdle();
    if (dispatch.isOpen) await within(dispatch.whenAcknowledged(), Math.max(LAST_WORDS_MS, untilMs - performance.now()));
  };
  return { name, grpcAddress, dataUrl, epoch, drain, stop, failed: thread.failed };
}

function obey(command: DispatchCommand, executor: Executor, store: ObjectStore, log: AgentLog): void {
  const { execute, cancel, retain, release } = command;
  if (execute !== undefined) executor.execute(execute);
  else if (cancel !== undefined) executor.cancel(cancel);
  else if (retain !== undefined) {
    if (!store.retain(retain.owner, retain.objectIds, retain.ttlMs)) log.warn({ owner: retain.owner, objects: retain.objectIds.length }, 'objects.notRetained');
  } else if (release !== undefined) store.release(release.owner, release.objectIds);
}

async function fetchBundle(client: SchedulerClient | undefined, digest: string): Promise<Uint8Array> {
  if (client === undefined) throw new MetronomeError('BUNDLE_NOT_FOUND', `The agent has no scheduler to fetch the bundle ${digest} from.`, { component: 'agent' });
  const chunks: Uint8Array[] = [];
  for await (const { chunk } of client.getBundle({ digest }, { timeoutMs: 60_000 })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Waits for a promise, but no longer than `ms`. */
async function within(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([promise, new Promise<void>((resolve) => (timer = setTimeout(resolve, Math.max(0, ms))))]);
  clearTimeout(timer);
}
