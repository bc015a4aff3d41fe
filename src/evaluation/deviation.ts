/**
 * The deviation table: every number of the paper beside ours, whether its direction and its size were reached, and why not, as far as the records say.
 * Then the orderings that must hold, each as a yes or no. Nothing is left out because it looks bad.
 */
import type { ExecutionRecord } from './execution-record.ts';
import { PAPER_NUMBERS, type PaperDifference, type PaperNumber } from './paper-numbers.ts';
import { STATISTICS, isMissed, meanOf, pairLatencies, reduction, type Estimate, type StatisticName, type Summary } from './statistics.ts';

/** What ours are held against. */
const BASELINES = ['round-robin', 'naive-locality', 'data-locality', 'rule-delay', 'xfaas', 'aquatope'] as const;

/** A figure of RQ3 by name. */
export interface NamedFigure {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
}

/** How ours relates to the paper's. */
export type Relation = 'reached' | 'same direction, smaller' | 'no difference' | 'opposite' | 'better' | 'worse' | 'not measured';

/** A row of the deviation table. */
export interface DeviationRow {
  readonly number: PaperNumber;
  readonly paper: string;
  readonly ours: string;
  readonly relation: Relation;
  readonly reason: string;
}

/** The comparison at the concurrency of RQ1. */
export interface Compared {
  readonly summaries: readonly Summary[];
  /** Records by application and variant. */
  records(application: string, variant: string): readonly ExecutionRecord[];
  /** Records of an application under all variants. */
  all(application: string): readonly ExecutionRecord[];
  readonly figures: readonly NamedFigure[];
}

/** All rows, in the order of the paper. */
export function deviationRows(compared: Compared): DeviationRow[] {
  return PAPER_NUMBERS.map((number): DeviationRow => {
    if (number.kind === 'difference') return differenceRow(number, compared);
    if (number.kind === 'misses') {
      const records = compared.records(number.application, number.variant);
      const summary = compared.summaries.find((each) => each.application === number.application && each.variant === number.variant);
      if (records.length === 0 || summary === undefined) return { number, paper: percent(number.value), ours: '', relation: 'not measured', reason: '' };
      const share = meanOf(records.map((record) => (isMissed(record) ? 1 : 0)));
      const basic = compared.records(number.application, 'data-locality');
      const basicShare = basic.length === 0 ? undefined : meanOf(basic.map((record) => (isMissed(record) ? 1 : 0)));
      return {
        number, paper: percent(number.value), ours: `${percent(share)} ${intervalText(summary.slaMisses)}`,
        relation: number.value === 0 ? (share === 0 ? 'reached' : 'worse') : share > 0 ? 'reached' : 'no difference',
        reason: `${summary.missesByDelay} of ${records.length} would have met it without the delay; the target is 1.2 × P99 of data-locality with one client${basicShare === undefined ? '' : `, which at this load misses ${percent(basicShare)} itself`}`,
      };
    }
    const figure = compared.figures.find(({ name }) => name === number.ours);
    if (figure === undefined) return { number, paper: `${number.value} ${number.unit}`, ours: '', relation: 'not measured', reason: '' };
    const isReached = figure.value <= number.value;
    return { number, paper: `${number.value} ${number.unit}`, ours: `${Number(figure.value.toPrecision(3))} ${figure.unit}`, relation: isReached ? 'reached' : 'worse', reason: isReached ? '' : number.ours.startsWith('prediction_error') ? 'identical warm runs of real processes differ by more than this already (bench applications: noise)' : 'see the bench of this figure' };
  });
}

function differenceRow(number: PaperDifference, { records, all }: Compared): DeviationRow {
  const paper = number.said ?? signedPercent(number.value);
  const own = records(number.application, number.variant), reference = records(number.application, number.reference);
  const pairs = pairLatencies(own, reference);
  if (pairs.ours.length === 0) return { number, paper, ours: '', relation: 'not measured', reason: '' };
  const reduced = reduction(pairs.ours, pairs.theirs, STATISTICS[number.statistic]);
  // As the paper says it: negative is faster.
  const ours: Estimate = { value: -reduced.value, low: -reduced.high, high: -reduced.low };
  return { number, paper, ours: `${signedPercent(ours.value)} [${signedPercent(ours.low)}, ${signedPercent(ours.high)}]`, relation: relationOf(number.value, ours), reason: reasonOf(number, ours, own, reference, all(number.application)) };
}

/** Held against the paper's: at least as far in the same direction, less far, not told from zero, or the other way. */
export function relationOf(paper: number, ours: Estimate): Relation {
  if (Math.sign(ours.value) === Math.sign(paper) && Math.abs(ours.value) >= Math.abs(paper)) return 'reached';
  if (ours.low <= 0 && ours.high >= 0) return 'no difference';
  return Math.sign(ours.value) === Math.sign(paper) ? 'same direction, smaller' : 'opposite';
}

