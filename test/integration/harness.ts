/**
 * Whole systems for tests: a real daemon with real gRPC and HTTP on ports of its own, real agents with real sandboxes, and functions
 * whose source stands in the test. Agents live in this process or, to be killed, in processes of their own. `quiet` and
 * `close` assert that nothing leaked: no slot, waiting line, invocation, run, process or directory.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { startAgent, type RunningAgent } from '../../src/agent/agent.ts';
import { processesWithEnvironment } from '../../src/agent/sandbox/proc.ts';
import { startCluster, type Cluster as RealCluster } from '../../src/cli/cluster/cluster.ts';
import { packFunction } from '../../src/config/bundle.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { startDaemon, type Daemon } from '../../src/daemon/daemon.ts';
import { createClient, type CallOptions, type SchedulerClient } from '../../src/rpc/client.ts';
import type { PartialMessage } from '../../src/rpc/partial.ts';
import type { FunctionSpec } from '../../src/rpc/gen/metronome/v1/function.ts';
import { InvocationState, type Invocation, type InvokeRequest, type InvokeResponse } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus, type Node } from '../../src/rpc/gen/metronome/v1/node.ts';
import { start, type RunningProcess } from '../cli/run.ts';

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const MIB = 1024 ** 2;
/** Long enough for a machine under load; what is waited for normally comes within milliseconds. */
export const PATIENCE = { timeout: 15_000, interval: 10 } as const;
/** Processes that start one beside the other take much longer there. */
const START_PATIENCE = { timeout: 90_000, interval: 20 } as const;

/** A client with the helpers that every test needs. */
export interface Access {
  readonly client: SchedulerClient;
  readonly dir: string;
  /** Packs a handler and applies it as a function. */
  deploy(name: string, source: string, spec?: PartialMessage<FunctionSpec>): Promise<void>;
  /** Invokes with a JSON event. */
  call(name: string, event?: unknown, more?: PartialMessage<InvokeRequest>, options?: CallOptions): Promise<InvokeResponse>;
  /** Accepts asynchronously; returns the id. */
  callAsync(name: string, event?: unknown, more?: PartialMessage<InvokeRequest>): Promise<string>;
  /** One invocation as it is now. */
  look(id: string): Promise<Invocation>;
  /** One invocation once it ended. */
  ended(id: string): Promise<Invocation>;
  /** Waits until so many invocations of a function have called their handler; returns them, oldest first. */
  running(name: string, count?: number): Promise<Invocation[]>;
  /** Waits until so many of a function delay; returns them, oldest first. */
  delaying(name: string, count?: number): Promise<Invocation[]>;
  /** The nodes by name. */
  nodes(): Promise<Record<string, Node>>;
  /** A path in a folder for the side effects of functions; each name is new. */
  scratch(): string;
  /** Waits until nothing lives, and asserts that nothing is held. */
  quiet(): Promise<void>;
}

/** A system with the daemon in this process. */
export interface TestCluster extends Access {
  readonly daemon: Daemon;
  readonly config: Config;
  /** By name. In this process. */
  readonly agents: Map<string, RunningAgent>;
  /** By name. In processes of their own. */
  readonly agentProcesses: Map<string, RunningProcess>;
  startAgent(name: string): Promise<RunningAgent>;
  /** Starts an agent as a process and does not wait for it. */
  spawnAgent(name: string, dataDir?: string): RunningProcess;
  /** SIGKILL for the process of an agent. */
  killAgent(name: string): Promise<void>;
  untilStatus(name: string, status: NodeStatus, patience?: { readonly timeout: number; readonly interval: number }): Promise<void>;
  close(): Promise<void>;
}

/** What the system consists of. */
export interface ClusterOptions {
  readonly nodes?: number;
  readonly slots?: number;
  /** Dotted configuration keys. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Agents as processes of their own, which can be killed. */
  readonly processes?: boolean;
  /** Further flags of these processes. */
  readonly agentArgs?: readonly string[];
  readonly agent?: Partial<Pick<Parameters<typeof startAgent>[0], 'memoryMb' | 'keepAliveMs' | 'limits' | 'maxResultBytes' | 'logBytes' | 'objectQuotaBytes' | 'npmRegistry'>>;
}

