/** Recordings whose oldest segments go: the newest stay, within the bound, and can be read from any segment on. */
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createSystemClock } from '../../src/core/clock.ts';
import { OP } from '../../src/recording/facts.ts';
import { readHistory } from '../../src/recording/history.ts';
import { openRecording } from '../../src/recording/read-recording.ts';
import { replayRecording } from '../../src/recording/replay.ts';
import { ContextFollower } from '../../src/recording/segment-context.ts';
import { startRecording } from '../../src/recording/start-recording.ts';
import { simulateWork } from '../../src/what-if/simulate-work.ts';
import { CONTROL } from '../../src/what-if/what-if.ts';
import { workloadOf } from '../../src/what-if/workload.ts';
import { run } from '../cli/run.ts';
import { readerOf, recordSimulation } from './recorded-simulation.ts';

const MIB = 1024 ** 2;
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-rec-'));
});
afterEach(() => rm(dir, { recursive: true }));

const FUNCTION = { name: 'f', version: '1', memoryMb: 128, zygote: { runtime: 'node', isolation: '', network: true, imports: { direct: ['p@1'], byName: new Map([['p', 'p@1']]) } } };

describe('a recording that rotates', () => {
  /** Entries that do not get smaller by packing, about 8 kB each. */
  const record = async (entries: number, more: Partial<Parameters<typeof startRecording>[0]> = {}) => {
    const warn = vi.fn<(fields: object, event: string) => void>();
    const { scheduler } = recordSimulation({ durationMs: 10 });
    const recording = startRecording({
      scheduler: { ...scheduler, clock: createSystemClock() }, log: { info: () => {}, warn }, dir, segmentBytes: MIB, maxBytes: 2 * MIB, onFull: 'rotate', keep: 2, version: 'test', context: () => ({ functions: [], nodes: [] }), ...more,
    });
    recording.recorder.call('putFunction', [FUNCTION], () => {});
    let state = 1;
    for (let i = 0; i < entries; i++) recording.recorder.input(OP.timer, i, () => {
      for (let k = 0; k < 500; k++) recording.recorder.tape.put2(OP.clock, (state = (state * 16_807) % 2_147_483_647) / 7);
    });
    await recording.stop();
    return { recording, warn };
  };

  it('keeps the newest segments within its bound, without a gap and without an end', async () => {
    const { recording, warn } = await record(1_500);
    expect(warn).not.toHaveBeenCalled();
    expect(recording.counters).toMatchObject({ entries: 1_502, dropped: 0 });
    const reader = openRecording(dir);
    const blocks = [...reader.blocks()];
    expect(reader.bytes).toBeLessThanOrEqual(2 * MIB);
    // Segments are a quarter of the bound: never is much more than that gone.
    expect(reader.bytes).toBeGreaterThan(MIB);
    expect(reader.removedSegments).toBeGreaterThan(2);
    const [first, last] = [blocks[0], blocks.at(-1)];
    expect(first?.firstEntry).toBeGreaterThan(100);
    expect(blocks.reduce((sum, { entries }) => sum + entries, 0)).toBe(1_502 - (first?.firstEntry ?? 0));
    expect((last?.firstEntry ?? 0) + (last?.entries ?? 0)).toBe(1_502);
    expect(readdirSync(recording.folder)).toHaveLength(reader.segments);
    // What came long before is known.
    expect(reader.head.context?.functions).toEqual([FUNCTION]);
    expect(readHistory(reader).functions.get('f')).toEqual(FUNCTION);
    // What it cannot do, it says.
    expect(() => replayRecording(reader)).toThrow(/^The first \d+ segments of the recording in .* were removed .* A replay needs every input since the scheduler began; what-if, export and sim calibrate work on what is left\./);
    expect((await run(['recording', 'info', dir])).out).toMatch(/Size: +.* in \d segments; \d+ earlier ones were removed, so it cannot be replayed/);
  }, 60_000);

  it('is an ordinary recording as long as nothing had to go', async () => {
    await record(100);
    const reader = openRecording(dir);
    expect([...reader.blocks()].reduce((sum, { entries }) => sum + entries, 0)).toBe(102);
    expect(reader).toMatchObject({ removedSegments: 0, segments: expect.any(Number) as number });
    expect(reader.head.context).toBeUndefined();
  }, 60_000);
});

describe('what is known when a segment begins', () => {
  const whole = recordSimulation({ durationMs: 12_000, perS: 30 });
  const stored = [...whole.reader().blocks()];
  const all = readHistory(whole.reader());

  it.each([0.25, 0.6, 0.9])('tells the rest from %d of it on as the whole does', (share) => {
    const cut = Math.floor(stored.length * share);
    const follower = new ContextFollower({ ...whole.head, segment: 1 });
    for (const block of stored.slice(0, cut)) follower.follow(block);
    const head = { ...whole.head, context: follower.now };
    const rest = readerOf(head, whole.sink.blocks.slice(cut));
    const left = readHistory(rest);
    expect(left.nodes).toEqual(all.nodes);
    expect(left.invocations.length).toBeGreaterThan(5);
    const tail = all.invocations.slice(-left.invocations.length);
    expect(left.invocations.map(({ id }) => id)).toEqual(tail.map(({ id }) => id));
    left.invocations.forEach(({ outcome, slaMs, functionName }, i) => {
      expect([functionName, slaMs, outcome?.state, outcome?.node, outcome?.ranMs, outcome?.startState]).toEqual([tail[i]?.functionName, tail[i]?.slaMs, tail[i]?.outcome?.state, tail[i]?.outcome?.node, tail[i]?.outcome?.ranMs, tail[i]?.outcome?.startState]);
      expect(outcome?.totalMs).toBeCloseTo(tail[i]?.outcome?.totalMs ?? -1, 6);
    });
    for (const { functionName } of left.invocations) expect(left.functions.get(functionName)).toEqual(all.functions.get(functionName));
    // What the nodes had is what the whole recording says they had then.
    const { warm, packageSets } = left.atFirst;
    expect(packageSets.length).toBeGreaterThan(0);
    expect(warm.every(({ node, count }) => node < 4 && count >= 1 && count <= 2)).toBe(true);
    const { work } = workloadOf(left, { ...head, segment: 1 }, 'memory');
    const { latencies } = simulateWork(work, CONTROL, 1);
    expect([...latencies].filter((ms) => ms > 0).length).toBeGreaterThan(left.invocations.length / 2);
  });

  it('knows the policy that was in force', () => {
    const follower = new ContextFollower({ ...whole.head, segment: 1 });
    const seen = new Set<string>();
    for (const block of stored) {
      follower.follow(block);
      seen.add(follower.now.policy);
    }
    expect([...seen]).toContain('metronome');
    expect(follower.now.policy).toBe('metronome');
  });
});
