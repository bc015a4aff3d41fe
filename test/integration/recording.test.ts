/** Recordings of real daemons with real agents under load: every decision is made again, also of what a killed scheduler left behind. */
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RecordingList, SimulationRun } from '../../src/inspect/page-api.ts';
import { readHistory } from '../../src/recording/history.ts';
import { openRecording } from '../../src/recording/read-recording.ts';
import { recordingsIn } from '../../src/recording/recording-folder.ts';
import { replayRecording } from '../../src/recording/replay.ts';
import { run } from '../cli/run.ts';
import { PATIENCE, TOOL, failure, openCluster, openProcessCluster } from './harness.ts';

const CHAIN = { name: 'chain', slaMs: 10_000, timeoutMs: 60_000, steps: [{ name: 'first', function: 'tool' }, { name: 'second', function: 'tool', after: ['first'] }] };

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-rec-'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('a recording of a daemon', () => {
  it('replays exactly: load, workflows, refusals, cancellations, a node that comes and goes, and a change of policy', async () => {
    const cluster = await openCluster({ nodes: 3, slots: 2, config: { 'recording.dir': dir, 'model.bootstrapAfter': 30, 'limits.maxLive': 40 } });
    try {
      await cluster.deploy('tool', TOOL, { idempotent: true, retries: 2, slaMs: 500 });
      await cluster.client.applyWorkflow({ spec: CHAIN });
      const load = (count: number): Promise<unknown> => Promise.allSettled(Array.from({ length: count }, (_, i) => cluster.call('tool', { op: 'sleep', value: 5 + (i % 7) * 10 }, { localityKey: i % 3 === 0 ? `k${i % 5}` : '' })));
      await load(60);
      await Promise.all([load(30), cluster.call('chain', { value: 1 }), cluster.call('chain', { value: 2 })]);
      await failure(cluster.call('nothing', {}), 'FUNCTION_NOT_FOUND');
      await failure(cluster.call('tool', { op: 'sleep', value: 5_000 }, { slaMs: 100 }, { timeoutMs: 150 }), 'DEADLINE_EXCEEDED');
      await cluster.client.drainNode({ name: 'node-2' });
      await Promise.all([load(30), cluster.client.setPolicy({ policy: 'lookahead' })]);
      await cluster.agents.get('node-3')?.stop();
      cluster.agents.delete('node-3');
      await load(40);
      await cluster.client.plan({ request: { function: 'tool' } });
      const { counters } = await cluster.client.getStatus({});
      expect(counters.recordedEntries).toBeGreaterThan(100);
      expect(counters.recordingDropped).toBe(0);
      // The page plays it while it is being written.
      const api = `${cluster.daemon.httpUrl}/inspect/api`;
      const { recordings } = (await (await fetch(`${api}/recordings`)).json()) as RecordingList;
      expect(recordings).toMatchObject([{ name: recordingsIn(dir)[0], isRunning: true }]);
      const played = await fetch(`${api}/simulations`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ recording: recordings[0]?.name, policies: ['round-robin'], seed: 1 }) });
      expect(played.status).toBe(200);
      const [was, whatIf] = (await played.json()) as SimulationRun[];
      expect([was?.kind, whatIf?.kind, was?.frames.length]).toEqual(['recorded', 'whatIf', 400]);
      // It ends when nothing is left to be done.
      expect(whatIf?.frames.length).toBeGreaterThan(100);
      expect(was?.frames.some(({ nodes }) => nodes.some(({ name, used }) => name === 'node-3' && used > 0))).toBe(true);
    } finally {
      await cluster.close();
    }
    const reader = openRecording(dir);
    const report = replayRecording(reader);
    expect(report.difference).toBeUndefined();
    expect(report).toMatchObject({ end: 'inOrder', torn: undefined, missing: 0 });
    expect(report.dispatches).toBeGreaterThan(120);
    const history = readHistory(reader);
    expect(history.nodes.map(({ name }) => name).toSorted()).toEqual(['node-1', 'node-2', 'node-3']);
    expect([...history.policies.keys()].toSorted()).toEqual(['lookahead', 'metronome']);
    const steps = history.invocations.filter(({ purpose }) => purpose?.workflow === 'chain');
    expect(steps.map(({ purpose }) => [purpose?.step, purpose?.after])).toEqual(expect.arrayContaining([['first', []], ['second', ['first']]]));
    expect(history.invocations.filter(({ outcome }) => outcome?.state === 'completed').every(({ outcome }) => (outcome?.totalMs ?? 0) > 0 && outcome?.node !== '')).toBe(true);
    // What people type says the same.
    const replayed = await run(['replay', dir]);
    expect(replayed).toMatchObject({ code: 0, out: expect.stringMatching(new RegExp(`^${report.decisions} decisions reproduced, with ${report.dispatches} dispatches`)) });
    const info = await run(['recording', 'info', dir, '-o', 'json']);
    expect(JSON.parse(info.out)).toMatchObject({ invocations: history.invocations.length, end: 'inOrder', functions: ['tool'] });
    const lines = (await run(['recording', 'export', dir])).out.trimEnd().split('\n').map((line) => JSON.parse(line) as { kind: string });
    expect(lines.filter(({ kind }) => kind === 'execute')).toHaveLength(report.dispatches);
    expect(JSON.stringify(lines)).not.toContain('payload":"');
    const whatIf = await run(['what-if', dir, '--policy', 'round-robin', '--seeds', '1', '-o', 'json']);
    expect(whatIf.code).toBe(0);
    const { simulation, rows, reality } = JSON.parse(whatIf.out) as { simulation: boolean; rows: { name: string; isWorkflow: boolean; comparison: { requests: number } }[]; reality: { requests: number; recorded: { meanMs: number }; control: { meanMs: number } } };
    expect(simulation).toBe(true);
    expect(rows.find(({ name, isWorkflow }) => name === 'chain' && isWorkflow)?.comparison.requests).toBe(2);
    expect(reality.requests).toBeGreaterThan(100);
    expect(reality.control.meanMs).toBeGreaterThan(0);
    // The forest and what the agents keep are told by the recording, not assumed.
    expect(reader.head.model).toMatchObject({ bootstrapAfter: 30, trees: 100 });
    expect(history.nodes.every(({ keeping }) => keeping?.policy === 'ttl' && keeping.keepAliveMs > 0)).toBe(true);
    expect(whatIf.err).toMatch(/predictions by a forest that learns as the recorded one/);
    expect(whatIf.err).not.toMatch(/did not say how long|does not describe its own/);
    const fitted = await run(['sim', 'calibrate', dir, '-o', 'json']);
    expect(JSON.parse(fitted.out)).toMatchObject({ functions: [{ function: 'tool' }] });
  }, 120_000);

  it('replays up to where the scheduler was killed, and its successor has a recording of its own', async () => {
    const cluster = await openProcessCluster(2, 2, ['--record', dir]);
    try {
      await cluster.deploy('tool', TOOL, { idempotent: true, retries: 3 });
      const load = async (): Promise<void> => void (await Promise.allSettled(Array.from({ length: 60 }, (_, i) => cluster.call('tool', { op: 'sleep', value: 5 + (i % 5) * 20 }))));
      await load();
      const pending = load();
      await cluster.killScheduler();
      await pending;
      await vi.waitFor(() => cluster.call('tool', {}), PATIENCE);
      await load();
    } finally {
      await cluster.close();
    }
    const names = recordingsIn(dir);
    expect(names).toHaveLength(2);
    const [killed, successor] = names.map((name) => replayRecording(openRecording(join(dir, name))));
    expect(killed).toMatchObject({ difference: undefined, end: 'cutOff' });
    expect(killed?.dispatches).toBeGreaterThanOrEqual(20);
    expect(successor).toMatchObject({ difference: undefined, end: 'inOrder' });
    expect(successor?.dispatches).toBeGreaterThanOrEqual(60);
    expect(readdirSync(dir)).toEqual(names);
  }, 180_000);
});
