import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { COLUMN, SITUATION_WIDTH } from '../../src/predictor/features.ts';
import { createPredictionOut } from '../../src/predictor/model/model-view.ts';
import { OBSERVATION_WIDTH, RAN_MS } from '../../src/predictor/model/observation.ts';
import { createOnlineModel, restoreOnlineModel, type OnlineModel, type OnlineModelOptions } from '../../src/predictor/model/online-model.ts';
import { trainTree } from '../../src/predictor/model/train-tree.ts';
import type { TreeJob } from '../../src/predictor/model/trainer.ts';
import { createSyntheticExecutions } from '../../src/workload/synthetic-executions.ts';
import { introduce, observationsOf, situationsOf, take, teach } from './training-data.ts';

const SMALL: OnlineModelOptions = { seed: 7, trees: 20, window: 400, bootstrapAfter: 100 };

function predictions(model: OnlineModel, rows: Float64Array): Record<'meanMs' | 'p95Ms' | 'p99Ms' | 'spreadMs', Float64Array> {
  const count = rows.length / SITUATION_WIDTH;
  const out = createPredictionOut(count);
  model.predict(rows, 0, count, out, 0);
  return out;
}

/** Median of |predicted − truth| / truth. */
function medianError(model: OnlineModel, executions: ReturnType<typeof take>): number {
  const { meanMs } = predictions(model, situationsOf(executions));
  return executions.map(({ truthMs }, at) => Math.abs((meanMs[at] as number) - truthMs) / truthMs).sort((a, b) => a - b)[executions.length >> 1] as number;
}

