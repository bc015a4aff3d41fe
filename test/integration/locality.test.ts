/** Delay scheduling on a real system: two nodes with one slot each, and functions that are slow to initialise. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { LocalityClass, StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { DecisionAction } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { PATIENCE, TOOL, failure, openCluster, openGate, type TestCluster } from './harness.ts';

/** A start that is worth waiting for. */
const INITIALISE_MS = 400;
const SLOW_START = `await new Promise((resolve) => setTimeout(resolve, ${INITIALISE_MS}));${TOOL}`;

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await openCluster({ nodes: 2, slots: 1, config: { 'scheduler.policy': 'metronome' } });
});
afterEach(() => cluster.quiet());
afterAll(() => cluster.close());

const other = (node: string): string => (node === 'node-1' ? 'node-2' : 'node-1');

/** Deploys a slow function and makes it warm on one node, which is then held busy by it. Returns the node and what lets it go. */
async function warmAndBusy(name: string, spec: Parameters<TestCluster['deploy']>[2] = {}): Promise<{ node: string; release: () => Promise<void> }> {
  await cluster.deploy(name, SLOW_START, spec);
  const { node } = await cluster.call(name);
  const gate = cluster.scratch();
  const holder = cluster.call(name, { gate }, { policy: 'metronome' });
  const [running] = await cluster.running(name);
  expect(running?.node).toBe(node);
  return {
    node,
    release: async () => {
      openGate(gate);
      await holder;
    },
  };
}

