/** Emulated clusters for real: links and quotas are measured, and nothing is left of them, whoever is killed. Needs root and iproute2; without them it says so. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { probeCapabilities } from '../../src/cli/cluster/emulation/capabilities.ts';
import { allClaims, type Claim } from '../../src/cli/cluster/emulation/claims.ts';
import { networksInUse } from '../../src/cli/cluster/emulation/namespaces.ts';
import { createClient, type SchedulerClient } from '../../src/rpc/client.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { run, runAsProcess, start } from './run.ts';
import { processesOf, useUps } from './up-process.ts';

const { network, quota } = probeCapabilities();
const missing = [...network, ...quota].map(({ what, fix }) => `${what} (${fix})`).join('; ');
const LINK_BITS_PER_S = 50e6;
const CPUS = 0.4;
const EMULATED = ['--nodes', '2', '--slots', '1', '--link', '50mbit', '--cpus', String(CPUS)];
const { dir, follow, startUp } = useUps();

/** The claim of a process. */
function claimOf(pid: number): Claim {
  const claim = allClaims().find(({ owner }) => owner.pid === pid);
  if (claim === undefined) throw new Error(`process ${pid} has claimed nothing`);
  return claim;
}

/** All that is still there of a cluster. */
async function leftOf({ id, groups, dataDir }: Claim): Promise<string[]> {
  const namespaces = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  return [
    ...networksInUse().links.filter((name) => name.startsWith(id)), ...namespaces.filter((name) => name.startsWith(`${id}n`)), ...groups.filter(existsSync),
    ...(readFileSync('/proc/mounts', 'utf8').match(new RegExp(`\\S*(?:${id}n\\d|${dataDir})\\S*`, 'g')) ?? []),
    ...allClaims().filter((claim) => claim.id === id && claim.dataDir === dataDir).map((claim) => `claim ${claim.id}`), ...await processesOf(dataDir),
  ];
}

async function readyNodes(address: string): Promise<string[]> {
  const client = createClient({ address, channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  try {
    const { nodes } = await client.listNodes({}, { timeoutMs: 2_000 });
    return nodes.filter((node) => node.status === NodeStatus.READY).map((node) => node.address.replace(/:\d+$/, ''));
  } finally {
    client.close();
  }
}

async function deploy(address: string): Promise<void> {
  const folder = join(dir(), 'work');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'handler.mjs'), 'export const handler = (ms) => { const end = performance.now() + ms; while (performance.now() < end); return "done"; };\n');
  await writeFile(join(folder, 'metronome.yaml'), 'apiVersion: metronome/v1\nkind: Function\nmetadata: { name: spin }\nspec: { runtime: node, handler: handler.mjs, timeout: 2m, memory: 96MiB }\n');
  expect(await run(['function', 'apply', '-f', folder, '--scheduler', address])).toMatchObject({ code: 0 });
}

