/** Whatever numbers come in, by whoever's hand: the model stays one of finite numbers that goes on learning. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COLUMN, FEATURES, FIRST_FEATURE, SITUATION_WIDTH, situationProblem, type SituationFeature } from '../../src/predictor/features.ts';
import { createPredictionOut } from '../../src/predictor/model/model-view.ts';
import { FETCHED_MS, INITIALISED_MS, OBSERVATION_WIDTH, RAN_MS } from '../../src/predictor/model/observation.ts';
import { createOnlineModel, restoreOnlineModel, type ModelSnapshot, type OnlineModel, type OnlineModelOptions } from '../../src/predictor/model/online-model.ts';
import { introduce, observationsOf, situationsOf, take, teach } from './training-data.ts';

const SMALL: OnlineModelOptions = { seed: 7, trees: 8, window: 200, bootstrapAfter: 60 };

/** A model that has a forest, with executions of the same source that it did not see. */
function taught(): { readonly model: OnlineModel; readonly observations: Float64Array; readonly situations: Float64Array } {
  const model = createOnlineModel(SMALL);
  const source = introduce(model, 1);
  teach(model, take(source, 150));
  const executions = take(source, 60);
  return { model, observations: observationsOf(executions), situations: situationsOf(executions) };
}
const TAUGHT = taught();
const stored = TAUGHT.model.toSnapshot();

function expectFinite(model: OnlineModel, situations: Float64Array): void {
  const count = situations.length / SITUATION_WIDTH;
  const out = createPredictionOut(count);
  model.predict(situations, 0, count, out, 0);
  for (const values of [out.meanMs, out.spreadMs, out.p95Ms, out.p99Ms]) for (const value of values) expect(Number.isFinite(value) && value > 0).toBe(true);
}

/** What must hold of any model at any time. */
function expectSound(model: OnlineModel, situations: Float64Array): void {
  expectFinite(model, situations);
  model.update();
  expectFinite(model, situations);
  const status = model.status();
  for (const { medianError, p95Error } of status.functions) expect(Number.isFinite(medianError) && Number.isFinite(p95Error)).toBe(true);
  expectFinite(restoreOnlineModel(model.toSnapshot()), situations);
}

/** The model of `stored`, which a test may spoil. */
const fresh = (): OnlineModel => restoreOnlineModel(structuredClone(stored));
const column = (name: SituationFeature): number => COLUMN[name];

