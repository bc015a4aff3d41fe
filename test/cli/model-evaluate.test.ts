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

  it('also scores what had been predicted at dispatch, where the recording has it', async () => {
    const source = createSyntheticExecutions(4);
    let lines = formatLogHeader({ source: 'recorded', note: '' });
    for (let i = 0; i < 100; i++) {
      const { situation: { functionIndex, nodeIndex, ...situation }, phases } = source.next();
      const tookMs = phases.fetchedMs + phases.initialisedMs + phases.ranMs;
      // Those before the 20th were dispatched by round robin, say; of the others every tenth took longer than its P95.
      const served = { meanMs: tookMs * 1.1, p95Ms: tookMs * (i % 10 === 0 ? 0.9 : 1.2), p99Ms: tookMs * 1.3 };
      lines += formatObservation({ function: source.functions[functionIndex]!.name, node: `n${nodeIndex}`, application: '', situation, phases, ...(i < 20 ? {} : { served }) });
    }
    await writeFile(join(dir, 'served.jsonl'), lines);
    const { out } = await run(['model', 'evaluate', 'served.jsonl', '--warm-up', '10', '--trees', '5', '-o', 'json'], { cwd: dir });
    const rows = JSON.parse(out) as { predictor: string; function: string; count: number; medianError: number; coverageP95: number; coverageP99: number }[];
    const served = rows.find((row) => row.predictor === 'served' && row.function === '(all)')!;
    expect(served).toMatchObject({ count: 80, coverageP95: 0.9, coverageP99: 1 });
    expect(served.medianError).toBeCloseTo(0.1, 4);
    expect((await run(['model', 'evaluate', 'seen.jsonl', '--trees', '5'], { cwd: dir })).out).not.toContain('served');
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