/** Starts a system and waits until all nodes are ready. */
export async function openCluster(options: ClusterOptions = {}): Promise<TestCluster> {
  const { nodes = 2, slots = 2 } = options;
  const childrenBefore = new Set(childrenOf(process.pid));
  const dir = await mkdtemp(join(tmpdir(), 'metronome-it-'));
  const { config } = loadConfig({
    cwd: dir,
    flags: { 'scheduler.grpcPort': 0, 'scheduler.httpPort': 0, 'scheduler.dataDir': join(dir, 'scheduler'), 'scheduler.logLevel': 'silent', 'nodes.staleAfter': '1s', ...options.config },
  });
  const daemon = await startDaemon({ config, log: silent });
  const client = createClient({ address: daemon.grpcAddress, channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  const agents = new Map<string, RunningAgent>();
  const agentProcesses = new Map<string, RunningProcess>();
  const access = accessTo(client, dir);
  const cluster: TestCluster = {
    ...access, daemon, config, agents, agentProcesses,
    async startAgent(name) {
      const agent = await startAgent({
        name, host: '127.0.0.1', grpcPort: 0, dataPort: 0, schedulerAddress: daemon.grpcAddress, slots, memoryMb: 2_048, dataDir: join(dir, name), keepAliveMs: 60_000, pushIntervalMs: 50,
        objectQuotaBytes: 512 * MIB, maxResultBytes: config.limits.maxResultBytes, logBytes: 65_536, log: silent, ...options.agent,
      });
      agents.set(name, agent);
      return agent;
    },
    spawnAgent(name, dataDir = join(dir, name)) {
      const started = start(['agent', '--scheduler', daemon.grpcAddress, '--name', name, '--slots', String(slots), '--memory', '2GiB', '--data-dir', dataDir, '--grpc-port', '0', '--data-port', '0', '--log-level', 'warn', '--drain-grace', '1s', ...(options.agentArgs ?? [])], { cwd: dir });
      agentProcesses.set(name, started);
      return started;
    },
    async killAgent(name) {
      const running = agentProcesses.get(name);
      agentProcesses.delete(name);
      running?.child.kill('SIGKILL');
      await running?.ended;
    },
    async untilStatus(name, status, patience = PATIENCE) {
      await vi.waitFor(async () => expect((await access.nodes())[name]?.status ?? 0).toBe(status), patience);
    },
    async close() {
      client.close();
      for (const running of agentProcesses.values()) running.child.kill('SIGTERM');
      await Promise.all([...agentProcesses.values()].map((running) => running.ended));
      await Promise.all([...agents.values()].map((agent) => agent.stop()));
      await daemon.stop();
      await assertNothingLeft(dir, [daemon.grpcAddress, daemon.httpUrl, ...[...agents.values()].map((agent) => agent.grpcAddress)]);
      await vi.waitFor(() => expect(childrenOf(process.pid).filter((pid) => !childrenBefore.has(pid))).toEqual([]), PATIENCE);
      await rm(dir, { recursive: true });
    },
  };
  const names = Array.from({ length: nodes }, (_, i) => `node-${i + 1}`);
  if (options.processes === true) for (const name of names) cluster.spawnAgent(name);
  else await Promise.all(names.map((name) => cluster.startAgent(name)));
  for (const name of names) await cluster.untilStatus(name, NodeStatus.READY, START_PATIENCE);
  return cluster;
}

/** The embedded cluster: every part a process, restarted when it dies. */
export interface ProcessCluster extends Access {
  readonly cluster: RealCluster;
  readonly httpUrl: string;
  /** SIGKILL for the scheduler's process; resolves when `meanwhile` is done and a new one answers. */
  killScheduler(meanwhile?: () => unknown): Promise<void>;
  close(): Promise<void>;
}

/** Starts the embedded cluster. */
export async function openProcessCluster(nodes: number, slots: number, schedulerArgs: readonly string[] = []): Promise<ProcessCluster> {
  const dir = await mkdtemp(join(tmpdir(), 'metronome-it-'));
  await mkdir(join(dir, 'logs'));
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('METRONOME_')));
  const events: string[] = [];
  const cluster = await startCluster({
    nodes, slots, memoryBytes: 2_048 * MIB, namePrefix: 'node', dataDir: dir, grpcPort: 0, httpPort: 0, commonArgs: [], schedulerArgs: ['--log-level', 'warn', ...schedulerArgs], drainGraceMs: 2_000,
    cwd: dir, env, signal: new AbortController().signal, progress: () => {}, onEvent: (event) => events.push(JSON.stringify(event)),
  });
  const client = createClient({ address: cluster.grpcAddress, channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  return {
    ...accessTo(client, dir), cluster, httpUrl: cluster.httpUrl,
    async killScheduler(meanwhile = () => {}) {
      // Some agents may have been killed just before; the scheduler is the first, if it runs.
      const [pid] = cluster.pids;
      if (pid === undefined) throw new Error(`no process runs: ${events.join('\n')}`);
      process.kill(pid, 'SIGKILL');
      await meanwhile();
      try {
        await vi.waitFor(() => expect(cluster.pids.length === nodes + 1 && cluster.pids[0] !== pid).toBe(true), PATIENCE);
        await vi.waitFor(() => client.getStatus({}, { timeoutMs: 1_000 }), { timeout: 20_000, interval: 50 });
      } catch (cause) {
        throw new Error(`the scheduler did not come back: ${events.join('\n')}\n${readFileSync(join(dir, 'logs', 'scheduler.log'), 'utf8').slice(-4_000)}`, { cause });
      }
    },
    async close() {
      client.close();
      const pids = [...cluster.pids];
      await cluster.stop();
      for (const pid of pids) expect(existsSync(`/proc/${pid}`)).toBe(false);
      await assertNothingLeft(dir, [cluster.grpcAddress, cluster.httpUrl]);
      await rm(dir, { recursive: true });
    },
  };
}

function accessTo(client: SchedulerClient, dir: string): Access {
  let names = 0;
  mkdirSync(join(dir, 'scratch'));
  const nodes = async (): Promise<Record<string, Node>> => Object.fromEntries((await client.listNodes({})).nodes.map((node) => [node.name, node]));
  const look = async (id: string): Promise<Invocation> => {
    const { invocation } = await client.getInvocation({ invocationId: id });
    if (invocation === undefined) throw new Error(`no invocation ${id}`);
    return invocation;
  };
  const inState = async (name: string, state: InvocationState, count: number, fits: (invocation: Invocation) => boolean): Promise<Invocation[]> =>
    vi.waitFor(async () => {
      const found = (await client.listInvocations({ function: name, state, limit: 1_000 })).invocations.filter(fits);
      expect(found.length).toBeGreaterThanOrEqual(count);
      return found.reverse();
    }, PATIENCE);
  return {
    client, dir, nodes, look,
    async deploy(name, source, spec = {}) {
      const isPython = spec.runtime === 'python3';
      const folder = await mkdtemp(join(dir, 'code-'));
      await writeFile(join(folder, isPython ? 'handler.py' : 'handler.mjs'), source);
      const bundle = await packFunction(folder);
      await client.applyFunction({
        spec: { name, runtime: 'node', handler: isPython ? 'handler.py' : 'handler.mjs', memoryMb: 128, cpu: 1, timeoutMs: 20_000, slaMs: 10_000, reuse: true, ...spec },
        bundle: Buffer.from(bundle),
      });
    },
    call: (name, event, more = {}, options) => client.invoke({ function: name, payload: json(event), ...more }, options),
    async callAsync(name, event, more = {}) {
      return (await client.invokeAsync({ request: { function: name, payload: json(event), ...more } })).invocationId;
    },
    async ended(id) {
      const { invocation } = await client.getInvocation({ invocationId: id, waitMs: 20_000 });
      if (invocation === undefined || invocation.state < InvocationState.COMPLETED) throw new Error(`${id} did not end: state ${invocation?.state}, ${invocation?.reason}`);
      return invocation;
    },
    running: (name, count = 1) => inState(name, InvocationState.DISPATCHED, count, ({ reason }) => reason === 'started'),
    delaying: (name, count = 1) => inState(name, InvocationState.DELAYING, count, () => true),
    scratch: () => join(dir, 'scratch', `s${names++}`),
    async quiet() {
      await vi.waitFor(async () => {
        const status = await client.getStatus({});
        const { workflowRuns, storedOpen } = status.counters;
        expect({ live: status.live, locality: status.delayingForLocality, capacity: status.delayingForCapacity, states: status.states, workflowRuns, storedOpen })
          .toEqual({ live: 0, locality: 0, capacity: 0, states: {}, workflowRuns: 0, storedOpen: 0 });
        const living = Object.values(await nodes()).filter((node) => node.status === NodeStatus.READY || node.status === NodeStatus.DRAINING);
        for (const { name, slotsUsed, waiting, metrics, warm } of living) {
          const held = [slotsUsed, waiting, metrics?.running, ...warm.map(({ busy }) => busy)];
          expect(held.some((count) => count !== 0), `${name}: slots ${slotsUsed}, waiting ${waiting}, running ${metrics?.running}, warm ${JSON.stringify(warm)}`).toBe(false);
          // What is left of processes are the idle warm sandboxes and the zygotes; each has its directory and nothing lies in it.
          const idle = warm.reduce((sum, each) => sum + each.idle, 0) + (metrics?.zygotes ?? 0);
          const sandboxes = join(dir, name, 'sandboxes');
          expect(readdirSync(sandboxes), name).toHaveLength(idle);
          expect(sandboxProcesses(join(dir, name)), name).toHaveLength(idle);
          for (const sandbox of readdirSync(sandboxes)) for (const kind of ['in', 'out']) expect(listing(join(sandboxes, sandbox, kind))).toEqual([]);
        }
      }, PATIENCE);
    },
  };
}

/** A JSON payload; undefined is an empty one. */
export function json(value: unknown): Buffer {
  return value === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(value));
}

/** The JSON of a response. */
export function valueOf(response: Pick<InvokeResponse, 'payload'> | undefined): unknown {
  const text = Buffer.from(response?.payload ?? []).toString('utf8');
  return text === '' ? undefined : JSON.parse(text);
}

/** Asserts that a promise fails with this code, and returns the error. */
export async function failure(promise: Promise<unknown>, code: ErrorCode): Promise<MetronomeError> {
  const outcome: unknown = await promise.then((value) => ({ unexpected: value }), (error: unknown) => error);
  if (!(outcome instanceof MetronomeError)) throw new Error(`expected ${code}, got ${JSON.stringify(outcome)}`, { cause: outcome });
  expect(`${outcome.code}: ${outcome.message}`).toMatch(new RegExp(`^${code}: `));
  return outcome;
}

/** Lets functions go on that wait for this path. */
export function openGate(path: string): void {
  writeFileSync(path, '');
}

/** Lines that functions appended to a file; none if there is no file. */
export function linesOf(path: string): string[] {
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter((line) => line !== '') : [];
}

/** Processes of sandboxes below a folder, children of functions included. */
export function sandboxProcesses(dir: string): number[] {
  return processesWithEnvironment(`METRONOME_SANDBOX=${dir}/`);
}

async function assertNothingLeft(dir: string, addresses: readonly string[]): Promise<void> {
  await vi.waitFor(() => expect(sandboxProcesses(dir)).toEqual([]), PATIENCE);
  for (const name of readdirSync(dir)) expect(listing(join(dir, name, 'sandboxes')), name).toEqual([]);
  for (const address of addresses) expect(await isListening(Number(/:(\d+)\/?$/.exec(address)?.[1])), address).toBe(false);
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Living processes whose parent is this one. */
function childrenOf(parent: number): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      const [state, ppid] = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
      return Number(ppid) === parent && state !== 'Z';
    } catch {
      return false; // it is gone
    }
  });
}

