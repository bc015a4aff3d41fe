/** The embedded cluster: a scheduler and some agents, each a process, on loopback or in an emulated network. */
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { killNow, processesWithEnvironment } from '../../agent/sandbox/proc.ts';
import { MetronomeError } from '../../core/errors.ts';
import { createClient } from '../../rpc/client.ts';
import { NodeStatus } from '../../rpc/gen/metronome/v1/node.ts';
import { statusWord } from '../output/words.ts';
import { openEmulation, type Emulation } from './emulation/emulation.ts';
import { isWanted, type EmulationRequest } from './emulation/plan.ts';
import { boundLog, logTail } from './log-file.ts';
import { superviseProcess, type ProcessEvent, type SupervisedProcess } from './supervised-process.ts';

/** What the cluster consists of. */
export interface ClusterOptions {
  readonly nodes: number;
  readonly slots: number;
  readonly memoryBytes: number;
  readonly namePrefix: string;
  /** Folder of everything; there must be a folder "logs" in it. */
  readonly dataDir: string;
  /** Ports of the front doors; 0: free ones. */
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Further arguments of every process, for example --config. */
  readonly commonArgs: readonly string[];
  /** Further arguments of the scheduler. */
  readonly schedulerArgs: readonly string[];
  /** Links and CPUs of the nodes; undefined, or nothing wanted in it: this machine's. */
  readonly emulation?: EmulationRequest;
  /** How long the scheduler may take to drain, ms; some seconds more are given before it is killed. */
  readonly drainGraceMs: number;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
  readonly onEvent: (event: ProcessEvent) => void;
}

/** A cluster that runs. */
export interface Cluster {
  readonly grpcAddress: string;
  readonly httpUrl: string;
  readonly nodeNames: readonly string[];
  /** What is emulated, if anything is. */
  readonly emulation: Emulation | undefined;
  /** Process ids, the scheduler's first; for tests and for people. */
  readonly pids: readonly number[];
  /** Drains the scheduler, then ends the agents. */
  stop(): Promise<void>;
  /** Kills everything now. */
  kill(): void;
  /** Resolves when a part of it died too often. */
  readonly failed: Promise<MetronomeError>;
}

const READY_TIMEOUT_MS = 30_000;
const LOOK_EVERY_MS = 50;
const STOP_MARGIN_MS = 5_000;
const AGENT_GRACE_MS = 10_000;
const BOUND_LOGS_EVERY_MS = 30_000;

