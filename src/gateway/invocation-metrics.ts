/**
 * Counts and histograms of invocations by function, kept in flat arrays: prom-client's own observe() costs 0.85 µs
 * each, and an invocation would make ten. prom-client still does the exposition: it reads these as metrics of its own.
 */
import { REASONS } from '../core/reasons.ts';
import { LocalityClass, type Phases } from '../rpc/gen/metronome/v1/common.ts';
import type { SettledItem } from './protocol.ts';

/** Functions (and nodes) with a label of their own; further ones share "other". */
export const MAX_LABELS = 1_000;
/** Label of names that exist nowhere, so that bad requests cannot use up the labels. */
export const UNKNOWN_FUNCTION = 'unknown';
const OTHER = 'other';

const BOUNDS_MS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000] as const;
const PHASES = ['predicted', 'queued', 'delayed', 'dispatched', 'fetched', 'initialised', 'ran', 'total'] as const;
/** Buckets, then the sum in ms. The count is the sum of the buckets. */
const WIDTH = BOUNDS_MS.length + 2;

/** One sample line as prom-client expects it. */
interface Sample {
  readonly metricName?: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** What prom-client's registry needs of a metric. */
export interface ExposedMetric {
  readonly name: string;
  get(): Promise<{ name: string; help: string; type: string; aggregator: string; values: Sample[] }>;
}

class FunctionRow {
  /** Row 0: duration in the gateway; rows 1…: the phases. */
  readonly histograms = new Float64Array(WIDTH * (1 + PHASES.length));
  readonly results = new Map<string, number>();
}

/** Collects what ended. */
export interface InvocationMetrics {
  /** `item` undefined: accepted for later. `durationMs`: from the door to the door. */
  ended(target: string, durationMs: number, item: SettledItem | undefined): void;
  /** For the registry. */
  readonly metrics: readonly ExposedMetric[];
}

/** Empty metrics. */
export function createInvocationMetrics(): InvocationMetrics {
  const functions = new Map<string, FunctionRow>();
  const locality = new Map<string, number>();
  const reasons = new Map<string, number>();
  const nodes = new Set<string>();

  const rowOf = (label: string): FunctionRow => {
    const existing = functions.get(label);
    if (existing !== undefined) return existing;
    if (functions.size >= MAX_LABELS && label !== OTHER && label !== UNKNOWN_FUNCTION) return rowOf(OTHER);
    const row = new FunctionRow();
    functions.set(label, row);
    return row;
  };
  const nodeLabel = (node: string): string => {
    if (nodes.has(node)) return node;
    if (nodes.size >= MAX_LABELS) return OTHER;
    nodes.add(node);
    return node;
  };

  return {
    ended(target, durationMs, item) {
      const code = item?.error?.code;
      const row = rowOf(code === 'FUNCTION_NOT_FOUND' ? UNKNOWN_FUNCTION : target);
      increment(row.results, code ?? (item === undefined ? 'accepted' : 'ok'));
      if (item === undefined) return;
      observe(row.histograms, 0, durationMs);
      const { response } = item;
      if (response === undefined) return;
      if (response.phases !== undefined) observePhases(row.histograms, response.phases);
      if (Object.hasOwn(REASONS, response.reason)) increment(reasons, response.reason);
      const localityClass = response.locality?.class ?? LocalityClass.UNSPECIFIED;
      if (localityClass !== LocalityClass.UNSPECIFIED) {
        increment(locality, `${localityClass === LocalityClass.LOCAL ? 'local' : 'fallback'}\n${nodeLabel(response.node)}`);
      }
    },
    metrics: [
      metric('metronome_invocations_total', 'Invocations that ended at this gateway, by result: ok, accepted (asynchronous) or an error code.', 'counter', () =>
        [...functions].flatMap(([name, row]) => [...row.results].map(([result, value]) => ({ labels: { function: name, result }, value })))),
      metric('metronome_invocation_duration_seconds', 'Time from the request at the gateway to its answer.', 'histogram', (metricName) =>
        [...functions].flatMap(([name, row]) => histogramSamples(metricName, { function: name }, row.histograms, 0))),
      metric('metronome_phase_seconds', 'Time that successful invocations spent in a phase, when the phase happened.', 'histogram', (metricName) =>
        [...functions].flatMap(([name, row]) => PHASES.flatMap((phase, i) => histogramSamples(metricName, { phase, function: name }, row.histograms, i + 1)))),
      metric('metronome_locality_total', 'Successful invocations by the locality that their node offered.', 'counter', () =>
        [...locality].map(([key, value]) => {
          const [kind = '', node = ''] = key.split('\n');
          return { labels: { locality: kind, node }, value };
        })),
      metric('metronome_reasons_total', 'Successful invocations by the reason of their last decision.', 'counter', () =>
        [...reasons].map(([reason, value]) => ({ labels: { reason }, value }))),
    ],
  };
}

function observePhases(histograms: Float64Array, phases: Phases): void {
  if (phases.predictedMs > 0) observe(histograms, 1, phases.predictedMs);
  if (phases.queuedMs > 0) observe(histograms, 2, phases.queuedMs);
  if (phases.delayedMs > 0) observe(histograms, 3, phases.delayedMs);
  if (phases.dispatchedMs > 0) observe(histograms, 4, phases.dispatchedMs);
  if (phases.fetchedMs > 0) observe(histograms, 5, phases.fetchedMs);
  if (phases.initialisedMs > 0) observe(histograms, 6, phases.initialisedMs);
  if (phases.ranMs > 0) observe(histograms, 7, phases.ranMs);
  if (phases.totalMs > 0) observe(histograms, 8, phases.totalMs);
}

function observe(histograms: Float64Array, row: number, ms: number): void {
  let bucket = 0;
  while (bucket < BOUNDS_MS.length && ms > (BOUNDS_MS[bucket] ?? Infinity)) bucket++;
  const start = row * WIDTH;
  histograms[start + bucket] = (histograms[start + bucket] ?? 0) + 1;
  histograms[start + WIDTH - 1] = (histograms[start + WIDTH - 1] ?? 0) + ms;
}

function histogramSamples(name: string, labels: Record<string, string>, histograms: Float64Array, row: number): Sample[] {
  const start = row * WIDTH;
  const samples: Sample[] = [];
  let count = 0;
  for (let bucket = 0; bucket <= BOUNDS_MS.length; bucket++) {
    count += histograms[start + bucket] ?? 0;
    const bound = BOUNDS_MS[bucket];
    samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le: bound === undefined ? '+Inf' : bound / 1_000 }, value: count });
  }
  if (count === 0) return [];
  samples.push({ metricName: `${name}_sum`, labels, value: (histograms[start + WIDTH - 1] ?? 0) / 1_000 });
  samples.push({ metricName: `${name}_count`, labels, value: count });
  return samples;
}

function metric(name: string, help: string, type: 'counter' | 'histogram', values: (name: string) => Sample[]): ExposedMetric {
  return { name, get: () => Promise.resolve({ name, help, type, aggregator: 'sum', values: values(name) }) };
}

function increment(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
