/**
 * kill -9 of the scheduler, over real processes: what was accepted asynchronously is there afterwards and ends exactly once, or is
 * reported as interrupted when it may have run and must not run twice. Every run appends a line to a file: the count of the truth.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { PATIENCE, TOOL, failure, linesOf, openGate, openProcessCluster, type ProcessCluster } from '../integration/harness.ts';

/** Over both nodes at once: waiting for a warm one is not what is tested here. */
const SPREAD = { policy: 'round-robin' } as const;

let cluster: ProcessCluster;
beforeAll(async () => {
  cluster = await openProcessCluster(2, 1);
  await cluster.deploy('once', TOOL);
  await cluster.deploy('again', TOOL, { idempotent: true, retries: 3 });
}, 60_000);
afterAll(() => cluster.close(), 60_000);

const runsOf = (log: string): Map<string, number> => {
  const runs = new Map<string, number>();
  for (const line of linesOf(log)) {
    const id = line.split(' ')[0] ?? '';
    runs.set(id, (runs.get(id) ?? 0) + 1);
  }
  return runs;
};

describe('a scheduler that is killed', () => {
  it('takes back what its agents still run, and runs what waited: each exactly once', async () => {
    const log = cluster.scratch(), gate = cluster.scratch();
    const ids: string[] = [];
    // Two run (one slot on each of two nodes), the others wait for room.
    for (let i = 0; i < 8; i++) ids.push(await cluster.callAsync(i % 2 === 0 ? 'once' : 'again', { log, gate, value: i }, SPREAD));
    await vi.waitFor(() => expect(linesOf(log).length).toBe(2), PATIENCE);
    await cluster.killScheduler();
    openGate(gate);
    for (const [i, id] of ids.entries()) {
      const invocation = await cluster.ended(id);
      expect({ id, state: invocation.state, error: invocation.error?.message }).toEqual({ id, state: InvocationState.COMPLETED, error: undefined });
      expect(JSON.parse(invocation.response?.payload.toString('utf8') ?? 'null')).toMatchObject({ value: i });
    }
    const runs = runsOf(log);
    for (const id of ids) expect({ id, runs: runs.get(id) }).toEqual({ id, runs: 1 });
    await cluster.quiet();
  }, 90_000);

  it('learns of what ended while it was away', async () => {
    const log = cluster.scratch();
    const ids = [await cluster.callAsync('once', { log, op: 'sleep', value: 400 }, SPREAD), await cluster.callAsync('once', { log, op: 'sleep', value: 450 }, SPREAD)];
    await vi.waitFor(() => expect(linesOf(log).length).toBe(2), PATIENCE);
    await cluster.killScheduler();
    for (const id of ids) expect((await cluster.ended(id)).state).toBe(InvocationState.COMPLETED);
    for (const id of ids) expect(runsOf(log).get(id)).toBe(1);
    await cluster.quiet();
  }, 90_000);

  it('still knows its functions, what ended before, and the idempotency keys of accepted work', async () => {
    const before = await cluster.callAsync('again', { value: 'kept' }, { idempotencyKey: 'key-1' });
    await cluster.ended(before);
    await cluster.killScheduler();
    expect((await cluster.client.listFunctions({})).functions.map(({ spec }) => spec?.name)).toEqual(['again', 'once']);
    const found = await cluster.look(before);
    expect(found.state).toBe(InvocationState.COMPLETED);
    expect(JSON.parse(found.response?.payload.toString('utf8') ?? 'null')).toMatchObject({ value: 'kept' });
    expect(await cluster.callAsync('again', { value: 'other' }, { idempotencyKey: 'key-1' })).toBe(before);
    await failure(cluster.client.getInvocation({ invocationId: 'inv-never-0' }), 'INVOCATION_NOT_FOUND');
  }, 90_000);

  it('with the agent that ran the work killed too: what may run twice completes, what must not is INTERRUPTED', async () => {
    const log = cluster.scratch(), gate = cluster.scratch();
    const once = await cluster.callAsync('once', { log, gate }, SPREAD);
    const again = await cluster.callAsync('again', { log, gate }, SPREAD);
    await vi.waitFor(() => expect(linesOf(log).length).toBe(2), PATIENCE);
    const [, ...agents] = cluster.cluster.pids;
    for (const pid of agents) process.kill(pid, 'SIGKILL');
    await cluster.killScheduler();
    openGate(gate);
    const interrupted = await cluster.ended(once);
    expect(interrupted.error).toMatchObject({ code: 'INTERRUPTED' });
    expect((await cluster.ended(again)).state).toBe(InvocationState.COMPLETED);
    const runs = runsOf(log);
    expect(runs.get(once)).toBe(1);
    expect(runs.get(again)).toBe(2);
    await cluster.quiet();
  }, 120_000);
});
