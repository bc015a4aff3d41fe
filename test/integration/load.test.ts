/** The arrivals of a recorded daemon, sent to another one. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { putFile } from '../../src/cli/objects.ts';
import { run } from '../cli/run.ts';
import { openCluster, type TestCluster } from './harness.ts';

/** Writes down what it was given. */
const echo = (log: string): string => `
import { appendFileSync } from 'node:fs';
export function handler(event, context) {
  appendFileSync(${JSON.stringify(log)}, JSON.stringify({ payload: JSON.stringify(event).length, inputs: context.inputs.map(({ sizeBytes }) => sizeBytes) }) + '\\n');
  return {};
}`;
const CHAIN = { name: 'chain', slaMs: 10_000, timeoutMs: 60_000, steps: [{ name: 'first', function: 'echo' }, { name: 'second', function: 'echo', after: ['first'] }] };

let dir: string, recording: string;
let cluster: TestCluster;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-load-'));
  recording = join(dir, 'recordings');
  const recorded = await openCluster({ nodes: 2, slots: 2, config: { 'recording.dir': recording } });
  try {
    for (const name of ['echo', 'other']) await recorded.deploy(name, echo(join(dir, 'recorded')), { slaMs: 5_000 });
    await recorded.client.applyWorkflow({ spec: CHAIN });
    await writeFile(join(dir, 'input.bin'), Buffer.alloc(5_000, 1));
    const input = await putFile({ client: recorded.client, node: 'node-2' }, 'input.bin', dir);
    for (let i = 0; i < 6; i++) await recorded.call('echo', { i, text: 'twenty and more bytes' }, { inputs: [input], localityKey: `k${i % 2}` });
    await recorded.call('chain', { value: 'x'.repeat(500) }, { inputs: [input] });
    await recorded.call('other', { i: 1 });
  } finally {
    await recorded.close();
  }
  cluster = await openCluster({ nodes: 2, slots: 2 });
  await cluster.deploy('echo', echo(join(dir, 'replayed')));
  await cluster.client.applyWorkflow({ spec: CHAIN });
}, 180_000);
afterAll(async () => {
  await cluster.close();
  await rm(dir, { recursive: true, force: true });
}, 60_000);

const load = (...args: readonly string[]) => run(['load', '--recording', recording, '--scheduler', cluster.daemon.grpcAddress, ...args]);

describe('the arrivals of a recording as load', () => {
  it('names what is not deployed before anything is sent', async () => {
    expect(await load()).toMatchObject({ code: 3, out: '', err: expect.stringMatching(/FUNCTION_NOT_FOUND.*not deployed: other\..*--skip-missing/) });
    expect((await cluster.client.listInvocations({})).invocations).toEqual([]);
  });

  it('come with the sizes that were recorded, workflows as runs, and are summed up', async () => {
    const ran = await load('--skip-missing', '--speed', '4', '-o', 'json');
    expect(ran.err).toContain('1 of 8 arrivals are left out: other is not deployed');
    expect(ran.err).toContain('storing 1 objects of the recorded sizes, 4.9 KiB in all');
    const summary = JSON.parse(ran.out) as { arrivals: number; notSent: number; succeeded: number; failed: number; speed: number; phasesMs: { client: { p50: number } } };
    expect(ran.code, ran.err).toBe(0);
    expect(summary).toMatchObject({ arrivals: 7, notSent: 0, succeeded: 7, failed: 0, speed: 4 });
    expect(summary.phasesMs.client.p50).toBeGreaterThan(0);
    // The run's second step gets what the first one returned.
    const seen = async (name: string): Promise<unknown[]> => (await readFile(join(dir, name), 'utf8')).trim().split('\n').map((line) => JSON.parse(line) as unknown).filter((each) => JSON.stringify(each) !== '{"payload":2,"inputs":[]}');
    const [replayed, recorded] = [await seen('replayed'), (await seen('recorded')).slice(0, -1)];
    expect(replayed).toHaveLength(7);
    expect(new Set(replayed.map((each) => JSON.stringify(each)))).toEqual(new Set(recorded.map((each) => JSON.stringify(each))));
    const runs = (await cluster.client.listInvocations({})).invocations.filter(({ isWorkflow }) => isWorkflow);
    expect(runs.map(({ function: name }) => name)).toEqual(['chain']);
  });

  it('can be given payloads and files, and be a part of the recording', async () => {
    await writeFile(join(dir, 'mine.bin'), Buffer.alloc(77));
    const ran = await load('--skip-missing', '--data', 'chain={"mine":1}', '--input', `chain=${join(dir, 'mine.bin')}`, '--policy', 'round-robin');
    expect(ran, ran.err).toMatchObject({ code: 0, out: expect.stringMatching(/^7 of 7 succeeded in .*\n[\s\S]*sent late by /) });
    expect(await load('--skip-missing', '--data', 'nobody={}')).toMatchObject({ code: 2, err: expect.stringContaining('--data is for "nobody", which these arrivals do not call; they call chain, echo') });
    expect(await load('--from', '1h')).toMatchObject({ code: 2, err: expect.stringContaining('holds no arrivals in that time') });
  });

  it('says what is wrong with a folder that is no recording', async () => {
    await mkdir(join(dir, 'empty'));
    const ran = await run(['load', '--recording', join(dir, 'empty'), '--scheduler', cluster.daemon.grpcAddress]);
    expect(ran).toMatchObject({ code: 2, out: '' });
    expect(ran.err).toMatch(/empty/);
  });

  it('tells failures by code, and how many were not sent because too many were on their way', async () => {
    await cluster.deploy('other', `export const handler = () => { throw new Error('no'); };`);
    const ran = await load('-o', 'json', '--speed', '1000');
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.out)).toMatchObject({ succeeded: 7, failed: 1, errors: { FUNCTION_FAILED: 1 } });
    expect(ran.err).toContain('FUNCTION_FAILED');
    const one = await load('-o', 'json', '--speed', '1000', '--max-in-flight', '1');
    const { notSent, invocations } = JSON.parse(one.out) as { notSent: number; invocations: number };
    expect(notSent + invocations).toBe(8);
    expect(notSent).toBeGreaterThan(0);
    expect(one).toMatchObject({ code: 1, err: expect.stringContaining('arrivals were not sent: 1 were in flight') });
  });
});
