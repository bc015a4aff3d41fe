import { describe, expect, it } from 'vitest';
import { readHistory } from '../../src/recording/history.ts';
import { levelWork } from '../../src/what-if/level.ts';
import { simulateWork } from '../../src/what-if/simulate-work.ts';
import { CONTROL, realityOf } from '../../src/what-if/what-if.ts';
import { workloadOf, type WhatIfWork } from '../../src/what-if/workload.ts';
import { recordSimulation } from '../recording/recorded-simulation.ts';

const recorded = recordSimulation({ durationMs: 15_000, perS: 25 });
const { work } = workloadOf(readHistory(recorded.reader()), { ...recorded.head, segment: 1 }, 'memory');
/** Costs that are wrong: runs a third longer, starts twice as long. */
const wrong: WhatIfWork = {
  ...work, arrivals: work.arrivals.map((arrival) => ({ ...arrival, runMs: arrival.runMs * 1.33 })),
  functions: work.functions.map((one) => ({ ...one, profile: { ...one.profile, installMs: 2 * one.profile.installMs, processMs: 2 * one.profile.processMs, importMs: 2 * one.profile.importMs } })),
};
const control = (of: WhatIfWork) => realityOf(of, [1, 2].map((seed) => simulateWork(of, CONTROL, seed))).phases;

describe('costs that are levelled', () => {
  it('make the means of the control those of the recording, where they were wrong', () => {
    const before = control(wrong), after = control(levelWork(wrong));
    expect(before.control.ranMs / before.recorded.ranMs).toBeGreaterThan(1.25);
    expect(Math.abs(after.control.ranMs / after.recorded.ranMs - 1)).toBeLessThan(0.08);
    expect(Math.abs(after.control.initialisedMs - after.recorded.initialisedMs)).toBeLessThan(Math.abs(before.control.initialisedMs - before.recorded.initialisedMs));
  });

  it('are the same each time, and leave alone what was rarely seen and what is not known', () => {
    expect(levelWork(work)).toEqual(levelWork(work));
    const few = { ...work, arrivals: work.arrivals.filter(({ function: place }) => place !== 0).slice(0, 4), requests: work.requests };
    expect(levelWork(few).functions.map(({ profile }) => profile)).toEqual(few.functions.map(({ profile }) => profile));
    const unknown = work.arrivals.findIndex(({ runMs }) => Number.isNaN(runMs));
    expect(unknown).toBeGreaterThanOrEqual(0);
    expect(levelWork(work).arrivals[unknown]?.runMs).toBeNaN();
  });
});