describe('policy metronome', () => {
  it('lets an invocation wait for the busy node where its function is warm, and explains it', async () => {
    const { node, release } = await warmAndBusy('waits');
    const call = cluster.call('waits', { value: 1 });
    const [waiting] = await cluster.delaying('waits');
    expect(waiting).toMatchObject({ delayingFor: 'locality', reason: 'waitForLocalNode', node });
    expect((await cluster.nodes())[node]?.waiting).toBe(1);
    expect(await cluster.client.getStatus({})).toMatchObject({ delayingForLocality: 1, delayingForCapacity: 0 });
    await release();
    const response = await call;
    expect(response).toMatchObject({ node, locality: { class: LocalityClass.LOCAL }, phases: { startState: StartState.WARM, initialisedMs: 0, queuedMs: 0 } });
    expect(response.phases?.delayedMs).toBeGreaterThan(0);

    const { decisions, transitions } = await cluster.client.explain({ invocationId: response.invocationId });
    const [delay, dispatch] = decisions;
    expect(decisions).toHaveLength(2);
    expect(dispatch).toMatchObject({ action: DecisionAction.DISPATCH, node, reason: 'localNodeReleased' });
    expect(dispatch?.measuredMs).toBeGreaterThan(0);
    expect(delay).toMatchObject({ policy: 'metronome', action: DecisionAction.DELAY, node, reason: 'waitForLocalNode', candidatesInAll: 2 });
    const candidates = Object.fromEntries((delay?.candidates ?? []).map((candidate) => [candidate.node, candidate]));
    expect(candidates[node]).toMatchObject({ locality: { class: LocalityClass.LOCAL }, room: 0, startState: StartState.WARM });
    expect(candidates[other(node)]).toMatchObject({ locality: { class: LocalityClass.FALLBACK }, room: 1, startState: StartState.COLD });
    expect((candidates[other(node)]?.predictedMs ?? 0) - (candidates[node]?.predictedMs ?? 0)).toBeGreaterThan(INITIALISE_MS * 0.9);
    expect(delay?.slackMs).toBeGreaterThan(0);
    expect(transitions.map(({ to, reason }) => [to, reason])).toEqual(
      [[InvocationState.CLASSIFIED, 'predicted'], [InvocationState.DELAYING, 'waitForLocalNode'], [InvocationState.DISPATCHED, 'localNodeReleased'], [InvocationState.DISPATCHED, 'started'], [InvocationState.COMPLETED, 'completed']],
    );
  });

  it('stops waiting when the slack is exhausted, and runs where there is room', async () => {
    const { node, release } = await warmAndBusy('short-slack');
    const response = await cluster.call('short-slack', {}, { slaMs: 1_500 });
    expect(response).toMatchObject({ node: other(node), phases: { startState: StartState.COLD } });
    expect(response.phases?.delayedMs).toBeGreaterThan(0);
    expect(response.phases?.totalMs).toBeLessThan(3_000);
    const { transitions } = await cluster.client.explain({ invocationId: response.invocationId });
    expect(transitions.map(({ reason }) => reason)).toContain('slackExhausted');
    await release();
  });

  it('gives up waiting when the caller cancels', async () => {
    const { release } = await warmAndBusy('gives-up');
    const controller = new AbortController();
    const call = cluster.call('gives-up', {}, {}, { signal: controller.signal });
    const [waiting] = await cluster.delaying('gives-up');
    controller.abort();
    await failure(call, 'CANCELLED');
    expect((await cluster.ended(waiting?.id ?? '')).state).toBe(InvocationState.CANCELLED);
    expect(Object.values(await cluster.nodes()).map((node) => node.waiting)).toEqual([0, 0]);
    await release();
  });

  it('goes elsewhere when the node it waits for is drained', async () => {
    const { node, release } = await warmAndBusy('moves-on');
    const call = cluster.call('moves-on');
    await cluster.delaying('moves-on');
    const { node: drained } = await cluster.client.drainNode({ name: node, drain: true });
    expect(drained?.status).toBe(NodeStatus.DRAINING);
    const response = await call;
    expect(response.node).toBe(other(node));
    const { transitions } = await cluster.client.explain({ invocationId: response.invocationId });
    expect(transitions.map(({ reason }) => reason)).toContain('targetLost');
    await release();
    // Drained, it gets nothing although it is warm.
    expect((await cluster.call('moves-on')).node).toBe(other(node));
    await cluster.client.drainNode({ name: node, drain: false });
    await cluster.untilStatus(node, NodeStatus.READY);
    await failure(cluster.client.drainNode({ name: 'node-9', drain: true }), 'NODE_NOT_FOUND');
  });

  it('forgets that a node was warm when its sandbox has outlived its keep-alive', async () => {
    await cluster.deploy('fades', TOOL, { keepAliveMs: 300 });
    const { node } = await cluster.call('fades');
    const warmth = async (): Promise<unknown> => (await cluster.nodes())[node]?.warm.find((each) => each.function === 'fades');
    const startState = async (): Promise<StartState | undefined> => (await cluster.client.plan({ request: { function: 'fades' } })).decision?.candidates.find((candidate) => candidate.node === node)?.startState;
    await vi.waitFor(async () => expect(await warmth()).toBeUndefined(), PATIENCE);
    // Its code is there, and perhaps a bare runtime that waits.
    expect([StartState.PACKAGES, StartState.ZYGOTE]).toContain(await startState());
    expect((await cluster.call('fades')).phases?.startState).not.toBe(StartState.WARM);
  });

  it('takes the node that served a locality key last as local, although nothing else is known', async () => {
    await cluster.deploy('keyed', TOOL);
    const gate = cluster.scratch();
    const holder = cluster.call('keyed', { gate }, { localityKey: 'customer-7' });
    const [running] = await cluster.running('keyed');
    const node = running?.node ?? '';
    const classes = async (localityKey: string): Promise<unknown> => {
      const { decision } = await cluster.client.plan({ request: { function: 'keyed', localityKey } });
      return [decision?.action, decision?.node, Object.fromEntries((decision?.candidates ?? []).map((candidate) => [candidate.node, candidate.locality?.class]))];
    };
    expect(await classes('customer-7')).toEqual([DecisionAction.DELAY, node, { [node]: LocalityClass.LOCAL, [other(node)]: LocalityClass.FALLBACK }]);
    expect(await classes('customer-8')).toEqual([DecisionAction.DISPATCH, other(node), { [node]: LocalityClass.FALLBACK, [other(node)]: LocalityClass.FALLBACK }]);
    openGate(gate);
    await holder;
  });
});

describe('other policies', () => {
  it('of the request or of the function do not wait', async () => {
    const byRequest = await warmAndBusy('by-request');
    const first = await cluster.call('by-request', {}, { policy: 'round-robin' });
    expect(first.node).toBe(other(byRequest.node));
    expect((await cluster.look(first.invocationId)).policy).toBe('round-robin');
    await byRequest.release();

    const byFunction = await warmAndBusy('by-function', { policy: 'round-robin' });
    const second = await cluster.call('by-function');
    expect(second.node).toBe(other(byFunction.node));
    expect(second.phases?.delayedMs).toBe(0);
    await byFunction.release();
  });

  it('are switched at run time, from the next decision on', async () => {
    const { node, release } = await warmAndBusy('switched');
    const waits = cluster.call('switched');
    await cluster.delaying('switched');
    expect(await cluster.client.setPolicy({ policy: 'round-robin' })).toEqual({ previous: 'metronome', active: 'round-robin' });
    const goes = await cluster.call('switched');
    expect(goes.node).toBe(other(node));
    expect((await cluster.client.listPolicies({})).active).toBe('round-robin');
    await failure(cluster.client.setPolicy({ policy: 'robin' }), 'POLICY_UNKNOWN');
    await cluster.client.setPolicy({ policy: 'metronome' });
    await release();
    await waits;
  });
});