describe('the on-line model', () => {
  it('answers before it saw anything, with finite times and quantiles in order', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 1);
    const out = predictions(model, situationsOf(take(source, 50)));
    for (let r = 0; r < 50; r++) {
      expect(out.meanMs[r]).toBeGreaterThan(0);
      expect(out.p95Ms[r]).toBeGreaterThan(out.meanMs[r] as number);
      expect(out.p99Ms[r]).toBeGreaterThanOrEqual(out.p95Ms[r] as number);
      expect(Number.isFinite(out.p99Ms[r])).toBe(true);
    }
  });

  it('answers for functions, nodes and numbers that it never heard of', () => {
    const model = createOnlineModel(SMALL);
    const rows = new Float64Array(3 * SITUATION_WIDTH);
    rows[COLUMN.functionIndex] = 1e9;
    rows[SITUATION_WIDTH + COLUMN.nodeIndex] = -3;
    rows.fill(Number.NaN, 2 * SITUATION_WIDTH);
    for (const mean of predictions(model, rows).meanMs) expect(Number.isFinite(mean) && mean > 0).toBe(true);
  });

  it('comes close to the truth, and its baseline is better than nothing before the first tree', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 3);
    teach(model, take(source, 90));
    expect(model.status().trees).toBe(0);
    expect(medianError(model, take(source, 100))).toBeLessThan(0.15);
    teach(model, take(source, 1_200));
    expect(model.status().trees).toBe(20);
    expect(medianError(model, take(source, 300))).toBeLessThan(0.015);
  });

  it('is the same, byte for byte, after the same observations', () => {
    const make = (): OnlineModel => {
      const model = createOnlineModel(SMALL);
      teach(model, take(introduce(model, 5), 500));
      return model;
    };
    expect(make().toSnapshot()).toEqual(make().toSnapshot());
  });

  it('learns with either trainer, and with trees that others trained', () => {
    for (const trainer of ['extra-trees', 'ml-random-forest'] as const) {
      const model = createOnlineModel({ ...SMALL, trees: 6, replace: 2, trainer });
      const source = introduce(model, 4);
      model.observe(observationsOf(take(source, 150)), 150);
      expect(model.updateDue).toBe('bootstrap');
      const jobs = structuredClone(model.beginUpdate());
      expect(jobs.map(({ place }) => place)).toEqual([0, 1, 2, 3, 4, 5]);
      // One task failed: the later trees move up, and the last place is filled by the next update.
      const trained = jobs.filter(({ place }) => place !== 4).map((job) => ({ place: job.place, tree: trainTree(job) }));
      expect(model.finishUpdate(trained).reason).toBe('bootstrap');
      expect(model.status().trees).toBe(5);
      expect(model.beginUpdate().map(({ place }) => place)).toEqual([5]);
      model.update();
      expect(model.status()).toMatchObject({ trees: 6, version: 2 });
    }
  });

  it('is the same in whatever order the trees of an update were trained', () => {
    for (const trainer of ['extra-trees', 'ml-random-forest'] as const) {
      const make = (inOrder: (jobs: readonly TreeJob[]) => readonly TreeJob[]): OnlineModel => {
        const model = createOnlineModel({ ...SMALL, trees: 4, replace: 3, trainer });
        const source = introduce(model, 4);
        for (let update = 0; update < 2; update++) {
          model.observe(observationsOf(take(source, 110)), 110);
          model.finishUpdate(inOrder(model.beginUpdate()).map((job) => ({ place: job.place, tree: trainTree(job) })));
        }
        return model;
      };
      const forwards = make((jobs) => jobs).toSnapshot();
      expect(make((jobs) => [...jobs].reverse()).toSnapshot()).toEqual(forwards);
      expect(make((jobs) => [...jobs.slice(2), ...jobs.slice(0, 2)]).toSnapshot()).toEqual(forwards);
    }
  });

  it('asks for an update after so many observations and says why', () => {
    const model = createOnlineModel({ ...SMALL, updateEvery: 30 });
    const source = introduce(model, 2);
    teach(model, take(source, 120));
    let since = 0;
    while (model.updateDue === undefined) {
      model.observe(observationsOf(take(source, 1)), 1);
      since++;
    }
    expect(since).toBeLessThanOrEqual(30);
    expect(model.update()).toMatchObject({ reason: 'observations', replaced: 5 });
  });

  it('counts what cannot teach, and learns nothing from it', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 2);
    const good = observationsOf(take(source, 4));
    good[RAN_MS] = Number.NaN;
    good[OBSERVATION_WIDTH + RAN_MS] = -1;
    good[2 * OBSERVATION_WIDTH + COLUMN.startState] = 9;
    expect(model.observe(good, 4)).toBe(1);
    model.exclude(0, 'failed');
    model.exclude(0, 'timedOut');
    expect(model.status()).toMatchObject({ observations: 1, excluded: { failed: 1, timedOut: 1, cancelled: 0, invalid: 3 } });
  });

  it('keeps its memory bounded and says how much it is', () => {
    const model = createOnlineModel({ ...SMALL, window: 150 });
    const source = introduce(model, 8);
    teach(model, take(source, 300));
    const { bytes, windowSize } = model.status();
    teach(model, take(source, 600));
    expect(windowSize).toBe(150);
    expect(model.status().windowSize).toBe(150);
    expect(model.status().bytes).toBe(bytes);
  });

  it('forgets a function whose index goes to another', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 8);
    teach(model, take(source, 300));
    model.forgetFunction(1);
    expect(model.status().functions.map(({ index }) => index)).not.toContain(1);
    model.setFunction({ index: 1, name: 'other', application: '', runtime: 'node', dependencies: 1, packageBytes: 1, memoryMb: 64 });
    expect(model.status().functions.find(({ index }) => index === 1)).toMatchObject({ name: 'other', observations: 0 });
    teach(model, take(source, 100));
    expect(medianError(model, take(source, 50))).toBeLessThan(0.2);
  });

  it('takes another name at a known index for another function', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 8);
    teach(model, take(source, 300));
    const of = (index: number) => model.status().functions.find((row) => row.index === index);
    const known = source.functions[1];
    if (known === undefined) throw new Error('the source has functions');
    const { observations } = of(1) ?? { observations: 0 };
    expect(observations).toBeGreaterThan(3);
    model.setFunction({ ...known, memoryMb: 512 });
    expect(of(1)).toMatchObject({ name: known.name, observations });
    model.setFunction({ ...known, name: 'other' });
    expect(of(1)).toMatchObject({ name: 'other', observations: 0, medianError: 0 });
    expect(of(2)?.observations).toBeGreaterThan(3);
  });

  it('gives who was observed before it was introduced its name, and keeps what was learned', () => {
    const model = createOnlineModel(SMALL);
    const source = createSyntheticExecutions(8);
    teach(model, take(source, 100));
    const { observations } = model.status().functions.find(({ index }) => index === 1) ?? { observations: 0 };
    for (const profile of source.functions) model.setFunction(profile);
    expect(observations).toBeGreaterThan(0);
    expect(model.status().functions.find(({ index }) => index === 1)).toMatchObject({ name: source.functions[1]?.name, observations });
  });

  it('refuses knobs out of their bounds, by name', () => {
    expect(() => createOnlineModel({ seed: 1, trees: 0 })).toThrow('trees of the model is 0');
    expect(() => createOnlineModel({ seed: 1, forgetting: 1.5 })).toThrow('forgetting');
  });
});

