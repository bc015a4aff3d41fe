/**
 * Bench `dataplane`: what it costs to hand an object to a function where it lies, and to bring it from another node. A real
 * scheduler, two real agents, a function that does nothing; the times are the invocation's own (fetched), the object is verified and lies in a file
 * of the node that runs it afterwards. The raw TCP copy runs between the rounds, between two other processes, on the same disk.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createReadStream, openSync, writeSync, closeSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomFillSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { request } from 'undici';
import { packFunction } from '../src/config/bundle.ts';
import { loadManifest } from '../src/config/manifest.ts';
import { createClient, type SchedulerClient } from '../src/rpc/client.ts';
import { ObjectRef } from '../src/rpc/gen/metronome/v1/common.ts';
import { NodeStatus } from '../src/rpc/gen/metronome/v1/node.ts';
import { overRounds, quantile, type Bench } from './harness.ts';
import { startRawSender } from './raw-copy.ts';
import { LINK_BYTES_PER_S, openShapedLink, type ShapedLink } from './shaped-link.ts';

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const SAMPLE_MS = 10;
const READY_MS = 30_000;
const WARM_SAMPLES = 200;

/** Scheduler and two agents, of which one holds and one fetches. */
interface Pair {
  readonly client: SchedulerClient;
  /** Process ids of the agents. */
  readonly pids: readonly [number, number];
  readonly dataUrls: readonly [string, string];
  close(): Promise<void>;
}

