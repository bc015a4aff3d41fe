/** The log application on a real system and a real log of 20 MB, and what can go wrong in a workflow. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { deploy } from '../../src/cli/deploy.ts';
import { openObject } from '../../src/cli/objects.ts';
import { PROJECT_ROOT } from '../../src/cli/project.ts';
import { loadManifest } from '../../src/config/manifest.ts';
import { LocalityClass, ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { InvocationState, type Invocation, type InvokeResponse } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { PATIENCE, TOOL, failure, json, linesOf, openCluster, openGate, valueOf, type TestCluster } from './harness.ts';

interface Truth {
  readonly lines: number;
  readonly bytes: number;
  readonly responseBytes: number;
  readonly distinctAddresses: number;
  readonly statusClasses: Readonly<Record<string, unknown>>;
  readonly topAddresses: readonly { readonly requests: number }[];
}

const LOG_BYTES = 20_000_000;
/** Fewer than there are slots: with as many, all that start at once make just half of the steps local, and the rest hangs on whether a wait pays at that moment. */
const PARTS = 4;
let cluster: TestCluster;
let truth: Truth;
let log: ObjectRef;

beforeAll(async () => {
  cluster = await openCluster({ nodes: 3, slots: 2 });
  const { client, dir } = cluster;
  const { makeInput } = (await import(pathToFileURL(join(PROJECT_ROOT, 'apps', 'log', 'make-input.mjs')).href)) as { makeInput: (options: { path: string; bytes: number; seed: number }) => Promise<Truth> }; // plain JavaScript
  const path = join(dir, 'access.log');
  [truth] = await Promise.all([makeInput({ path, bytes: LOG_BYTES, seed: 11 }), deploy({ client, manifest: await loadManifest(join(PROJECT_ROOT, 'apps', 'log')), progress: () => {} })]);
  const answer = await fetch(`${cluster.daemon.httpUrl}/objects?node=node-2&name=access.log`, { method: 'POST', body: createReadStream(path), duplex: 'half', headers: { 'content-length': String(truth.bytes) } });
  expect(answer.status).toBe(201);
  log = ObjectRef.fromJSON(await answer.json());
  expect(log).toMatchObject({ sizeBytes: truth.bytes, holders: ['node-2'], name: 'access.log', digest: createHash('sha256').update(await readFile(path)).digest('hex') });
  await rm(path);
  await Promise.all([
    client.applyFunction({ spec: undefined }).catch(() => {}), // no spec: refused, nothing follows from it
    cluster.deploy('step', TOOL),
    cluster.deploy('items', 'export function handler(event) { return event.items; }'),
  ]);
}, 180_000);
afterEach(() => cluster.quiet());
afterAll(() => cluster.close());

const analyse = (): Promise<InvokeResponse> => cluster.client.invoke({ function: 'log-analysis', payload: json({ parts: PARTS }), inputs: [log] }, { timeoutMs: 60_000 });

