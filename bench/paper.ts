/**
 * Bench `paper`: the evaluation of the paper in its shortest form on real nodes (log and document, five policies), by `metronome bench paper --quick`'s own code; the whole one is
 * that command without --quick. `--out` keeps the report. Figures: means by application and policy, and how many of the orderings that were measured do not hold.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { evaluate } from '../src/cli/evaluation/evaluate.ts';
import { EMULATED_CLUSTER } from '../src/evaluation/cluster-preset.ts';
import { variantNamed } from '../src/evaluation/variant.ts';
import type { Bench, Figure } from './harness.ts';

/** The paper bench. */
export const paperBench: Bench = {
  description: "the paper's evaluation in its shortest form: log and document under five policies on emulated nodes",
  async run({ seed, quick, out, progress }) {
    const dir = await mkdtemp(join(tmpdir(), 'metronome-bench-'));
    const aborting = new AbortController();
    const onSignal = (): void => aborting.abort();
    process.once('SIGINT', onSignal);
    try {
      const executions = quick ? 8 : 24;
      const { summaries, orderings } = await evaluate({
        where: 'emulated', questions: [1], preset: EMULATED_CLUSTER, applications: quick ? ['document'] : ['log', 'document'],
        variants: (quick ? ['round-robin', 'lookahead'] : ['round-robin', 'data-locality', 'rule-delay', 'metronome', 'lookahead']).map((name) => variantNamed(name)), sweeps: [],
        concurrency: EMULATED_CLUSTER.concurrency, levels: [], seeds: [seed], executions, levelExecutions: 2, slaExecutions: quick ? 4 : 8, trainExecutions: quick ? 6 : 16, warmUp: 3, inputs: 4, quick,
        out: out ?? join(dir, 'out'), resume: false, command: 'npm run -s bench -- paper', cwd: process.cwd(), env: process.env, signal: aborting.signal, progress,
      });
      const round = (value: number): number => Number(value.toPrecision(4));
      const figures: Figure[] = summaries.map(({ application, variant, n, times: { mean } }) => ({ name: `${application}_${variant.replaceAll('-', '_')}_mean`, unit: 'ms', value: round(mean.value), n, low: round(mean.low), high: round(mean.high) }));
      const measured = orderings.filter(({ holds }) => holds !== undefined), broken = measured.filter(({ holds }) => holds === false).length;
      figures.push({ name: 'orderings_broken', unit: '', value: broken, n: measured.length, low: broken, high: broken });
      return { mode: 'real', figures, params: { preset: EMULATED_CLUSTER, executions } };
    } finally {
      process.off('SIGINT', onSignal);
      await rm(dir, { recursive: true, force: true });
    }
  },
};