function listing(path: string): string[] {
  return existsSync(path) ? readdirSync(path) : [];
}

/**
 * A handler for everything: `log` appends "<id> <attempt>" to a file, `gate` waits for a file to appear, then `op` says what to do.
 * What is not JSON comes back as it is.
 */
export const TOOL = `
import { appendFileSync, existsSync } from 'node:fs';
let runs = 0;
export async function handler(event, context) {
  runs++;
  if (Buffer.isBuffer(event)) return event;
  const { op = 'echo', log, gate, value } = event ?? {};
  if (log !== undefined) appendFileSync(log, context.invocationId + ' ' + context.attempt + '\\n');
  if (gate !== undefined) while (!existsSync(gate)) await new Promise((resolve) => setTimeout(resolve, 5));
  switch (op) {
    case 'echo': return { value, runs, pid: process.pid, deadlineMs: context.deadlineMs, remainingMs: context.remainingMs(), attempt: context.attempt, id: context.invocationId };
    case 'throw': throw new RangeError('the value ' + value + ' is out of range');
    case 'hang': for (;;);
    case 'sleep': await new Promise((resolve) => setTimeout(resolve, value)); return value;
    case 'exit': console.error('going'); process.exit(value);
    case 'print': { const block = 'x'.repeat(1 << 20); for (let i = 0; i < value; i++) process.stdout.write(block); return value; }
    case 'allocate': { const kept = []; for (;;) kept.push(Buffer.alloc(8 << 20, 1)); }
    case 'heap': { const kept = []; for (;;) kept.push(new Array(1e5).fill(kept.length + 0.5)); }
    case 'large': return 'x'.repeat(value);
  }
}
`;
