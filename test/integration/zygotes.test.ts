/** Zygotes on a real system: what the agents keep, what the scheduler knows of it, and what operators do with it. */
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { PATIENCE, TOOL, failure, openCluster, type TestCluster } from './harness.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await openCluster({ nodes: 2, slots: 2, config: { 'scheduler.policy': 'metronome' } });
});
afterEach(() => cluster.quiet());
afterAll(() => cluster.close());

const candidateOf = async (name: string, node: string) => (await cluster.client.plan({ request: { function: name } })).decision?.candidates.find((candidate) => candidate.node === node);

it('plans with the zygote that a node keeps, starts from it, and forgets it when it was ended', async () => {
  await cluster.deploy('planned', TOOL);
  const { node } = await cluster.call('planned');
  const at = { name: node, function: 'planned' };
  expect(await cluster.client.evictNode({ ...at, count: 0 })).toEqual({ evicted: 1 });
  expect((await cluster.client.prewarmNode({ ...at, count: 1, zygotes: true })).idle).toBeGreaterThanOrEqual(1);
  await vi.waitFor(async () => expect(await candidateOf('planned', node)).toMatchObject({ startState: StartState.ZYGOTE, zygoteDistance: 0 }), PATIENCE);
  const other = node === 'node-1' ? 'node-2' : 'node-1';
  expect(await candidateOf('planned', other)).toMatchObject({ startState: StartState.COLD, zygoteDistance: 1 });
  expect((await cluster.nodes())[node]?.metrics?.zygoteMemoryMb).toBeGreaterThan(1);

  const response = await cluster.call('planned');
  expect(response).toMatchObject({ node, phases: { startState: StartState.ZYGOTE } });

  await cluster.client.evictNode({ ...at, count: 0 });
  await vi.waitFor(async () => {
    // What was used up may just be replaced.
    await cluster.client.evictNode({ ...at, zygotes: true });
    expect(await candidateOf('planned', node)).toMatchObject({ startState: StartState.PACKAGES, zygoteDistance: 1 });
  }, PATIENCE);
});

it('names unknown nodes and functions when something is to be ended', async () => {
  await failure(cluster.client.evictNode({ name: 'nowhere' }), 'NODE_NOT_FOUND');
  await failure(cluster.client.evictNode({ name: 'node-1', function: 'nothing' }), 'FUNCTION_NOT_FOUND');
});
