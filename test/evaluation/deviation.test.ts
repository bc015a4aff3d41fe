import { describe, expect, it } from 'vitest';
import { attainable, deviationRows, formatTime, gates, relationOf, signedPercent, type Compared } from '../../src/evaluation/deviation.ts';
import { PAPER_NUMBERS } from '../../src/evaluation/paper-numbers.ts';
import { groupRecords, summarize } from '../../src/evaluation/statistics.ts';
import type { ExecutionRecord } from '../../src/evaluation/execution-record.ts';
import { record, records, step } from './records.ts';

const compared = (all: readonly ExecutionRecord[], figures: Compared['figures'] = []): Compared => ({
  summaries: groupRecords(all).map(summarize), figures, all: (application) => all.filter((each) => each.application === application), records: (application, variant) => all.filter((each) => each.application === application && each.variant === variant),
});
const TIMES = Array.from({ length: 40 }, (_, i) => 100 + i);

describe('a number of ours', () => {
  it.each([
    ['reached', -0.47, { value: -0.5, low: -0.6, high: -0.4 }],
    ['reached', -0.47, { value: -0.47, low: -0.6, high: 0.1 }],
    ['same direction, smaller', -0.47, { value: -0.3, low: -0.4, high: -0.2 }],
    ['no difference', -0.47, { value: -0.3, low: -0.4, high: 0.02 }],
    ['opposite', -0.47, { value: 0.3, low: 0.2, high: 0.4 }],
    ['reached', 1.4, { value: 1.5, low: 1, high: 2 }],
    ['same direction, smaller', 1.4, { value: 0.2, low: 0.1, high: 0.3 }],
  ] as const)('is "%s" beside the paper\'s %d when it is %o', (relation, paper, ours) => {
    expect(relationOf(paper, ours)).toBe(relation);
  });
});

describe('the deviation table', () => {
  it('has a row for every number of the paper, in its order', () => {
    const rows = deviationRows(compared([]));
    expect(rows.map(({ number }) => number)).toEqual([...PAPER_NUMBERS]);
    expect(new Set(rows.map(({ relation }) => relation))).toEqual(new Set(['not measured']));
  });

  it('says how much could have been saved when the paper\'s reduction is out of reach', () => {
    // Round-robin: 100 to 139 ms, of which 90 run in handlers; so at most 25 % can be saved, and metronome saves 10 ms.
    const theirs = records('round-robin', TIMES, { steps: [step({ runMs: 90 })] });
    const ours = records('metronome', TIMES.map((time) => time - 10), { steps: [step({ runMs: 90 })] });
    const row = deviationRows(compared([...theirs, ...ours])).find(({ number }) => number.kind === 'difference' && number.application === 'log' && number.statistic === 'mean' && number.reference === 'round-robin');
    expect(row).toMatchObject({ paper: '"approximately 64 %"', relation: 'same direction, smaller' });
    expect(row?.ours).toMatch(/^−8\.4 % \[/);
    expect(row?.reason).toContain('out of reach here:');
    expect(row?.reason).toContain('round-robin could be 24.7 % faster at the most');
  });

  it('holds misses of the latency target against those of the reference at the same load', () => {
    const rows = deviationRows(compared([...records('metronome', [500, 1_500]), ...records('data-locality', [900, 1_200])]));
    const row = rows.find(({ number }) => number.kind === 'misses' && number.application === 'log' && number.variant === 'metronome');
    expect(row).toMatchObject({ paper: '0.0 %', relation: 'worse' });
    expect(row?.reason).toContain('0 of 2 would have met it without the delay');
    expect(row?.reason).toContain('at this load misses 50.0 % itself');
  });

  it('takes figures of the benches by their names', () => {
    const rows = deviationRows(compared([], [{ name: 'decision_decision_10_p50', unit: 'µs', value: 3.14159 }, { name: 'prediction_error_p50', unit: '%', value: 9 }]));
    expect(rows.find(({ number }) => number.kind === 'figure' && number.what === 'decision latency, median')).toMatchObject({ paper: '55 µs', ours: '3.14 µs', relation: 'reached' });
    expect(rows.find(({ number }) => number.kind === 'figure' && number.what === 'relative prediction error, median')).toMatchObject({ ours: '9 %', relation: 'worse' });
  });

  it('counts of calls that run at the same time the longest, and handlers as fast as under the best variant', () => {
    const slow = record({ latencyMs: 100, steps: [step({ function: 'a', runMs: 20 }), step({ function: 'b', runMs: 30 }), step({ function: 'b', runMs: 50 })] });
    expect(attainable([slow], [])).toBeCloseTo(0.3, 9);
    const fast = { ...slow, variant: 'lookahead', steps: [step({ function: 'a', runMs: 15 }), step({ function: 'b', runMs: 25 })] };
    expect(attainable([slow], [slow, fast])).toBeCloseTo(0.6, 9);
    expect(attainable([], [])).toBe(0);
  });
});

describe('the orderings', () => {
  it('hold, do not hold, or were not measured', () => {
    const all = [...records('metronome', TIMES), ...records('lookahead', TIMES.map((time) => time / 2)), ...records('round-robin', TIMES.map((time) => time * 2)), ...records('xfaas', TIMES.map((time) => time * 0.9))];
    const found = new Map(gates(compared(all)).map((gate) => [gate.what, gate]));
    expect(found.get('log: mean of metronome below round-robin')).toMatchObject({ holds: true, detail: 'metronome 120 ms, round-robin 239 ms' });
    expect(found.get('log: mean of metronome below xfaas')).toMatchObject({ holds: false });
    expect(found.get('log: mean of metronome below aquatope')).toMatchObject({ holds: undefined });
    expect(found.get('log: P99 of lookahead at most that of metronome')?.holds).toBe(true);
    expect([...found.keys()].some((what) => what.startsWith('video'))).toBe(false);
  });

  it('demand no miss by delaying where the reference has none', () => {
    const delayed = records('metronome', [1_200, 500], { steps: [step({ delayedMs: 400 })] });
    const found = gates(compared([...delayed, ...records('data-locality', [500, 600])]));
    expect(found.find(({ what }) => what.includes('no SLA miss of metronome'))).toMatchObject({ holds: false, detail: '1' });
    expect(gates(compared([...delayed, ...records('data-locality', [500, 1_600])])).some(({ what }) => what.includes('no SLA miss'))).toBe(false);
  });
});

describe('text', () => {
  it('shows three significant digits and the sign', () => {
    expect([0.5, 12.34, 153.4, 1_534, 15_340].map(formatTime)).toEqual(['0.50 ms', '12.3 ms', '153 ms', '1.53 s', '15.3 s']);
    expect([-0.471, 0.04, Number.NaN].map(signedPercent)).toEqual(['−47.1 %', '+4.0 %', 'n/a']);
  });
});
