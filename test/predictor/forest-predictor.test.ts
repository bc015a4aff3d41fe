/** The loop's end of the pool, on virtual time, with rings that answer when the test says so. */
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { ALONE } from '../../src/core/invocation.ts';
import { createForestPredictor } from '../../src/predictor/forest-predictor.ts';
import { COLUMN, SITUATION_WIDTH, decodeSituation } from '../../src/predictor/features.ts';
import { FETCHED_MS, INITIALISED_MS, OBSERVATION_WIDTH, RAN_MS, SERVED_MS, SERVED_P95_MS, SERVED_P99_MS } from '../../src/predictor/model/observation.ts';
import { BY_FOREST, BY_MOVING_AVERAGE, COLD, NO_SITUATION, NO_TICKET, WARM, createPredictionRows, type PredictionRows, type Subject } from '../../src/predictor/predictor.ts';
import { METRIC_NAMES, NODE_ROW, RECEIVED_AT, createNodeTable } from '../../src/scheduler/cluster-view.ts';
import { FunctionTable } from '../../src/scheduler/function-table.ts';
import { createFakeThreads } from './fake-threads.ts';

const LATE_MS = 2;
const NODES = 4;

function make({ count = 1, rows = 64, serving = true, good = true } = {}) {
  const clock = createVirtualClock(1_000_000);
  const threads = createFakeThreads({ count, rows });
  const changes: string[] = [];
  const told: number[] = [];
  const learned: Float64Array[] = [];
  const excluded: string[] = [];
  const predictor = createForestPredictor({
    clock, threads, lateAfterMs: LATE_MS, poolChanged: (change) => changes.push(change),
    training: { observe: (from, offset) => learned.push(from.slice(offset, offset + OBSERVATION_WIDTH)) > 0, exclude: (index, why) => void excluded.push(`${index} ${why}`), functionPut() {}, functionDeleted() {} },
  });
  const table = new Float64Array(createNodeTable(NODES));
  const used = new Int32Array(NODES), slots = new Int32Array(NODES).fill(4);
  const functions = new FunctionTable(NODES);
  for (const name of ['f', 'g']) functions.put({ name, version: '1', packageSet: name, slaMs: 0, timeoutMs: 0, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 128, critical: false, profile: { application: 'a', memoryMb: 128, runtime: 'python3', dependencies: 3, packageBytes: 500 } });
  predictor.attach({ host: { get nowMs() { return clock.nowMs(); } }, nodes: { table, used, slots }, metrics: METRIC_NAMES, rowLength: NODE_ROW, receivedAt: RECEIVED_AT, functions: functions.entries });
  predictor.listen((ticket) => told.push(ticket));
  const setGood = (): void => {
    while (!predictor.isPoolGood) {
      for (let thread = 0; thread < count; thread++) threads.answer(thread);
      clock.advance(50);
    }
  };
  if (good) setGood();
  predictor.setServing(serving);
  const heard = (node: number): void => void (table[node * NODE_ROW + RECEIVED_AT] = clock.nowMs());
  return { clock, threads, predictor, changes, told, learned, excluded, table, used, functions, heard, setGood };
}

const subject = (more: Partial<Subject> = {}): Subject => ({ functionIndex: 0, inputBytes: 0, inputs: [], payloadBytes: 0, ...ALONE, ...more });
const rowsOf = (nodes: readonly number[] = [0, 1], startState = WARM): PredictionRows => {
  const rows = createPredictionRows(nodes.length);
  rows.count = nodes.length;
  rows.node.set(nodes);
  rows.startState.fill(startState);
  return rows;
};