describe('log-analysis', () => {
  const steps: Invocation[] = [];

  it('finds in 20 MB what the generator put in, again and again', async () => {
    for (let run = 0; run < 3; run++) {
      const response = await analyse();
      const result = valueOf(response) as Record<string, unknown> & { topAddresses: { requests: number }[] }; // what log-merge returns
      expect(result).toMatchObject({ requests: truth.lines, malformed: 0, bytes: truth.responseBytes, distinctAddresses: truth.distinctAddresses, statusClasses: truth.statusClasses, parts: PARTS });
      expect(result.topAddresses.map(({ requests }) => requests)).toEqual(truth.topAddresses.slice(0, 10).map(({ requests }) => requests));
      const names = response.steps.map(({ step }) => step);
      expect(names[0]).toBe('split');
      expect(names.slice(1, -1).sort()).toEqual(Array.from({ length: PARTS }, (_, i) => `analyze[${i}]`));
      expect(names.at(-1)).toBe('merge');
      for (const step of response.steps) expect(step).toMatchObject({ workflowRunId: response.invocationId, state: InvocationState.COMPLETED, isWorkflow: false });
      steps.push(...response.steps);
    }
  }, 90_000);

  it('runs steps where their data lie, and says how much it moved where not', async () => {
    expect(steps.length).toBe(3 * (PARTS + 2));
    let local = 0;
    for (const { id, node, phases, locality } of steps) {
      expect(phases?.ranMs).toBeGreaterThan(0);
      const { decisions } = await cluster.client.explain({ invocationId: id });
      const missing = decisions.at(-1)?.candidates.find((candidate) => candidate.node === node)?.missingBytes ?? -1;
      // What the last decision knew to be missing is what was fetched; less if another invocation had fetched some of it meanwhile.
      expect(phases?.fetchedBytes).toBeLessThanOrEqual(missing);
      if ((locality?.data ?? 0) > 0) local++;
      else expect(missing).toBeGreaterThan(0);
    }
    expect(local / steps.length).toBeGreaterThan(0.5);
    // The log itself was never moved but to split it.
    for (const { function: name, node } of steps.filter((step) => step.function === 'log-split').slice(0, 1)) expect([name, node]).toEqual(['log-split', 'node-2']);
  });

  it('leaves objects on the nodes that made them, readable and whole', async () => {
    const response = await analyse();
    const split = response.steps.find(({ step }) => step === 'split');
    const { outputs } = await cluster.client.invoke({ function: 'log-split', payload: json({ parts: 2 }), inputs: [log] });
    expect(split?.response).toBeUndefined();
    expect(outputs.map(({ name }) => name)).toEqual(['part-0000.log', 'part-0001.log']);
    expect(outputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)).toBe(truth.bytes);
    const nodes = await cluster.nodes();
    for (const output of outputs) {
      expect(output.holders).toHaveLength(1);
      expect(nodes[output.holders[0] ?? '']?.objects).toBeGreaterThan(0);
      const { body, node } = await openObject({ client: cluster.client }, output);
      const hash = createHash('sha256');
      for await (const chunk of body) hash.update(chunk as Buffer);
      expect([node, hash.digest('hex')]).toEqual([output.holders[0], output.digest]);
    }
    // Read on another node, both become holders.
    const away = Object.keys(nodes).find((name) => name !== outputs[0]?.holders[0]) ?? '';
    for (const name of Object.keys(nodes)) if (name !== away) await cluster.client.drainNode({ name, drain: true });
    // Its holder gets no work now, but still gives out what it has.
    const drained = await openObject({ client: cluster.client }, outputs[0] as ObjectRef); // there are two
    expect(drained.node).toBe(outputs[0]?.holders[0]);
    drained.body.destroy();
    const moved = await cluster.client.invoke({ function: 'log-analyze', inputs: outputs.slice(0, 1) });
    expect(moved).toMatchObject({ node: away, phases: { fetchedBytes: outputs[0]?.sizeBytes } });
    expect(moved.phases?.fetchedMs).toBeGreaterThan(0);
    const again = await cluster.client.invoke({ function: 'log-analyze', inputs: outputs.slice(0, 1) });
    expect(again).toMatchObject({ node: away, phases: { fetchedBytes: 0 }, locality: { class: LocalityClass.LOCAL } });
    expect(again.locality?.data).toBeGreaterThan(0);
    for (const name of Object.keys(nodes)) await cluster.client.drainNode({ name, drain: false });
  }, 60_000);
});

