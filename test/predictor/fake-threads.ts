/** Inference threads that answer when the test says so, in this thread, through real rings. */
import type { PredictionOut } from '../../src/predictor/model/model-view.ts';
import { SITUATION_WIDTH } from '../../src/predictor/features.ts';
import type { InferenceListener, InferenceThreads } from '../../src/predictor/pool/inference-pool.ts';
import { RingClient, createRingMemory, serveRing } from '../../src/predictor/pool/ring.ts';

export interface FakeThreads extends InferenceThreads {
  /** What a row is predicted to take, ms. */
  meanOf: (features: Float64Array, offset: number) => number;
  /** Version that answers; 0: no model. */
  version: number;
  /** Answers all that was asked; false: nothing was. */
  answer(thread?: number): boolean;
  /** The thread dies; nothing replaces it by itself. */
  kill(thread: number): void;
  start(thread: number): void;
  /** Another model is to answer: the thread ends when it has answered what it was asked. */
  retire(thread: number): void;
  /** The retired thread has ended. */
  end(thread: number): void;
  /** Threads that were asked to be replaced. */
  readonly replaced: number[];
}

export function createFakeThreads({ count = 1, rows = 64, requests = 16 } = {}): FakeThreads {
  let listener: InferenceListener = { answered() {}, lost() {}, started() {} };
  const shape = { rows, requests, width: SITUATION_WIDTH };
  const desks: ({ memory: SharedArrayBuffer; ring: RingClient } | undefined)[] = [];
  const asked = new Set<number>();
  const retiring = new Set<number>();
  const open = (): { memory: SharedArrayBuffer; ring: RingClient } => {
    const memory = createRingMemory(shape);
    const ring = new RingClient(memory, shape);
    ring.stop(); // serveRing returns when it has nothing left
    return { memory, ring };
  };
  for (let thread = 0; thread < count; thread++) desks.push(open());
  const fake: FakeThreads = {
    count, replaced: [], version: 1,
    meanOf: () => 40,
    ring: (thread) => desks[thread]?.ring,
    isRetiring: (thread) => retiring.has(thread),
    retire: (thread) => void retiring.add(thread),
    end(thread) {
      const desk = desks[thread];
      desks[thread] = undefined;
      if (desk !== undefined) listener.lost(thread, desk.ring, undefined);
    },
    asked: (thread) => void asked.add(thread),
    replace: (thread) => void fake.replaced.push(thread),
    listen: (given) => void (listener = given),
    stop: () => Promise.resolve(),
    answer(thread = 0) {
      const desk = desks[thread];
      if (desk === undefined || !asked.delete(thread)) return false;
      desk.ring.announce();
      serveRing(desk.memory, shape, (features, offset, rowCount, out: PredictionOut, first) => {
        for (let row = 0; row < rowCount; row++) {
          const mean = fake.meanOf(features, offset + row * SITUATION_WIDTH);
          out.meanMs[first + row] = mean;
          out.spreadMs[first + row] = mean / 10;
          out.p95Ms[first + row] = mean * 1.2;
          out.p99Ms[first + row] = mean * 1.5;
        }
        return fake.version;
      });
      listener.answered(thread);
      return true;
    },
    kill(thread) {
      const desk = desks[thread];
      desks[thread] = undefined;
      asked.delete(thread);
      if (desk !== undefined) listener.lost(thread, desk.ring, new Error('It was killed.'));
    },
    start(thread) {
      retiring.delete(thread);
      const desk = open();
      desks[thread] = desk;
      listener.started(thread, desk.ring);
    },
  };
  return fake;
}
