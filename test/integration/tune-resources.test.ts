/** Sizes of functions on real nodes: held to by the kernel, tuned by the command line. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { limitsMissing } from '../agent/drivers.ts';
import { run } from '../cli/run.ts';
import { openCluster, valueOf, type TestCluster } from './harness.ts';

/** Uses so much CPU time, and answers with the share of a core that it got, and with its process. */
const BUSY = `
export function handler({ cpuMs = 40 }) {
  const at = performance.now(), before = process.cpuUsage();
  let used = 0;
  while (used < cpuMs * 1_000) {
    const { user, system } = process.cpuUsage(before);
    used = user + system;
  }
  return { share: used / 1_000 / (performance.now() - at), pid: process.pid };
}`;
const PATIENCE = { timeout: 60_000, interval: 20 };

describe.skipIf(limitsMissing !== undefined)('sizes of functions', () => {
  let cluster: TestCluster;
  let dir: string;
  const cli = (args: readonly string[], signal?: AbortSignal) => run(['--scheduler', cluster.daemon.grpcAddress, ...args], { cwd: dir, ...(signal === undefined ? {} : { signal }) });
  const sizeOf = async (name: string): Promise<{ readonly cpu: number | undefined; readonly memoryMb: number | undefined }> => {
    const spec = (await cluster.client.getFunction({ name })).function?.spec;
    return { cpu: spec?.cpu, memoryMb: spec?.memoryMb };
  };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'metronome-tune-'));
    cluster = await openCluster({ nodes: 1, agent: { limits: 'all' } });
  }, 120_000);
  afterAll(async () => {
    await cluster.close();
    await rm(dir, { recursive: true });
  });

  it('are told by the node, and hold from the next invocation on when a function is deployed with another one', async () => {
    expect((await cluster.nodes())['node-1']?.labels['limits']).toMatch(/^process(\+bubblewrap)?$/);
    await cluster.deploy('sized', BUSY, { cpu: 0.5 });
    const first = valueOf(await cluster.call('sized', { cpuMs: 150 })) as { share: number; pid: number };
    expect(first.share).toBeLessThan(0.65);
    await cluster.deploy('sized', BUSY, { cpu: 0.25 });
    const response = await cluster.call('sized', { cpuMs: 150 });
    const second = valueOf(response) as { share: number; pid: number };
    // The warm sandbox was of the old size: there is another.
    expect(response.phases?.startState).not.toBe(StartState.WARM);
    expect(second.pid).not.toBe(first.pid);
    expect(second.share).toBeLessThan(0.35);
  }, 120_000);

  it('are tuned: cheaper ones that keep the target are found, deployed when that is wanted, and every evaluation is kept', async () => {
    // Twice the cores that it can use: half of the money is wasted.
    await cluster.deploy('wasteful', BUSY, { cpu: 2, memoryMb: 512, slaMs: 10_000 });
    const args = ['policy', 'tune-resources', 'wasteful', '--data', '{"cpuMs":40}', '--rounds', '0', '-n', '1', '-o', 'json'];
    const tried = await cli([...args, '--out', 'tuning']);
    expect(tried).toMatchObject({ code: 0, err: expect.stringMatching(/as deployed: .*\n1 of at most 10: [\s\S]*\n10 of at most 10: /) });
    const outcome = JSON.parse(tried.out) as { before: { cost: number }; best: { cost: number; latencyMs: number; sizes: { function: string; cpu: number; memoryMb: number }[] }; evaluations: number; isDeployed: boolean };
    expect(outcome).toMatchObject({ evaluations: 10, isDeployed: false, before: { sizes: [{ function: 'wasteful', cpu: 2, memoryMb: 512 }] } });
    expect(outcome.best.cost).toBeLessThan(outcome.before.cost);
    expect(outcome.best.latencyMs).toBeLessThanOrEqual(10_000);
    expect(await sizeOf('wasteful')).toEqual({ cpu: 2, memoryMb: 512 });
    const kept = (await readFile(join(dir, 'tuning', 'evaluations.jsonl'), 'utf8')).trim().split('\n').map((line) => JSON.parse(line) as { number: number });
    expect(kept.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(JSON.parse(await readFile(join(dir, 'tuning', 'tuning.json'), 'utf8'))).toMatchObject(outcome);

    const applied = JSON.parse((await cli([...args, '--apply'])).out) as typeof outcome;
    expect(applied.isDeployed).toBe(true);
    const [{ cpu, memoryMb } = { cpu: 0, memoryMb: 0 }] = applied.best.sizes;
    expect(await sizeOf('wasteful')).toEqual({ cpu, memoryMb });
    expect(valueOf(await cluster.call('wasteful', {}))).toMatchObject({ share: expect.any(Number) });
  }, 240_000);

  it('of a workflow are tuned by function, and put back when the tuning is stopped', async () => {
    await cluster.deploy('first', BUSY, { cpu: 1.5 });
    await cluster.deploy('second', BUSY, { cpu: 1.25, memoryMb: 256 });
    await cluster.client.applyWorkflow({ spec: { name: 'both', slaMs: 20_000, timeoutMs: 60_000, steps: [{ name: 'a', function: 'first' }, { name: 'b', function: 'second', after: ['a'] }] } });
    const stop = new AbortController();
    const tuning = cli(['policy', 'tune-resources', 'both', '--data', '{"cpuMs":20}', '-n', '1'], stop.signal);
    await vi.waitFor(async () => {
      expect((await sizeOf('first')).cpu).not.toBe(1.5);
      expect((await sizeOf('second')).cpu).not.toBe(1.25);
    }, PATIENCE);
    stop.abort();
    expect(await tuning).toMatchObject({ code: 7, out: '', err: expect.stringContaining('the functions have the sizes that they had before') });
    expect([await sizeOf('first'), await sizeOf('second')]).toEqual([{ cpu: 1.5, memoryMb: 128 }, { cpu: 1.25, memoryMb: 256 }]);
  }, 120_000);

  it('that somebody else deploys meanwhile are left to them', async () => {
    await cluster.deploy('shared', BUSY, { cpu: 2 });
    const stop = new AbortController();
    const tuning = cli(['policy', 'tune-resources', 'shared', '--data', '{"cpuMs":400}', '-n', '1'], stop.signal);
    await vi.waitFor(async () => expect((await sizeOf('shared')).cpu).not.toBe(2), PATIENCE);
    await cluster.deploy('shared', BUSY, { cpu: 3 });
    stop.abort();
    expect(await tuning).toMatchObject({ code: 7, err: expect.stringContaining('somebody deployed shared meanwhile') });
    expect(await sizeOf('shared')).toEqual({ cpu: 3, memoryMb: 128 });
  }, 120_000);

  it('of a function that fails as it is are not tuned', async () => {
    await cluster.deploy('broken', 'export function handler() { throw new RangeError("not today"); }');
    expect(await cli(['policy', 'tune-resources', 'broken'])).toMatchObject({ code: 9, out: '', err: expect.stringContaining('not today') });
    expect(await sizeOf('broken')).toEqual({ cpu: 1, memoryMb: 128 });
  }, 60_000);
});