/** Starts it and waits until all nodes are ready. When it cannot, everything is ended again and the reason is thrown. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { signal, progress } = options;
  // As agents write it into the environment of their sandboxes, by which those are found again.
  const dataDir = realpathSync(options.dataDir);
  const logFile = (name: string): string => join(dataDir, 'logs', `${name}.log`);
  const emulation = options.emulation === undefined || !isWanted(options.emulation) ? undefined : await openEmulation({
    ...options.emulation, nodes: options.nodes, dataDir,
    onReaped: ({ id, pid, left }) => progress(`removed the emulated cluster ${id} that process ${pid} had left behind${left.length === 0 ? '' : `, except ${left.join(', ')}`}`),
  });
  for (const note of emulation?.plan.notes ?? []) progress(note);
  const closeEmulation = (): void => {
    const left = emulation?.close() ?? [];
    if (left.length > 0) progress(`The emulated cluster could not be removed whole: ${left.join(', ')}. Try: metronome up --clean`);
  };
  const common = { cwd: options.cwd, env: options.env, onEvent: options.onEvent };
  let grpcAddress = '';
  let httpUrl = '';
  const scheduler = superviseProcess({
    ...common,
    name: 'scheduler',
    logFile: logFile('scheduler'),
    args: (before) => [
      'scheduler', ...options.commonArgs, ...options.schedulerArgs, '--exit-with-parent', '--data-dir', join(dataDir, 'scheduler'),
      // After a restart at the same ports: agents and clients know them.
      '--grpc-port', String(before === undefined ? options.grpcPort : portOf(String(before['grpcAddress']))),
      '--http-port', String(before === undefined ? options.httpPort : portOf(String(before['httpUrl']))),
      ...(emulation?.schedulerHost === undefined ? [] : ['--host', emulation.schedulerHost]),
    ],
    onListening(listening) {
      grpcAddress = String(listening['grpcAddress']);
      httpUrl = String(listening['httpUrl']);
    },
  });
  const nodeNames = Array.from({ length: options.nodes }, (_, i) => `${options.namePrefix}-${i + 1}`);
  const agents = nodeNames.map((name, index) => superviseProcess({
    ...common,
    name,
    launcher: emulation?.node(index).launcher ?? [],
    env: { ...options.env, ...emulation?.node(index).env },
    logFile: logFile(name),
    args: () => [
      'agent', ...options.commonArgs, '--exit-with-parent', '--scheduler', grpcAddress, '--name', name, '--slots', String(options.slots), '--memory', String(options.memoryBytes),
      '--data-dir', join(dataDir, name), '--grpc-port', '0', '--data-port', '0',
      ...(emulation?.node(index).args ?? []),
    ],
  }));
  const all: readonly SupervisedProcess[] = [scheduler, ...agents];
  const boundLogs = setInterval(() => {
    // A log that cannot be shortened now is looked at again next time.
    for (const { name } of all) void boundLog(logFile(name)).catch(() => {});
  }, BOUND_LOGS_EVERY_MS);
  const stop = async (): Promise<void> => {
    clearInterval(boundLogs);
    await scheduler.stop(options.drainGraceMs + STOP_MARGIN_MS);
    await Promise.all(agents.map((agent) => agent.stop(AGENT_GRACE_MS)));
    killSandboxes(dataDir);
    closeEmulation();
  };
  const kill = (): void => {
    clearInterval(boundLogs);
    for (const each of all) each.kill();
    killSandboxes(dataDir);
  };
  const onAbort = (): void => void stop();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await scheduler.start();
    progress(`scheduler listens on ${grpcAddress} (gRPC) and ${httpUrl} (HTTP)`);
    await Promise.all(agents.map((agent) => agent.start()));
    await untilReady(grpcAddress, nodeNames, logFile, signal, progress, readyTimeoutMs(options.emulation?.cpus ?? 0));
  } catch (error) {
    // Half a cluster is of no use: nothing in it has work to be drained.
    kill();
    await Promise.all(all.map((each) => each.stop(0)));
    closeEmulation();
    if (signal.aborted) throw new MetronomeError('CANCELLED', 'It was stopped while it started.', { cause: error });
    throw error;
  }
  signal.removeEventListener('abort', onAbort);
  return {
    get grpcAddress() {
      return grpcAddress;
    },
    get httpUrl() {
      return httpUrl;
    },
    nodeNames,
    emulation,
    get pids() {
      return all.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
    },
    stop,
    kill,
    failed: Promise.race(all.map((each) => each.failed)),
  };
}

/** What functions have started is killed by their agent; this is for agents that were killed themselves. */
function killSandboxes(dataDir: string): void {
  if (!existsSync('/proc/self/environ')) return;
  for (const pid of processesWithEnvironment(`METRONOME_SANDBOX=${dataDir}/`)) killNow(pid);
}

async function untilReady(address: string, names: readonly string[], logFile: (name: string) => string, signal: AbortSignal, progress: (line: string) => void, timeoutMs: number): Promise<void> {
  const client = createClient({ address });
  try {
    const until = performance.now() + timeoutMs;
    const told = new Set<string>();
    for (;;) {
      const { nodes } = await client.listNodes({}, { signal, timeoutMs });
      for (const node of nodes) {
        if (node.status !== NodeStatus.READY || !names.includes(node.name) || told.has(node.name)) continue;
        told.add(node.name);
        progress(`${node.name} is ready (${node.slots} slots)`);
      }
      const missing = names.filter((name) => !told.has(name));
      if (missing.length === 0) return;
      if (performance.now() > until) {
        const [first = ''] = missing;
        const status = nodes.find((node) => node.name === first)?.status;
        const tail = await logTail(logFile(first), 15);
        throw new MetronomeError('UNAVAILABLE', `${missing.join(', ')} did not become ready within ${timeoutMs / 1_000} s (${first}: ${status === undefined ? 'not registered' : statusWord(status)}). The end of ${logFile(first)}:\n  ${tail.join('\n  ')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  } finally {
    client.close();
  }
}

/** A part of a CPU takes its time to start an agent. */
function readyTimeoutMs(cpus: number): number {
  return cpus === 0 || cpus >= 1 ? READY_TIMEOUT_MS : READY_TIMEOUT_MS / Math.max(0.1, cpus);
}

function portOf(address: string): number {
  return Number(/:(\d+)\/?$/.exec(address)?.[1] ?? 0);
}