describe('the forest predictor', () => {
  it('lets the moving averages answer until there is a forest', () => {
    const { predictor, threads, told } = make({ serving: false });
    const rows = rowsOf();
    expect(predictor.predict(subject(), rows, 5)).toBe(true);
    expect([...rows.source]).toEqual([BY_MOVING_AVERAGE, BY_MOVING_AVERAGE]);
    expect(threads.answer()).toBe(false);
    expect(told).toEqual([]);
  });

  it('asks the pool, tells the listener once, and then has the answer for whoever asks again', () => {
    const { predictor, threads, told } = make();
    threads.meanOf = (features, offset) => 10 + features[offset + COLUMN.nodeIndex]!;
    const rows = rowsOf([0, 1, 3]);
    expect(predictor.predict(subject(), rows, 5)).toBe(false);
    expect(told).toEqual([]);
    threads.answer();
    expect(told).toEqual([5]);
    expect(predictor.predict(subject(), rows, NO_TICKET)).toBe(true);
    expect([...rows.meanMs]).toEqual([10, 11, 13]);
    expect(rows.p95Ms[2]).toBeCloseTo(15.6);
    expect(rows.p99Ms[2]).toBeCloseTo(19.5);
    expect([...rows.source]).toEqual([BY_FOREST, BY_FOREST, BY_FOREST]);
    expect(predictor.counters).toMatchObject({ asked: 1, inTime: 1, late: 0 });
  });

  it('answers the same question at once while the nodes are as they were, and not when one changed', () => {
    const { predictor, threads, told, used, clock, heard } = make();
    const ask = (ticket: number, more: Partial<Subject> = {}): boolean => {
      const answered = predictor.predict(subject(more), rowsOf(), ticket);
      threads.answer();
      return answered;
    };
    expect(ask(1)).toBe(false);
    expect(ask(2)).toBe(true);
    expect(ask(3, { inputBytes: 1_000 })).toBe(false);
    expect(ask(4, { functionIndex: 1 })).toBe(false);
    used[1] = 1; // a slot was taken
    expect(ask(5)).toBe(false);
    clock.advance(10);
    heard(0); // a new state came
    expect(ask(6)).toBe(false);
    expect(ask(7)).toBe(true);
    clock.advance(51);
    expect(ask(8)).toBe(false);
    expect(told).toEqual([1, 3, 4, 5, 6, 8]);
    expect(predictor.counters.remembered).toBe(2);
  });

  it('lets averages answer what is late, brought to the level of the forest, and tells nobody twice', () => {
    const { predictor, threads, told, clock } = make();
    const rows = rowsOf([0]);
    predictor.predict(subject(), rows, 1);
    threads.answer();
    for (let i = 0; i < 60; i++) {
      clock.advance(60);
      predictor.predict(subject(), rowsOf([0]), NO_TICKET); // the ratio of forest (40 ms) to average (50.5 ms) is learned
      threads.answer();
    }
    clock.advance(60);
    expect(predictor.predict(subject({ inputBytes: 5 }), rows, 2)).toBe(false);
    clock.advance(1);
    expect(told).toEqual([1]);
    clock.advance(1.5);
    expect(told).toEqual([1, 2]);
    expect(predictor.predict(subject({ inputBytes: 5 }), rows, NO_TICKET)).toBe(true);
    expect(rows.source[0]).toBe(BY_MOVING_AVERAGE);
    expect(rows.meanMs[0]).toBeCloseTo(40, 1);
    threads.answer();
    expect(told).toEqual([1, 2]);
    expect(predictor.predict(subject({ inputBytes: 5 }), rows, NO_TICKET)).toBe(true);
    expect([rows.source[0], rows.meanMs[0]]).toEqual([BY_FOREST, 40]);
    expect(predictor.counters.late).toBe(1);
  });

  it('does not ask again for what has no answer yet, and does when its thread is gone', () => {
    const { predictor, threads, told, clock, setGood } = make();
    expect(predictor.predict(subject(), rowsOf([0]), 1)).toBe(false);
    clock.advance(3);
    expect(told).toEqual([1]); // late
    for (let i = 0; i < 5; i++) predictor.predict(subject(), rowsOf([0]), NO_TICKET);
    expect(predictor.counters.asked).toBe(1);
    threads.kill(0);
    threads.start(0);
    setGood();
    predictor.predict(subject(), rowsOf([0]), NO_TICKET);
    expect(predictor.counters.asked).toBe(2);
    threads.answer();
    const rows = rowsOf([0, 1]);
    predictor.predict(subject(), rows, NO_TICKET);
    expect([rows.source[0], predictor.counters.asked]).toEqual([BY_FOREST, 3]);
  });

  it('asks nothing of a thread that goes over to another model, keeps nothing of what it still says, and counts no loss', () => {
    const { predictor, threads, told, changes, setGood } = make();
    expect(predictor.predict(subject(), rowsOf([0]), 1)).toBe(false);
    threads.retire(0);
    expect(predictor.predict(subject({ inputBytes: 5 }), rowsOf([0]), 2)).toBe(true);
    threads.answer();
    expect(told).toEqual([1]);
    const rows = rowsOf([0]);
    predictor.predict(subject(), rows, NO_TICKET);
    expect([rows.source[0], predictor.counters.asked]).toEqual([BY_MOVING_AVERAGE, 1]);
    threads.end(0);
    expect([predictor.isPoolGood, predictor.countsAsGood]).toEqual([false, true]);
    threads.start(0);
    setGood();
    expect(predictor.predict(subject(), rows, 3)).toBe(false);
    threads.answer();
    expect(told).toEqual([1, 3]);
    expect(changes).toEqual(['recovered']);
    expect(predictor.counters).toMatchObject({ lost: 0, threadsLost: 0 });
  });

  it('waits for nobody who is late half of the time, until two probes come back in time', () => {
    const { predictor, threads, changes, clock, told } = make();
    expect(changes).toEqual(['recovered']);
    let ticket = 0;
    for (; predictor.isPoolGood && ticket < 100; ticket++) {
      expect(predictor.predict(subject({ payloadBytes: ticket }), rowsOf(), ticket)).toBe(false);
      clock.advance(LATE_MS + 1);
      threads.answer();
    }
    expect(ticket).toBe(16);
    expect(told).toHaveLength(16);
    expect(changes).toEqual(['recovered', 'late']);
    expect(predictor.predict(subject({ payloadBytes: 999 }), rowsOf(), 999)).toBe(true);
    expect(predictor.counters.degraded).toBe(1);
    clock.advance(50); // a late probe does not count
    threads.answer();
    expect(predictor.isPoolGood).toBe(false);
    for (let ms = 0; ms < 150; ms++) {
      clock.advance(1);
      threads.answer();
    }
    expect(changes).toEqual(['recovered', 'late', 'recovered']);
    expect(predictor.predict(subject({ payloadBytes: 999 }), rowsOf(), 1_000)).toBe(false);
  });

  it('tells everybody who waited for a thread that died, and asks its replacement when that has proved itself', () => {
    const { predictor, threads, changes, told, setGood } = make();
    predictor.predict(subject(), rowsOf(), 1);
    predictor.predict(subject({ inputBytes: 9 }), rowsOf(), 2);
    threads.kill(0);
    expect(told).toEqual([1, 2]);
    expect(changes).toEqual(['recovered', 'lost']);
    expect(predictor.predict(subject(), rowsOf(), 3)).toBe(true);
    threads.start(0);
    expect(predictor.predict(subject(), rowsOf(), 4)).toBe(true);
    setGood();
    expect(changes).toEqual(['recovered', 'lost', 'recovered']);
    expect(predictor.predict(subject(), rowsOf(), 5)).toBe(false);
    expect(predictor.counters).toMatchObject({ lost: 2, threadsLost: 1 });
  });

  it('goes on with the other thread when one dies', () => {
    const { predictor, threads, changes, told, clock } = make({ count: 2 });
    clock.advance(50);
    for (let i = 0; i < 4; i++) {
      for (const thread of [0, 1]) threads.answer(thread);
      clock.advance(50);
    }
    threads.kill(0);
    expect(changes).toEqual(['recovered']);
    expect(predictor.predict(subject(), rowsOf(), 1)).toBe(false);
    threads.answer(1);
    expect(told).toEqual([1]);
  });

  it('has a thread replaced that answers nothing any more', () => {
    const { predictor, threads, clock, told } = make();
    predictor.predict(subject(), rowsOf(), 1);
    clock.advance(2_500);
    expect(told).toEqual([1]);
    expect(threads.replaced).toEqual([0]);
    expect(predictor.counters.threadsReplaced).toBe(1);
  });

  it('lets averages answer what finds no room, and never lets those who do not wait fill the ring', () => {
    const { predictor, threads, changes } = make({ rows: 8 });
    for (let i = 0; i < 10; i++) predictor.predict(subject({ payloadBytes: i }), rowsOf([0, 1]), NO_TICKET);
    expect(predictor.counters).toMatchObject({ asked: 3, flooded: 0 }); // up to half, and the one that passes it
    expect(predictor.predict(subject({ payloadBytes: 100 }), rowsOf([0, 1]), 1)).toBe(false);
    let refused = 0;
    for (let i = 0; i < 20; i++) if (predictor.predict(subject({ payloadBytes: 200 + i }), rowsOf([0, 1]), 2 + i)) refused++;
    expect(refused).toBe(20);
    expect(predictor.counters.flooded).toBe(16);
    expect(changes).toEqual(['recovered', 'late']); // a ring that stays full is a pool that is late
    threads.answer();
  });

  it('does not wake the pool for waiters whose answers are young, and asks anew for those that are not', () => {
    const { predictor, threads, clock } = make();
    predictor.predict(subject(), rowsOf(), 1);
    threads.answer();
    for (let i = 0; i < 5; i++) {
      clock.advance(9);
      predictor.predict(subject(), rowsOf(), NO_TICKET);
    }
    expect(predictor.counters.asked).toBe(1);
    clock.advance(9);
    predictor.predict(subject(), rowsOf(), NO_TICKET);
    expect(predictor.counters.asked).toBe(2);
  });

  it('keeps the situation of a dispatch and teaches it with what really happened', () => {
    const { predictor, learned, excluded, table, used } = make();
    table[1 * NODE_ROW + METRIC_NAMES.indexOf('cpuUtilisation')] = 0.75;
    used[1] = 2;
    const rows = rowsOf([0, 1], WARM);
    rows.missingBytes[1] = 4_000;
    const first = predictor.dispatched(subject({ inputBytes: 9_000, inputs: [1, 2], payloadBytes: 70, stage: 1, predecessors: 2, fanOut: 8 }), rows, 1);
    used[1] = 3; // booked after the dispatch, and not part of it
    const second = predictor.dispatched(subject(), rows, 0);
    expect(new Set([first, second, NO_SITUATION]).size).toBe(3);
    predictor.observe({ functionIndex: 0, node: 1, startState: COLD, inputBytes: 9_000, fetchedBytes: 3_500, fetchedMs: 1, initialisedMs: 2, ranMs: 3, predictedMs: 10, predictedP95Ms: 12, predictedP99Ms: 14, situation: first });
    expect(learned).toHaveLength(1);
    expect(decodeSituation(learned[0]!)).toEqual({
      functionIndex: 0, nodeIndex: 1, cpuUtilisation: 0.75, linkUtilisation: 0, memoryFreeMb: 0, usedSlots: 2, usedShare: 0.5, missingBytes: 3_500, inputBytes: 9_000, inputs: 2, payloadBytes: 70, dependencies: 3, packageBytes: 500,
      memoryMb: 128, runtime: 1, stage: 1, predecessors: 2, fanOut: 8,
    });
    expect([...learned[0]!.subarray(SITUATION_WIDTH)]).toEqual([1, 2, 3, 10, 12, 14]);
    expect([FETCHED_MS, INITIALISED_MS, RAN_MS, SERVED_MS, SERVED_P95_MS, SERVED_P99_MS]).toEqual([0, 1, 2, 3, 4, 5].map((at) => SITUATION_WIDTH + at));
    predictor.exclude(second, 'timedOut');
    expect(excluded).toEqual(['0 timedOut']);
    // Both places are free again.
    expect(new Set([predictor.dispatched(subject(), rows, 0), predictor.dispatched(subject(), rows, 0)])).toEqual(new Set([first, second]));
  });

  it('keeps thousands of situations at once, each with its own numbers', () => {
    const { predictor, learned } = make();
    const handles = Array.from({ length: 2_000 }, (_, i) => predictor.dispatched(subject({ payloadBytes: i }), rowsOf([0]), 0));
    expect(new Set(handles).size).toBe(2_000);
    handles.forEach((situation, i) => i % 100 === 0 && predictor.observe({ functionIndex: 0, node: 0, startState: WARM, inputBytes: 0, fetchedBytes: 0, fetchedMs: 0, initialisedMs: 0, ranMs: i, predictedMs: 0, situation }));
    expect(learned.map((row) => row[COLUMN.payloadBytes]! - row[RAN_MS]!)).toEqual(new Array(20).fill(0));
  });
});
