/**
 * Bench `model-recovery` (the paper's figure 8): how fast predictions are good again when something is new or changed. A model that knows the other
 * applications meets one that it never saw, input sizes beyond what it saw, a function that suddenly takes 1.6 times as long, and a node that suddenly is 1.5
 * times slower. Errors are against the truth without noise, medians over functions and repetitions with different seeds: `…_after_k` is of executions that
 * had k predecessors of the same function (from k = 3 on: k − 1 to k + 1, because one execution more or less says little). Coverage is of the 21st to the 120th
 * execution of a function after it was changed, got new sizes, or was first seen: the share that did not take longer than the quantile said. Synthetic.
 */
import { createOnlineModel } from '../src/predictor/model/online-model.ts';
import { drawLines, writePlot } from '../src/report/plot.ts';
import { createSyntheticExecutions, type SyntheticExecution, type SyntheticExecutions } from '../src/workload/synthetic-executions.ts';
import { measuredMs, modelContestant } from '../src/workload/test-then-train.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

const APPLICATIONS = ['video', 'log', 'document', 'ml'] as const;
/** Samples after which an error is told. */
const TOLD = [0, 1, 2, 3, 5, 10, 20, 40] as const;
const MOST = 40;
/** Executions of a function whose coverage is told: those with so many predecessors, from … to before. */
const COVERED_FROM = 20, COVERED_END = 120;
const RUN_FACTOR = 1.6, NODE_FACTOR = 1.5, SIZE_FACTOR = 6, SLOW_NODE = 3;

type Model = ReturnType<typeof modelContestant>;

const errorOf = (model: Model, execution: SyntheticExecution): number => (100 * Math.abs(model.predict(execution).meanMs - execution.truthMs)) / execution.truthMs;

function trained(seed: number, count: number, only: readonly string[]): { readonly model: Model; readonly source: SyntheticExecutions } {
  const source = createSyntheticExecutions(seed);
  const model = modelContestant('ours', source.functions, { seed });
  source.change({ only });
  for (let i = 0; i < count; i++) model.learn(source.next());
  return { model, source };
}

/** How many executions stayed below the quantiles. */
interface Coverage {
  asked: number;
  below95: number;
  below99: number;
}

/** Counts one more, before the model learns of it. */
function cover(coverage: Coverage, model: Model, execution: SyntheticExecution): void {
  const { p95Ms = Infinity, p99Ms = Infinity } = model.predict(execution);
  const measured = measuredMs(execution);
  coverage.asked++;
  if (measured <= p95Ms) coverage.below95++;
  if (measured <= p99Ms) coverage.below99++;
}

/** Errors on the next executions, and with `coverage` what of COVERED_FROM … is covered: at k the error of those that had k predecessors of the same function (or on the same node). */
function follow(model: Model, source: SyntheticExecutions, keyOf: (execution: SyntheticExecution) => number, keys: number, isConcerned: (execution: SyntheticExecution) => boolean, coverage?: Coverage): { readonly after: number[][]; readonly others: number[] } {
  const after: number[][] = Array.from({ length: MOST + 1 }, () => []), others: number[] = [];
  const seen = new Map<number, number>();
  let done = 0;
  for (let i = 0; done < keys && i < 20_000; i++) {
    const execution = source.next();
    if (isConcerned(execution)) {
      const key = keyOf(execution);
      const k = seen.get(key) ?? 0;
      if (k <= MOST) after[k]?.push(errorOf(model, execution));
      if (coverage !== undefined && k >= COVERED_FROM && k < COVERED_END) cover(coverage, model, execution);
      seen.set(key, k + 1);
      if (k === (coverage === undefined ? MOST : COVERED_END - 1)) done++;
    } else others.push(errorOf(model, execution));
    model.learn(execution);
  }
  return { after, others };
}

const nothingAsked = (): Coverage => ({ asked: 0, below95: 0, below99: 0 });
const sumOf = (coverages: readonly Coverage[], what: keyof Coverage): number => coverages.reduce((sum, coverage) => sum + coverage[what], 0);
const median = (values: readonly number[]): number => quantile([...values].sort((a, b) => a - b), 0.5);

/** Errors after k executions: from k = 3 on with those before and after, so that a figure rests on more than a handful. */
const around = (curve: readonly (readonly number[])[], k: number): number[] => (k < 3 ? [k] : [k - 1, k, k + 1]).flatMap((at) => curve[at] ?? []);

