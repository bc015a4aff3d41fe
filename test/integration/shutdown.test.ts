/** The ends and the bounds: a drain of the scheduler and of an agent, full queues, and a port that is taken. */
import { Client, credentials } from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { describe, expect, it, vi } from 'vitest';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { runAsProcess } from '../cli/run.ts';
import { PATIENCE, TOOL, failure, json, linesOf, openCluster, openGate, valueOf } from './harness.ts';

/** Answers for good on an open connection, also while the server drains. */
function openHealth(address: string): { check(): Promise<string>; close(): void } {
  const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const check = healthService['Check'];
  if (check === undefined) throw new Error('the health service has no Check');
  return {
    check: () => new Promise((resolve, reject) => {
      client.makeUnaryRequest(check.path, check.requestSerialize, check.responseDeserialize, { service: '' }, (error, response) => (error ? reject(error) : resolve(String((response as { status?: unknown } | undefined)?.status))));
    }),
    close: () => client.close(),
  };
}

describe('a drain of the scheduler', () => {
  it('lets what runs and what waits end, refuses what is new, and says so to who asks for health', async () => {
    const cluster = await openCluster({ nodes: 1, slots: 1 });
    await cluster.deploy('tool', TOOL);
    const health = openHealth(cluster.daemon.grpcAddress);
    expect(await health.check()).toMatch(/^(SERVING|1)$/);
    const gate = cluster.scratch(), log = cluster.scratch();
    const runs = cluster.call('tool', { gate, log, value: 'runs' });
    await cluster.running('tool');
    const waits = cluster.call('tool', { log, value: 'waits' });
    const accepted = await cluster.callAsync('tool', { log, value: 'accepted' });
    await cluster.delaying('tool', 2);
    const stream = cluster.client.openInvokeStream();
    const streamed = stream.invoke({ function: 'tool', payload: json({ log, value: 'streamed' }) });
    await cluster.delaying('tool', 3);

    const stopped = cluster.daemon.stop();
    await vi.waitFor(async () => expect(await health.check()).toMatch(/^(NOT_SERVING|2)$/), PATIENCE);
    const ready = await fetch(`${cluster.daemon.httpUrl}/readyz`);
    expect(ready.status).toBe(503);
    expect((await fetch(`${cluster.daemon.httpUrl}/healthz`)).status).toBe(200);
    for (const refused of [cluster.call('tool'), cluster.callAsync('tool'), stream.invoke({ function: 'tool' })]) await failure(refused, 'DRAINING');
    const over = await fetch(`${cluster.daemon.httpUrl}/run/tool`, { method: 'POST' });
    expect([over.status, await over.json()]).toMatchObject([503, { error: { code: 'DRAINING' } }]);
    expect(await cluster.client.getStatus({})).toMatchObject({ draining: true, live: 4 });
    const last = cluster.ended(accepted);
    openGate(gate);
    expect([valueOf(await runs), valueOf(await waits), valueOf(await streamed)]).toMatchObject([{ value: 'runs' }, { value: 'waits' }, { value: 'streamed' }]);
    expect((await last).state).toBe(InvocationState.COMPLETED);
    await stopped;
    expect(linesOf(log)).toHaveLength(4);
    health.close();
    await failure(cluster.call('tool'), 'UNAVAILABLE');
    await cluster.close();
  }, 60_000);

  it('cuts off what does not end in its grace: callers learn it, the sandboxes are stopped', async () => {
    const cluster = await openCluster({ nodes: 1, slots: 1, config: { 'scheduler.drainGrace': '200ms' } });
    await cluster.deploy('tool', TOOL);
    const calls = [cluster.call('tool', { gate: cluster.scratch() }), cluster.call('tool', {})].map((call) => failure(call, 'CANCELLED'));
    await cluster.running('tool');
    await cluster.delaying('tool');
    await cluster.daemon.stop();
    for (const error of await Promise.all(calls)) expect(error.message).toContain('shut down');
    await cluster.close();
  }, 60_000);
});

