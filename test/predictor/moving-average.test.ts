import { describe, expect, it } from 'vitest';
import { ALONE } from '../../src/core/invocation.ts';
import { createMovingAveragePredictor } from '../../src/predictor/moving-average.ts';
import { COLD, NO_SITUATION, NO_TICKET, PACKAGES, WARM, ZYGOTE, createPredictionRows, type Observation, type Predictor } from '../../src/predictor/predictor.ts';

/** Predictions of function 0 on node 0 from each of the states. */
function predict(predictor: Predictor, states: readonly number[], { inputBytes = 0, missingBytes = 0, node = 0, functionIndex = 0 } = {}): { mean: number[]; spread: number[]; p95: number[]; p99: number[] } {
  const rows = createPredictionRows(states.length);
  rows.count = states.length;
  rows.node.fill(node);
  rows.startState.set(states);
  rows.missingBytes.fill(missingBytes);
  for (const result of [rows.meanMs, rows.spreadMs, rows.p95Ms, rows.p99Ms, rows.source]) result.fill(255);
  expect(predictor.predict({ functionIndex, inputBytes, inputs: [], payloadBytes: 0, ...ALONE }, rows, NO_TICKET)).toBe(true);
  expect(rows.source.every((source) => source === 0)).toBe(true);
  return { mean: [...rows.meanMs], spread: [...rows.spreadMs], p95: [...rows.p95Ms], p99: [...rows.p99Ms] };
}

const seen = (more: Partial<Observation> = {}): Observation => ({ functionIndex: 0, node: 0, startState: WARM, inputBytes: 0, fetchedBytes: 0, fetchedMs: 0, initialisedMs: 1, ranMs: 100, predictedMs: 0, situation: NO_SITUATION, ...more });

