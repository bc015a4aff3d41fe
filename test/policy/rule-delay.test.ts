import { describe, expect, it } from 'vitest';
import { createRuleDelayPolicy, offersFor, waitFor } from '../../src/policy/rule-delay.ts';
import { PAPER, decide, viewOf, type Row, type Situation } from './situation.ts';

const holder = (more: Partial<Row> = {}): Row => ({ T: 100, kinds: 1, ...more });
const free = (more: Partial<Row> = {}): Row => ({ T: 100, room: 1, ...more });

describe('the formulas of delay scheduling', () => {
  // The table for ten nodes and one replica in the design: D for λ = .90, .95, .99.
  it.each([[0.9, 22], [0.95, 29], [0.99, 44]])('a launch is local with probability %f after %i offers', (locality, offers) => expect(offersFor(locality, 10)).toBe(offers));

  it('is sure at once with one node', () => expect(offersFor(0.95, 1)).toBe(0));

  // W/T for L = 2, 4, 8, 16 slots per node at λ = .95.
  it.each([[2, 1.45], [4, 0.725], [8, 0.3625], [16, 0.18125]])('with %i slots per node the wait is %f of the mean service time', (slots, share) => {
    expect(waitFor(0.95, { readyNodes: 10, readySlots: 10 * slots, meanServiceMs: 2_000, waiting: 0 })).toBeCloseTo(share * 2_000, 9);
  });
});

describe('policy rule-delay', () => {
  // Four nodes, λ = .95: D = 11; W = 11 · 400 / 8 = 550 ms.
  const cluster = { readyNodes: 4, readySlots: 8, meanServiceMs: 400, waiting: 0 };
  const policy = createRuleDelayPolicy(PAPER);
  const busy: Situation = { rows: [free({ load: 0.5 }), holder(), free({ load: 0.25 }), holder()], cluster, arrivedAtMs: 1_000, slaMs: 60_000 };

  it('takes a free node with the data at once, the least loaded', () => {
    expect(decide(policy, { ...busy, rows: [free(), holder({ room: 1, load: 0.5 }), holder({ room: 2, load: 0.25 })] })).toMatchObject({ action: 'dispatch', row: 2, reason: 'hasData' });
  });

  it('takes the least loaded free node at once when nobody has data of it', () => {
    expect(decide(policy, { ...busy, rows: [free({ load: 0.5 }), free({ load: 0.25 })] })).toMatchObject({ action: 'dispatch', row: 1, reason: 'leastLoaded' });
  });

  it('waits W for the nodes with the data when they are busy, all of them', () => {
    expect(decide(policy, busy)).toEqual({ action: 'delay', row: 1, reason: 'waitForData', deadlineMs: 1_550, slackMs: 550, also: [3] });
  });

  it('counts W from the first delay, not from each decision', () => {
    expect(decide(policy, { ...busy, nowMs: 1_300, firstDelayedAtMs: 1_000 })).toMatchObject({ action: 'delay', deadlineMs: 1_550, slackMs: 250 });
  });

  it('takes the least loaded free node when W is over, and for room when there is none', () => {
    expect(decide(policy, { ...busy, nowMs: 1_550, firstDelayedAtMs: 1_000 })).toMatchObject({ action: 'dispatch', row: 2, reason: 'waitIsOver' });
    expect(decide(policy, { ...busy, rows: [holder(), { T: 1 }], nowMs: 1_550, firstDelayedAtMs: 1_000 })).toMatchObject({ action: 'delay', row: -1, reason: 'noRoom' });
    expect(policy.fallback?.(viewOf({ rows: [free({ T: 1, load: 0.9 }), free({ T: 999, load: 0.1 })] }))).toBe(1);
  });

  it('does not ask what the function costs: W is the same for one of 1 ms and one of a minute', () => {
    for (const T of [1, 60_000]) expect(decide(policy, { ...busy, rows: busy.rows.map((row) => ({ ...row, T })) })).toMatchObject({ deadlineMs: 1_550 });
  });

  it('is blind to warm sandboxes and packages', () => {
    expect(decide(policy, { ...busy, rows: [free({ load: 0.5 }), { T: 1, kinds: 6, local: true }, free({ load: 0.25 })] })).toMatchObject({ action: 'dispatch', row: 2 });
  });

  it('waits as long as it is told to, and shows what it works with', () => {
    const fixed = createRuleDelayPolicy({ ...PAPER, ruleDelay: { waitMs: 5_000 } });
    expect(decide(fixed, busy)).toMatchObject({ deadlineMs: 6_000 });
    expect(fixed.parameters?.(cluster)).toMatchObject({ waitMs: '5000.0', source: 'configured' });
    expect(policy.parameters?.(cluster)).toEqual({ locality: '0.95', offers: '11', meanServiceMs: '400.0', waitMs: '550.0', source: '11 offers × mean service time ÷ 8 slots' });
    expect(policy.parameters?.({ ...cluster, meanServiceMs: 0, waiting: 0 })).toMatchObject({ waitMs: '1375.0' });
  });
});
