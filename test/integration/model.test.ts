/** The model service of a real daemon over gRPC, first without any agent, then with functions that really run. */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import type { Observation, Situation } from '../../src/rpc/gen/metronome/v1/model.ts';
import type { PartialMessage } from '../../src/rpc/partial.ts';
import { createSyntheticExecutions } from '../../src/workload/synthetic-executions.ts';
import { run } from '../cli/run.ts';
import { PATIENCE, openCluster, type TestCluster } from './harness.ts';

const PATIENT = { timeout: 30_000, interval: 20 };
const open: TestCluster[] = [];
afterEach(async () => {
  for (const cluster of open.splice(0)) await cluster.close();
});

async function start(nodes: number, config: Record<string, unknown> = {}): Promise<TestCluster> {
  const cluster = await openCluster({ nodes, config: { 'scheduler.predictor': 'forest', 'model.trees': 20, 'model.bootstrapAfter': 60, 'model.lateAfter': '1s', ...config } });
  open.push(cluster);
  return cluster;
}

/** Synthetic executions as a client of the service has them: by name. */
function observations(count: number): PartialMessage<Observation>[] {
  const source = createSyntheticExecutions(5);
  return Array.from({ length: count }, () => {
    const { situation: { functionIndex, nodeIndex, startState = 1, inputBytes = 0, missingBytes = 0, fetchBytesPerS = 0, ...features }, phases } = source.next();
    return {
      situation: { function: source.functions[functionIndex]!.name, node: `far-${nodeIndex}`, startState: startState as StartState, inputBytes: Math.round(inputBytes), missingBytes: Math.round(missingBytes), fetchBytesPerS, features },
      ...phases,
    };
  });
}