async function withClient<T>(address: string, work: (client: SchedulerClient) => Promise<T>): Promise<T> {
  const client = createClient({ address });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

beforeAll(() => {
  if (missing !== '') process.stderr.write(`Tests of emulated clusters are skipped. Missing: ${missing}\n`);
});

describe.skipIf(missing !== '')('an emulated cluster', () => {
  it('gives each node its link and its CPUs, and says what it did', async () => {
    const { up, addresses } = await startUp(...EMULATED);
    const claim = claimOf(up.pid);
    const at = addresses.grpcAddress;
    expect(addresses.emulated).toEqual({ link: '50mbit (kernel)', cpus: `${CPUS} (quota)` });
    const list = await run(['node', 'list', '-o', 'wide', '--scheduler', at]);
    expect(list.out.match(/cpus=0\.4 \(quota\), limits=\w+, link=50mbit \(kernel\), metrics=cgroup/g)).toHaveLength(2);
    expect((await run(['status', '--scheduler', at])).out).toContain('link 50mbit (kernel), cpus 0.4 (quota)');
    await deploy(at);

    await withClient(at, async (client) => {
      // One slot each: two that spin at the same time are on different nodes.
      const spinning = [1, 2].map(() => client.invoke({ function: 'spin', payload: Buffer.from('8000') }, { timeoutMs: 110_000 }));
      await vi.waitFor(async () => expect((await client.listNodes({})).nodes.map(({ slotsUsed }) => slotsUsed)).toEqual([1, 1]), { timeout: 60_000, interval: 100 });
      const used = (): number[] => [1, 2].map((n) => cpuSecondsOf(claim, n));
      // Until both spin, not only start.
      const first = used();
      await vi.waitFor(() => expect(Math.min(...used().map((now, i) => now - (first[i] ?? 0)))).toBeGreaterThan(0.5), { timeout: 60_000, interval: 50 });
      const before = used();
      const begin = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      const seconds = (performance.now() - begin) / 1_000;
      const shares = used().map((now, i) => (now - (before[i] ?? 0)) / seconds);
      for (const share of shares) {
        expect(share).toBeLessThan(CPUS * 1.2);
        expect(share).toBeGreaterThan(CPUS * 0.3); // whoever else works on this machine
      }
      const { nodes } = await client.listNodes({});
      for (const { metrics } of nodes) expect(metrics?.cpuUtilisation).toBeGreaterThan(0.3); // of the quota, not of the machine
      await Promise.all(spinning);

      // An object from one node to the other.
      const bytes = 8 * 1024 * 1024;
      const file = join(dir(), 'data');
      await writeFile(file, Buffer.alloc(bytes, 'metronome'));
      const put = await run(['object', 'put', file, '-o', 'json', '--scheduler', at]);
      expect(put.code, put.err).toBe(0);
      const reference = JSON.parse(put.out) as { id: string; holders: string[]; sizeBytes: string; digest: string; name: string };
      const [holder = ''] = reference.holders;
      await client.drainNode({ name: holder, drain: true });
      const reply = await client.invoke({ function: 'spin', payload: Buffer.from('1'), inputs: [{ ...reference, sizeBytes: bytes }] }, { timeoutMs: 110_000 });
      expect(reply.phases?.fetchedBytes).toBe(bytes);
      const bitsPerS = (bytes * 8_000) / (reply.phases?.fetchedMs ?? 0);
      expect(bitsPerS).toBeLessThan(LINK_BITS_PER_S * 1.1);
      expect(bitsPerS).toBeGreaterThan(LINK_BITS_PER_S * 0.3);
    });
    up.child.kill('SIGINT');
    expect(await up.ended).toMatchObject({ code: 0 });
    expect(await leftOf(claim)).toEqual([]);
  }, 300_000);

  it('stands beside another one, survives the death of its parts, and is gone when its owner is killed', async () => {
    const [one, other] = await Promise.all([startUp(...EMULATED), startUp('--nodes', '2', '--link', '1gbit')]);
    const [claim, otherClaim] = [claimOf(one.up.pid), claimOf(other.up.pid)];
    expect(claim.id).not.toBe(otherClaim.id);
    const addresses = await readyNodes(other.addresses.grpcAddress);
    expect(new Set([...addresses, ...await readyNodes(one.addresses.grpcAddress)]).size).toBe(4);

    // In the midst of work, with a sandbox that has a group of its own where the agent makes some.
    await deploy(one.addresses.grpcAddress);
    await withClient(one.addresses.grpcAddress, async (client) => {
      const spinning = client.invoke({ function: 'spin', payload: Buffer.from('60000') }, { timeoutMs: 110_000 }).catch(() => {}); // it dies with its cluster
      await vi.waitFor(async () => expect((await client.listNodes({})).nodes.some(({ warm }) => warm.some(({ busy }) => busy > 0))).toBe(true), { timeout: 60_000, interval: 50 });
      one.up.child.kill('SIGKILL');
      await spinning;
    });
    await one.up.ended;
    await vi.waitFor(async () => expect(await leftOf(claim)).toEqual([]), { timeout: 60_000, interval: 200 });
    expect(await readyNodes(other.addresses.grpcAddress)).toHaveLength(2);

    // The scheduler first, then an agent: both come back to where they were.
    for (const pid of other.addresses.pids.slice(1, 3)) process.kill(pid, 'SIGKILL');
    await vi.waitFor(() => expect(other.up.err()).toMatch(/scheduler runs again[\s\S]*node-1 runs again|node-1 runs again[\s\S]*scheduler runs again/), { timeout: 60_000, interval: 100 });
    await vi.waitFor(async () => expect((await readyNodes(other.addresses.grpcAddress)).sort()).toEqual(addresses.sort()), { timeout: 60_000, interval: 200 });
    other.up.child.kill('SIGINT');
    expect(await other.up.ended).toMatchObject({ code: 0 });
    expect(await leftOf(otherClaim)).toEqual([]);
  }, 240_000);

  it('is gone when its owner is killed while it makes it', async () => {
    const up = start(['up', '--nodes', '8', '--link', '50mbit', '--cpus', '0.2', '--grpc-port', '0', '--http-port', '0'], { cwd: dir() });
    follow(up);
    const claim = await vi.waitUntil(() => allClaims().find(({ owner }) => owner.pid === up.pid), { timeout: 60_000, interval: 2 });
    up.child.kill('SIGKILL');
    await up.ended;
    await vi.waitFor(async () => expect(await leftOf(claim)).toEqual([]), { timeout: 60_000, interval: 200 });
  }, 120_000);

  it('is removed by the next one who looks when everything of it was killed at once', async () => {
    const { up, addresses } = await startUp(...EMULATED);
    const claim = claimOf(up.pid);
    const watchers = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(`reap-main.ts ${up.pid} `));
    expect(watchers).toHaveLength(1);
    // The watcher first, so that it notices nothing.
    for (const pid of [...watchers.map(Number), up.pid, ...addresses.pids]) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It is in the list twice.
      }
    }
    await up.ended;
    const left = await leftOf(claim);
    const checks = JSON.parse((await runAsProcess(['doctor', '-o', 'json'])).out) as { name: string; ok: boolean; fix: string }[];
    const cleaned = await runAsProcess(['up', '--clean']);
    expect(cleaned).toMatchObject({ code: 0 });
    // Unless another cluster was started here in the same moment and was the next one who looked.
    if (cleaned.err.includes(claim.id)) {
      expect(left).toContain(`${claim.id}n1`);
      expect(checks.find(({ name }) => name === 'emulated clusters')).toMatchObject({ ok: false, fix: 'metronome up --clean' });
      expect(cleaned.err).toContain(`Removed the emulated cluster ${claim.id} that process ${up.pid} had left behind.`);
    }
    expect(await leftOf(claim)).toEqual([]);
  }, 120_000);
});