describe('a drain of an agent', () => {
  it('ends what runs there, sends what is new elsewhere, and does not wait for results that nobody wants', async () => {
    const cluster = await openCluster({ nodes: 2, slots: 1 });
    // Breaks the protocol once the gate is open; its second attempt finds the marker and works.
    await cluster.deploy('breaks-once', `import { closeSync, existsSync, writeFileSync } from 'node:fs';
      export async function handler({ gate, marker }, context) {
        if (existsSync(marker)) return context.attempt;
        writeFileSync(marker, '');
        while (!existsSync(gate)) await new Promise((resolve) => setTimeout(resolve, 5));
        closeSync(3);
        await new Promise(() => {});
      }`, { idempotent: true, retries: 2 });
    const gate = cluster.scratch();
    const retried = cluster.call('breaks-once', { gate, marker: cluster.scratch() });
    const [running] = await cluster.running('breaks-once');
    const first = running?.node ?? '', second = first === 'node-1' ? 'node-2' : 'node-1';
    await cluster.client.drainNode({ name: first, drain: true });
    openGate(gate);
    expect(await retried).toMatchObject({ node: second, attempt: 2 });
    expect(valueOf(await retried)).toBe(2);
    await cluster.client.drainNode({ name: first, drain: false });
    await cluster.quiet();

    await cluster.deploy('tool', TOOL);
    const agent = cluster.agents.get(first);
    const hold = cluster.scratch();
    const calls = [1, 2].map((value) => cluster.call('tool', { gate: hold, value }));
    await cluster.running('tool', 2);
    const startedAt = performance.now();
    const drained = agent?.drain(20_000);
    const third = cluster.call('tool', { value: 3 });
    openGate(hold);
    expect((await Promise.all(calls)).map((response) => response.node).sort()).toEqual(['node-1', 'node-2']);
    await drained;
    // Every result was acknowledged, that of the broken attempt as well: the grace is not used up.
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect((await third).node).toBe(second);
    await agent?.stop();
    await cluster.untilStatus(first, NodeStatus.LOST);
    expect((await cluster.call('tool', {})).node).toBe(second);
    await cluster.quiet();
    await cluster.close();
  }, 60_000);
});

describe('bounds', () => {
  it('a full scheduler refuses with a hint when to come again, sync, async and over HTTP, and takes work again afterwards', async () => {
    const cluster = await openCluster({ nodes: 1, slots: 1, config: { 'limits.maxLive': 3, 'limits.maxWorkflowRuns': 1, 'limits.maxWait': '1s' } });
    await cluster.deploy('tool', TOOL);
    const gate = cluster.scratch();
    const calls = [1, 2, 3].map((value) => cluster.call('tool', { gate, value }, { timeoutMs: 20_000 }));
    const outcomes = Promise.allSettled(calls);
    await vi.waitFor(async () => expect((await cluster.client.getStatus({})).live).toBe(3), PATIENCE);
    for (const refused of [cluster.call('tool'), cluster.callAsync('tool')]) {
      const error = await failure(refused, 'QUEUE_FULL');
      expect(error.extras.retryAfterMs).toBeGreaterThanOrEqual(50);
    }
    const over = await fetch(`${cluster.daemon.httpUrl}/run/tool`, { method: 'POST' });
    expect([over.status, Number(over.headers.get('retry-after')) >= 1]).toEqual([429, true]);
    // Nobody waits for room longer than limits.maxWait.
    await vi.waitFor(async () => expect((await cluster.client.getStatus({})).live).toBe(1), PATIENCE);
    openGate(gate);
    expect((await outcomes).map((outcome) => (outcome.status === 'fulfilled' ? 'completed' : (outcome.reason as { code: string }).code)).sort()).toEqual(['QUEUE_FULL', 'QUEUE_FULL', 'completed']);
    expect(valueOf(await cluster.call('tool', { value: 4 }))).toMatchObject({ value: 4 });

    await cluster.client.applyWorkflow({ spec: { name: 'flow', slaMs: 10_000, timeoutMs: 20_000, steps: [{ name: 'a', function: 'tool' }] } });
    const held = cluster.scratch();
    const run = cluster.call('flow', { gate: held });
    await cluster.running('tool');
    await failure(cluster.call('flow', {}), 'QUEUE_FULL');
    openGate(held);
    await run;
    await cluster.quiet();
    await cluster.close();
  }, 60_000);

  it('a port that is taken is named by the command line, with exit code 4', async () => {
    const cluster = await openCluster({ nodes: 0 });
    const port = (address: string): string => /:(\d+)\/?$/.exec(address)?.[1] ?? '';
    const grpc = port(cluster.daemon.grpcAddress), http = port(cluster.daemon.httpUrl);
    const outcomes = await Promise.all([
      runAsProcess(['scheduler', '--grpc-port', grpc, '--http-port', '0', '--data-dir', cluster.scratch()], { cwd: cluster.dir }),
      runAsProcess(['scheduler', '--grpc-port', '0', '--http-port', http, '--data-dir', cluster.scratch()], { cwd: cluster.dir }),
      runAsProcess(['agent', '--scheduler', cluster.daemon.grpcAddress, '--name', 'odd', '--grpc-port', grpc, '--data-port', '0', '--data-dir', cluster.scratch()], { cwd: cluster.dir }),
    ]);
    expect(outcomes.map(({ code }) => code)).toEqual([4, 4, 4]);
    for (const [i, { err }] of outcomes.entries()) expect(err).toMatch(new RegExp(`PORT_IN_USE: .*${i === 1 ? http : grpc}`));
    // Nobody registered, and nobody is there to run anything.
    await cluster.deploy('tool', TOOL);
    await failure(cluster.call('tool'), 'NO_NODES');
    await cluster.close();
  }, 60_000);
});