describe('the model service alone', () => {
  it('learns from observations and predicts for functions and nodes that the scheduler does not know', async () => {
    const { client } = await start(0);
    const seen = observations(400);
    const situations = seen.slice(300, 310).map(({ situation }) => situation!) as PartialMessage<Situation>[];
    const before = await client.predict({ situations });
    expect(before.predictions.map(({ source, observations: count, modelVersion }) => [source, count, modelVersion])).toEqual(Array.from({ length: 10 }, () => ['moving-average', 0, 0]));
    expect(await client.observe({ observations: seen })).toEqual({ accepted: 400 });
    await vi.waitFor(async () => expect((await client.predict({ situations })).predictions[0]?.source).toBe('forest'), PATIENT);
    await vi.waitFor(async () => expect((await client.getModelStatus({})).counters['learned']).toBe(400), PATIENT);
    const { predictions } = await client.predict({ situations });
    predictions.forEach(({ meanMs, p95Ms, p99Ms, modelVersion, source, observations: count }, i) => {
      const { fetchedMs, initialisedMs, ranMs } = seen[300 + i] as Required<Observation>;
      const measured = fetchedMs + initialisedMs + ranMs;
      expect(Math.abs(meanMs - measured) / measured).toBeLessThan(0.5);
      expect(p99Ms).toBeGreaterThanOrEqual(p95Ms);
      expect([source, modelVersion > 0, count > 10]).toEqual(['forest', true, true]);
    });
    const status = await client.getModelStatus({});
    expect(status).toMatchObject({ predictor: 'forest', state: expect.stringMatching(/serving|updating/), trees: 20, trainer: 'extra-trees', observations: 400 });
    expect(status.functions.find((row) => row.function === 'log-split')).toMatchObject({ observations: expect.any(Number), forestMedianError: expect.any(Number) });
    expect(status.functions.every(({ forestObservations, observations: count }) => forestObservations === count)).toBe(true);
  });

  it('answers hundreds of situations in one call, in their order', async () => {
    const { client } = await start(0);
    await client.observe({ observations: observations(200) });
    await vi.waitFor(async () => expect((await client.getModelStatus({})).state).toMatch(/serving|updating/), PATIENT);
    const one = (await client.predict({ situations: [{ function: 'log-split', inputBytes: 5_000_000, startState: StartState.WARM }] })).predictions[0]!.meanMs;
    const { predictions } = await client.predict({ situations: Array.from({ length: 1_500 }, (_, i) => ({ function: i === 1_234 ? 'log-split' : 'ml-process', inputBytes: 5_000_000, startState: StartState.WARM })) });
    expect(predictions).toHaveLength(1_500);
    expect(predictions[1_234]!.meanMs / one).toBeCloseTo(1, 1);
    expect(predictions[1_233]!.meanMs).not.toBeCloseTo(one, 3);
  });

  it('gives places only to names that teach, within their bound, and says how many observations found room', async () => {
    const { client } = await start(0, { 'limits.maxFunctions': 3 });
    const { predictions } = await client.predict({ situations: Array.from({ length: 20 }, (_, i) => ({ function: `asked-${i}`, node: `asked-${i}` })) });
    expect(predictions.map(({ source, meanMs }) => [source, meanMs > 0])).toEqual(Array.from({ length: 20 }, () => ['moving-average', true]));
    // What is refused takes no place either.
    await expect(client.observe({ observations: [{ situation: { function: 'wrong' }, ranMs: 5 }, { situation: { function: 'wrong-2' }, ranMs: 2e9 }] })).rejects.toMatchObject({ extras: { violations: [{ field: 'observations[1].ran_ms', description: 'must be 0 to 1000000000' }] } });
    for (const name of ['a', 'b', 'c']) expect(await client.observe({ observations: [{ situation: { function: name }, ranMs: 5 }] })).toEqual({ accepted: 1 });
    await expect(client.observe({ observations: [{ situation: { function: 'd' }, ranMs: 5 }] })).rejects.toMatchObject({ code: 'QUEUE_FULL' });
    const { accepted } = await client.observe({ observations: Array.from({ length: 10_000 }, () => ({ situation: { function: 'a' }, ranMs: 5 })) });
    expect(accepted).toBeGreaterThan(4_000);
    expect(accepted).toBeLessThanOrEqual(4_096);
    const { counters, functions } = await client.getModelStatus({});
    expect(counters['dropped']).toBe(10_000 - accepted);
    expect(functions.find((row) => row.function === 'a')?.observations).toBe(1 + accepted);
  });

  it('refuses what it does not understand, with the place', async () => {
    const { client } = await start(0);
    await expect(client.predict({ situations: [] })).rejects.toMatchObject({ code: 'INVALID_REQUEST', extras: { violations: [{ field: 'situations', description: 'must have 1 to 10000 entries' }] } });
    await expect(client.predict({ situations: [{ function: 'f' }, { function: 'f', features: { cpuUtilization: 0.5, inputBytes: 4, memoryMb: Number.NaN } }, {}] })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      extras: { violations: [
        { field: 'situations[1].features.cpuUtilization', description: 'is no feature (docs/reference/features.md); did you mean "cpuUtilisation"?' },
        { field: 'situations[1].features.inputBytes', description: 'is given by the field input_bytes' },
        { field: 'situations[1].features.memoryMb', description: 'must be a finite number' },
        { field: 'situations[2].function', description: 'is required' },
      ] },
    });
    await expect(client.observe({ observations: [{ situation: { function: 'f', node: 'n'.repeat(1_025) }, ranMs: 5 }] })).rejects.toMatchObject({
      extras: { violations: [{ field: 'observations[0].situation.node', description: 'has 1025 characters; 1024 are the most' }] },
    });
    await expect(client.predict({ situations: [{ function: 'f', features: { constructor: 1 } }] })).rejects.toMatchObject({
      extras: { violations: [{ field: 'situations[0].features.constructor', description: 'is no feature (docs/reference/features.md)' }] },
    });
    await expect(client.predict({ situations: [{ function: 'f', inputBytes: 2e15, features: { cpuUtilisation: 1.5, memoryMb: -1 } }] })).rejects.toMatchObject({
      extras: { violations: [
        { field: 'situations[0].features.cpuUtilisation', description: 'must be from 0 to 1 for cpuUtilisation (0 to 1), not 1.5' },
        { field: 'situations[0].features.memoryMb', description: 'must be from 0 to 1000000000 for memoryMb (MiB), not -1' },
        { field: 'situations[0].input_bytes', description: 'must be from 0 to 1000000000000000 for inputBytes (bytes), not 2000000000000000' },
      ] },
    });
    await expect(client.observe({ observations: [{ situation: { function: 'f' }, ranMs: -1 }] })).rejects.toMatchObject({ extras: { violations: [{ field: 'observations[0].ran_ms', description: 'must be 0 to 1000000000' }] } });
    await expect(async () => { for await (const _ of client.exportModel({})); }).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(client.importModel([{ chunk: Buffer.from('no model') }])).rejects.toMatchObject({ code: 'STATE_CORRUPT' });
  });

  it('works with moving averages as well, and says that there is no forest', async () => {
    const { client } = await start(0, { 'scheduler.predictor': 'moving-average' });
    await client.observe({ observations: [{ situation: { function: 'f', startState: StartState.WARM }, ranMs: 70 }] });
    expect((await client.predict({ situations: [{ function: 'f', startState: StartState.WARM }] })).predictions).toEqual([{ meanMs: 70, spreadMs: expect.any(Number), observations: 1, p95Ms: expect.any(Number), p99Ms: expect.any(Number), modelVersion: 0, source: 'moving-average' }]);
    expect(await client.getModelStatus({})).toMatchObject({ predictor: 'moving-average', state: 'cold', version: 0 });
    await expect(async () => { for await (const _ of client.exportModel({})); }).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE', message: 'There is no forest: scheduler.predictor is moving-average.' });
  });

  it('hands its model to another scheduler by the command line, and shows it', async () => {
    const first = await start(0), second = await start(0);
    await first.client.observe({ observations: observations(200) });
    await vi.waitFor(async () => expect((await first.client.getModelStatus({})).counters['learned']).toBe(200), PATIENT);
    await vi.waitFor(async () => expect((await first.client.getModelStatus({})).state).toBe('serving'), PATIENT);
    const cli = (cluster: TestCluster, ...args: string[]) => run(['--scheduler', cluster.daemon.grpcAddress, 'model', ...args], { cwd: cluster.dir });
    const file = join(first.dir, 'm.snapshot');
    const exported = await cli(first, 'export', file);
    expect([exported.code, exported.err]).toEqual([0, expect.stringMatching(/version \d+, .*iB/)]);
    const imported = await cli(second, 'import', file);
    expect([imported.code, imported.err]).toEqual([0, expect.stringMatching(/200 observations/)]);
    const situations = [{ function: 'video-transcode', node: 'far-3', inputBytes: 7_000_000 }];
    await vi.waitFor(async () => expect((await second.client.predict({ situations })).predictions[0]?.source).toBe('forest'), PATIENT);
    const status = await cli(second, 'status');
    expect(status.out).toMatch(/State: +serving/);
    expect(status.out).toMatch(/Forest: +20 trees of extra-trees/);
    expect(status.out).toMatch(/video-transcode +0 +\d+ /);
    const refused = await cli(second, 'import', join(first.dir, 'nothing'));
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining('cannot be read')]);
  });
});

