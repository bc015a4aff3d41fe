/** Agents that die, come back, are named twice, or are not there at all: nothing is lost, nothing waits for the dead, nothing runs twice that must not. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDaemon } from '../../src/daemon/daemon.ts';
import { loadConfig } from '../../src/config/load.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { TOOL, failure, linesOf, openCluster, openGate, sandboxProcesses, type TestCluster } from '../integration/harness.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await openCluster({ nodes: 2, slots: 1, processes: true });
  await cluster.deploy('once', TOOL);
  await cluster.deploy('again', TOOL, { idempotent: true, retries: 2 });
}, 60_000);
afterAll(() => cluster.close(), 60_000);

/** Starts what was killed again and waits for it. */
async function revive(name: string): Promise<void> {
  cluster.spawnAgent(name);
  await cluster.untilStatus(name, NodeStatus.READY);
}

describe('an agent that is killed', () => {
  it('while it runs what must not run twice: NODE_LOST, run once, no process left', async () => {
    const log = cluster.scratch();
    const call = cluster.call('once', { op: 'hang', log });
    call.catch(() => {});
    const [running] = await cluster.running('once');
    const node = running?.node ?? '';
    await cluster.killAgent(node);
    const error = await failure(call, 'NODE_LOST');
    expect(error.message).toContain(`"${node}"`);
    expect(linesOf(log)).toHaveLength(1);
    await cluster.untilStatus(node, NodeStatus.LOST);
    await revive(node);
    // The next agent of that folder sweeps what a kill -9 left.
    expect(sandboxProcesses(join(cluster.dir, node))).toEqual([]);
    await cluster.quiet();
  }, 60_000);

  it('while it runs what may run twice: it completes elsewhere, as the second attempt', async () => {
    const log = cluster.scratch(), gate = cluster.scratch();
    const call = cluster.call('again', { log, gate, value: 7 });
    const [running] = await cluster.running('again');
    const node = running?.node ?? '';
    await cluster.killAgent(node);
    openGate(gate);
    const response = await call;
    expect(response.node).not.toBe(node);
    expect(response.attempt).toBe(2);
    expect(linesOf(log).map((line) => line.split(' ')[1])).toEqual(['1', '2']);
    await revive(node);
    await cluster.quiet();
  }, 60_000);

  it('while an invocation delays for it: that one is classified again and completes elsewhere', async () => {
    // Warm on one node only, and worth waiting for: its import sleeps.
    await cluster.deploy('slow-import', `await new Promise((resolve) => setTimeout(resolve, 900));\n${TOOL}`, { slaMs: 60_000 });
    const { node } = await cluster.call('slow-import', {});
    const gate = cluster.scratch();
    const first = cluster.call('slow-import', { gate });
    first.catch(() => {});
    await cluster.running('slow-import');
    const second = cluster.call('slow-import', { value: 1 });
    const [waiting] = await cluster.delaying('slow-import');
    expect(waiting).toMatchObject({ delayingFor: 'locality', node });
    await cluster.killAgent(node);
    const response = await second;
    expect(response.node).not.toBe(node);
    const { transitions } = await cluster.client.explain({ invocationId: response.invocationId });
    expect(transitions.map(({ reason }) => reason)).toContain('targetLost');
    openGate(gate);
    await failure(first, 'NODE_LOST');
    await revive(node);
    await cluster.quiet();
  }, 60_000);

  it('or only sleeps for longer than it may be silent, is lost and comes back by itself', async () => {
    const pid = cluster.agentProcesses.get('node-1')?.pid;
    // Process 0 would be everybody here.
    if (pid === undefined) throw new Error('node-1 does not run: the test before this one did not bring it back');
    process.kill(pid, 'SIGSTOP');
    try {
      await cluster.untilStatus('node-1', NodeStatus.LOST);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await cluster.untilStatus('node-1', NodeStatus.READY);
    await cluster.client.drainNode({ name: 'node-2', drain: true });
    expect((await cluster.call('once', {})).node).toBe('node-1');
    await cluster.client.drainNode({ name: 'node-2', drain: false });
    await cluster.quiet();
  }, 60_000);

  it('and comes back under its name gets work again', async () => {
    await cluster.killAgent('node-1');
    await cluster.untilStatus('node-1', NodeStatus.LOST);
    const before = (await cluster.nodes())['node-1']?.epoch ?? 0;
    await revive('node-1');
    expect((await cluster.nodes())['node-1']?.epoch).toBeGreaterThan(before);
    await cluster.client.drainNode({ name: 'node-2', drain: true });
    expect((await cluster.call('once', {})).node).toBe('node-1');
    await cluster.client.drainNode({ name: 'node-2', drain: false });
    await cluster.quiet();
  }, 60_000);
});

describe('agents', () => {
  it('cannot take the name of a living one: NODE_NAME_TAKEN, and it ends', async () => {
    const owner = cluster.agentProcesses.get('node-2');
    const impostor = cluster.spawnAgent('node-2', join(cluster.dir, 'impostor'));
    if (owner !== undefined) cluster.agentProcesses.set('node-2', owner);
    const { code, err } = await impostor.ended;
    expect(err).toContain('node-2');
    expect(code).toBe(4);
    expect((await cluster.nodes())['node-2']?.status).toBe(NodeStatus.READY);
  }, 60_000);

  it('that are all gone: NO_NODES with a hint for synchronous calls; an accepted one waits and runs when one is back', async () => {
    for (const name of ['node-1', 'node-2']) {
      await cluster.killAgent(name);
      await cluster.untilStatus(name, NodeStatus.LOST);
    }
    const error = await failure(cluster.call('once', {}), 'NO_NODES');
    expect(error.extras.retryAfterMs).toBeGreaterThan(0);
    const id = await cluster.callAsync('again', { value: 3 });
    expect((await cluster.look(id)).state).toBeLessThan(InvocationState.COMPLETED);
    await revive('node-1');
    expect((await cluster.ended(id)).state).toBe(InvocationState.COMPLETED);
    await revive('node-2');
    await cluster.quiet();
  }, 60_000);
});

describe('a scheduler', () => {
  it('whose port is taken says which, and leaves nothing running', async () => {
    const port = Number(/:(\d+)$/.exec(cluster.daemon.grpcAddress)?.[1]);
    const dataDir = join(cluster.dir, 'second');
    const { config } = loadConfig({ cwd: cluster.dir, flags: { 'scheduler.grpcPort': port, 'scheduler.httpPort': 0, 'scheduler.dataDir': dataDir, 'scheduler.logLevel': 'silent' } });
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const error = await failure(startDaemon({ config, log: silent }), 'PORT_IN_USE');
    expect(error.message).toContain(String(port));
    // Its store was given back: the folder can be opened again.
    const other = loadConfig({ cwd: cluster.dir, flags: { 'scheduler.grpcPort': 0, 'scheduler.httpPort': 0, 'scheduler.dataDir': dataDir, 'scheduler.logLevel': 'silent' } });
    const daemon = await startDaemon({ config: other.config, log: silent });
    await daemon.stop();
    expect(existsSync(dataDir)).toBe(true);
  }, 30_000);

  it('whose data folder is in use says so', async () => {
    const { config } = loadConfig({ cwd: cluster.dir, flags: { 'scheduler.grpcPort': 0, 'scheduler.httpPort': 0, 'scheduler.dataDir': join(cluster.dir, 'scheduler'), 'scheduler.logLevel': 'silent' } });
    const outcome: unknown = await startDaemon({ config, log: { debug() {}, info() {}, warn() {}, error() {} } }).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(MetronomeError);
    expect(outcome).toMatchObject({ code: 'STATE_LOCKED' });
  }, 30_000);
});
