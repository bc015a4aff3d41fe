import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatLogHeader, formatObservation } from '../../src/predictor/observation-log.ts';
import { createSyntheticExecutions } from '../../src/workload/synthetic-executions.ts';
import { run } from './run.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-evaluate-'));
  const source = createSyntheticExecutions(2);
  let lines = formatLogHeader({ source: 'synthetic', note: 'for a test' });
  for (let i = 0; i < 500; i++) {
    const { situation: { functionIndex, nodeIndex, ...situation }, phases } = source.next();
    lines += formatObservation({ function: source.functions[functionIndex]!.name, node: `n${nodeIndex}`, application: '', situation, phases });
  }
  await writeFile(join(dir, 'seen.jsonl'), lines);
});
afterAll(() => rm(dir, { recursive: true }));

describe('metronome model evaluate', () => {
  it('scores the model against moving averages, function by function, each execution predicted before it is learned', async () => {
    const { code, out, err } = await run(['model', 'evaluate', 'seen.jsonl', '--trees', '10', '-o', 'json'], { cwd: dir });
    expect([code, err]).toEqual([0, 'seen.jsonl: 500 synthetic executions of 10 functions on 10 nodes, 0 excluded\n']);
    const rows = JSON.parse(out) as { predictor: string; function: string; count: number; medianError: number; coverageP95: number }[];
    const [forest, average] = ['forest', 'moving-average'].map((name) => rows.find((row) => row.predictor === name && row.function === '(all)')!);
    expect(forest!.count).toBe(300);
    expect(forest!.medianError).toBeLessThan(average!.medianError / 2);
    expect(forest!.coverageP95).toBeGreaterThan(0.8);
    expect(rows.filter((row) => row.predictor === 'forest').map((row) => row.function)).toContain('ml-process');
    const table = await run(['model', 'evaluate', 'seen.jsonl', '--trees', '10'], { cwd: dir });
    expect(table.out).toMatch(/forest +\(all\) +300 +\d+\.\d%/);
  });

  it('repeats itself with the same seed', async () => {
    const [a, b] = await Promise.all([run(['model', 'evaluate', 'seen.jsonl', '--trees', '5', '-o', 'json'], { cwd: dir }), run(['model', 'evaluate', 'seen.jsonl', '--trees', '5', '-o', 'json'], { cwd: dir })]);
    expect(b.out).toBe(a.out);
  });

  it('refuses what is no recording, with the line, and a warm-up that leaves nothing', async () => {
    await writeFile(join(dir, 'other.jsonl'), `${formatLogHeader({ source: 'recorded', note: '' })}{"f":"x","n":"n","s":{"colour":1},"p":[0,0,1]}\n`);
    const other = await run(['model', 'evaluate', 'other.jsonl'], { cwd: dir });
    expect(other.code).not.toBe(0);
    expect(other.err).toContain('other.jsonl:2 is not a recording of observations: "colour" is no feature of a situation');
    const short = await run(['model', 'evaluate', 'seen.jsonl', '--warm-up', '500'], { cwd: dir });
    expect([short.code, short.err]).toEqual([2, expect.stringContaining('seen.jsonl holds 500 executions; with --warm-up 500 none is left to count.')]);
  });
});
