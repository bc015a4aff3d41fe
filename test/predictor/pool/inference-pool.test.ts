/** Inference threads as they are: real threads, a real published model. What it predicts is chosen: every tree of version v says log(v). */
import { afterEach, describe, expect, it } from 'vitest';
import { createSystemClock } from '../../../src/core/clock.ts';
import { SITUATION_WIDTH } from '../../../src/predictor/features.ts';
import { createForest, putTree, type FlatTree } from '../../../src/predictor/model/flat-forest.ts';
import { FUNCTION_STRIDE, GLOBAL_STRIDE, NODE_STRIDE, type ModelView } from '../../../src/predictor/model/model-view.ts';
import { ModelWriter, createPublishedModel } from '../../../src/predictor/model/published-model.ts';
import { InferencePool } from '../../../src/predictor/pool/inference-pool.ts';
import type { RingClient } from '../../../src/predictor/pool/ring.ts';

const TREES = 60, TREE_SIZE = 64;
const CAPACITY = { functions: 4, nodes: 4, trees: TREES, treeSize: TREE_SIZE };
const SHAPE = { rows: 4_096, requests: 256, width: SITUATION_WIDTH };

/** A model whose trees all say log(version): predictions of one version are in proportion to it, those of a mixture are not. */
function modelOf(version: number): ModelView {
  const forest = createForest(TREES, TREE_SIZE);
  const tree: FlatTree = { size: 1, depth: 0, column: new Uint8Array(1), threshold: Float64Array.of(Infinity), link: new Int32Array(1), value: Float64Array.of(Math.log(version)) };
  for (let t = 0; t < TREES; t++) putTree(forest, t, tree);
  return { functionCount: 1, functions: new Float64Array(4 * FUNCTION_STRIDE), nodeCount: 1, nodes: new Float64Array(4 * NODE_STRIDE), globals: new Float64Array(GLOBAL_STRIDE), forest };
}

const pools: InferencePool[] = [];
afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.stop()));
});

interface Events {
  lost: { thread: number; error: Error | undefined }[];
  started: number[];
}

function start(threads = 1) {
  const memory = createPublishedModel(CAPACITY);
  const writer = new ModelWriter(memory);
  const pool = new InferencePool({ clock: createSystemClock(), shape: SHAPE, threads });
  pools.push(pool);
  const events: Events = { lost: [], started: [] };
  const answers = new Map<RingClient, Map<number, { version: number; means: number[] }>>();
  let wake: () => void = () => {};
  pool.listen({
    answered(thread) {
      const ring = pool.ring(thread)!;
      const here = answers.get(ring) ?? new Map();
      answers.set(ring, here);
      ring.drain((request, first, count, version) => here.set(request, { version, means: [...ring.results.meanMs.subarray(first, first + count)] }));
      wake();
    },
    lost: (thread, _ring, error) => {
      events.lost.push({ thread, error });
      wake();
    },
    started: (thread) => void events.started.push(thread),
  });
  const until = async (isSo: () => boolean): Promise<void> => {
    const deadline = performance.now() + 20_000;
    while (!isSo()) {
      if (performance.now() > deadline) throw new Error('It did not happen within 20 s.');
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, 20);
      });
    }
  };
  /** Asks `count` rows and resolves with the answer; undefined when there was no room. */
  const ask = (thread: number, count: number): Promise<{ version: number; means: number[] }> | undefined => {
    const ring = pool.ring(thread);
    const first = ring?.reserve(count) ?? -1;
    if (ring === undefined || first < 0) return undefined;
    ring.features.fill(0, first * SITUATION_WIDTH, (first + count) * SITUATION_WIDTH);
    const request = ring.commit(count);
    pool.asked(thread);
    return until(() => answers.get(ring)?.has(request) === true).then(() => {
      const answer = answers.get(ring)!.get(request)!;
      answers.get(ring)!.delete(request);
      return answer;
    });
  };
  return { memory, writer, pool, events, ask, until };
}