describe('a changed world', () => {
  it('a function that takes half as long again is followed within five executions of it', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 11);
    teach(model, take(source, 1_000));
    source.change({ only: ['log-analyze'], runFactor: { 'log-analyze': 1.5 } });
    teach(model, take(source, 5));
    expect(model.status().functions.find(({ name }) => name === 'log-analyze')?.driftEvents).toBe(1);
    expect(medianError(model, take(source, 40))).toBeLessThan(0.06);
    source.change({ only: ['video-split', 'ml-process'] });
    expect(medianError(model, take(source, 40))).toBeLessThan(0.03);
  });

  it('a slow node is a slow node, not ten changed functions', () => {
    const model = createOnlineModel(SMALL);
    const source = introduce(model, 12);
    teach(model, take(source, 1_000));
    source.change({ nodeFactor: { 3: 1.6 } });
    const before = model.status().driftEvents;
    teach(model, take(source, 150));
    expect(model.status().nodeDriftEvents).toBeGreaterThanOrEqual(1);
    expect(model.status().driftEvents - before).toBeLessThanOrEqual(1);
    expect(medianError(model, take(source, 400).filter(({ situation }) => situation.nodeIndex === 3))).toBeLessThan(0.04);
  });
});

describe('a snapshot', () => {
  const model = createOnlineModel(SMALL);
  const source = introduce(model, 6);
  teach(model, take(source, 600));
  const asked = situationsOf(take(source, 100));
  const packr = new Packr({ moreTypes: true });
  const stored = (): Record<string, unknown> => structuredClone(model.toSnapshot()) as Record<string, unknown>;

  it('predicts the same bits after a restart, through msgpackr, and says the same of itself', () => {
    const again = restoreOnlineModel(packr.unpack(packr.pack(model.toSnapshot())));
    expect(predictions(again, asked)).toEqual(predictions(model, asked));
    expect(again.status()).toEqual(model.status());
  });

  it('goes on learning as the model would have', () => {
    const again = restoreOnlineModel(stored());
    const more = take(source, 200);
    const twin = restoreOnlineModel(stored());
    teach(again, more);
    teach(twin, more);
    expect(again.toSnapshot()).toEqual(twin.toSnapshot());
    expect(medianError(again, take(source, 200))).toBeLessThan(0.02);
  });

  it('of another format, other features or another shape is refused with what is wrong', () => {
    const cases: [string, (snapshot: Record<string, unknown>) => void][] = [
      ['its format is 2', (snapshot) => void (snapshot['format'] = 2)],
      ['other features', (snapshot) => void (snapshot['features'] = 'cpu')],
      ['"baseline.functions"', (snapshot) => void ((snapshot['baseline'] as Record<string, unknown>)['functions'] = 'x')],
      ['no finite number', (snapshot) => void ((snapshot['baseline'] as { globals: Float64Array }).globals.fill(Number.NaN))],
      ['"levels" does not fit', (snapshot) => void ((snapshot['levels'] as unknown[])[1] = Float64Array.of(1, 2))],
      ['"medians" does not fit', (snapshot) => void ((snapshot['medians'] as unknown[])[1] = Float64Array.of(1, 2))],
      ['"window.rows"', (snapshot) => void ((snapshot['window'] as { count: number }).count--)],
      ['links node', (snapshot) => void ((snapshot['trees'] as { link: Int32Array }[])[0]!.link[0] = -5)],
      ['"trees[1]', (snapshot) => void ((snapshot['trees'] as unknown[])[1] = {})],
      ['trees of the model', (snapshot) => void ((snapshot['options'] as { trees: number }).trees = 100_000)],
      ['of function 77', (snapshot) => void ((snapshot['window'] as { rows: Float64Array }).rows[COLUMN.functionIndex] = 77)],
    ];
    for (const [message, spoil] of cases) {
      const snapshot = stored();
      spoil(snapshot);
      expect(() => restoreOnlineModel(snapshot), message).toThrow(message);
    }
    for (const value of [undefined, null, 'text', [], 5]) expect(() => restoreOnlineModel(value)).toThrow('no model snapshot');
  });
});
