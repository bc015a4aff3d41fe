/**
 * kill -9 of the scheduler, again and again, in the midst of a burst: at whatever moment between acceptance, dispatch and result
 * it dies, every invocation with a receipt ends, and none that must not run twice does. Every run appends a line to a file.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { PATIENCE, TOOL, linesOf, openGate, openProcessCluster, type ProcessCluster } from '../integration/harness.ts';

const EACH = 100;
const KILLS = 3;
let cluster: ProcessCluster;

beforeAll(async () => {
  cluster = await openProcessCluster(2, 2);
  await cluster.deploy('once', TOOL);
  await cluster.deploy('again', TOOL, { idempotent: true, retries: 3 });
}, 60_000);
afterAll(() => cluster.close(), 60_000);

describe('a scheduler that is killed', () => {
  it('fails its synchronous callers, and their runs hold no slot afterwards, whether they end before, during or after the restart', async () => {
    const during = cluster.scratch(), after = cluster.scratch(), log = cluster.scratch();
    const calls = [cluster.call('once', { gate: during, log }), cluster.call('again', { gate: during, log }), cluster.call('once', { gate: after, log })];
    const outcomes = Promise.allSettled(calls);
    await vi.waitFor(() => expect(linesOf(log)).toHaveLength(3), PATIENCE);
    await cluster.killScheduler(() => openGate(during));
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'UNAVAILABLE' } });
    const used = async (): Promise<number> => Object.values(await cluster.nodes()).reduce((sum, { slotsUsed }) => sum + slotsUsed, 0);
    await vi.waitFor(async () => expect([Object.values(await cluster.nodes()).filter(({ status }) => status === NodeStatus.READY).length, await used()]).toEqual([2, 1]), PATIENCE);
    openGate(after);
    await cluster.quiet();
    expect(linesOf(log)).toHaveLength(3);
  }, 60_000);
});

describe('a scheduler that is killed in a burst', () => {
  it('ends all that it accepted, and runs nothing twice that must not', async () => {
    const log = cluster.scratch();
    const receipts = new Map<string, 'once' | 'again'>();
    const runs = (): Map<string, number> => linesOf(log).reduce((counts, line) => counts.set(line.split(' ')[0] ?? '', (counts.get(line.split(' ')[0] ?? '') ?? 0) + 1), new Map<string, number>());
    for (let kill = 0; kill < KILLS; kill++) {
      const before = linesOf(log).length;
      const burst = Promise.all(Array.from({ length: 2 * EACH }, async (_, i) => {
        const name = i % 2 === 0 ? 'once' : 'again';
        try {
          receipts.set(await cluster.callAsync(name, { log, op: 'sleep', value: i % 4 }), name);
        } catch (error) {
          // Without a receipt it may have been accepted or not; it still runs once at most.
          if (!(error instanceof MetronomeError) || error.code !== 'UNAVAILABLE') throw error;
        }
      }));
      // Some have run, some run, some wait, some are on their way in.
      await vi.waitFor(() => expect(linesOf(log).length).toBeGreaterThan(before + 20 * (kill + 1)), PATIENCE);
      await cluster.killScheduler(() => burst);
    }
    expect(receipts.size).toBeGreaterThan(KILLS * 20);
    const ends = await Promise.all([...receipts].map(async ([id, name]) => ({ id, name, invocation: await cluster.ended(id) })));
    const counts = runs();
    const outcomes: Record<string, number> = {};
    for (const { id, name, invocation: { state, error } } of ends) {
      const ran = counts.get(id) ?? 0;
      const outcome = state === InvocationState.COMPLETED ? 'completed' : (error?.code ?? 'none');
      outcomes[`${name} ${outcome}`] = (outcomes[`${name} ${outcome}`] ?? 0) + 1;
      if (outcome === 'completed') expect({ id, ran: name === 'once' ? ran : Math.min(1, ran) }).toEqual({ id, ran: 1 });
      // The agents live on, so they know what became of everything: nobody has to be left in doubt.
      else expect({ id, name, outcome, error: error?.message }).toEqual({ id, name, outcome: 'completed', error: undefined });
    }
    expect(Object.keys(outcomes).sort()).toEqual(['again completed', 'once completed']);
    // Also of those whose receipt was lost, and while others of the function ran again, no "once" ran twice.
    await cluster.quiet();
    for (const [id, ran] of runs()) if (receipts.get(id) !== 'again' && (await cluster.look(id)).function === 'once') expect({ id, ran }).toEqual({ id, ran: 1 });
  }, 120_000);
});
