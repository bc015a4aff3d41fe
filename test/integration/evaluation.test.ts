import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { evaluate } from '../../src/cli/evaluation/evaluate.ts';
import { EMULATED_CLUSTER } from '../../src/evaluation/cluster-preset.ts';
import { parseRecord } from '../../src/evaluation/execution-record.ts';
import { variantNamed } from '../../src/evaluation/variant.ts';

it('evaluates real executions on real nodes, and resumes without running them again', { timeout: 240_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'metronome-evaluation-test-'));
  try {
    const lines: string[] = [];
    const options = {
      where: 'process', questions: [1], preset: { ...EMULATED_CLUSTER, nodes: 2, copies: 2, inputFactor: { ...EMULATED_CLUSTER.inputFactor, log: 0.01 } },
      applications: ['log'], variants: [variantNamed('round-robin'), variantNamed('lookahead')], sweeps: [variantNamed('lookahead γ=0.9')], concurrency: { video: 2, log: 2, document: 2, inference: 2 }, levels: [], seeds: [1],
      executions: 3, levelExecutions: 2, slaExecutions: 2, trainExecutions: 2, warmUp: 1, inputs: 2, quick: true, out: join(dir, 'out'), command: 'metronome bench paper', cwd: dir, env: process.env,
      signal: new AbortController().signal, progress: (line: string) => void lines.push(line),
    } as const;
    const { summaries } = await evaluate({ ...options, resume: false });
    expect(summaries.map(({ variant, n, failed }) => ({ variant, n, failed }))).toEqual([{ variant: 'round-robin', n: 3, failed: 0 }, { variant: 'lookahead', n: 3, failed: 0 }]);
    const records = (await readFile(join(dir, 'out', 'records.jsonl'), 'utf8')).trim().split('\n').map(parseRecord);
    expect(records).toHaveLength(2 + 2 + 3 * 3);
    for (const record of records) {
      expect(record, 'every line is a record').toBeDefined();
      expect(record!.ok, record!.problem).toBe(true);
      // split, analyze at least once, merge.
      expect(new Set(record!.steps.map((step) => step.function))).toEqual(new Set(['log-split', 'log-analyze', 'log-merge']));
      expect(record!.latencyMs).toBeGreaterThan(0);
      for (const step of record!.steps) expect(step.node).toMatch(/^node-[12]$/);
    }
    const targets = new Set(records.filter((record) => record!.variant !== 'data-locality' && record!.slaMs > 0).map((record) => record!.slaMs));
    expect(targets.size).toBe(1);
    const before = lines.length;
    await evaluate({ ...options, resume: true });
    expect(lines.slice(before)).toEqual([]);
    await expect(evaluate({ ...options, executions: 4, resume: true })).rejects.toThrow('with other options (executions)');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