/** The dataplane bench. */
export const dataplaneBench: Bench = {
  description: 'objects between two real agents: local hand-over, fetch against a raw TCP copy, a shaped link, memory',
  async run({ quick, progress }) {
    const sizeBytes = quick ? 256 * MIB : GIB;
    const rounds = 5;
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
    const columns: Record<'local' | 'remote' | 'streams' | 'buffers' | 'share' | 'bufferShare' | 'growth' | 'shaped' | 'warmIdle' | 'warmMoving', number[]> = { local: [], remote: [], streams: [], buffers: [], share: [], bufferShare: [], growth: [], shaped: [], warmIdle: [], warmMoving: [] };
    let shaping = 'none';
    try {
      const file = join(dir, 'object.bin');
      writeRandom(file, sizeBytes);
      const sender = await startRawSender(file);
      const pair = await openPair(join(dir, 'loopback'), undefined, []);
      try {
        // Compiled code and the buffers that every transfer uses are there before anything is measured.
        await fetchOnce(pair, await put(pair, file, 0, 16 * MIB));
        // Once: what was just written is what a disk is busy with in the next measurement.
        const object = await put(pair, file, 0, sizeBytes);
        for (let round = 0; round < rounds; round++) {
          progress(`dataplane: round ${round + 1} of ${rounds}`);
          columns.local.push(...(await handOverTimes(pair, object)));
          const watch = watchMemory(pair.pids);
          const fetchedMs = await fetchOnce(pair, object);
          columns.growth.push(watch.stop());
          const [idle, moving] = await warmTimes(pair, object);
          columns.warmIdle.push(idle);
          columns.warmMoving.push(moving);
          const target = join(dir, 'raw.bin');
          const raw = { streams: 0, buffers: 0 };
          for (const way of ['streams', 'buffers'] as const) {
            raw[way] = sizeBytes / 1e3 / (await sender.copy(way, target));
            rmSync(target);
          }
          const remote = sizeBytes / 1e3 / fetchedMs;
          columns.remote.push(remote);
          columns.streams.push(raw.streams);
          columns.buffers.push(raw.buffers);
          columns.share.push(remote / raw.streams);
          columns.bufferShare.push(remote / raw.buffers);
        }
      } finally {
        sender.stop();
        await pair.close();
      }
      const link = await openShapedLink(progress);
      shaping = link === undefined ? 'data-plane' : 'netns-tbf';
      try {
        const shaped = await openPair(join(dir, 'shaped'), link, link === undefined ? ['--link-bytes-per-s', String(LINK_BYTES_PER_S)] : []);
        try {
          const object = await put(shaped, file, 0, 256 * MIB);
          for (let round = 0; round < rounds; round++) {
            progress(`dataplane: shaped (${shaping}), round ${round + 1} of ${rounds}`);
            columns.shaped.push(((256 * MIB) / (await fetchOnce(shaped, object)) / LINK_BYTES_PER_S) * 1e3);
          }
        } finally {
          await shaped.close();
        }
      } finally {
        await link?.close();
      }
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
    return {
      mode: 'real',
      figures: [
        overRounds('local_ms', 'ms', columns.local, columns.local.length), overRounds('remote_mb_per_s', 'MB/s', columns.remote, rounds), overRounds('raw_tcp_share', '', columns.share, rounds),
        overRounds('shaped_share', '', columns.shaped, rounds), overRounds('growth_mb', 'MB', columns.growth, rounds),
        overRounds('raw_tcp_mb_per_s', 'MB/s', columns.streams, rounds), overRounds('raw_tcp_buffers_mb_per_s', 'MB/s', columns.buffers, rounds), overRounds('raw_tcp_buffers_share', '', columns.bufferShare, rounds),
        overRounds('warm_idle_p50', 'ms', columns.warmIdle, rounds), overRounds('warm_moving_p50', 'ms', columns.warmMoving, rounds),
      ],
      params: { sizeBytes, shapedBytes: 256 * MIB, rounds, shaping, link: '1 Gbit/s each way', growth: 'the larger of both agents, peak RSS during the fetch less RSS before it' },
    };
  },
};

/** Starts the processes; `link`: the agents inside its namespaces. */
async function openPair(dir: string, link: ShapedLink | undefined, agentArgs: readonly string[]): Promise<Pair> {
  const children: ChildProcess[] = [];
  const start = (prefix: readonly string[], args: readonly string[]): Promise<Record<string, unknown>> => {
    const [command = '', ...rest] = [...prefix, process.execPath, MAIN, ...args, '--exit-with-parent', '--log-level', 'warn'];
    const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    return new Promise((resolve, reject) => {
      let out = '';
      child.stdout.on('data', (text: Buffer) => {
        out += text.toString();
        const end = out.indexOf('\n');
        if (end > 0) resolve(JSON.parse(out.slice(0, end)) as Record<string, unknown>);
      });
      child.once('exit', (code) => reject(new Error(`${args[0]} ended with ${code}`)));
    });
  };
  const close = async (client?: SchedulerClient): Promise<void> => {
    client?.close();
    for (const child of children.reverse()) {
      child.kill('SIGTERM');
      if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
    }
  };
  try {
    const host = link?.hostAddress ?? '127.0.0.1';
    // Moving a gigabyte takes both cores: agents that are late with their state are still there.
    const scheduler = await start([], ['scheduler', '--host', host, '--grpc-port', '0', '--http-port', '0', '--data-dir', join(dir, 'scheduler'), '--stale-after', '10s', '--lost-after', '60s', '--drain-grace', '1s']);
    const address = String(scheduler['grpcAddress']);
    for (const i of [0, 1] as const) {
      await start(link?.enter(i) ?? [], ['agent', '--scheduler', address, '--name', `node-${i + 1}`, '--host', link?.addresses[i] ?? '127.0.0.1', '--grpc-port', '0', '--data-port', '0', '--slots', '2', '--data-dir', join(dir, `node-${i + 1}`), '--drain-grace', '1s', ...agentArgs]);
    }
    const client = createClient({ address });
    const dataUrls = ['', ''] as [string, string];
    for (const until = performance.now() + READY_MS; dataUrls.includes(''); await new Promise((resolve) => setTimeout(resolve, 50))) {
      if (performance.now() > until) throw new Error('the agents did not become ready');
      for (const node of (await client.listNodes({})).nodes) if (node.status === NodeStatus.READY) dataUrls[node.name === 'node-1' ? 0 : 1] = node.dataUrl;
    }
    const manifest = await loadManifest(fileURLToPath(new URL('../apps/hello', import.meta.url)));
    for (const { spec, codeDir } of manifest.functions) if (spec.name === 'noop') await client.applyFunction({ spec: { ...spec, slaMs: 60_000, timeoutMs: 60_000 }, bundle: Buffer.from(await packFunction(codeDir)) });
    for (const name of ['node-1', 'node-2']) await client.prewarmNode({ name, function: 'noop', count: 1 });
    const [, first, second] = children;
    return { client, pids: [first?.pid ?? 0, second?.pid ?? 0], dataUrls, close: () => close(client) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Puts the first bytes of a file into a node. */
async function put(pair: Pair, file: string, node: 0 | 1, sizeBytes: number): Promise<ObjectRef> {
  const { statusCode, body } = await request(new URL('objects?name=object.bin', pair.dataUrls[node]), { method: 'PUT', body: createReadStream(file, { end: sizeBytes - 1, highWaterMark: MIB }), headers: { 'content-length': String(sizeBytes) }, headersTimeout: 0, bodyTimeout: 0 });
  const answer: unknown = await body.json();
  if (statusCode !== 201) throw new Error(`node-${node + 1} refused the object: ${JSON.stringify(answer)}`);
  return ObjectRef.fromJSON(answer);
}

async function drop(pair: Pair, node: 0 | 1, id: string): Promise<void> {
  await (await request(new URL(`objects/${id}`, pair.dataUrls[node]), { method: 'DELETE' })).body.dump();
}

/** Runs the function on one node with the object as its input; what the scheduler would like better is drained. */
async function runOn(pair: Pair, node: 0 | 1, object: ObjectRef): Promise<{ readonly fetchedMs: number; readonly fetchedBytes: number }> {
  const { client } = pair;
  await client.drainNode({ name: `node-${2 - node}`, drain: true });
  try {
    const { phases, node: ranOn } = await client.invoke({ function: 'noop', inputs: [object] }, { timeoutMs: 120_000 });
    if (ranOn !== `node-${node + 1}` || phases === undefined) throw new Error(`it ran on ${ranOn}`);
    return phases;
  } finally {
    await client.drainNode({ name: `node-${2 - node}`, drain: false });
  }
}

async function handOverTimes(pair: Pair, object: ObjectRef): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const { fetchedMs, fetchedBytes } = await runOn(pair, 0, object);
    if (fetchedBytes !== 0) throw new Error('it was not local');
    times.push(fetchedMs);
  }
  return times;
}

/** Lets node 2 fetch the object from node 1; the time of the fetch, ms. Afterwards node 2 does not have it any more. */
async function fetchOnce(pair: Pair, object: ObjectRef): Promise<number> {
  const { fetchedMs, fetchedBytes } = await runOn(pair, 1, object);
  if (fetchedBytes !== object.sizeBytes) throw new Error(`${fetchedBytes} bytes were moved instead of ${object.sizeBytes}`);
  await drop(pair, 1, object.id);
  return fetchedMs;
}

/** The time of warm no-ops on node 2, one after the other: while nothing else happens, and while it fetches the object. Medians, ms. */
async function warmTimes(pair: Pair, object: ObjectRef): Promise<[number, number]> {
  const { client } = pair;
  const median = (times: readonly number[]): number => quantile([...times].sort((a, b) => a - b), 0.5);
  const noop = async (times: number[]): Promise<void> => {
    const startedAt = performance.now();
    await client.invoke({ function: 'noop' });
    times.push(performance.now() - startedAt);
  };
  await client.prewarmNode({ name: 'node-2', function: 'noop', count: 2 });
  await client.drainNode({ name: 'node-1', drain: true });
  try {
    const idle: number[] = [];
    while (idle.length < WARM_SAMPLES) await noop(idle);
    const moving: number[] = [];
    let isMoving = true;
    const fetch = client.invoke({ function: 'noop', inputs: [object] }, { timeoutMs: 120_000 }).finally(() => void (isMoving = false));
    while (isMoving) await noop(moving);
    await fetch;
    return [median(idle), median(moving)];
  } finally {
    await client.drainNode({ name: 'node-1', drain: false });
    await drop(pair, 1, object.id);
  }
}

/** Samples the resident memory of processes; `stop` gives the largest growth of any, MB. */
function watchMemory(pids: readonly number[]): { stop(): number } {
  const rss = (pid: number): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) / 1e3;
  const before = pids.map(rss);
  const most = [...before];
  const sample = (): void => {
    for (const [i, pid] of pids.entries()) most[i] = Math.max(most[i] ?? 0, rss(pid));
  };
  const timer = setInterval(sample, SAMPLE_MS);
  return {
    stop() {
      clearInterval(timer);
      sample();
      return Math.max(...most.map((value, i) => value - (before[i] ?? 0)));
    },
  };
}

function writeRandom(path: string, sizeBytes: number): void {
  const file = openSync(path, 'w');
  const chunk = Buffer.alloc(MIB);
  for (let written = 0; written < sizeBytes; written += chunk.length) {
    randomFillSync(chunk);
    writeSync(file, chunk);
  }
  closeSync(file);
}
