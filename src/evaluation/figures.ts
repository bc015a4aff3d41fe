/** Every figure and table of the paper that can be measured: what it needs, and how it is drawn from the records. */
import type { LineChart, Series } from '../report/plot.ts';
import { cumulative } from '../report/plot.ts';
import type { ExecutionRecord } from './execution-record.ts';
import type { NamedFigure } from './deviation.ts';
import { groupRecords, meanOf, quantileOf } from './statistics.ts';

/** A figure or table of the paper. */
export interface PaperItem {
  /** As after `--figure`. */
  readonly id: string;
  readonly title: string;
  /** Research question whose cells it needs; 0: the pre-study. */
  readonly question: 0 | 1 | 2 | 3;
  /** Variants that it needs; undefined: all of the figures. */
  readonly variants?: readonly string[];
  /** Benches that it needs; undefined: none. */
  readonly benches?: readonly string[];
  /** Whether the benches are all that it needs. */
  readonly isBenchesOnly?: boolean;
}

/** In the order of the paper. */
export const PAPER_ITEMS: readonly PaperItem[] = [
  { id: '1', title: 'Figure 1: CDF of execution time, rule-based delay scheduling against data locality without delay (section 2.2)', question: 0, variants: ['data-locality', 'rule-delay'] },
  { id: '2.2', title: 'Numbers of section 2.2: rule-delay relative to data-locality', question: 0, variants: ['data-locality', 'rule-delay'] },
  { id: '5', title: 'Figure 5: CDF of execution time under all policies (RQ1)', question: 1 },
  { id: '5.1', title: 'Numbers of section 5.1: reductions of mean, P90 and P99, latency targets missed', question: 1 },
  { id: '6', title: 'Figure 6: mean execution time by concurrency (RQ2)', question: 2 },
  { id: '7', title: 'Figure 7: CDF of relative prediction errors (RQ3)', question: 3, benches: ['model-accuracy'] },
  { id: '8', title: 'Figure 8: prediction error by number of samples (RQ3)', question: 3, benches: ['model-recovery'] },
  { id: '9', title: 'Figure 9: update lag of the metrics, decision latency; inference latency of section 5.3 (RQ3)', question: 3, benches: ['inference', 'metrics-lag', 'decision'], isBenchesOnly: true },
];

/** A chart with the name of its file. */
export interface NamedChart {
  readonly name: string;
  readonly chart: LineChart;
}

/** What a chart is drawn from. */
export interface ChartContext {
  /** Says whether nodes were real and what they were. */
  readonly caption: string;
  /** Names of variants, in the order of the legend. */
  readonly order: readonly string[];
}

/** Figure 1 or 5: CDFs of the latencies, one chart per application. */
export function cdfCharts(prefix: string, title: string, records: readonly ExecutionRecord[], { caption, order }: ChartContext): NamedChart[] {
  return [...new Set(records.map(({ application }) => application))].map((application) => {
    const series: Series[] = groupRecords(records.filter((record) => record.application === application && record.ok))
      .sort((a, b) => order.indexOf(a.variant) - order.indexOf(b.variant))
      .map(({ variant, records: own }) => ({ name: variant, points: cumulative(own.map(({ latencyMs }) => latencyMs)) }));
    const all = series.flatMap(({ points }) => points.map(({ x }) => x));
    const n = Math.min(...groupRecords(records.filter((record) => record.application === application)).map((group) => group.records.length));
    // Tails that are ten times the median would flatten everything else.
    const isWide = all.length > 0 && Math.max(...all) > 15 * Math.max(1e-9, Math.min(...all));
    return { name: `${prefix}-${application}`, chart: { title: `${title}: ${application}`, caption: `${caption}; at least ${n} executions each`, x: { label: 'execution time, ms', type: isWide ? 'log' : 'linear' }, y: { label: 'share of executions', domain: [0, 1] }, series } };
  });
}

/** Figure 6: means by number of clients, one chart per application. */
export function concurrencyCharts(records: readonly ExecutionRecord[], { caption, order }: ChartContext): NamedChart[] {
  return [...new Set(records.map(({ application }) => application))].flatMap((application) => {
    const groups = groupRecords(records.filter((record) => record.application === application && record.ok && record.concurrency > 0));
    const levels = [...new Set(groups.map(({ concurrency }) => concurrency))].sort((a, b) => a - b);
    if (levels.length < 2) return [];
    const series: Series[] = order.flatMap((variant) => {
      const points = groups.filter((group) => group.variant === variant).sort((a, b) => a.concurrency - b.concurrency).map(({ concurrency, records: own }) => ({ x: concurrency, y: meanOf(own.map(({ latencyMs }) => latencyMs / 1_000)) }));
      return points.length > 1 ? [{ name: variant, points }] : [];
    });
    const most = Math.max(...series.flatMap(({ points }) => points.map(({ y }) => y)));
    return [{ name: `figure-6-${application}`, chart: { title: `Mean execution time by concurrency: ${application}`, caption, x: { label: 'clients in closed loops' }, y: { label: 'mean execution time, s', domain: [0, most * 1.05] }, series } }];
  });
}

