import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../src/core/random.ts';
import { COLUMN, FEATURES, FIRST_FEATURE, ROW_WIDTH, SITUATION_WIDTH, decodeSituation, encodeSituation } from '../../src/predictor/features.ts';
import { ConformalQuantiles } from '../../src/predictor/model/conformal.ts';
import { DriftDetector } from '../../src/predictor/model/drift.ts';
import { MAX_COLUMNS } from '../../src/predictor/model/flat-forest.ts';
import { ObservationWindow } from '../../src/predictor/model/observation-window.ts';
import { RecentAccuracy } from '../../src/predictor/model/recent-accuracy.ts';
import { similarity } from '../../src/predictor/model/similarity.ts';
import { WeightBlocks } from '../../src/predictor/model/weight-block.ts';

describe('features', () => {
  it('have one column each: keys first, then the scheduler\'s, then the model\'s', () => {
    expect(new Set(FEATURES.map(({ name }) => name)).size).toBe(ROW_WIDTH);
    expect(ROW_WIDTH).toBeLessThanOrEqual(MAX_COLUMNS);
    expect(FEATURES.map(({ group }) => group === 'key').lastIndexOf(true)).toBe(FIRST_FEATURE - 1);
    expect(FEATURES.findIndex(({ source }) => source === 'model')).toBe(SITUATION_WIDTH);
    expect(FEATURES.slice(SITUATION_WIDTH).every(({ source }) => source === 'model')).toBe(true);
    FEATURES.forEach(({ name }, column) => expect(COLUMN[name]).toBe(column));
  });

  it('that are not known stand as their own word for it', () => {
    const row = new Float64Array(SITUATION_WIDTH).fill(77);
    encodeSituation({ functionIndex: 3, nodeIndex: 4, inputBytes: 9 }, row);
    expect([row[0], row[1], row[COLUMN.inputBytes], row[COLUMN.zygoteDistance], row[COLUMN.fanOut]]).toEqual([3, 4, 9, -1, 1]);
    expect(decodeSituation(row)).toEqual({ functionIndex: 3, nodeIndex: 4, inputBytes: 9 });
    // Recordings from before these two do not have them.
    expect([row[COLUMN.linkUtilisation], row[COLUMN.roundTripMs]]).toEqual([-1, 0]);
  });
});

describe('blocks of weights', () => {
  it('move by the share of doubt, as the formula says', () => {
    const weights = new Float64Array(2);
    const blocks = new WeightBlocks(2, () => weights, 2, 0, 1);
    blocks.setDiagonal(0, [4, 1]);
    const h = Float64Array.of(1, 2);
    // h·P·h = 1·4·1 + 2·1·2 = 8; with noise 2 the whole variance is 10, so the gain is P·h / 10 = (0.4, 0.2).
    expect(blocks.variance(0, h)).toBe(8);
    blocks.learn(0, h, 5, 10, 1, [100, 100]);
    expect([...weights]).toEqual([2, 1]);
    // P − P·h·hᵀ·P / 10 = [4 − 1.6, −0.8; −0.8, 1 − 0.4]
    expect([...blocks.covariance].map((value) => Number(value.toFixed(12)))).toEqual([2.4, -0.8, -0.8, 0.6]);
  });

  it('fade, but no further than their bound', () => {
    const weights = new Float64Array(1);
    const blocks = new WeightBlocks(1, () => weights, 1, 0, 1);
    blocks.setDiagonal(0, [1]);
    for (let i = 0; i < 500; i++) blocks.learn(0, Float64Array.of(0), 0, 1, 0.9, [2.5]);
    expect(blocks.covariance[0]).toBeCloseTo(2.5);
  });

  it('find the weights of any linear rule', () => {
    fc.assert(
      fc.property(fc.tuple(fc.double({ min: -2, max: 2, noNaN: true }), fc.double({ min: -2, max: 2, noNaN: true }), fc.double({ min: -2, max: 2, noNaN: true })), fc.integer(), (rule, seed) => {
        const random = createRandom(seed);
        const weights = new Float64Array(3);
        const blocks = new WeightBlocks(3, () => weights, 3, 0, 1);
        blocks.setDiagonal(0, [9, 9, 9]);
        for (let i = 0; i < 60; i++) {
          const h = Float64Array.from({ length: 3 }, () => random.uniform() - 0.5);
          const surprise = rule.reduce((sum, weight, k) => sum + (weight - (weights[k] as number)) * (h[k] as number), 0);
          blocks.learn(0, h, surprise, blocks.variance(0, h) + 1e-6, 1, [9, 9, 9]);
        }
        rule.forEach((weight, k) => expect(weights[k]).toBeCloseTo(weight, 2));
      }),
      { numRuns: 40 },
    );
  });
});