/** Why ours is not the paper's: what could have been saved at most, and where the reference spent its time. */
function reasonOf({ value, reference, variant, statistic }: PaperDifference, ours: Estimate, own: readonly ExecutionRecord[], theirs: readonly ExecutionRecord[], all: readonly ExecutionRecord[]): string {
  if (relationOf(value, ours) === 'reached') return '';
  const most = attainable(theirs, all);
  if (value < 0 && statistic === 'mean' && -value > most) return `out of reach here: without any fetching, initialising and waiting, and with every handler as fast as under whatever policy it was fastest, ${reference} could be ${percent(most)} faster at the most`;
  if (value < 0) return `at most ${percent(most)} of the time of ${reference} can be saved by placement; of that of ${variant} ${percent(attainable(own, all))} are left`;
  return `${variant} waits ${Math.round(meanDelay(own))} ms per execution here`;
}

/**
 * Share of the latency that placement could save at the most: all but handlers, and of those what they take longer than the same execution under another variant (a first run in a
 * new sandbox is slower). Of each function the longest call counts, for the calls of one step run at the same time.
 */
export function attainable(records: readonly ExecutionRecord[], all: readonly ExecutionRecord[]): number {
  const keyOf = ({ concurrency, seed, index }: ExecutionRecord): string => `${concurrency}/${seed}/${index}`;
  const least = new Map<string, number>();
  for (const record of all) if (record.ok) least.set(keyOf(record), Math.min(least.get(keyOf(record)) ?? Infinity, longestRuns(record)));
  const good = records.filter(({ ok }) => ok);
  const latency = good.reduce((sum, { latencyMs }) => sum + latencyMs, 0);
  return latency === 0 ? 0 : Math.max(0, 1 - good.reduce((sum, record) => sum + (least.get(keyOf(record)) ?? longestRuns(record)), 0) / latency);
}

function longestRuns({ steps }: ExecutionRecord): number {
  const longest = new Map<string, number>();
  for (const { function: name, runMs } of steps) longest.set(name, Math.max(longest.get(name) ?? 0, runMs));
  return [...longest.values()].reduce((sum, value) => sum + value, 0);
}

function meanDelay(records: readonly ExecutionRecord[]): number {
  return meanOf(records.map(({ steps }) => steps.reduce((sum, { delayedMs }) => sum + delayedMs, 0)));
}

/** An ordering that must hold. */
export interface Gate {
  readonly what: string;
  /** Undefined: what it needs was not run. */
  readonly holds: boolean | undefined;
  /** The numbers behind it. */
  readonly detail: string;
}

/** The orderings of the issue, in the comparison. */
export function gates({ summaries, records }: Compared): Gate[] {
  const applications = [...new Set(summaries.map(({ application }) => application))];
  const of = (application: string, variant: string): Summary | undefined => summaries.find((each) => each.application === application && each.variant === variant);
  const list: Gate[] = [];
  for (const application of applications) {
    /** The statistic of `a` at most that of `b`. */
    const atMost = (statistic: StatisticName, a: string, b: string, what: string): void => {
      const low = of(application, a)?.times[statistic].value, high = of(application, b)?.times[statistic].value;
      if (low === undefined || high === undefined) return void list.push({ what: `${application}: ${what}`, holds: undefined, detail: '' });
      const pairs = pairLatencies(records(application, a), records(application, b));
      const { low: least, high: most } = reduction(pairs.ours, pairs.theirs, STATISTICS[statistic]);
      list.push({ what: `${application}: ${what}`, holds: low <= high, detail: `${a} ${formatTime(low)}, ${b} ${formatTime(high)}${least <= 0 && most >= 0 ? '; not told apart' : ''}` });
    };
    for (const ours of ['metronome', 'lookahead']) {
      const own = of(application, ours);
      for (const baseline of BASELINES) atMost('mean', ours, baseline, `mean of ${ours} below ${baseline}`);
      const basic = of(application, 'data-locality');
      if (own !== undefined && basic !== undefined && basic.slaMisses.value === 0) list.push({ what: `${application}: no SLA miss of ${ours} by delaying where data-locality has none`, holds: own.missesByDelay === 0, detail: `${own.missesByDelay}` });
    }
    atMost('mean', 'lookahead', 'metronome', 'mean of lookahead at most that of metronome');
    atMost('P99', 'lookahead', 'metronome', 'P99 of lookahead at most that of metronome');
    if (application === 'document' || application === 'inference') {
      atMost('mean', 'aquatope', 'round-robin', 'mean of aquatope below round-robin');
      atMost('mean', 'data-locality', 'rule-delay', 'mean of rule-delay not below data-locality');
    } else {
      atMost('median', 'rule-delay', 'data-locality', 'median of rule-delay below data-locality');
      atMost('P95', 'data-locality', 'rule-delay', 'P95 of rule-delay above data-locality');
    }
  }
  return list;
}

/** "12.3 %". */
export function percent(share: number): string {
  return Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : 'n/a';
}

/** "−12.3 %", "+4.0 %". */
export function signedPercent(share: number): string {
  if (!Number.isFinite(share)) return 'n/a';
  return `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(1)} %`;
}

/** "[0.0 %, 3.1 %]". */
export function intervalText({ low, high }: Estimate): string {
  return `[${percent(low)}, ${percent(high)}]`;
}

/** "153 ms", "1.53 s": three significant digits. */
export function formatTime(ms: number): string {
  if (!Number.isFinite(ms)) return 'n/a';
  const digits = (value: number): string => value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
  return ms >= 10_000 ? `${digits(ms / 1_000)} s` : ms >= 1_000 ? `${(ms / 1_000).toFixed(2)} s` : `${digits(ms)} ms`;
}