describe('the inference pool', () => {
  it('answers from its threads, version 0 until a model is published', async () => {
    const { memory, writer, pool, ask } = start(2);
    expect(pool.ring(0)).toBeUndefined();
    pool.useModel(memory);
    expect((await ask(0, 3))!.version).toBe(0);
    expect(writer.publish(modelOf(5), 5)).toBe('published');
    const [first, second] = await Promise.all([ask(0, 3), ask(1, 2)]);
    expect(first!.version).toBe(5);
    expect(second!.means).toHaveLength(2);
    expect(first!.means[0]! / second!.means[0]!).toBeCloseTo(1, 10);
    expect(pool.workers).toHaveLength(2);
  });

  it('never answers from a mixture of versions, and never keeps the writer from publishing, under load', async () => {
    const { memory, writer, pool, ask } = start(2);
    expect(writer.publish(modelOf(1), 1)).toBe('published');
    pool.useModel(memory);
    const base = (await ask(0, 1))!.means[0]!;
    const models = Array.from({ length: 8 }, (_, i) => modelOf(i + 1));
    let published = 0, skipped = 0, answered = 0;
    const versions = new Set<number>();
    const checking: Promise<void>[] = [];
    const end = performance.now() + 1_500;
    while (performance.now() < end) {
      for (let i = 0; i < 20; i++) {
        const version = 1 + ((published + skipped) % models.length);
        if (writer.publish(models[version - 1]!, version) === 'published') published++;
        else skipped++;
      }
      for (const thread of [0, 1]) {
        const answer = ask(thread, 64);
        if (answer === undefined) continue;
        checking.push(answer.then(({ version, means }) => {
          answered++;
          versions.add(version);
          for (const mean of means) expect(mean / base).toBeCloseTo(version, 8);
        }));
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(checking);
    expect(versions.size).toBeGreaterThan(3);
    expect(answered).toBeGreaterThan(50);
    expect(published).toBeGreaterThan(100);
    expect(skipped).toBeLessThan(published);
  });

  it('replaces a thread that dies, and tells what it was asked as lost', async () => {
    const { memory, writer, pool, events, ask, until } = start();
    writer.publish(modelOf(2), 2);
    pool.useModel(memory);
    await ask(0, 1);
    const ring = pool.ring(0)!;
    await pool.workers[0]!.terminate();
    await until(() => events.lost.length === 1 && events.started.length === 2);
    expect(events.lost[0]).toMatchObject({ thread: 0, error: expect.any(Error) });
    expect(pool.ring(0)).not.toBe(ring);
    expect((await ask(0, 4))!.version).toBe(2);
  });

  it('replaces a thread that hangs when it is told so', async () => {
    const { memory, writer, pool, events, ask, until } = start(2);
    writer.publish(modelOf(2), 2);
    pool.useModel(memory);
    await Promise.all([ask(0, 1), ask(1, 1)]);
    pool.replace(1);
    await until(() => events.started.length === 3);
    expect(events.lost.map(({ thread }) => thread)).toEqual([1]);
    expect((await ask(0, 1))!.version).toBe(2);
    expect((await ask(1, 1))!.version).toBe(2);
  });

  it('goes over to a larger memory without counting it as a loss', async () => {
    const { memory, writer, pool, events, ask, until } = start();
    writer.publish(modelOf(2), 2);
    pool.useModel(memory);
    await ask(0, 1);
    const larger = createPublishedModel({ ...CAPACITY, functions: 64 });
    new ModelWriter(larger).publish(modelOf(3), 3);
    pool.useModel(larger);
    await until(() => events.started.length === 2);
    expect(events.lost).toEqual([{ thread: 0, error: undefined }]);
    expect((await ask(0, 1))!.version).toBe(3);
  });

  it('ends its threads when it is stopped, in the middle of work', async () => {
    const { memory, pool, ask } = start(2);
    pool.useModel(memory);
    await ask(0, 1);
    pool.ring(0)!.reserve(1_000);
    pool.ring(0)!.commit(1_000);
    pool.asked(0);
    await pool.stop();
    expect(pool.workers).toHaveLength(0);
  });
});