describe('an emulated cluster without the kernel', () => {
  it('shapes the data plane, labelled, and needs neither root nor namespaces', async () => {
    const { up, addresses } = await startUp('--nodes', '2', '--link', '40mbit', '--latency', '3ms', '--emulation', 'data-plane');
    expect(addresses.emulated).toEqual({ link: '40mbit (data plane)', latency: '3ms (data plane)' });
    expect(allClaims().some(({ owner }) => owner.pid === up.pid)).toBe(false);
    const list = await run(['node', 'list', '-o', 'wide', '--scheduler', addresses.grpcAddress]);
    expect(list.out.match(/latency=3ms \(data plane\), limits=\w+, link=40mbit \(data plane\), metrics=/g)).toHaveLength(2);
    up.child.kill('SIGINT');
    expect(await up.ended).toMatchObject({ code: 0 });
  }, 120_000);
});

/** CPU time that a node has used, by its control group. */
function cpuSecondsOf({ groups }: Claim, n: number): number {
  for (const group of groups) {
    const v1 = join(group, `node-${n}`, 'cpuacct.usage');
    if (existsSync(v1)) return Number(readFileSync(v1, 'utf8')) / 1e9;
  }
  return Number(/usage_usec (\d+)/.exec(readFileSync(join(groups[0] ?? '', `node-${n}`, 'cpu.stat'), 'utf8'))?.[1]) / 1e6;
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
  } catch {
    return ''; // gone
  }
}