/** |predicted − measured| / measured of the steps that had a prediction, in the order in which they ran, %. */
export function predictionErrors(records: readonly ExecutionRecord[]): { readonly application: string; readonly function: string; readonly error: number }[] {
  return records.filter(({ ok }) => ok).flatMap(({ application, steps }) => steps.flatMap(({ function: name, predictedMs, fetchMs, initMs, runMs }) => {
    const measured = fetchMs + initMs + runMs;
    return predictedMs > 0 && measured > 0 ? [{ application, function: name, error: (100 * Math.abs(predictedMs - measured)) / measured }] : [];
  }));
}

/** Figure 7: CDF of the errors by application. Only variants that ask for predictions have any. */
export function errorChart(records: readonly ExecutionRecord[], { caption }: ChartContext): NamedChart[] {
  const errors = predictionErrors(records);
  if (errors.length === 0) return [];
  const names = [...new Set(errors.map(({ application }) => application))];
  const series = [...names.map((name) => ({ name, points: cumulative(errors.filter(({ application }) => application === name).map(({ error }) => error)) })), { name: 'all', points: cumulative(errors.map(({ error }) => error)) }];
  const far = quantileOf(errors.map(({ error }) => error).sort((a, b) => a - b), 0.97);
  return [{ name: 'figure-7', chart: { title: 'Relative prediction error at dispatch', caption: `${caption}; ${errors.length} predictions`, x: { label: 'error, % of the measured time', domain: [0, Math.max(1, far)] }, y: { label: 'share of predictions', domain: [0, 1] }, series } }];
}

/** Executions of a function that one point of figure 8 sums up. */
const RECOVERY_WINDOW = 5;
const RECOVERY_MOST = 60;

/** Figure 8: error of the n-th execution of a function since the evaluation began, medians over windows of five and the functions of an application. Chronological records. */
export function recoveryChart(records: readonly ExecutionRecord[], { caption }: ChartContext): NamedChart[] {
  const byPlace = new Map<string, number[][]>();
  const seen = new Map<string, number>();
  for (const { application, function: name, error } of predictionErrors(records)) {
    const place = seen.get(name) ?? 0;
    seen.set(name, place + 1);
    if (place >= RECOVERY_MOST) continue;
    const windows = byPlace.get(application) ?? [];
    byPlace.set(application, windows);
    (windows[Math.floor(place / RECOVERY_WINDOW)] ??= []).push(error);
  }
  const series = [...byPlace].map(([name, windows]) => ({ name, points: windows.map((errors, i) => ({ x: (i + 0.5) * RECOVERY_WINDOW, y: quantileOf(errors.sort((a, b) => a - b), 0.5) })) }));
  if (series.length === 0) return [];
  return [{ name: 'figure-8', chart: { title: 'Prediction error by samples of a function', caption: `${caption}; warm-up not shown, medians over windows of ${RECOVERY_WINDOW}`, x: { label: 'executions of the function so far' }, y: { label: 'median error, %' }, series } }];
}

/** Figure 9 and the inference of section 5.3, from what the benches printed: percentiles against the size of what was asked. */
export function benchCharts(figures: readonly NamedFigure[], command: string): NamedChart[] {
  /** One line per percentile; `pattern` names the size and the percentile. */
  const bySize = (pattern: RegExp): Series[] => {
    const lines = new Map<string, { x: number; y: number }[]>();
    for (const { name, value } of figures) {
      const [, size, percentile = ''] = pattern.exec(name) ?? [];
      if (size !== undefined) lines.set(percentile, [...(lines.get(percentile) ?? []), { x: Number(size), y: value }]);
    }
    return [...lines].map(([name, points]) => ({ name: name.toUpperCase(), points }));
  };
  const lag = (['state_age', 'release_seen'] as const).map((what): Series => ({
    name: what.replace('_', ' '), points: figures.flatMap(({ name, value }) => (name.startsWith(`metrics-lag_${what}_p`) ? [{ x: value, y: Number(name.split('_p')[1]) / 100 }] : [])),
  })).filter(({ points }) => points.length > 0);
  const caption = `percentiles that the benches printed; ${command}`;
  return ([
    { name: 'figure-9-decision', chart: { title: 'Decision latency by number of nodes', caption, x: { label: 'nodes', type: 'log' }, y: { label: 'from arrival to decision, µs', type: 'log' }, series: bySize(/^decision_decision_(\d+)_(p\d+)$/) } },
    { name: 'figure-9-lag', chart: { title: 'How old what the scheduler knows is', caption, x: { label: 'age, ms' }, y: { label: 'share', domain: [0, 1] }, series: lag } },
    { name: 'figure-9-inference', chart: { title: 'Inference latency by number of rows, while the model is trained', caption, x: { label: 'rows', type: 'log' }, y: { label: 'from question to answer, ms', type: 'log' }, series: bySize(/^inference_rows_(\d+)_(p\d+)$/) } },
  ] satisfies NamedChart[]).filter(({ chart }) => chart.series.length > 0);
}
