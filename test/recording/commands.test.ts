/** What people type: replay, recording info, recording export. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OP } from '../../src/recording/facts.ts';
import type { Block } from '../../src/recording/recorder.ts';
import { run } from '../cli/run.ts';
import { recordSimulation, writeRecording } from './recorded-simulation.ts';

const recorded = recordSimulation({ durationMs: 5_000 });
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-rec-'));
});
afterEach(() => rm(dir, { recursive: true }));

/** The same blocks with another node in the first dispatch. */
function falsified(): Block[] {
  let isDone = false;
  return recorded.sink.blocks.map((block) => {
    const numbers = block.numbers.slice();
    for (let i = 0; i + 3 < numbers.length && !isDone; i++) {
      // A dispatch follows its transition: from classified to dispatched, with reason and node.
      if (numbers[i] !== OP.transition || numbers[i + 2] !== 2 * 16 + 4 || numbers[i + 5] !== OP.execute) continue;
      numbers[i + 7] = (numbers[i + 7] as number) + 1;
      isDone = true;
    }
    return { ...block, numbers };
  });
}

describe('metronome replay', () => {
  it('says how much was reproduced, as text and as JSON', async () => {
    writeRecording(dir, recorded.head, recorded.sink.blocks);
    const { dispatched } = recorded.sim.scheduler.counters;
    expect(await run(['replay', dir])).toMatchObject({ code: 0, out: expect.stringMatching(new RegExp(`^\\d+ decisions reproduced, with ${dispatched} dispatches and \\d+ transitions, from \\d+ entries over `)) });
    const json = await run(['replay', dir, '-o', 'json']);
    expect(JSON.parse(json.out)).toMatchObject({ dispatches: dispatched, end: 'inOrder' });
  });

  it('ends with 1 and both sides when something differs', async () => {
    writeRecording(dir, recorded.head, falsified());
    const { code, out } = await run(['replay', dir]);
    expect(code).toBe(1);
    expect(out).toMatch(/\nEntry \d+ differs, at 1970-01-01T00:\d\d:[\d.]+Z \(s00\w+\): submit\(/);
    expect(out).toMatch(/\n {2}recorded: s00\w+ is sent to n\d, attempt 1\n {2}replayed: s00\w+ is sent to n\d, attempt 1\n/);
  });

  it('is a mistake of the caller without a recording', async () => {
    expect(await run(['replay', join(dir, 'nowhere')])).toMatchObject({ code: 2, err: expect.stringContaining('There is no folder') });
  });
});

describe('metronome recording', () => {
  it('info tells when, what and how much', async () => {
    writeRecording(dir, recorded.head, recorded.sink.blocks);
    const { code, out } = await run(['recording', 'info', dir]);
    expect(code).toBe(0);
    expect(out).toMatch(/Duration: +[\d.]+ s\nWritten by: +metronome test, policy metronome, predictor moving-average\n/);
    expect(out).toMatch(/End: +in order\nLeft out: +nothing\nNodes: +n0 \(2 slots\), n1 \(2 slots\)/);
    expect(out).toMatch(/FUNCTION +ARRIVALS +COMPLETED +MEAN +P95 +SLA MISSED\nf0 +\d+ +\d+/);
  });

  it('export writes facts, or invocations with what became of them, as JSON Lines', async () => {
    writeRecording(dir, recorded.head, recorded.sink.blocks);
    const linesOf = async (...args: string[]): Promise<Record<string, unknown>[]> => (await run(['recording', 'export', dir, ...args])).out.trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    const facts = await linesOf();
    expect(facts[0]).toMatchObject({ entry: 0, kind: 'begin' });
    expect(facts.at(-1)).toMatchObject({ kind: 'end' });
    const invocations = await linesOf('--what', 'invocations');
    expect(invocations).toHaveLength(recorded.submitted - recorded.refused);
    expect(invocations.every(({ outcome }) => outcome !== undefined)).toBe(true);
    const completed = invocations.filter(({ outcome }) => (outcome as { state: string }).state === 'completed');
    expect(completed).toHaveLength(recorded.sim.scheduler.counters.completed);
  });
});
