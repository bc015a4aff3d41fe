/** Objects that a workflow run needs outlive the pressure on the stores of their nodes, and are let go when the run ends. */
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { StoreListing } from '../../src/agent/objects/data-protocol.ts';
import { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { PATIENCE, openCluster, openGate, type TestCluster } from './harness.ts';

const MIB = 1024 ** 2;
const QUOTA = 4 * MIB;
const MAKER = `
import { writeFileSync, existsSync } from 'node:fs';
export async function handler(event, context) {
  if (event.gate !== undefined) while (!existsSync(event.gate)) await new Promise((resolve) => setTimeout(resolve, 5));
  if (event.make !== undefined) writeFileSync(context.output('made.bin'), 'x'.repeat(event.make));
  return { gate: event.nextGate, inputs: context.inputs.map(({ name, size }) => name) };
}`;

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await openCluster({ nodes: 2, slots: 2, agent: { objectQuotaBytes: QUOTA } });
  await cluster.deploy('maker', MAKER);
  await cluster.client.applyWorkflow({ spec: { name: 'pair', slaMs: 60_000, timeoutMs: 60_000, steps: [{ name: 'first', function: 'maker' }, { name: 'second', function: 'maker', after: ['first'] }] } });
});
afterAll(() => cluster.close());

async function put(dataUrl: string, name: string, bytes: number): Promise<ObjectRef> {
  const { statusCode, body } = await request(`${dataUrl}/objects?name=${name}`, { method: 'PUT', body: Buffer.alloc(bytes, name) });
  const answer: unknown = await body.json();
  expect(statusCode).toBe(201);
  return ObjectRef.fromJSON(answer);
}

async function held(dataUrl: string, owner: string): Promise<string[]> {
  const listing = (await (await request(`${dataUrl}/objects`)).body.json()) as StoreListing;
  return listing.objects.filter(({ owners }) => owners.includes(owner)).map(({ name }) => name).sort();
}

describe('the objects of a workflow run', () => {
  it('stay while a step may read them and go like all others afterwards', async () => {
    const urls = Object.values(await cluster.nodes()).map(({ dataUrl }) => dataUrl);
    const input = await put(urls[0] ?? '', 'input.bin', MIB);
    const firstGate = cluster.scratch(), secondGate = cluster.scratch();
    const run = cluster.call('pair', { gate: firstGate, make: MIB, nextGate: secondGate }, { inputs: [input] });
    const [first] = await cluster.running('maker');
    const runId = first?.workflowRunId ?? '';
    // Much more than fits: whatever is not needed goes.
    const squeeze = async (): Promise<void> => {
      for (let i = 0; i < 6; i++) for (const url of urls) await put(url, 'filler.bin', MIB);
    };
    const everywhere = async (): Promise<string[]> => (await Promise.all(urls.map((url) => held(url, runId)))).flat().sort();
    await squeeze();
    expect(new Set(await everywhere())).toEqual(new Set(['input.bin']));
    openGate(firstGate);
    // The input is read by nobody any more; what the first step made is about to be.
    await vi.waitFor(async () => expect(new Set(await everywhere())).toEqual(new Set(['made.bin'])), PATIENCE);
    await squeeze();
    openGate(secondGate);
    const response = await run;
    expect(response.steps).toHaveLength(2);
    await vi.waitFor(async () => expect(await everywhere()).toEqual([]), PATIENCE);
    await squeeze();
    const left = await Promise.all(urls.map(async (url) => ((await (await request(`${url}/objects`)).body.json()) as StoreListing).objects.map(({ name }) => name)));
    expect(left.flat().filter((name) => name !== 'filler.bin')).toEqual([]);
    await cluster.quiet();
  }, 60_000);
});
