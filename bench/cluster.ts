/** A real embedded cluster for benches: scheduler and agents as processes on loopback or on emulated nodes, a no-op function deployed, and a client. Everything is gone after `close`. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startCluster, type Cluster } from '../src/cli/cluster/cluster.ts';
import { packFunction } from '../src/config/bundle.ts';
import { loadManifest } from '../src/config/manifest.ts';
import { parseBitsPerS } from '../src/core/units.ts';
import { createClient, type SchedulerClient } from '../src/rpc/client.ts';

const WARM_UP_INVOCATIONS = 5_000;

/** A cluster with its client. */
export interface BenchCluster {
  readonly cluster: Cluster;
  readonly client: SchedulerClient;
  close(): Promise<void>;
}

/** Links and CPUs of the nodes; `cluster.emulation.plan.labels` says what came of it and belongs into the report. */
export interface EmulatedNodes {
  /** Rate of every link, for example "250mbit". */
  readonly link?: string;
  readonly latencyMs?: number;
  /** CPUs of every node. */
  readonly cpus?: number;
  /** For the sandboxes of a node. @default 4 GiB */
  readonly memoryBytes?: number;
  /** Configuration of all processes by environment variables, over that of this process. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts `nodes` agents with `slots` slots each and deploys apps/hello. */
export async function openBenchCluster(nodes: number, slots: number, progress: (text: string) => void, schedulerArgs: readonly string[] = [], emulated: EmulatedNodes = {}): Promise<BenchCluster> {
  const linkBitsPerS = parseBitsPerS(emulated.link ?? 0);
  if (linkBitsPerS === undefined) throw new Error(`"${emulated.link}" is not a rate such as "250mbit".`);
  const dataDir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
  await mkdir(join(dataDir, 'logs'));
  const aborting = new AbortController();
  const onSignal = (): void => aborting.abort();
  process.once('SIGINT', onSignal);
  let cluster: Cluster;
  try {
    cluster = await startCluster({
      nodes, slots, memoryBytes: emulated.memoryBytes ?? 4 * 1024 ** 3, namePrefix: 'node', dataDir, grpcPort: 0, httpPort: 0, commonArgs: [], schedulerArgs: ['--log-level', 'warn', ...schedulerArgs], drainGraceMs: 5_000,
      emulation: { linkBitsPerS, latencyMs: emulated.latencyMs ?? 0, cpus: emulated.cpus ?? 0, mode: 'auto' },
      cwd: process.cwd(), env: { ...process.env, ...emulated.env }, signal: aborting.signal, progress, onEvent: (event) => progress(`${event.name}: ${event.kind}`),
    });
  } catch (error) {
    await rm(dataDir, { recursive: true, force: true });
    throw error;
  }
  const client = createClient({ address: cluster.grpcAddress });
  const manifest = await loadManifest(fileURLToPath(new URL('../apps/hello', import.meta.url)));
  for (const { spec, codeDir } of manifest.functions) await client.applyFunction({ spec, bundle: Buffer.from(await packFunction(codeDir)) });
  return {
    cluster,
    client,
    async close() {
      process.off('SIGINT', onSignal);
      client.close();
      await cluster.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Runs a function until every slot of the cluster has a warm sandbox and all processes have compiled what they run. */
export async function warmUp(client: SchedulerClient, slots: number, functionName: string): Promise<void> {
  const { nodes } = await client.listNodes({});
  for (const { name } of nodes) await client.prewarmNode({ name, function: functionName, count: Math.ceil(slots / nodes.length) });
  const stream = client.openInvokeStream({ maxInFlight: 64 });
  for (let round = 0; round < WARM_UP_INVOCATIONS / 100; round++) await Promise.all(Array.from({ length: 100 }, () => stream.invoke({ function: functionName })));
  await stream.close();
}
