import { describe, expect, it } from 'vitest';
import { createLookaheadPolicy } from '../../src/policy/lookahead.ts';
import { createDecision } from '../../src/policy/policy.ts';
import { PAPER, decide, viewOf, type Row, type Situation } from './situation.ts';

/** γ = 0.95, so that the arithmetic of the rows is that of one threshold. */
const withParameters = (lookahead: object) => createLookaheadPolicy({ ...PAPER, lookahead: { hysteresis: 0.95, ...lookahead } });
const policy = withParameters({});
const free = (T: number, more: Partial<Row> = {}): Row => ({ T, room: 1, ...more });
const busy = (T: number, wait: number, more: Partial<Row> = {}): Row => ({ T, wait, ...more });
const at = (rows: Row[], more: Partial<Situation> = {}): Situation => ({ rows, slaMs: 10_000, arrivedAtMs: 0, ...more });

describe('policy lookahead', () => {
  it.each<[string, Row[], Partial<Situation>, object]>([
    ['runs on the fastest node with room', [free(300), free(200), free(250)], {}, { action: 'dispatch', row: 1, reason: 'earliestEnd' }],
    ['waits when wait and run end before γ × the alternative: 100 + 150 < 0.95 × 300', [busy(150, 100), free(300)], {}, { action: 'delay', row: 0, reason: 'waitForEarlierEnd', deadlineMs: 9_700, slackMs: 9_700 }],
    ['does not wait when they end later: 200 + 150 > 0.95 × 300', [busy(150, 200), free(300)], {}, { action: 'dispatch', row: 1, reason: 'earliestEnd' }],
    ['does not wait for a win within the hysteresis: 140 + 150 > 0.95 × 300', [busy(150, 140), free(300)], {}, { action: 'dispatch', row: 1 }],
    ['waits where Algorithm 1 would not (T_l = 0.9 T_f), if the wait is short: 5 + 270 < 285', [busy(270, 5, { local: true }), free(300)], {}, { action: 'delay', row: 0 }],
    ['does not wait where Algorithm 1 would (T_l = 0.3 T_f), if the wait is long: 500 + 90 > 285', [busy(90, 500, { local: true }), free(300)], {}, { action: 'dispatch', row: 1 }],
    ['waits for any node, local or not, of several the one that ends first', [busy(100, 150), busy(150, 50), free(300)], {}, { action: 'delay', row: 1 }],
    ['stays with the node that it waits for unless another one wins by γ: 0.95 × 210 < 200', [busy(110, 100), busy(100, 100), free(300)], { target: 0 }, { action: 'delay', row: 0 }],
    ['revises when another one wins by more: 0.95 × 230 > 200', [busy(130, 100), busy(100, 100), free(300)], { target: 0 }, { action: 'delay', row: 1 }],
    ['goes to the less loaded of nodes that the predictions cannot tell apart', [free(100, { load: 0.75, spread: 10 }), free(103, { load: 0.25, spread: 10 })], {}, { action: 'dispatch', row: 1 }],
    ['takes the faster one when the difference is beyond their spread', [free(100, { load: 0.75, spread: 1 }), free(103, { load: 0.25, spread: 1 })], {}, { action: 'dispatch', row: 0 }],
    ['takes the faster one when the difference is beyond the hysteresis, whatever the spread', [free(100, { load: 0.75, spread: 90 }), free(106, { load: 0.25, spread: 90 })], {}, { action: 'dispatch', row: 0 }],
    ['waits for room when none has any and no node is clearly better', [busy(100, 100), busy(100, 105)], {}, { action: 'delay', row: -1, reason: 'noRoom' }],
    ['waits for the clearly better node when none has room: 150 < 0.95 × 400', [busy(300, 100), busy(100, 50)], {}, { action: 'delay', row: 1, reason: 'waitForEarlierEnd', deadlineMs: 9_700 }],
    ['waits for room when there is only one node', [busy(100, 50)], {}, { action: 'delay', row: -1, reason: 'noRoom' }],
    ['waits when none has room for the best of some, and names those that are as good', [busy(100, 60), busy(102, 50), busy(104, 90), busy(300, 10)], {}, { action: 'delay', row: 1, also: [0, 2] }],
    ['waits for a turn at the concurrency limit', [free(1)], { mayRun: false }, { action: 'delay', row: -1, reason: 'concurrencyLimit' }],
    ['waits when no node is ready', [], {}, { action: 'delay', row: -1, reason: 'noNodes' }],
  ])('%s', (_name, rows, more, said) => expect(decide(policy, at(rows, more))).toMatchObject(said));

  it('lists busy nodes that would do as well', () => {
    expect(decide(policy, at([busy(100, 10), busy(104, 20), busy(150, 30), free(300)])).also).toEqual([1]);
  });

  describe('bounds the risk', () => {
    // Upper quantiles: 100 + 150 + 2·100 = 450 there, 300 here.
    const rows = [busy(150, 100, { spread: 100 }), free(300)];

    it('and does not wait when the upper quantile of wait and run does not fit into what is left of the SLA', () => {
      expect(decide(policy, at(rows, { slaMs: 451 }))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(policy, at(rows, { slaMs: 449 }))).toMatchObject({ action: 'dispatch', row: 1, reason: 'riskTooHigh' });
      expect(decide(policy, at(rows, { slaMs: 1_000, nowMs: 551 }))).toMatchObject({ action: 'dispatch', row: 1, reason: 'riskTooHigh' });
    });

    it('of the wait, too: what stays below 250 + √(120² + 50²) does not fit into 379', () => {
      const uncertain = [busy(150, 100, { spread: 25, upperWait: 220 }), free(300)];
      expect(decide(policy, at(uncertain, { slaMs: 380 }))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(policy, at(uncertain, { slaMs: 379 }))).toMatchObject({ action: 'dispatch', row: 1, reason: 'riskTooHigh' });
    });

    it('but does not hasten when the SLA is lost either way: then the cost decides', () => {
      expect(decide(policy, at(rows, { slaMs: 1_000, nowMs: 800 }))).toMatchObject({ action: 'delay', row: 0 });
    });

    it('but waits when the alternative breaks the SLA more surely still', () => {
      expect(decide(policy, at([busy(100, 50), free(900)], { slaMs: 100 }))).toMatchObject({ action: 'delay', row: 0, deadlineMs: 50 });
    });
  });

  describe('counts what a slot is worth to others', () => {
    // At once: 300 there; waiting: 220 + 100.
    const rows = [busy(100, 220, { load: 1 }), free(300)];

    it('and waits for a node where it takes less when others wait too: 320 < 0.95 × (300 + 0.5 × 200)', () => {
      expect(decide(policy, at(rows))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(policy, at(rows, { cluster: { waiting: 4, readySlots: 2 } }))).toMatchObject({ action: 'delay', row: 0 });
    });

    it('but looks at itself alone with a price of 0', () => {
      const selfish = withParameters({ price: 0 });
      expect(decide(selfish, at(rows, { cluster: { waiting: 4, readySlots: 2 } }))).toMatchObject({ action: 'dispatch', row: 1, reason: 'earliestEnd' });
    });

    it('and does not wait longer than that is worth: 650 > 0.95 × (300 + 1.5 × 200)', () => {
      expect(decide(policy, at([busy(100, 550, { load: 1 }), free(300)], { cluster: { waiting: 2, readySlots: 2 } }))).toMatchObject({ action: 'dispatch', row: 1 });
    });
  });

  describe('counts that a start without a warm sandbox makes one for others', () => {
    // At once: 300 without a warm sandbox; waiting: 100 + 150.
    const rows = [busy(150, 100), free(300, { startState: 2 })];

    it('and starts when waits since the last one add up: 250 > 0.95 × (300 − 40)', () => {
      expect(decide(policy, at(rows, { rentMs: 30 }))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(policy, at(rows, { rentMs: 40 }))).toMatchObject({ action: 'dispatch', row: 1, reason: 'earliestEnd' });
    });

    it('but credits no more than the start takes longer: 5 + 150 > 0.95 × 150', () => {
      expect(decide(policy, at([busy(150, 5), free(300, { startState: 2 })], { rentMs: 1e6 }))).toMatchObject({ action: 'dispatch', row: 1 });
    });

    it('but not where a sandbox is warm anyway, where there is no memory for another, or with a rent of 0', () => {
      expect(decide(policy, at([busy(150, 100), free(300, { startState: 4 })], { rentMs: 1_000 }))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(policy, at(rows, { rentMs: 1_000, full: [1] }))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(withParameters({ rent: 0 }), at(rows, { rentMs: 1_000 }))).toMatchObject({ action: 'delay', row: 0 });
    });
  });

  it('takes a place in the line by arrival and four times its time, never later than it would miss its SLA', () => {
    const place = (situation: Situation): number => {
      const decision = createDecision();
      decide(policy, situation, decision);
      return decision.keyMs;
    };
    const rows = [busy(150, 100, { spread: 10 }), free(300)];
    expect(place(at(rows, { arrivedAtMs: 1_000, nowMs: 1_000 }))).toBe(1_600);
    // The target's upper quantile is 170.
    expect(place(at(rows, { slaMs: 500 }))).toBe(330);
    expect(place(at([busy(300, 100), busy(100, 50)]))).toBe(400);
  });

  describe('as an experiment', () => {
    const rows = [busy(100, 500), free(300)];

    it('takes no notice of the wait (wait: none) and waits where it would not', () => {
      expect(decide(policy, at(rows))).toMatchObject({ action: 'dispatch', row: 1 });
      expect(decide(withParameters({ wait: 'none' }), at(rows))).toMatchObject({ action: 'delay', row: 0 });
    });

    it('takes the mean service time for every wait (wait: constant)', () => {
      const constant = withParameters({ wait: 'constant' });
      expect(decide(constant, at(rows, { cluster: { meanServiceMs: 150 } }))).toMatchObject({ action: 'delay', row: 0 });
      expect(decide(constant, at(rows, { cluster: { meanServiceMs: 250 } }))).toMatchObject({ action: 'dispatch', row: 1 });
    });

    it('takes the mean for what stays within the SLA (risk: mean)', () => {
      const risky = [busy(150, 100, { spread: 100 }), free(300)];
      expect(decide(policy, at(risky, { slaMs: 449 }))).toMatchObject({ action: 'dispatch', reason: 'riskTooHigh' });
      expect(decide(withParameters({ risk: 'mean' }), at(risky, { slaMs: 449 }))).toMatchObject({ action: 'delay', row: 0, deadlineMs: 149 });
    });
  });

  it('by default asks a fifth of a wait, and takes nodes within a fifth for alike', () => {
    const usual = createLookaheadPolicy(PAPER);
    expect(decide(usual, at([busy(150, 89), free(300)]))).toMatchObject({ action: 'delay', row: 0 });
    expect(decide(usual, at([busy(150, 91), free(300)]))).toMatchObject({ action: 'dispatch', row: 1, reason: 'earliestEnd' });
    expect(decide(usual, at([free(100, { load: 0.75, spread: 90 }), free(119, { load: 0.25, spread: 90 })]))).toMatchObject({ row: 1 });
    expect(decide(usual, at([free(100, { load: 0.75, spread: 90 }), free(121, { load: 0.25, spread: 90 })]))).toMatchObject({ row: 0 });
  });

  it('falls back to the fastest node with room', () => {
    expect(policy.fallback?.(viewOf(at([busy(1, 0), free(300), free(200)])))).toBe(2);
    expect(policy.fallback?.(viewOf(at([busy(1, 0)])))).toBe(-1);
  });
});
