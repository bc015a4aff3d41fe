/** One test for each repair of Algorithm 1 that a policy alone can show; the others stand in test/scheduler/repairs.test.ts. */
import { describe, expect, it } from 'vitest';
import { createMetronomePolicy } from '../../src/policy/metronome.ts';
import { PAPER, decide, viewOf, type Situation } from './situation.ts';

const repaired = createMetronomePolicy(PAPER);
const strict = createMetronomePolicy({ ...PAPER, strict: true });
const busyLocal: Situation = { rows: [{ T: 100, local: true }, { T: 300, room: 1 }], arrivedAtMs: 0 };

describe('repair: the slack is an absolute deadline (SPARK-18886)', () => {
  it('strict never ends waiting while predictions are stable', () => {
    for (const nowMs of [0, 100, 600, 1_000, 60_000, 3_600_000]) {
      expect(decide(strict, { ...busyLocal, nowMs })).toMatchObject({ action: 'delay', slackMs: 600, deadlineMs: Infinity });
      expect(strict.deadlineMs?.(viewOf({ ...busyLocal, nowMs }))).toBe(Infinity);
    }
  });

  it('repaired ends waiting at arrival + θ(1−β) − T_f', () => {
    expect(decide(repaired, { ...busyLocal, nowMs: 0 })).toMatchObject({ action: 'delay', deadlineMs: 600 });
    expect(decide(repaired, { ...busyLocal, nowMs: 599 })).toMatchObject({ action: 'delay', deadlineMs: 600 });
    expect(decide(repaired, { ...busyLocal, nowMs: 600 })).toMatchObject({ action: 'dispatch', row: 1, reason: 'slackExhausted' });
    expect(repaired.deadlineMs?.(viewOf({ ...busyLocal, nowMs: 3_600_000 }))).toBe(600);
  });
});

describe('repair: "at once" means the best node with room, local or not', () => {
  const situation: Situation = { rows: [{ T: 280, local: true, room: 1 }, { T: 300, room: 1 }] };

  it('strict passes over a free local node that is a little better', () => {
    expect(decide(strict, situation)).toMatchObject({ action: 'dispatch', row: 1, reason: 'fallbackAsPrinted' });
  });

  it('repaired takes it', () => {
    expect(decide(repaired, situation)).toMatchObject({ action: 'dispatch', row: 0, reason: 'bestNodeHasRoom' });
  });
});

describe('repair: a lesser local node with room counts as an alternative', () => {
  const situation: Situation = { rows: [{ T: 100, local: true }, { T: 105, local: true, room: 1 }] };

  it('strict waits for the best local node though another one, as good, is free, and waits without end', () => {
    expect(decide(strict, situation)).toMatchObject({ action: 'delay', row: 0, deadlineMs: Infinity });
  });

  it('repaired runs on the other one', () => {
    expect(decide(repaired, situation)).toMatchObject({ action: 'dispatch', row: 1 });
  });
});

describe('repair: the deadline moves with the alternatives', () => {
  it('strict ends only when some fallback node already breaks the SLA, which is too late', () => {
    expect(strict.deadlineMs?.(viewOf({ rows: [{ T: 100, local: true }, { T: 899, room: 1 }], nowMs: 800 }))).toBe(Infinity);
    expect(strict.deadlineMs?.(viewOf({ rows: [{ T: 100, local: true }, { T: 901, room: 1 }], nowMs: 800 }))).toBe(800);
  });

  it('repaired had ended in time', () => {
    expect(repaired.deadlineMs?.(viewOf({ rows: [{ T: 100, local: true }, { T: 899, room: 1 }], nowMs: 800 }))).toBe(1);
  });
});

describe('repair: when nothing has room, the first room that comes is the alternative', () => {
  const situation: Situation = { rows: [{ T: 100, local: true }, { T: 900 }], arrivedAtMs: 0, slaMs: 2_000 };

  it('strict waits for the local node without any deadline', () => {
    expect(decide(strict, situation)).toMatchObject({ action: 'delay', row: 0, deadlineMs: Infinity });
  });

  it('repaired waits for it until the mean of all nodes would break the target, and then for any room', () => {
    expect(decide(repaired, situation)).toMatchObject({ action: 'delay', row: 0, deadlineMs: 1_300 });
    expect(decide(repaired, { ...situation, nowMs: 1_300 })).toMatchObject({ action: 'delay', row: -1, reason: 'noRoom' });
  });
});

describe('repair: no wait that is expected to be in vain', () => {
  const situation: Situation = { rows: [{ T: 100, local: true, wait: 650 }, { T: 300, room: 1 }], arrivedAtMs: 0 };

  it('strict begins to wait for a node that will be busy until the slack is used up', () => {
    expect(decide(strict, situation)).toMatchObject({ action: 'delay', row: 0 });
  });

  it('repaired takes at once what it would take then', () => {
    expect(decide(repaired, situation)).toMatchObject({ action: 'dispatch', row: 1, reason: 'waitInVain' });
  });
});

describe('strict, otherwise as printed', () => {
  it('dispatches to the best local node with room, to a fallback without local nodes, and waits for room when nothing has any', () => {
    expect(decide(strict, { rows: [{ T: 100, local: true, room: 1 }, { T: 300, room: 1 }] })).toMatchObject({ action: 'dispatch', row: 0, reason: 'bestNodeHasRoom' });
    expect(decide(strict, { rows: [{ T: 300, room: 1 }, { T: 200, room: 1 }] })).toMatchObject({ action: 'dispatch', row: 1, reason: 'noLocalNode' });
    expect(decide(strict, { rows: [{ T: 300 }, { T: 200 }] })).toMatchObject({ action: 'delay', row: -1, reason: 'noRoom' });
    expect(decide(strict, { rows: [{ T: 100, local: true, room: 1 }], mayRun: false })).toMatchObject({ action: 'delay', row: -1, reason: 'concurrencyLimit' });
    expect(decide(strict, { rows: [] })).toMatchObject({ action: 'delay', row: -1, reason: 'noNodes' });
  });

  it('never dispatches to a node without room either', () => {
    expect(decide(strict, { rows: [{ T: 300, local: true }, { T: 300 }] })).toMatchObject({ action: 'delay' });
    expect(decide(strict, { rows: [{ T: 100, local: true }, { T: 950, room: 1 }] })).toMatchObject({ action: 'dispatch', row: 1, reason: 'slackExhausted' });
  });
});
