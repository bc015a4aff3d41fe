import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { COLUMN, SITUATION_WIDTH } from '../../src/predictor/features.ts';
import { createForest } from '../../src/predictor/model/flat-forest.ts';
import { FUNCTION_STRIDE, GLOBAL_STRIDE, NODE_STRIDE, createPredictionOut, type ModelCapacity, type ModelView } from '../../src/predictor/model/model-view.ts';
import { createOnlineModel } from '../../src/predictor/model/online-model.ts';
import { MAX_READERS, ModelReader, ModelWriter, createPublishedModel, grownCapacity, publishedModelBytes } from '../../src/predictor/model/published-model.ts';
import { introduce, situationsOf, take, teach } from './training-data.ts';

const CAPACITY: ModelCapacity = { functions: 300, nodes: 20, trees: 60, treeSize: 200 };

/** A model that is all of one number: trees whose leaves say `value`, functions that say nothing. A torn reader would see a mean of some trees of each. */
function uniform(value: number): ModelView {
  const forest = createForest(CAPACITY.trees, CAPACITY.treeSize);
  forest.treeCount = CAPACITY.trees;
  for (let t = 0; t < CAPACITY.trees; t++) {
    const root = t * CAPACITY.treeSize;
    for (let node = root; node < root + CAPACITY.treeSize; node++) {
      forest.link[node] = node;
      forest.threshold[node] = Infinity;
      forest.value[node] = value;
    }
    forest.sizes[t] = CAPACITY.treeSize;
  }
  return { functionCount: 300, functions: new Float64Array(300 * FUNCTION_STRIDE).fill(value), nodeCount: 20, nodes: new Float64Array(20 * NODE_STRIDE), globals: new Float64Array(GLOBAL_STRIDE), forest };
}

/** What a model of this number says of a warm start without inputs. */
function meanOf(view: ModelView): number {
  const buffer = createPublishedModel(CAPACITY);
  new ModelWriter(buffer).publish(view, 1);
  const rows = new Float64Array(SITUATION_WIDTH);
  rows[COLUMN.startState] = 4;
  const out = createPredictionOut(1);
  new ModelReader(buffer, 0).predict(rows, 0, 1, out, 0);
  return out.meanMs[0] as number;
}

describe('a published model', () => {
  const workers: Worker[] = [];
  afterAll(() => Promise.all(workers.map((worker) => worker.terminate())));

  it('predicts the bits of the model that published it', () => {
    const model = createOnlineModel({ seed: 3, trees: 20, window: 300, bootstrapAfter: 100 });
    const source = introduce(model, 3);
    teach(model, take(source, 300));
    const writer = new ModelWriter(createPublishedModel(grownCapacity({ ...model.capacity, functions: 1, nodes: 1 }, model.capacity.functions, model.capacity.nodes)));
    const rows = situationsOf(take(source, 67));
    const reader = new ModelReader(writer.buffer, 0);
    const own = createPredictionOut(67), read = createPredictionOut(67);
    expect([reader.version, reader.predict(rows, 0, 67, read, 0)]).toEqual([0, 0]);
    expect(model.publishTo(writer)).toBe('published');
    const version = model.predict(rows, 0, 67, own, 0);
    expect(reader.predict(rows, 0, 67, read, 0)).toBe(version);
    expect(read).toEqual(own);
    // Part of a larger array, to another place.
    const shifted = createPredictionOut(10);
    reader.predict(rows, 60 * SITUATION_WIDTH, 7, shifted, 3);
    expect(shifted.meanMs.slice(3)).toEqual(own.meanMs.slice(60));
  });

  it('says when it is too small, and stays as it was', () => {
    const model = createOnlineModel({ seed: 3, trees: 5, window: 300 });
    introduce(model, 3);
    const capacity = { ...model.capacity, functions: 2 };
    const writer = new ModelWriter(createPublishedModel(capacity));
    expect([model.publishTo(writer), writer.version]).toEqual(['tooSmall', 0]);
    expect(grownCapacity(capacity, model.capacity.functions, 1)).toMatchObject({ functions: 16 });
    expect(publishedModelBytes(grownCapacity(capacity, 11, 1))).toBeGreaterThan(publishedModelBytes(capacity));
  });

  it('gives up a publication rather than wait for a reader, and goes on when the reader is gone', () => {
    const writer = new ModelWriter(createPublishedModel(CAPACITY));
    const view = uniform(0);
    writer.publish(view, 1);
    // A reader that died in the copy that is active now; the next publication takes the other one, the one after that would need its copy.
    new Int32Array(writer.buffer)[16 + 5] = 1;
    expect(writer.publish(view, 2)).toBe('published');
    expect([writer.publish(view, 3), writer.version, writer.skipped]).toEqual(['busy', 2, 1]);
    writer.forgetReader(5);
    expect([writer.publish(view, 3), writer.version]).toEqual(['published', 3]);
  });

  it('is never seen torn: two threads read 50 000 times while it is published again and again', async () => {
    const views = [uniform(0), uniform(0.5)] as const;
    const means = { 0: meanOf(views[0]), 1: meanOf(views[1]) };
    expect(means[0]).not.toBe(means[1]);
    const writer = new ModelWriter(createPublishedModel(CAPACITY));
    writer.publish(views[1], 1);
    const started = [0, 1].map((reader) => new Worker(new URL('reader-worker.ts', import.meta.url), { workerData: { buffer: writer.buffer, reader, reads: 25_000, means } }));
    workers.push(...started);
    let isOver = false;
    const answers = Promise.all(started.map(async (worker) => (await once(worker, 'message'))[0] as { torn: number; versions: number })).finally(() => (isOver = true));
    let version = 1, published = 0;
    while (!isOver) {
      // A version that was given up is tried again as the same one, so its parity says which view it is.
      for (let i = 0; i < 50; i++) {
        if (writer.publish(views[(version + 1) % 2] as ModelView, version + 1) !== 'published') continue;
        version++;
        published++;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    const results = await answers;
    expect(results.map(({ torn }) => torn)).toEqual([0, 0]);
    for (const { versions } of results) expect(versions).toBeGreaterThan(5);
    expect(published).toBeGreaterThan(50);
  }, 120_000);

  it('refuses memory that is none, and readers beyond the last', () => {
    expect(() => new ModelReader(new SharedArrayBuffer(64), 0)).toThrow('no published model');
    expect(() => new ModelReader(new SharedArrayBuffer(4_096), 0)).toThrow('no published model');
    expect(() => new ModelReader(createPublishedModel(CAPACITY), MAX_READERS)).toThrow(`0 to ${MAX_READERS - 1}`);
  });
});