describe('hostile observations', () => {
  const { observations, situations } = TAUGHT;

  it.each([
    ['transfers', -2], ['cpuUtilisation', 1e200], ['missingPackageBytes', -2], ['inputBytes', 1e300], ['inputs', 1e-300], ['dependencies', 5e-324], ['fetchBytesPerS', 1e-300], ['usedShare', -1e308], ['zygoteDistance', 1e308],
  ] as const)('%s of %d leaves the model sound', (name, value) => {
    const model = fresh();
    const batch = observations.slice();
    for (let at = 0; at < batch.length; at += OBSERVATION_WIDTH) {
      batch[at + column(name)] = value;
      if (batch[at + COLUMN.missingBytes] === 0) batch[at + COLUMN.missingBytes] = 1e6;
    }
    model.observe(batch, 30);
    expectSound(model, situations);
  });

  it('phases beyond the bounds are counted as invalid and teach nothing', () => {
    const model = fresh();
    const before = createPredictionOut(60), after = createPredictionOut(60);
    model.predict(situations, 0, 60, before, 0);
    for (const [phase, value] of [[RAN_MS, 1e300], [INITIALISED_MS, 1.1e9], [FETCHED_MS, -1], [RAN_MS, Number.NaN]] as const) {
      const observation = observations.slice(0, OBSERVATION_WIDTH);
      observation[phase] = value;
      expect(model.observe(observation, 1)).toBe(0);
    }
    expect(model.status().excluded.invalid).toBe(4);
    model.predict(situations, 0, 60, after, 0);
    expect(after.meanMs).toEqual(before.meanMs);
  });

  it('a function that was known to a ten-thousandth has finite quantiles after the wildest outlier', () => {
    const model = createOnlineModel(SMALL);
    introduce(model, 1);
    const steady = observations.slice(0, OBSERVATION_WIDTH);
    for (let i = 0; i < 400; i++) model.observe(steady, 1);
    const wild = steady.slice();
    wild[RAN_MS] = 1e9;
    for (let i = 0; i < 12; i++) {
      model.observe(wild, 1);
      expectFinite(model, steady.slice(0, SITUATION_WIDTH));
    }
    expectSound(model, steady.slice(0, SITUATION_WIDTH));
  });

  it('any column may hold anything: predictions stay finite, updates succeed, the snapshot restores', () => {
    const odd = fc.constantFrom(-1e300, -2, -1e-300, 0, 5e-324, 1e-9, 0.5, 1, 3, 1e9, 1e15, 1e300, Number.NaN, Infinity);
    // The keys say whose history it is; everything behind them is fair game, phases too.
    const spoiled = fc.record({ at: fc.nat(59), columns: fc.array(fc.tuple(fc.integer({ min: FIRST_FEATURE, max: OBSERVATION_WIDTH - 1 }), odd), { minLength: 1, maxLength: 12 }) });
    fc.assert(
      fc.property(fc.array(spoiled, { minLength: 1, maxLength: 25 }), (many) => {
        const model = fresh();
        const asked = new Float64Array(many.length * SITUATION_WIDTH);
        many.forEach(({ at, columns }, row) => {
          const observation = observations.slice(at * OBSERVATION_WIDTH, (at + 1) * OBSERVATION_WIDTH);
          for (const [where, value] of columns) observation[where] = value;
          asked.set(observation.subarray(0, SITUATION_WIDTH), row * SITUATION_WIDTH);
          model.observe(observation, 1);
        });
        expectFinite(model, asked);
        expectSound(model, situations);
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});

/** What the tests below write into. */
interface Parts {
  readonly profiles: [null, { name: string }];
  readonly baseline: { readonly functions: Float64Array; readonly noise: Float64Array };
  readonly medians: [null, Float64Array];
  readonly conformal: { readonly functions: [null, { scale: number; q95: number; q99: number }]; shared95: number; shared99: number };
  readonly window: { readonly rows: Float64Array; readonly phases: Float64Array };
  readonly trees: [{ readonly value: Float64Array }];
}

describe('hostile snapshots', () => {
  const { situations } = TAUGHT;
  const spoil = (how: (parts: Parts) => void): unknown => {
    const copy = structuredClone(stored) as ModelSnapshot & Parts; // a snapshot of a model that has a function and a tree
    how(copy);
    return copy;
  };

  it.each([
    ['a scale of 0', (parts) => void (parts.conformal.functions[1].scale = 0)],
    ['endless quantiles', (parts) => void Object.assign(parts.conformal.functions[1], { q95: 1e9, q99: 1e12 })],
    ['negative shared quantiles', (parts) => void Object.assign(parts.conformal, { shared95: -1e6, shared99: -1e6 })],
    ['medians beyond every bound', (parts) => void parts.medians[1].fill(1e300)],
    ['medians that were never', (parts) => void parts.medians[1].fill(-1e300)],
    ['a window row beyond the bounds', (parts) => void (parts.window.rows[COLUMN.transfers] = -2)],
  ] as const satisfies readonly (readonly [string, (parts: Parts) => void])[])('%s is cut off: the model is sound', (_, how) => {
    expectSound(restoreOnlineModel(spoil(how)), situations);
  });

  it.each([
    ['a name of a megabyte', (parts) => void (parts.profiles[1].name = 'x'.repeat(1e6)), '"profiles[1].name" has 1000000 characters'],
    ['a weight of 1e300', (parts) => void (parts.baseline.functions[64] = 1e300), '"baseline.functions" holds a number beyond'],
    ['noise of 0', (parts) => void (parts.baseline.noise[0] = 0), 'noise'],
    ['a leaf that says e^700', (parts) => void (parts.trees[0].value[0] = 700), '"trees[0].value"'],
    ['a phase below 0', (parts) => void (parts.window.phases[0] = -1), 'phase'],
  ] as const satisfies readonly (readonly [string, (parts: Parts) => void, string])[])('%s is refused by name', (_, how, message) => {
    expect(() => restoreOnlineModel(spoil(how))).toThrow(message);
  });
});

describe('the bounds of features', () => {
  it('hold what stands for "not known", and are told with name and value', () => {
    for (const { least, most, missing } of FEATURES) expect(missing >= least && missing <= most).toBe(true);
    expect(situationProblem('transfers', 0)).toBeUndefined();
    expect(situationProblem('zygoteDistance', -1)).toBeUndefined();
    expect(situationProblem('transfers', -2)).toBe('must be from 0 to 1000000000 for transfers (transfers), not -2');
    expect(situationProblem('cpuUtilisation', 1e200)).toBe('must be from 0 to 1 for cpuUtilisation (0 to 1), not 1e+200');
    expect(situationProblem('cpuUtilisation', Number.NaN)).toContain('not NaN');
  });
});
