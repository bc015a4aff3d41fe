import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { createRandom } from '../../src/core/random.ts';
import { ALONE } from '../../src/core/invocation.ts';
import { createMovingAveragePredictor } from '../../src/predictor/moving-average.ts';
import { createPredictionRows, NO_TICKET, WARM } from '../../src/predictor/predictor.ts';
import { createUnreliablePredictor } from '../../src/sim/unreliable-predictor.ts';

const SUBJECT = { functionIndex: 0, inputBytes: 0, inputs: [], payloadBytes: 0, ...ALONE };

function setUp() {
  const clock = createVirtualClock(0);
  const heard: number[] = [];
  const predictor = createUnreliablePredictor(createMovingAveragePredictor({ runMs: 80, warmMs: 0 }), clock);
  predictor.listen((ticket) => heard.push(ticket));
  const rows = createPredictionRows(4);
  rows.count = 4;
  rows.startState.fill(WARM);
  return { clock, heard, predictor, rows };
}

describe('a predictor with faults', () => {
  it('is the one behind it while nothing is wrong', () => {
    const { predictor, rows } = setUp();
    expect(predictor.predict(SUBJECT, rows, 1)).toBe(true);
    expect([...rows.meanMs]).toEqual([80, 80, 80, 80]);
    predictor.exclude(-1, 'failed');
    expect(predictor.excluded.failed).toBe(1);
  });

  it('says wrong things, row by row, in proportion: quantiles stay above the mean', () => {
    const { predictor, rows } = setUp();
    predictor.faults.wrong = createRandom(3);
    predictor.predict(SUBJECT, rows, NO_TICKET);
    expect(new Set(rows.meanMs).size).toBe(4);
    for (let row = 0; row < 4; row++) {
      expect(rows.meanMs[row]).toBeGreaterThanOrEqual(80 / 16);
      expect(rows.meanMs[row]).toBeLessThanOrEqual(80 * 16);
      expect(rows.p99Ms[row]).toBeGreaterThanOrEqual(rows.p95Ms[row] ?? Infinity);
      expect(rows.p95Ms[row]).toBeGreaterThanOrEqual(rows.meanMs[row] ?? Infinity);
    }
  });

  it('lets who can wait wait, for a while or for good, and answers the others', () => {
    const { clock, heard, predictor, rows } = setUp();
    predictor.faults.lateMs = 30;
    expect(predictor.predict(SUBJECT, rows, 7)).toBe(false);
    clock.advance(29);
    expect(heard).toEqual([]);
    clock.advance(1);
    expect(heard).toEqual([7]);
    expect(predictor.predict(SUBJECT, rows, NO_TICKET)).toBe(true);
    predictor.faults.missing = true;
    expect(predictor.predict(SUBJECT, rows, 8)).toBe(false);
    clock.advance(1_000_000);
    expect(heard).toEqual([7]);
    expect(predictor.predict(SUBJECT, rows, NO_TICKET)).toBe(true);
  });
});
