/** What comparisons of simulated with real executions have in common (sim-validity.ts): rows per application and policy, and figures of them. */
import type { ApplicationModel } from '../src/sim/applications.ts';
import type { Calibration } from '../src/sim/calibrate.ts';
import { medianOf } from '../src/sim/robust-fit.ts';
import type { Figure } from './harness.ts';

/** An application under a policy, in both worlds. Times ms. */
export interface Row {
  readonly name: string;
  readonly application: string;
  readonly policy: string;
  readonly realMean: number;
  readonly simMean: number;
  readonly realP95: number;
  readonly simP95: number;
  readonly count: number;
}

/** Means of the parts of all steps of an execution; `cold` counts starts that were not warm. */
export type Parts = Record<'queued' | 'delayed' | 'fetch' | 'init' | 'run' | 'cold', number>;

/** What an input costs beside its size, for every function of an application that was seen on it. */
export function factorsOf({ functions }: Calibration, { functions: own }: ApplicationModel, input: number): Record<string, number> {
  return Object.fromEntries(own.map(({ name }) => [name, functions.find((fit) => fit.function === name)?.byContent?.factors[String(input)] ?? 1]));
}

/** A row in a line for people. */
export function rowText({ application, policy, realMean, simMean, realP95, simP95 }: Row): string {
  return `${application}, ${policy}: mean ${realMean.toFixed(0)} ms, simulated ${simMean.toFixed(0)} ms (${relative(simMean, realMean).toFixed(1)} %); P95 ${realP95.toFixed(0)} ms, simulated ${simP95.toFixed(0)} ms`;
}

/** Sums over so many executions, per execution. */
export const partsText = (parts: Parts, executions: number): string => Object.entries(parts).map(([name, sum]) => `${name} ${(sum / Math.max(1, executions)).toFixed(name === 'cold' ? 2 : 0)}`).join(', ');

/** Errors of means and P95, and how far both agree about which policy is faster; then the means themselves. */
export function figuresOf(rows: readonly Row[]): Figure[] {
  const errors = rows.map(({ realMean, simMean }) => relative(simMean, realMean)), p95 = rows.map(({ realP95, simP95 }) => relative(simP95, realP95));
  const { share } = rankingAgreement(rows);
  return [
    figure('mean_error_median', '%', medianOf(errors), errors), figure('mean_error_max', '%', Math.max(...errors), errors), figure('p95_error_median', '%', medianOf(p95), p95), figure('p95_error_max', '%', Math.max(...p95), p95),
    figure('ranking_agreement', '%', share, [share]),
    ...rows.flatMap(({ name, realMean, simMean, realP95, simP95, count }) => [['mean_real', realMean], ['mean_simulated', simMean], ['p95_real', realP95], ['p95_simulated', simP95]].map(([what, value]): Figure => ({ name: `${name}_${String(what)}`, unit: 'ms', value: rounded(Number(value)), n: count, low: rounded(Number(value)), high: rounded(Number(value)) }))),
  ];
}

/** Pairs of policies of an application of which both say the same: which is faster, percent. Means that differ by less than 5 % in reality say nothing. */
export function rankingAgreement(rows: readonly Row[]): { readonly share: number; readonly pairs: number } {
  let pairs = 0, agreed = 0;
  for (const a of rows) {
    for (const b of rows) {
      if (a.application !== b.application || a.policy >= b.policy || Math.abs(Math.log(a.realMean / b.realMean)) < 0.05) continue;
      pairs++;
      if (a.realMean < b.realMean === a.simMean < b.simMean) agreed++;
    }
  }
  return { share: pairs === 0 ? 100 : (100 * agreed) / pairs, pairs };
}

/** Difference from the truth, percent. */
export const relative = (value: number, truth: number): number => (100 * Math.abs(value - truth)) / truth;
export const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
export const rounded = (value: number): number => Number(value.toPrecision(4));
export const figure = (name: string, unit: string, value: number, all: readonly number[]): Figure => ({ name, unit, value: rounded(value), n: all.length, low: rounded(Math.min(...all)), high: rounded(Math.max(...all)) });
