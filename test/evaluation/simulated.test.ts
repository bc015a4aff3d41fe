import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openSimulatedBackend } from '../../src/cli/evaluation/simulated-backend.ts';
import { evaluate } from '../../src/cli/evaluation/evaluate.ts';
import { EMULATED_CLUSTER } from '../../src/evaluation/cluster-preset.ts';
import { planCells } from '../../src/evaluation/plan.ts';
import { variantNamed } from '../../src/evaluation/variant.ts';
import { SMALL_PLAN } from './records.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-simulated-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

it('gives the same records on any number of threads, and says that they are simulated', { timeout: 120_000 }, async () => {
  const closed = planCells({ ...SMALL_PLAN, trainExecutions: 0, executions: 6, seeds: [3] }).filter(({ purpose }) => purpose === 'compare');
  const cells = [...closed, ...closed.map((cell) => ({ ...cell, id: `${cell.id}/open`, concurrency: 0 }))];
  const run = async (threads: number): Promise<string> => {
    const backend = await openSimulatedBackend({ preset: EMULATED_CLUSTER, applications: ['log'], seed: 3, inputs: 4, training: 60, threads });
    try {
      return JSON.stringify(await Promise.all(cells.map((cell) => backend.run(cell, { slaMs: 5_000, ...(cell.concurrency === 0 ? { ratePerS: 4 } : {}) }, new AbortController().signal))));
    } finally {
      await backend.close();
    }
  };
  const one = await run(1);
  expect(await run(2)).toBe(one);
  expect(one).toContain('"simulated":true');
  expect(one).not.toContain('"ok":false');
});

it('evaluates in simulation from the options to the report', { timeout: 120_000 }, async () => {
  const out = join(dir, 'out');
  const { summaries } = await evaluate({
    where: 'simulation', questions: [1, 2, 3], preset: EMULATED_CLUSTER, applications: ['document'], variants: ['round-robin', 'metronome', 'lookahead'].map((name) => variantNamed(name)), sweeps: [variantNamed('metronome α=0.5')],
    concurrency: EMULATED_CLUSTER.concurrency, levels: [1], seeds: [1], executions: 6, levelExecutions: 3, slaExecutions: 4, trainExecutions: 60, warmUp: 2, inputs: 4, quick: true, out, resume: false, command: 'metronome bench paper', cwd: dir, env: {}, signal: new AbortController().signal, progress: () => {},
  });
  expect(summaries.map(({ variant, n }) => [variant, n])).toEqual([['round-robin', 6], ['metronome', 6], ['lookahead', 6]]);
  const report = await readFile(join(out, 'report.md'), 'utf8');
  expect(report).toContain('**SIMULATION**: 5 nodes');
  expect(report).toContain('## RQ2: concurrency');
  expect(report).toMatch(/\| document \| metronome \| .* \| .* \| .* \| α=0\.5: /);
  // Errors at dispatch are those of a model that was trained.
  expect(report).toContain('| prediction_error_p50 |');
});

it('reports what there is when it is stopped, and goes on from there', { timeout: 120_000 }, async () => {
  const out = join(dir, 'stopped');
  const stopping = new AbortController();
  const lines: string[] = [];
  const options = {
    where: 'simulation', questions: [1], preset: EMULATED_CLUSTER, applications: ['document'], variants: ['round-robin', 'aquatope'].map((name) => variantNamed(name)), sweeps: [],
    concurrency: EMULATED_CLUSTER.concurrency, levels: [], seeds: [1, 2], executions: 4, levelExecutions: 2, slaExecutions: 2, trainExecutions: 20, warmUp: 1, inputs: 2, quick: true, out, command: 'metronome bench paper', cwd: dir, env: {},
    progress(line: string) {
      lines.push(line);
      if (line.startsWith('[2/')) stopping.abort();
    },
  } as const;
  await expect(evaluate({ ...options, resume: false, signal: stopping.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(lines.at(-1)).toContain('--resume goes on from there');
  expect(await readFile(join(out, 'report.md'), 'utf8')).toContain('of 5 cells (**');
  const { summaries } = await evaluate({ ...options, resume: true, signal: new AbortController().signal });
  expect(summaries.map(({ n }) => n)).toEqual([8, 8]);
});
