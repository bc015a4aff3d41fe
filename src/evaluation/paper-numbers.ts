/**
 * Every number that the paper states about its evaluation (sections 2.2 and 5, abstract), in the form in which it can be held against ours. The figures 1, 5, 6, 7, 8
 * and 9 carry no values; what is not in the text is not here.
 */
import type { ApplicationName } from '../workload/applications.ts';
import type { StatisticName } from './statistics.ts';

/** "−3.9 %": how `variant` differs from `reference`, as a share of the reference; negative: it is faster. */
export interface PaperDifference {
  readonly kind: 'difference';
  readonly section: '2.2' | '5.1';
  readonly application: ApplicationName;
  readonly statistic: StatisticName;
  readonly variant: string;
  readonly reference: string;
  readonly value: number;
  /** As it stands there, where it is no plain number. */
  readonly said?: string;
}

/** Share of executions over the latency target. */
export interface PaperMisses {
  readonly kind: 'misses';
  readonly section: '2.2' | '5.1';
  readonly application: ApplicationName;
  readonly variant: string;
  readonly value: number;
}

/** A figure of section 5.3. */
export interface PaperFigure {
  readonly kind: 'figure';
  readonly section: '5.3';
  readonly what: string;
  readonly unit: string;
  readonly value: number;
  /** Name of our figure (rq3.ts) to hold beside it. */
  readonly ours: string;
}

/** A number of the paper. */
export type PaperNumber = PaperDifference | PaperMisses | PaperFigure;

const difference = (section: '2.2' | '5.1', application: ApplicationName, statistic: StatisticName, variant: string, reference: string, value: number, said?: string): PaperDifference =>
  ({ kind: 'difference', section, application, statistic, variant, reference, value, ...(said === undefined ? {} : { said }) });
const misses = (section: '2.2' | '5.1', application: ApplicationName, variant: string, value: number): PaperMisses => ({ kind: 'misses', section, application, variant, value });
const figure = (what: string, unit: string, value: number, ours: string): PaperFigure => ({ kind: 'figure', section: '5.3', what, unit, value, ours });
const rds = (application: ApplicationName, statistic: StatisticName, value: number): PaperDifference => difference('2.2', application, statistic, 'rule-delay', 'data-locality', value);
/** The same reduction against several baselines. */
const against = (application: ApplicationName, statistic: StatisticName, references: readonly string[], value: number, said: string): PaperDifference[] =>
  references.map((reference) => difference('5.1', application, statistic, 'metronome', reference, value, said));

const OTHERS = ['round-robin', 'naive-locality', 'xfaas', 'aquatope'] as const;

/** In the order of the paper. */
export const PAPER_NUMBERS: readonly PaperNumber[] = [
  // Section 2.2: rule-based delay scheduling against data locality without delay.
  rds('video', 'mean', -0.039), rds('video', 'median', -0.471), rds('video', 'P95', 1.429), rds('video', 'P99', 1.517), misses('2.2', 'video', 'rule-delay', 0.102),
  rds('log', 'mean', -0.027), rds('log', 'median', -0.453), rds('log', 'P95', 2.026), rds('log', 'P99', 2.281), misses('2.2', 'log', 'rule-delay', 0.098),
  rds('document', 'mean', 0.085), rds('document', 'median', 0.021), rds('document', 'P95', 0.513), misses('2.2', 'document', 'rule-delay', 0.06),
  rds('inference', 'mean', 0.176), rds('inference', 'median', 0.044), rds('inference', 'P95', 1.184), misses('2.2', 'inference', 'rule-delay', 0.1),
  // Section 5.1: Metronome against everybody.
  ...against('video', 'mean', ['round-robin'], -0.471, '47.1 %'), ...against('video', 'mean', ['naive-locality', 'xfaas', 'aquatope'], -0.471, '"similar gains"'),
  ...against('video', 'P90', ['round-robin'], -0.312, '31.2 %'), ...against('video', 'P90', ['naive-locality', 'xfaas', 'aquatope'], -0.312, '"similar gains"'),
  ...against('video', 'mean', ['rule-delay'], -0.748, '74.8 %'), ...against('video', 'P90', ['rule-delay'], -0.872, '87.2 %'),
  ...against('video', 'P99', ['round-robin', 'naive-locality'], -0.06, '"roughly 6 %"'), misses('5.1', 'video', 'metronome', 0),
  ...against('log', 'mean', OTHERS, -0.64, '"approximately 64 %"'), ...against('log', 'P90', OTHERS, -0.58, '58 %'),
  ...against('log', 'mean', ['rule-delay'], -0.9, '"over 90 %"'), ...against('log', 'P90', ['rule-delay'], -0.9, '"over 90 %"'),
  ...against('log', 'P99', ['round-robin', 'naive-locality'], -0.3, '30 %'), misses('5.1', 'log', 'metronome', 0),
  ...against('document', 'mean', ['round-robin', 'naive-locality', 'xfaas', 'rule-delay'], -0.93, '"around 93 %"'), ...against('document', 'P90', ['round-robin', 'naive-locality', 'xfaas', 'rule-delay'], -0.95, '95 %'),
  ...against('document', 'mean', ['aquatope'], -0.839, '83.9 %'),
  ...against('document', 'P99', ['round-robin', 'naive-locality'], -0.19, '19 %'), misses('5.1', 'document', 'metronome', 0),
  ...against('inference', 'mean', ['round-robin', 'naive-locality', 'xfaas', 'aquatope', 'rule-delay'], -0.93, '"similar benefits"'),
  ...against('inference', 'P99', ['round-robin', 'naive-locality'], -0.79, '79 %'), misses('5.1', 'inference', 'metronome', 0),
  // Section 5.3: model and scheduler.
  figure('relative prediction error, median', '%', 0.44, 'prediction_error_p50'), figure('relative prediction error, P90', '%', 1.28, 'prediction_error_p90'),
  figure('relative prediction error, P95', '%', 1.63, 'prediction_error_p95'), figure('relative prediction error, P99', '%', 2.98, 'prediction_error_p99'),
  figure('inference latency, mean (ours: median of ten rows)', 'ms', 37.3, 'inference_rows_10_p50'), figure('inference latency, P99', 'ms', 54, 'inference_rows_10_p99'),
  figure('metric update lag, P95', 'ms', 60, 'metrics-lag_state_age_p95'),
  figure('decision latency, median', 'µs', 55, 'decision_decision_10_p50'), figure('decision latency, P95', 'µs', 60, 'decision_decision_10_p95'),
];