describe('a workflow', () => {
  it('fails with the error of its step, and the other steps are cancelled', async () => {
    const error = await failure(cluster.client.invoke({ function: 'log-analysis', payload: json({ parts: -1 }), inputs: [log] }), 'STEP_FAILED');
    expect(error.message).toContain('split');
    expect(error.extras.functionError).toMatchObject({ type: 'RangeError', message: expect.stringContaining('not -1') as string });

    await cluster.client.applyWorkflow({ spec: { name: 'one-fails', slaMs: 10_000, timeoutMs: 20_000, steps: [{ name: 'all', function: 'step', forEach: 'payload' }] } });
    const never = cluster.scratch();
    const run = cluster.call('one-fails', [{ gate: never }, { op: 'throw', value: 1 }, { gate: never }]);
    const failed = await failure(run, 'STEP_FAILED');
    expect(failed.extras.functionError?.type).toBe('RangeError');
    await cluster.quiet();
    const { invocations } = await cluster.client.listInvocations({ function: 'step' });
    expect(invocations.map(({ state }) => state).sort()).toEqual([InvocationState.FAILED, InvocationState.CANCELLED, InvocationState.CANCELLED]);
    expect((await cluster.ended(failed.extras.invocationId ?? '')).isWorkflow).toBe(true);
  });

  it('fans out over a list, in order, and gives an empty list for an empty one', async () => {
    await cluster.client.applyWorkflow({ spec: { name: 'fan', slaMs: 10_000, timeoutMs: 20_000, steps: [{ name: 'list', function: 'items' }, { name: 'each', function: 'step', after: ['list'], forEach: 'payload' }] } });
    const values = (valueOf(await cluster.call('fan', { items: [{ value: 'a' }, { value: 'b' }, { value: 'c' }] })) as { value: string }[]).map(({ value }) => value);
    expect(values).toEqual(['a', 'b', 'c']);
    expect(valueOf(await cluster.call('fan', { items: [] }))).toEqual([]);
    await failure(cluster.call('fan', { items: 3 }), 'STEP_FAILED');
    await failure(cluster.client.deleteFunction({ name: 'step' }), 'IN_USE');
    await failure(cluster.client.applyWorkflow({ spec: { name: 'odd', slaMs: 1, timeoutMs: 1, steps: [{ name: 'a', function: 'no-such-function' }] } }), 'INVALID_REQUEST');
  });

  it('is cancelled as a whole, sync by its caller or async by id', async () => {
    await cluster.client.applyWorkflow({ spec: { name: 'chain', slaMs: 10_000, timeoutMs: 20_000, steps: [{ name: 'a', function: 'step' }, { name: 'b', function: 'step', after: ['a'] }] } });
    const logFile = cluster.scratch(), gate = cluster.scratch();
    const controller = new AbortController();
    const run = cluster.call('chain', { gate, log: logFile }, {}, { signal: controller.signal });
    await cluster.running('step');
    // The agent has called the handler; its line comes when the process has got there.
    await vi.waitFor(() => expect(linesOf(logFile)).toHaveLength(1), PATIENCE);
    controller.abort();
    await failure(run, 'CANCELLED');
    await cluster.quiet();
    const id = await cluster.callAsync('chain', { gate, log: logFile });
    await cluster.running('step');
    await vi.waitFor(() => expect(linesOf(logFile)).toHaveLength(2), PATIENCE);
    await cluster.client.cancelInvocation({ invocationId: id });
    expect(await cluster.ended(id)).toMatchObject({ state: InvocationState.CANCELLED, isWorkflow: true, error: { code: 'CANCELLED' } });
    openGate(gate);
    await cluster.quiet();
    expect(linesOf(logFile)).toHaveLength(2);
  });

  it('ends when its time is up', async () => {
    await cluster.client.applyWorkflow({ spec: { name: 'brief', slaMs: 300, timeoutMs: 300, steps: [{ name: 'a', function: 'step' }] } });
    const error = await failure(cluster.call('brief', { gate: cluster.scratch() }), 'DEADLINE_EXCEEDED');
    expect((await cluster.ended(error.extras.invocationId ?? '')).state).toBe(InvocationState.TIMED_OUT);
    const { invocationId } = await cluster.call('chain', { value: 1 });
    expect((await cluster.ended(invocationId)).state).toBe(InvocationState.COMPLETED);
  });
});