describe('the window', () => {
  it('forgets how often a function was seen together with its rows, and knows who holds a slot', () => {
    const window = new ObservationWindow(4);
    const slot = window.add(1, () => {});
    const serial = window.serial[slot] as number;
    expect(window.holds(slot, serial)).toBe(true);
    window.forget(1, () => {});
    expect(window.holds(slot, serial)).toBe(false);
    expect(window.seen[1]).toBe(0);
    expect(window.add(2, () => {})).toBe(slot);
    expect(window.holds(slot, serial)).toBe(false);
  });

  it('never holds more than its room, and rare functions keep their rows', () => {
    const window = new ObservationWindow(50);
    const gone: number[] = [];
    for (let i = 0; i < 10; i++) window.add(7, (slot) => gone.push(slot));
    for (let i = 0; i < 1_000; i++) window.add(1, (slot) => gone.push(slot));
    expect(window.size).toBe(50);
    expect(window.held(7)).toBeGreaterThanOrEqual(4);
    expect(window.held(1) + window.held(7)).toBe(50);
    expect(gone).toHaveLength(960);
  });

  it('keeps count whatever comes and goes', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.record({ add: fc.integer({ min: 0, max: 5 }) }), fc.record({ keep: fc.integer({ min: 0, max: 3 }), of: fc.integer({ min: 0, max: 5 }) }), fc.record({ odd: fc.boolean() })), { maxLength: 120 }), (steps) => {
        const window = new ObservationWindow(12);
        const held = new Map<number, number>();
        const evicted = (slot: number): void => void held.delete(slot);
        for (const step of steps) {
          if ('add' in step) held.set(window.add(step.add, evicted), step.add);
          else if ('keep' in step) window.dropOld(step.of, step.keep, evicted);
          else window.dropSlots((slot) => slot % 2 === (step.odd ? 1 : 0), evicted);
          expect(window.size).toBe(held.size);
          expect(window.slots().sort((a, b) => a - b)).toEqual([...held.keys()].sort((a, b) => a - b));
          for (const [slot, record] of held) expect(window.record[slot]).toBe(record);
          for (let record = 0; record < 6; record++) expect(window.held(record)).toBe([...held.values()].filter((one) => one === record).length);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('conformal quantiles', () => {
  /** Laplace-distributed residuals: heavier tails than a normal distribution. */
  const residual = (random: ReturnType<typeof createRandom>, scale: number): number => (random.below(2) === 0 ? -1 : 1) * -scale * Math.log(1 - random.uniform());

  it('cover what they say, also for a function that is much noisier than the others', () => {
    const random = createRandom(5);
    const quantiles = new ConformalQuantiles();
    const scales = [0.005, 0.02, 0.2];
    let below95 = 0, below99 = 0, asked = 0;
    for (let i = 0; i < 9_000; i++) {
      const record = i % 3;
      const r = residual(random, scales[record] as number);
      if (i > 900) {
        asked++;
        if (r <= quantiles.q95(record)) below95++;
        if (r <= quantiles.q99(record)) below99++;
      }
      quantiles.add(record, r);
    }
    expect(below95 / asked).toBeGreaterThan(0.93);
    expect(below95 / asked).toBeLessThan(0.97);
    expect(below99 / asked).toBeGreaterThan(0.98);
    expect(below99 / asked).toBeLessThan(0.998);
    expect(quantiles.q95(2)).toBeGreaterThan(5 * quantiles.q95(0));
  });

  it('begin wide, and come back after the residuals grew', () => {
    const random = createRandom(6);
    const quantiles = new ConformalQuantiles();
    expect(quantiles.q95(1)).toBeGreaterThan(0.2);
    for (let i = 0; i < 500; i++) quantiles.add(1, residual(random, 0.01));
    const before = quantiles.q95(1);
    let below = 0;
    for (let i = 0; i < 400; i++) {
      const r = residual(random, 0.03);
      if (i >= 40 && r <= quantiles.q95(1)) below++;
      quantiles.add(1, r);
    }
    expect(before).toBeLessThan(0.05);
    expect(below / 360).toBeGreaterThan(0.91);
  });

  it('are in order', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { maxLength: 300 }), (residuals) => {
        const quantiles = new ConformalQuantiles();
        for (const r of residuals) {
          quantiles.add(4, r);
          expect(quantiles.q95(4)).toBeGreaterThanOrEqual(0);
          expect(quantiles.q99(4)).toBeGreaterThanOrEqual(quantiles.q95(4));
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe('drift', () => {
  it('of a function needs two nodes, of a node three functions', () => {
    const onOneNode = new DriftDetector();
    expect([1, 1, 1, 1, 1, 1].map((node, i) => onOneNode.add(9, node, i, 100 + i, 0.4, 0.01, 100, 10)?.kind)).toEqual(Array(6).fill(undefined));
    const onTwo = new DriftDetector();
    expect([1, 2, 3].map((node, i) => onTwo.add(9, node, i, 100 + i, 0.4, 0.01, 100, 10)).at(-1)).toEqual({ kind: 'function', record: 9, slots: [0, 1, 2], serials: [100, 101, 102] });
    const slowNode = new DriftDetector();
    expect([4, 5, 6].map((record, i) => slowNode.add(record, 2, i, 100 + i, 0.4, 0.01, 100, 10)).at(-1)).toEqual({ kind: 'node', record: 2, slots: [0, 1, 2], serials: [100, 101, 102] });
    expect([onTwo.functionEvents[9], onTwo.nodeEvents, slowNode.nodeEvents]).toEqual([1, 0, 1]);
  });

  it('forgets a function also as a witness of nodes', () => {
    const detector = new DriftDetector();
    for (const record of [4, 5]) expect(detector.add(record, 2, record, record, 0.4, 0.01, 100, 10)).toBeUndefined();
    detector.forget(5);
    expect(detector.add(6, 2, 6, 6, 0.4, 0.01, 100, 10)).toBeUndefined(); // with the other two it would be the node
  });

  it('is noticed downwards too, and on the only node there is', () => {
    const detector = new DriftDetector();
    expect([0, 1, 2].map((slot) => detector.add(3, 1, slot, 100 + slot, -0.3, 0.01, 100, 1)?.kind)).toEqual([undefined, undefined, 'function']);
  });

  it('is not what a young function does, nor what is small', () => {
    const detector = new DriftDetector();
    for (let i = 0; i < 40; i++) {
      expect(detector.add(3, i % 5, i, i, 0.5, 0.01, 3, 10)).toBeUndefined();
      expect(detector.add(4, i % 5, i, i, 0.03, 0.004, 100, 10)).toBeUndefined();
    }
  });

  it('is rarely seen where nothing changed', () => {
    const random = createRandom(3);
    const detector = new DriftDetector();
    for (let i = 0; i < 20_000; i++) {
      const r = 0.01 * (random.uniform() + random.uniform() + random.uniform() - 1.5) * 2;
      detector.add(i % 10, 1 + random.below(10), i, i, r, 0.008, 100, 10);
    }
    expect(detector.nodeEvents + detector.functionEvents.reduce((sum, events) => sum + (events ?? 0), 0)).toBe(0);
  });
});

describe('accuracy', () => {
  it('is that of the last 256', () => {
    const recent = new RecentAccuracy();
    for (let i = 0; i < 300; i++) recent.add(9, false, false);
    for (let i = 0; i < 256; i++) recent.add(i / 256, i < 250, true);
    expect(recent.summary()).toEqual({ medianError: 0.5, p95Error: 243 / 256, coverageP95: 250 / 256, coverageP99: 1 });
  });
});

describe('similarity', () => {
  it('is greatest within an application and a runtime, and falls with the packages', () => {
    const split = { index: 0, name: 'a', application: 'video', runtime: 'node', dependencies: 5, packageBytes: 12e6, memoryMb: 512 };
    expect(similarity(split, split)).toBe(1);
    expect(similarity(split, { ...split, application: 'log' })).toBeLessThan(similarity(split, { ...split, dependencies: 6 }));
    expect(similarity(split, { ...split, runtime: 'python3', dependencies: 40 })).toBeLessThan(0.1);
  });
});
