/** What the scheduler tells agents to keep for workflow runs, on virtual time. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { InputObject } from '../../src/core/invocation.ts';
import type { LinkCommand } from '../../src/daemon/links-protocol.ts';
import { Retention } from '../../src/daemon/retention.ts';

const object = (id: string): InputObject => ({ id, sizeBytes: 1, digest: '', holders: [], name: id });

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function open(holders: Record<string, number[]>): { readonly retention: Retention; readonly told: () => LinkCommand[]; readonly warned: () => number } {
  let told: LinkCommand[] = [];
  let warned = 0;
  const retention = new Retention({
    command: (command) => void told.push(command), forHolders: ({ id }, each) => holders[id]?.forEach(each), nowMs: () => Date.now(),
    log: { warn: () => void warned++ },
  });
  const take = (): LinkCommand[] => {
    const taken = told;
    told = [];
    return taken;
  };
  return { retention, told: take, warned: () => warned };
}

describe('a workflow run', () => {
  it('has its inputs kept on every holder, its outputs as they come, and lets go of all at its end', () => {
    const holders: Record<string, number[]> = { in: [0, 2] };
    const { retention, told } = open(holders);
    retention.begin('run-1', [object('in')]);
    expect(told()).toEqual([0, 2].map((node) => ({ kind: 'retain', node, owner: 'run-1', objectIds: ['in'], ttlMs: 60_000 })));
    retention.dispatched('run-1', 1);
    holders['out'] = [1];
    retention.produced('run-1', [object('out')]);
    // The node leased it with the Execute.
    expect(told()).toEqual([]);
    retention.unneeded('run-1', [object('in'), object('unknown')]);
    expect(told()).toEqual([0, 2, 1].map((node) => ({ kind: 'release', node, owner: 'run-1', objectIds: ['in'] })));
    vi.advanceTimersByTime(21_000);
    expect(told()).toEqual([{ kind: 'retain', node: 1, owner: 'run-1', objectIds: ['out'], ttlMs: 60_000 }]);
    retention.end('run-1');
    expect(told()).toEqual([0, 2, 1].map((node) => ({ kind: 'release', node, owner: 'run-1', objectIds: [] })));
    vi.advanceTimersByTime(60_000);
    expect(told()).toEqual([]);
    retention.stop();
  });

  it('has its objects kept again on an agent that was restarted, and not told twice to one that was not', () => {
    const { retention, told } = open({ in: [0, 1] });
    retention.nodeReported(0, 7);
    retention.begin('run-1', [object('in')]);
    told();
    retention.nodeReported(0, 7);
    expect(told()).toEqual([]);
    retention.nodeReported(0, 8);
    expect(told()).toEqual([{ kind: 'retain', node: 0, owner: 'run-1', objectIds: ['in'], ttlMs: 60_000 }]);
    retention.stop();
  });

  it('with more objects than all runs may have leaves the rest to the quota, and says so', () => {
    const many = Array.from({ length: 200_001 }, (_, i) => object(`o${i}`));
    const { retention, told, warned } = open({ o0: [0], o200000: [0] });
    retention.begin('run-1', many);
    expect([told(), warned()]).toEqual([[{ kind: 'retain', node: 0, owner: 'run-1', objectIds: ['o0'], ttlMs: 60_000 }], 1]);
    retention.stop();
  });
});