/** The recovery bench. */
export const modelRecoveryBench: Bench = {
  description: 'error of the prediction model after k executions of something new or changed: functions, sizes, a sudden change, a slow node',
  async run(context: BenchContext): Promise<BenchResult> {
    const { quick, seed, progress, out } = context;
    const rounds = quick ? 3 : 9, history = quick ? 700 : 1_500;
    const curves = new Map<string, number[][]>();
    const add = (name: string, after: readonly number[][]): void => {
      const curve = curves.get(name) ?? Array.from({ length: MOST + 1 }, () => []);
      after.forEach((errors, k) => curve[k]?.push(...errors));
      curves.set(name, curve);
    };
    const coverages = { sudden_change: nothingAsked(), new_sizes: nothingAsked(), unseen: nothingAsked() };
    const before: number[] = [], during: number[] = [];
    let functionEvents = 0, nodeEvents = 0, falseEvents = 0;
    const names = createSyntheticExecutions(seed).functions;
    const all = names.map(({ name }) => name);
    const byFunction = ({ situation }: SyntheticExecution): number => situation.functionIndex;
    for (let round = 0; round < rounds; round++) {
      progress(`model-recovery: round ${round + 1} of ${rounds}`);
      for (const application of APPLICATIONS) {
        const own = names.filter((profile) => profile.application === application);
        const rest = names.filter((profile) => profile.application !== application).map(({ name }) => name);
        const { model, source } = trained(seed + round, history, rest);
        falseEvents += model.model.status().driftEvents + model.model.status().nodeDriftEvents;
        source.change({ only: own.map(({ name }) => name) });
        add(`unseen_${application}`, follow(model, source, byFunction, own.length, () => true, coverages.unseen).after);
      }
      const concerned = names.filter(({ name }) => name === 'log-analyze' || name === 'video-split');
      const isConcerned = ({ situation }: SyntheticExecution): boolean => concerned.some(({ index }) => index === situation.functionIndex);
      {
        const { model, source } = trained(seed + round, history, all);
        source.change({ only: concerned.map(({ name }) => name), sizeFactor: Object.fromEntries(concerned.map(({ name }) => [name, SIZE_FACTOR])) });
        add('new_sizes', follow(model, source, byFunction, concerned.length, isConcerned, coverages.new_sizes).after);
      }
      {
        const { model, source } = trained(seed + round, history, all);
        for (let i = 0; i < 150; i++) {
          const execution = source.next();
          if (!isConcerned(execution)) before.push(errorOf(model, execution));
          model.learn(execution);
        }
        source.change({ runFactor: Object.fromEntries(concerned.map(({ name }) => [name, RUN_FACTOR])) });
        const { after, others } = follow(model, source, byFunction, concerned.length, isConcerned, coverages.sudden_change);
        add('sudden_change', after);
        during.push(...others.slice(0, 300));
        functionEvents += model.model.status().driftEvents;
      }
      {
        const { model, source } = trained(seed + round, history, all);
        source.change({ nodeFactor: { [SLOW_NODE]: NODE_FACTOR } });
        add('slow_node', follow(model, source, () => 0, 1, ({ situation }) => situation.nodeIndex === SLOW_NODE).after);
        nodeEvents += model.model.status().nodeDriftEvents;
      }
    }
    const figures: Figure[] = [];
    for (const [name, curve] of curves) {
      for (const k of TOLD) {
        const errors = around(curve, k);
        figures.push(overRounds(`${name}_after_${k}`, '%', [median(errors)], errors.length));
      }
    }
    figures.push(
      overRounds('others_before', '%', [median(before)], before.length), overRounds('others_during_change', '%', [median(during)], during.length),
      overRounds('function_changes_noticed', '', [functionEvents / (2 * rounds)], 2 * rounds), overRounds('node_changes_noticed', '', [nodeEvents / rounds], rounds), overRounds('false_alarms', '', [falseEvents], 4 * rounds),
    );
    const each = Object.values(coverages);
    const pooled: Coverage = { asked: sumOf(each, 'asked'), below95: sumOf(each, 'below95'), below99: sumOf(each, 'below99') };
    for (const [name, { asked, below95, below99 }] of Object.entries({ coverage_after_change: pooled, ...Object.fromEntries(Object.entries(coverages).map(([name, coverage]) => [`coverage_${name}`, coverage])) })) {
      figures.push(overRounds(`${name}_p95`, '%', [(100 * below95) / asked], asked), overRounds(`${name}_p99`, '%', [(100 * below99) / asked], asked));
    }
    if (out !== undefined) {
      const series = (prefix: string): { name: string; points: { x: number; y: number }[] }[] =>
        [...curves].filter(([name]) => name.startsWith(prefix)).map(([name, curve]) => ({ name: name.replace('unseen_', '').replaceAll('_', ' '), points: curve.map((_, k) => ({ x: k, y: median(around(curve, k)) })).filter(({ y }) => Number.isFinite(y)) }));
      const axes = { x: { label: 'executions of the function seen', domain: [0, MOST] }, y: { label: 'median relative error, %', domain: [0, 40] } } as const;
      const caption = `synthetic executions, ${rounds} repetitions`;
      await writePlot(out, 'figure-8', drawLines({ title: 'Errors on unseen applications (as figure 8 of the paper)', caption, ...axes, series: series('unseen_'), rules: [5, 10] }));
      await writePlot(out, 'changes', drawLines({ title: 'Errors after a change', caption, ...axes, series: ['new_sizes', 'sudden_change', 'slow_node'].flatMap(series), rules: [5] }));
    }
    return { mode: 'micro', figures, params: { rounds, history, runFactor: RUN_FACTOR, nodeFactor: NODE_FACTOR, sizeFactor: SIZE_FACTOR, window: createOnlineModel({ seed }).options.window } };
  },
};