describe('moving averages', () => {
  it('put the upper quantiles above the mean, by the spread', () => {
    const predictor = createMovingAveragePredictor();
    for (const ranMs of [80, 120, 80, 120, 80, 120]) predictor.observe(seen({ ranMs }));
    const { mean, spread, p95, p99 } = predict(predictor, [COLD, WARM]);
    for (const row of [0, 1]) {
      expect(p95[row]).toBeCloseTo(mean[row]! + 2.06 * spread[row]!);
      expect(p99[row]).toBeCloseTo(mean[row]! + 2.92 * spread[row]!);
    }
  });

  it('answer with their priors until something was measured', () => {
    const predictor = createMovingAveragePredictor({ coldMs: 600, packagesMs: 120, zygoteMs: 15, warmMs: 0.5, runMs: 50, bytesPerMs: 1_000 });
    expect(predict(predictor, [COLD, PACKAGES, ZYGOTE, WARM]).mean).toEqual([650, 170, 65, 50.5]);
    expect(predict(predictor, [WARM], { inputBytes: 5_000, missingBytes: 5_000 }).mean).toEqual([55.5]);
    expect(predictor.observations(0)).toBe(0);
    expect(predictor.bytesPerMs(3)).toBe(1_000);
  });

  it('answer with the first measurement after one, and follow a change', () => {
    const predictor = createMovingAveragePredictor({ weight: 0.2 });
    predictor.observe(seen({ ranMs: 80, initialisedMs: 2 }));
    expect(predict(predictor, [WARM]).mean).toEqual([82]);
    for (let i = 0; i < 40; i++) predictor.observe(seen({ ranMs: 200, initialisedMs: 2 }));
    expect(predict(predictor, [WARM]).mean[0]).toBeCloseTo(202, 0);
    expect(predictor.observations(0)).toBe(41);
  });

  it('interpolate a start from a zygote by its distance, and learn its cost at distance 0', () => {
    const predictor = createMovingAveragePredictor({ packagesMs: 400, zygoteMs: 0, runMs: 0 });
    const at = (zygoteDistance: number): number => {
      const rows = createPredictionRows(1);
      rows.count = 1;
      rows.startState[0] = ZYGOTE;
      rows.zygoteDistance[0] = zygoteDistance;
      predictor.predict({ functionIndex: 0, inputBytes: 0, inputs: [], payloadBytes: 0, ...ALONE }, rows, NO_TICKET);
      return rows.meanMs[0]!;
    };
    expect([at(0), at(0.25), at(1)]).toEqual([0, 100, 400]);
    predictor.observe(seen({ startState: PACKAGES, initialisedMs: 500, ranMs: 0 }));
    predictor.observe(seen({ startState: ZYGOTE, zygoteDistance: 0.2, initialisedMs: 140, ranMs: 0 }));
    expect([at(0), at(0.2), at(1)].map(Math.round)).toEqual([50, 140, 500]);
    // A far one says next to nothing about a near one.
    predictor.observe(seen({ startState: ZYGOTE, zygoteDistance: 0.95, initialisedMs: 5_000, ranMs: 0 }));
    expect(Math.round(at(0))).toBe(50);
  });

  it('are the plain mean until the moving one is as steady', () => {
    const predictor = createMovingAveragePredictor({ weight: 0.01, warmMs: 0 });
    for (const ranMs of [10, 20, 30, 40]) predictor.observe(seen({ ranMs, initialisedMs: 0 }));
    expect(predict(predictor, [WARM]).mean[0]).toBeCloseTo(25, 9);
  });

  it('keep classes of input size apart, and use all of them for a size never seen', () => {
    const predictor = createMovingAveragePredictor();
    for (let i = 0; i < 5; i++) {
      predictor.observe(seen({ inputBytes: 1_000, ranMs: 10, initialisedMs: 0 }));
      predictor.observe(seen({ inputBytes: 10_000_000, ranMs: 1_000, initialisedMs: 0 }));
    }
    expect(predict(predictor, [WARM], { inputBytes: 900 }).mean[0]).toBeCloseTo(10, 6);
    expect(predict(predictor, [WARM], { inputBytes: 12_000_000 }).mean[0]).toBeCloseTo(1_000, 6);
    const unseen = predict(predictor, [WARM], { inputBytes: 200_000 }).mean[0]!;
    expect(unseen).toBeGreaterThan(10);
    expect(unseen).toBeLessThan(1_000);
  });

  it('take an input of any size, up to what a double counts exactly', () => {
    const predictor = createMovingAveragePredictor();
    for (const inputBytes of [0, 1, 1_023, 1_024, 4_096, 2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
      predictor.observe(seen({ inputBytes }));
      expect(predict(predictor, [WARM], { inputBytes }).mean[0]).toBeGreaterThan(0);
    }
  });

  it('never let a better start be dearer than a worse one that was measured, nor the other way round', () => {
    const predictor = createMovingAveragePredictor({ coldMs: 600, packagesMs: 120, zygoteMs: 15, warmMs: 0.5 });
    predictor.observe(seen({ startState: COLD, initialisedMs: 40 }));
    expect(predictor.initialiseMs(0, PACKAGES)).toBe(40);
    expect(predictor.initialiseMs(0, ZYGOTE)).toBe(15);
    predictor.observe(seen({ startState: WARM, initialisedMs: 30 }));
    expect(predictor.initialiseMs(0, ZYGOTE)).toBe(30);
    expect(predictor.initialiseMs(0, WARM)).toBe(30);
    expect(predictor.initialiseMs(1, COLD)).toBe(600);
  });

  it('learn the bandwidth of a node from large transfers only', () => {
    const predictor = createMovingAveragePredictor({ bytesPerMs: 125_000 });
    predictor.observe(seen({ node: 2, fetchedBytes: 1_000, fetchedMs: 10 }));
    expect(predictor.bytesPerMs(2)).toBe(125_000);
    predictor.observe(seen({ node: 2, fetchedBytes: 1_000_000, fetchedMs: 100 }));
    expect(predictor.bytesPerMs(2)).toBe(10_000);
    expect(predictor.bytesPerMs(1)).toBe(125_000);
    expect(predict(predictor, [WARM], { node: 2, inputBytes: 50_000, missingBytes: 50_000 }).mean[0]).toBeCloseTo(106, 6);
  });

  it('never divide by a bandwidth of nothing', () => {
    const predictor = createMovingAveragePredictor();
    predictor.observe(seen({ fetchedBytes: 65_536, fetchedMs: 1e9 }));
    expect(predictor.bytesPerMs(0)).toBe(1);
  });

  it('tell a spread that shrinks when runs are alike', () => {
    const predictor = createMovingAveragePredictor();
    const wide = predict(predictor, [WARM]).spread[0]!;
    for (let i = 0; i < 30; i++) predictor.observe(seen({ ranMs: 50, initialisedMs: 0 }));
    expect(predict(predictor, [WARM]).spread[0]!).toBeLessThan(wide / 10);
  });

  it('report their own error: median and P95 of the last 256 predictions', () => {
    const predictor = createMovingAveragePredictor();
    predictor.observe(seen({ predictedMs: 0, ranMs: 99, initialisedMs: 1 }));
    expect(predictor.accuracy()).toEqual([{ functionIndex: 0, observations: 1, medianError: 0, p95Error: 0, coverageP95: 0, coverageP99: 0 }]);
    for (let i = 0; i < 300; i++) predictor.observe(seen({ predictedMs: i < 200 ? 110 : 150, ranMs: 99, initialisedMs: 1 }));
    const [accuracy] = predictor.accuracy();
    expect(accuracy?.observations).toBe(301);
    expect(accuracy?.medianError).toBeCloseTo(0.1, 9);
    expect(accuracy?.p95Error).toBeCloseTo(0.5, 9);
  });

  it('report how often the upper quantiles held that were predicted at dispatch', () => {
    const predictor = createMovingAveragePredictor();
    for (let i = 0; i < 100; i++) predictor.observe(seen({ predictedMs: 100, predictedP95Ms: 120, predictedP99Ms: 200, ranMs: i < 80 ? 119 : i < 95 ? 199 : 300, initialisedMs: 1 }));
    expect(predictor.accuracy()).toMatchObject([{ coverageP95: 0.8, coverageP99: 0.95 }]);
  });

  it('keep functions apart', () => {
    const predictor = createMovingAveragePredictor({ runMs: 50, warmMs: 0 });
    predictor.observe(seen({ functionIndex: 3, ranMs: 500, initialisedMs: 0 }));
    expect(predict(predictor, [WARM], { functionIndex: 3 }).mean).toEqual([500]);
    expect(predict(predictor, [WARM], { functionIndex: 0 }).mean).toEqual([50]);
    expect(predictor.accuracy().map(({ functionIndex }) => functionIndex)).toEqual([3]);
  });
});