describe('the model of a scheduler', () => {
  it('learns from what really runs, keeps what it learned over a restart, shows it in metrics, and records it', async () => {
    const recordings = await mkdtemp(join(tmpdir(), 'metronome-recordings-'));
    const cluster = await start(2, { 'model.observationLog': recordings });
    const { client } = cluster;
    await cluster.deploy('echo', 'export const handler = (event) => event;');
    for (let i = 0; i < 70; i++) await cluster.call('echo', { i });
    await vi.waitFor(async () => expect((await client.getModelStatus({})).state).toMatch(/serving|updating/), PATIENT);
    const { invocationId } = await cluster.call('echo', { last: true });
    const { decisions } = await client.explain({ invocationId });
    expect(decisions.at(-1)?.candidates.map(({ source }) => source)).toContain('forest');
    await expect(cluster.call('echo', 'x'.repeat(3), { function: 'nobody' })).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
    await cluster.deploy('broken', 'export const handler = () => { throw new Error("no"); };');
    await expect(cluster.call('broken')).rejects.toMatchObject({ code: 'FUNCTION_FAILED' });
    expect((await client.getModelStatus({})).excluded).toMatchObject({ failed: 1 });
    await vi.waitFor(async () => {
      const metrics = await (await fetch(`${cluster.daemon.httpUrl}/metrics`)).text();
      expect(metrics).toMatch(/metronome_model_state\{state="(serving|updating)"\} 1/);
      expect(metrics).toMatch(/metronome_model_version [1-9]/);
      expect(metrics).toMatch(/metronome_model_error_ratio\{function="echo",quantile="0.5"\} \d/);
      expect(metrics).toMatch(/metronome_model_coverage_ratio\{function="echo",quantile="0.95"\} \d/);
      expect(metrics).toMatch(/metronome_model_served_coverage_ratio\{function="echo",quantile="0.99"\} \d/);
      expect(metrics).toMatch(/metronome_model_excluded_total\{reason="failed"\} 1/);
    }, PATIENCE);
    expect(await readdir(recordings)).toEqual(['observations.jsonl']);
    const lines = async (): Promise<string[]> => (await readFile(join(recordings, 'observations.jsonl'), 'utf8')).trim().split('\n');
    await vi.waitFor(async () => expect(await lines()).toContain('{"f":"broken","n":"","s":{},"x":"failed"}'), PATIENT);
    const recorded = await lines();
    expect(recorded.length).toBeGreaterThan(60);
    // What the decision about it rested on.
    expect(recorded.filter((line) => line.includes('"f":"echo"')).map((line) => (JSON.parse(line) as { q?: number[] }).q?.length)).toContain(3);
    await rm(recordings, { recursive: true });
    expect(JSON.parse(recorded[5]!)).toMatchObject({ f: 'echo', n: expect.stringMatching(/^node-[12]$/), s: { startState: expect.any(Number), payloadBytes: expect.any(Number) }, p: [expect.any(Number), expect.any(Number), expect.any(Number)] });
  });
});
