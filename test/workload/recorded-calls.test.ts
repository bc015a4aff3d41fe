import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordedCalls } from '../../src/workload/recorded-calls.ts';
import { recordSimulation, writeRecording } from '../recording/recorded-simulation.ts';

let dir: string;
const recorded = recordSimulation({ durationMs: 6_000 });
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-rec-'));
  writeRecording(dir, recorded.head, recorded.sink.blocks);
});
afterAll(() => rm(dir, { recursive: true }));

describe('the calls of a recording', () => {
  it('come in order with functions, sizes and how long they ran', () => {
    const calls = recordedCalls(dir);
    expect(calls).toHaveLength(recorded.submitted - recorded.refused);
    expect(calls.map(({ atMs }) => atMs)).toEqual(calls.map(({ atMs }) => atMs).toSorted((a, b) => a - b));
    expect(new Set(calls.map(({ function: name }) => name))).toEqual(new Set(['f0', 'f1', 'f2', 'f3', 'f4', 'f5']));
    expect(calls.filter(({ inputs }) => inputs.length === 1).every(({ inputs }) => (inputs[0]?.sizeBytes ?? 0) > 0)).toBe(true);
    expect(calls.filter(({ durationMs }) => durationMs > 0).length).toBeGreaterThan(calls.length / 2);
  });

  it('can be cut out and told faster', () => {
    const all = recordedCalls(dir), some = recordedCalls(dir, { fromMs: 2_000, untilMs: 4_000, speed: 2 });
    expect(some.map(({ atMs }) => atMs)).toEqual(all.filter(({ atMs }) => atMs >= 2_000 && atMs < 4_000).map(({ atMs }) => (atMs - 2_000) / 2));
  });
});
