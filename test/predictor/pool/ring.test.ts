/** The ring in one thread (the server side runs when the test says so, until it has nothing left) and, at the end, with a real thread. */
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../../src/core/random.ts';
import type { PredictionOut } from '../../../src/predictor/model/model-view.ts';
import { RingClient, createRingMemory, serveRing, type RingShape } from '../../../src/predictor/pool/ring.ts';

const SHAPE: RingShape = { rows: 10, requests: 4, width: 3 };

/** Mean = sum of the features, the others beside it. */
const sumUp = (features: Float64Array, offset: number, count: number, results: PredictionOut, first: number): number => {
  for (let i = 0; i < count; i++) {
    const at = offset + i * SHAPE.width;
    results.meanMs[first + i] = features[at]! + features[at + 1]! + features[at + 2]!;
    results.spreadMs[first + i] = 1;
    results.p95Ms[first + i] = 2;
    results.p99Ms[first + i] = 3;
  }
  return 7;
};

/** A ring and its server, which answers all that was announced when `serve` is called. */
function make(shape = SHAPE) {
  const memory = createRingMemory(shape);
  const ring = new RingClient(memory, shape);
  ring.stop(); // so that the server returns instead of falling asleep
  const ask = (...values: number[]): number => {
    const first = ring.reserve(values.length);
    if (first < 0) return -1;
    values.forEach((value, row) => ring.features.set([value, 10, 100], (first + row) * shape.width));
    ring.commit(values.length);
    return first;
  };
  const serve = (): void => {
    ring.announce();
    serveRing(memory, shape, sumUp);
  };
  const drain = (): { request: number; means: number[]; version: number }[] => {
    const answers: { request: number; means: number[]; version: number }[] = [];
    ring.drain((request, first, count, version) => void answers.push({ request, means: [...ring.results.meanMs.subarray(first, first + count)], version }));
    return answers;
  };
  return { memory, ring, ask, serve, drain };
}

describe('a ring', () => {
  it('carries rows in and predictions out, in order, with the version that made them', () => {
    const { ring, ask, serve, drain } = make();
    ask(1, 2);
    ask(3);
    expect(ring.outstanding).toBe(2);
    expect(drain()).toEqual([]);
    serve();
    expect(drain()).toEqual([{ request: 0, means: [111, 112], version: 7 }, { request: 1, means: [113], version: 7 }]);
    expect(ring).toMatchObject({ outstanding: 0, takenRows: 0 });
  });

  it('tells nothing to the thread before it is announced', () => {
    const { memory, ring, ask, drain } = make();
    ask(1);
    serveRing(memory, SHAPE, sumUp);
    expect(drain()).toEqual([]);
    ring.announce();
    serveRing(memory, SHAPE, sumUp);
    expect(drain()).toHaveLength(1);
  });

  it('refuses what does not fit, in rows and in requests, and has room again after the answers', () => {
    const { ask, serve, drain } = make();
    expect(ask(...Array.from({ length: 11 }, () => 0))).toBe(-1);
    expect(ask(1, 2, 3, 4, 5, 6, 7)).toBe(0);
    expect(ask(1, 2, 3, 4)).toBe(-1);
    expect([ask(1), ask(2), ask(3)]).toEqual([7, 8, 9]);
    expect(ask(4)).toBe(-1); // four requests are out
    serve();
    expect(drain()).toHaveLength(4);
    expect(ask(4)).toBe(0);
  });

  it('keeps the rows of a request together at the end of its memory', () => {
    const { ring, ask, serve, drain } = make();
    expect([ask(1, 2, 3, 4), ask(5, 6, 7)]).toEqual([0, 4]);
    serve();
    // One answer is handled, so rows at the beginning are free while those of the second question are not.
    ring.drain((request) => {
      if (request === 0) return;
      expect(ask(8, 9, 10, 11)).toBe(0);
      expect(ring.takenRows).toBe(3 + 3 + 4);
      expect(ask(12)).toBe(-1);
    });
    serve();
    expect(drain()).toEqual([{ request: 2, means: [118, 119, 120, 121], version: 7 }]);
    expect(ring.takenRows).toBe(0);
  });

  it('is never wrong about a row over thousands of random questions', () => {
    const random = createRandom(11);
    const shape = { rows: 64, requests: 16, width: 3 };
    const { ring, ask, serve, drain } = make(shape);
    const expected: number[][] = [];
    let refused = 0;
    for (let turn = 0; turn < 5_000; turn++) {
      for (let i = random.below(5); i > 0; i--) {
        const values = Array.from({ length: 1 + random.below(20) }, () => random.below(1_000));
        if (ask(...values) < 0) refused++;
        else expected.push(values.map((value) => value + 110));
      }
      if (random.below(3) > 0) serve();
      for (const { means } of drain()) expect(means).toEqual(expected.shift());
    }
    serve();
    for (const { means } of drain()) expect(means).toEqual(expected.shift());
    expect(expected).toEqual([]);
    expect(refused).toBeGreaterThan(100);
    expect(ring.takenRows).toBe(0);
  });

  it('needs a power of two of requests', () => {
    expect(() => createRingMemory({ rows: 8, requests: 6, width: 3 })).toThrow(RangeError);
  });

  it('wakes a sleeping thread and the loop, and ends when it is stopped', async () => {
    const shape = { rows: 256, requests: 64, width: 3 };
    const memory = createRingMemory(shape);
    const ring = new RingClient(memory, shape);
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads');
       import(workerData.url).then(({ serveRing }) => serveRing(workerData.memory, workerData.shape, (features, offset, count, results, first) => {
         for (let i = 0; i < count; i++) results.meanMs[first + i] = features[offset + i * 3] * 2;
         return 1;
       }));`,
      { eval: true, workerData: { memory, shape, url: new URL('../../../src/predictor/pool/ring.ts', import.meta.url).href } },
    );
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    for (let turn = 0; turn < 50; turn++) {
      const first = ring.reserve(2);
      ring.features[first * 3] = turn;
      ring.features[(first + 1) * 3] = turn + 1;
      ring.commit(2);
      ring.announce();
      await ring.nextAnswer();
      const means: number[] = [];
      ring.drain((_request, at) => means.push(ring.results.meanMs[at]!, ring.results.meanMs[at + 1]!));
      expect(means).toEqual([turn * 2, (turn + 1) * 2]);
    }
    const never = ring.nextAnswer();
    ring.abandon();
    await never;
    ring.stop();
    expect(await exited).toBe(0);
  });
});
