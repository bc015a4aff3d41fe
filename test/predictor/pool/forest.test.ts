/** The whole prediction model with its threads, fed with synthetic executions: its life, and what happens when threads die or drown. */
import { appendFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { createSystemClock } from '../../../src/core/clock.ts';
import { ALONE } from '../../../src/core/invocation.ts';
import { OBSERVATION_WIDTH, encodeObservation } from '../../../src/predictor/model/observation.ts';
import { parseLogHeader, parseObservation } from '../../../src/predictor/observation-log.ts';
import { startForest, SNAPSHOT_FILE, type Forest, type ForestOptions } from '../../../src/predictor/pool/forest.ts';
import { MAX_WAITING_OBSERVATIONS } from '../../../src/predictor/pool/training-pool.ts';
import { BY_FOREST, BY_MOVING_AVERAGE, COLD, NO_TICKET, WARM, createPredictionRows, type PredictionRows, type Subject } from '../../../src/predictor/predictor.ts';
import { createSyntheticExecutions } from '../../../src/workload/synthetic-executions.ts';

const NODES = 10;
const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'metronome-model-'));
  cleanUp.push(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Polls until it is so; events of threads have no other end that a test could wait for. */
async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 25_000;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`Within 25 s it did not happen: ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

interface World {
  readonly forest: Forest;
  readonly events: string[];
  /** Lets the model see `count` synthetic executions, and waits until it has. */
  feed(count: number): Promise<void>;
  ask(subject: Partial<Subject>): Promise<PredictionRows>;
}

function start(more: Partial<ForestOptions> = {}): World {
  const clock = createSystemClock();
  const source = createSyntheticExecutions(7);
  const events: string[] = [];
  const note = (fields: object, event: string): void => void events.push(`${event} ${'state' in fields ? String(fields.state) : 'code' in fields ? `${String(fields.code)} ${'message' in fields ? String(fields.message) : ''}` : ''}`.trim());
  const forest = startForest({
    clock, engine: 'table', model: { seed: 1, trees: 20, bootstrapAfter: 100 }, threads: 1, lateAfterMs: 1_000, maxRows: 64, dir: '', snapshotEveryMs: 0, updatePauseMs: 0, recording: undefined, profileOf: (index) => source.functions[index], functionName: (index) => source.functions[index]?.name ?? `f${index}`, nodeName: (node) => `node-${node}`,
    log: { info: note, warn: note }, ...more,
  });
  cleanUp.push(() => forest.stop());
  const functions = source.functions.map((profile) => ({ settings: { name: profile.name, profile }, idle: () => 0, busy: () => 0, missingPackages: () => 0, missingPackageBytes: () => 0, packageBytes: 0, running: 0 }));
  forest.predictor.attach({ host: { get nowMs() { return clock.nowMs(); } }, nodes: { table: new Float64Array(NODES), used: new Int32Array(NODES), slots: new Int32Array(NODES).fill(4) }, metrics: [], rowLength: 1, receivedAt: 0, functions });
  const waiting = new Map<number, () => void>();
  forest.predictor.listen((ticket) => {
    waiting.get(ticket)?.();
    waiting.delete(ticket);
  });
  let tickets = 0;
  const row = new Float64Array(OBSERVATION_WIDTH);
  source.functions.forEach((_, index) => forest.predictor.functionPut(index));
  return {
    forest, events,
    async feed(count) {
      await forest.opened;
      const before = forest.training.counters.learned;
      for (let i = 0; i < count; i++) {
        const { situation, phases } = source.next();
        encodeObservation({ ...situation, functionIndex: forest.keys.functionKey(situation.functionIndex), nodeIndex: forest.keys.nodeKey(situation.nodeIndex) }, phases, row);
        forest.training.observe(row, 0);
      }
      await until(() => forest.training.counters.learned >= before + count, 'everything is learned');
    },
    async ask(given) {
      const subject: Subject = { functionIndex: 0, inputBytes: 1e6, inputs: [1], payloadBytes: 0, ...ALONE, ...given };
      const rows = createPredictionRows(4);
      rows.count = 4;
      rows.node.set([0, 1, 2, 3]);
      rows.startState.fill(WARM);
      const ticket = tickets++;
      if (forest.predictor.predict(subject, rows, ticket)) return rows;
      await new Promise<void>((resolve) => waiting.set(ticket, resolve));
      forest.predictor.predict(subject, rows, NO_TICKET);
      return rows;
    },
  };
}

const sourcesOf = (rows: PredictionRows): number[] => [...new Set(rows.source.subarray(0, rows.count))];

/** Asks until the forest itself answers: its threads may just be going over to another memory. */
async function askForest(world: World, subject: Partial<Subject>): Promise<PredictionRows> {
  for (;;) {
    const rows = await world.ask(subject);
    if (sourcesOf(rows)[0] === BY_FOREST) return rows;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('the forest', () => {
  it('is cold, makes its first forest from what it sees, serves, and goes on learning', async () => {
    const { forest, events, feed, ask } = start();
    await forest.opened;
    await until(() => forest.predictor.isPoolGood, 'the pool is ready');
    expect(forest.state).toBe('cold');
    expect(sourcesOf(await ask({}))).toEqual([BY_MOVING_AVERAGE]);
    await feed(150);
    await until(() => forest.state === 'serving', 'it serves');
    expect(events).toEqual(['model.opened', 'model.changed bootstrapping', 'model.changed serving']);
    const rows = await askForest({ forest, events, feed, ask }, {});
    for (let row = 0; row < rows.count; row++) {
      expect(rows.meanMs[row]).toBeGreaterThan(0);
      expect(rows.p95Ms[row]).toBeGreaterThanOrEqual(rows.meanMs[row]!);
      expect(rows.p99Ms[row]).toBeGreaterThanOrEqual(rows.p95Ms[row]!);
    }
    for (let i = 0; i < 5; i++) await feed(60);
    await until(() => forest.training.counters.updates > 3, 'trees are replaced');
    const status = await forest.status();
    expect(status).toMatchObject({ state: expect.stringMatching(/serving|updating/), counters: { dropped: 0, threadsLost: 0, learned: 450 }, model: { observations: 450, trees: 20, trainer: 'extra-trees' } });
    expect(status.version).toBeGreaterThan(3);
    expect(status.model?.functions.map(({ name }) => name)).toContain('video-transcode');
  });

  it('is degraded while its inference thread is dead, lets averages answer, and recovers by itself', async () => {
    const { forest, events, feed, ask } = start();
    await feed(150);
    await until(() => forest.state === 'serving' && forest.predictor.isPoolGood, 'it serves');
    const asked = Array.from({ length: 20 }, (_, i) => ask({ payloadBytes: 10_000 + i }));
    await forest.inference.workers[0]!.terminate();
    await Promise.all(asked); // by whom ever, but all of them
    await until(() => events.includes('model.changed degraded'), 'it is degraded');
    expect(sourcesOf(await ask({ payloadBytes: 77_777 }))).toEqual([BY_MOVING_AVERAGE]);
    await until(() => forest.state === 'serving', 'it serves again');
    expect(sourcesOf(await ask({ payloadBytes: 88_888 }))).toEqual([BY_FOREST]);
    expect(forest.predictor.counters.threadsLost).toBe(1);
  });

  it('serves on while its training thread is dead, and learns again with the next one', async () => {
    const { forest, events, feed, ask } = start();
    await feed(150);
    await until(() => forest.state === 'serving' && forest.predictor.isPoolGood, 'it serves');
    await forest.training.workers[0]!.terminate();
    expect(sourcesOf(await ask({ payloadBytes: 1 }))).toEqual([BY_FOREST]);
    await until(() => events.filter((event) => event === 'model.opened').length === 2, 'the next thread opened a model');
    expect(events).toContain('model.training.lost');
    await feed(150);
    await until(() => forest.training.counters.updates >= 2, 'it made a forest again');
    await until(async () => sourcesOf(await ask({ payloadBytes: Math.random() * 1e6 }))[0] === BY_FOREST, 'that forest answers');
    expect(forest.training.counters.threadsLost).toBe(1);
  });

  it('learns and answers for itself while ml-random-forest grows its first forest tree by tree, and an import ends that', async () => {
    const { forest, events, feed } = start({ model: { seed: 1, trees: 100, bootstrapAfter: 100, trainer: 'ml-random-forest' } }), other = start();
    // First, so that the hundred trees have only just begun when they are looked at.
    await other.feed(150);
    await until(() => other.forest.state === 'serving', 'the other one serves');
    const { bytes } = await other.forest.exportSnapshot();
    await feed(150);
    expect(await forest.status()).toMatchObject({ state: 'bootstrapping', version: 0, model: { trees: 0, observations: 150 } });
    await feed(20);
    expect(forest.training.counters).toMatchObject({ learned: 170, updates: 0 });
    expect(forest.training.counters.updateComputedMs).toBeGreaterThan(0);
    await forest.importSnapshot(bytes);
    await until(() => forest.state === 'serving', 'the imported model serves');
    expect(events).toContain('model.training.failed CANCELLED The update of the model that was under way is void: an imported model took its place.');
    await feed(30);
    await until(() => forest.training.counters.updates === 1, 'the imported model is updated');
    expect(forest.training.counters).toMatchObject({ treesFailed: 0, threadsLost: 0 });
  });

  it('serves the version that it has when its training thread dies in the middle of an update', async () => {
    const { forest, events, feed, ask } = start({ model: { seed: 1, trees: 20, replace: 20, bootstrapAfter: 100, trainer: 'ml-random-forest' } });
    await feed(120);
    await until(() => forest.state === 'serving' && forest.predictor.isPoolGood, 'it serves');
    const { version } = await forest.status();
    const [before] = (await askForest({ forest, events, feed, ask }, { functionIndex: 3 })).meanMs;
    await feed(30);
    await until(() => forest.state === 'updating', 'it is being updated');
    await forest.training.workers[0]!.terminate();
    await until(() => events.filter((event) => event === 'model.opened').length === 2, 'the next thread opened a model');
    expect(forest.state).toBe('serving');
    expect((await forest.status()).version).toBe(version);
    const [after] = (await askForest({ forest, events, feed, ask }, { functionIndex: 3, payloadBytes: 9 })).meanMs;
    expect(after! / before!).toBeGreaterThan(0.5);
    expect(after! / before!).toBeLessThan(2);
    expect(forest.training.counters).toMatchObject({ updates: 1, threadsLost: 1 });
  });

  it('answers everybody when it is flooded, counts who found no room, and is itself again afterwards', async () => {
    const { forest, feed, ask } = start({ maxRows: 4, lateAfterMs: 2 });
    await feed(150);
    await until(() => forest.state === 'serving' && forest.predictor.isPoolGood, 'it serves');
    const answers = await Promise.all(Array.from({ length: 5_000 }, (_, i) => ask({ payloadBytes: i })));
    expect(answers).toHaveLength(5_000);
    for (const rows of answers) expect(rows.meanMs[3]).toBeGreaterThan(0);
    const { flooded, late, degraded } = forest.predictor.counters;
    expect(flooded + late + degraded).toBeGreaterThan(100);
    await until(() => forest.state === 'serving' && forest.predictor.isPoolGood, 'it serves again');
    await until(async () => sourcesOf(await ask({ payloadBytes: 99_999 }))[0] === BY_FOREST, 'the forest answers again');
  });

  it('does not update more often than it may, however much it sees', async () => {
    const { forest, feed } = start({ updatePauseMs: 3_600_000 });
    await feed(150);
    await until(() => forest.training.counters.updates === 1, 'the first forest is there');
    for (let i = 0; i < 5; i++) await feed(40);
    expect(forest.training.counters).toMatchObject({ learned: 350, updates: 1 });
  });

  it('drops and counts observations that its thread cannot take in', async () => {
    const { forest } = start();
    await forest.opened;
    const row = new Float64Array(OBSERVATION_WIDTH);
    const { situation, phases } = createSyntheticExecutions(1).next();
    encodeObservation(situation, phases, row);
    for (let i = 0; i < MAX_WAITING_OBSERVATIONS + 50; i++) forest.training.observe(row, 0);
    expect(forest.training.waiting).toBe(MAX_WAITING_OBSERVATIONS);
    expect(forest.training.counters.dropped).toBe(50);
    await until(() => forest.training.waiting === 0, 'they are learned');
  });

  it('grows into larger memory when functions and nodes become many', async () => {
    const { forest, events, feed, ask } = start({ profileOf: (index) => ({ index, name: `f${index}`, application: '', runtime: 'node', dependencies: 0, packageBytes: 0, memoryMb: 128 }) });
    await feed(150);
    await until(() => forest.state === 'serving' && forest.predictor.isPoolGood, 'it serves');
    const before = events.length;
    for (let index = 10; index < 400; index++) forest.predictor.functionPut(index);
    await feed(20);
    await until(async () => sourcesOf(await ask({ functionIndex: 399, payloadBytes: Math.random() }))[0] === BY_FOREST, 'the new memory is read');
    expect(forest.predictor.counters).toMatchObject({ threadsLost: 0, lost: 0 });
    expect(events.slice(before)).not.toContain('model.changed degraded'); // a change that was meant is no loss
  });

  it('begins with the model of its former life, and says so', async () => {
    const dir = await folder();
    const first = start({ dir });
    await first.feed(200);
    await until(() => first.forest.state === 'serving' && first.forest.predictor.isPoolGood, 'it serves');
    const before = await askForest(first, { functionIndex: 3, payloadBytes: 5 });
    await first.forest.stop();
    expect(await readdir(dir)).toEqual([SNAPSHOT_FILE]);
    const second = start({ dir });
    await second.forest.opened;
    await until(() => second.forest.state === 'serving' && second.forest.predictor.isPoolGood, 'it serves');
    const after = await askForest(second, { functionIndex: 3, payloadBytes: 5 });
    expect([...after.meanMs]).toEqual([...before.meanMs]);
    expect([...after.p99Ms]).toEqual([...before.p99Ms]);
    expect((await second.forest.status()).model).toMatchObject({ observations: 200 });
    expect(second.forest.training.counters.learned).toBe(0);
  });

  it('is not degraded by inference threads that are still loading when its model is there already', async () => {
    const dir = await folder();
    const first = start({ dir });
    await first.feed(150);
    await until(() => first.forest.state === 'serving', 'it serves');
    await first.forest.stop();
    const second = start({ dir });
    await second.forest.opened;
    // The model is read before any thread can have answered.
    expect([second.forest.state, second.forest.predictor.isPoolGood]).toEqual(['cold', false]);
    expect(sourcesOf(await second.ask({}))).toEqual([BY_MOVING_AVERAGE]);
    expect((await second.forest.status()).version).toBeGreaterThan(0);
    await until(() => second.forest.state === 'serving', 'it serves');
    expect(second.forest.predictor.isPoolGood).toBe(true);
    expect(second.events).toEqual(['model.opened', 'model.changed serving']);
  });

  it('says so when the thread dies that it waits for, and recovers with the next one', async () => {
    const dir = await folder();
    const first = start({ dir });
    await first.feed(150);
    await until(() => first.forest.state === 'serving', 'it serves');
    await first.forest.stop();
    const second = start({ dir });
    await second.forest.opened;
    await second.forest.inference.workers[0]!.terminate();
    await until(() => second.events.includes('model.changed degraded'), 'it is degraded');
    await until(() => second.forest.state === 'serving', 'it serves');
    expect(second.events).toEqual(['model.opened', 'model.inference.lost', 'model.changed serving', 'model.changed degraded', 'model.changed serving']);
  });

  it('refuses a snapshot that was changed, moves it aside, and starts cold', async () => {
    const dir = await folder();
    const first = start({ dir });
    await first.feed(150);
    await until(() => first.forest.state === 'serving', 'it serves');
    await first.forest.stop();
    const path = join(dir, SNAPSHOT_FILE);
    const bytes = await readFile(path);
    bytes[bytes.length - 100]! ^= 1;
    await writeFile(path, bytes);
    const second = start({ dir });
    await second.forest.opened;
    expect(second.forest.state).toBe('cold');
    expect(second.events[0]).toBe(`model.snapshot.refused STATE_CORRUPT ${path} is no usable snapshot of a model: its checksum does not fit its content. The model starts cold; the file was moved to ${path}.refused.`);
    expect(await readdir(dir)).toEqual([`${SNAPSHOT_FILE}.refused`]);
    await second.feed(150);
    await until(() => second.forest.state === 'serving', 'it serves');
    await second.forest.stop();
    expect((await readdir(dir)).sort()).toEqual([SNAPSHOT_FILE, `${SNAPSHOT_FILE}.refused`]);
  });

  it('exports a model that another one imports, and refuses what is none without a change', async () => {
    const first = start(), second = start();
    await first.feed(150);
    await until(() => first.forest.state === 'serving' && first.forest.predictor.isPoolGood, 'it serves');
    const { bytes, version } = await first.forest.exportSnapshot();
    expect(version).toBeGreaterThan(0);
    await second.forest.opened;
    await expect(second.forest.importSnapshot(bytes.slice(0, 1_000))).rejects.toMatchObject({ code: 'STATE_CORRUPT', message: expect.stringMatching(/^The imported file is no usable snapshot of a model: it should go on for \d+ bytes/) });
    await expect(second.forest.importSnapshot(Buffer.from('hello'))).rejects.toMatchObject({ code: 'STATE_CORRUPT' });
    expect(second.forest.state).toBe('cold');
    expect(await second.forest.importSnapshot(bytes)).toMatchObject({ version, observations: 150 });
    await until(() => second.forest.state === 'serving' && second.forest.predictor.isPoolGood, 'it serves');
    const [a, b] = await Promise.all([askForest(first, { functionIndex: 5 }), askForest(second, { functionIndex: 5 })]);
    expect([...b.meanMs]).toEqual([...a.meanMs]);
  });

  it('opens and learns although its folder for recordings cannot be made, and says why nothing is recorded', async () => {
    const path = join(await folder(), 'file');
    await writeFile(path, '');
    const { forest, events, feed } = start({ recording: { folder: join(path, 'recordings'), maxBytes: 1e6, files: 3 } });
    await feed(150);
    await until(() => forest.state === 'serving', 'it serves');
    expect(forest.training.counters.threadsLost).toBe(0);
    expect(events[1]).toMatch(/^model\.training\.failed STORE_FULL Observations are not recorded any more \(model\.observationLog\): ENOTDIR/);
  });

  it('keeps nobody waiting when its model cannot be opened, and tries again', async () => {
    const { forest, events } = start({ model: { seed: 1, trees: 0 } });
    await forest.opened;
    await until(() => forest.training.counters.threadsLost >= 2, 'another thread tried');
    expect(events.filter((event) => event === 'model.training.lost').length).toBeGreaterThanOrEqual(2);
    await expect(forest.training.export()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('teaches nobody with what waits of a deleted function, and gives its key away only when it is forgotten', async () => {
    const source = createSyntheticExecutions(7);
    const names = source.functions.map(({ name }) => name);
    const { forest, feed } = start({ functionName: (index) => names[index] ?? `f${index}`, profileOf: (index) => ({ ...source.functions[index % source.functions.length]!, name: names[index] ?? `f${index}` }) });
    await feed(150);
    await until(async () => (await forest.status()).version > 0, 'it has a forest');
    const key = forest.keys.functionKey(3);
    const row = new Float64Array(OBSERVATION_WIDTH);
    const { situation, phases } = source.next();
    for (const functionKey of [key, forest.keys.functionKey(4), key, key]) {
      encodeObservation({ ...situation, functionIndex: functionKey, nodeIndex: forest.keys.nodeKey(1) }, phases, row);
      expect(forest.training.observe(row, 0)).toBe(true);
    }
    const { learned, dropped } = forest.training.counters;
    forest.predictor.functionDeleted(3);
    expect(forest.training.waiting).toBe(1);
    expect(forest.training.counters.dropped).toBe(dropped + 3);
    // Before the model has forgotten the former owner, the next function has another key.
    forest.predictor.functionPut(90);
    expect(forest.keys.functionKey(90)).not.toBe(key);
    await until(() => forest.training.counters.learned === learned + 1, 'the rest is learned');
    expect(forest.keys.functionKey(91)).toBe(key);
    const known = (await forest.status()).model!.functions;
    expect(known.map(({ name }) => name)).not.toContain(names[3]);
    expect(known.find(({ index }) => index === key)).toBeUndefined();
  });

  it('goes on from its snapshot when its training thread dies, although a function was deleted since', async () => {
    const dir = await folder();
    const { forest, events, feed } = start({ dir });
    await feed(150);
    await until(() => forest.state === 'serving', 'it serves');
    expect(await forest.training.save()).toBe(true);
    const name = createSyntheticExecutions(7).functions[3]!.name;
    forest.predictor.functionDeleted(3);
    await until(async () => (await forest.status()).model?.functions.every((row) => row.name !== name) === true, 'it is forgotten');
    await forest.training.workers[0]!.terminate();
    await until(() => events.filter((event) => event === 'model.opened').length === 2, 'the next thread opened a model');
    await until(async () => (await forest.status()).model?.functions.every((row) => row.name !== name) === true, 'it is forgotten again');
    const { model } = await forest.status();
    expect(model).toMatchObject({ observations: 150, version: expect.any(Number) });
    expect(model!.version).toBeGreaterThan(0);
    expect(events.join()).not.toContain('refused');
  });

  it('moves a snapshot aside that belongs to other keys than those in use, and says so', async () => {
    const dir = await folder();
    const { forest, events, feed } = start({ dir }), other = start({ nodeName: (node) => `other-${node}` });
    await Promise.all([feed(150), other.feed(150)]);
    await until(() => forest.state === 'serving' && other.forest.state === 'serving', 'both serve');
    const path = join(dir, SNAPSHOT_FILE);
    await writeFile(path, (await other.forest.exportSnapshot()).bytes);
    await forest.training.workers[0]!.terminate();
    await until(() => events.filter((event) => event === 'model.opened').length === 2, 'the next thread opened a model');
    expect(events.find((event) => event.startsWith('model.snapshot.refused'))).toBe(`model.snapshot.refused STATE_CORRUPT ${path} is the snapshot of another model: its keys of nodes are not those in use. The model starts cold; the file was moved to ${path}.refused.`);
    expect(await readdir(dir)).toEqual([`${SNAPSHOT_FILE}.refused`]);
  });

  it('keeps an imported model at once, and refuses one that has no forest', async () => {
    const dir = await folder();
    const first = start(), second = start({ dir });
    await Promise.all([first.forest.opened, second.forest.opened]);
    const { bytes: cold } = await first.forest.exportSnapshot();
    await expect(second.forest.importSnapshot(cold)).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: expect.stringContaining('has no forest yet (version 0)') });
    await first.feed(150);
    await until(() => first.forest.state === 'serving', 'it serves');
    const { bytes } = await first.forest.exportSnapshot();
    await second.forest.importSnapshot(bytes);
    await until(() => second.forest.training.counters.snapshots === 1, 'it is saved');
    expect(await readdir(dir)).toEqual([SNAPSHOT_FILE]);
    await expect(second.forest.importSnapshot(cold)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect((await second.forest.status()).model).toMatchObject({ observations: 150 });
  });

  it('records observations in files that are rotated, kept to a number, and readable', async () => {
    const dir = await folder();
    const { forest, feed } = start({ recording: { folder: dir, maxBytes: 20_000, files: 3 } });
    for (let i = 0; i < 5; i++) await feed(80);
    const row = new Float64Array(OBSERVATION_WIDTH);
    const { situation: last, phases: took } = createSyntheticExecutions(1).next();
    encodeObservation({ ...last, functionIndex: forest.keys.functionKey(0), nodeIndex: forest.keys.nodeKey(0) }, took, row, 0, { meanMs: 20, p95Ms: 25, p99Ms: 30.5 });
    forest.training.observe(row, 0);
    for (const why of ['failed', 'failed', 'timedOut', 'memoryExceeded', 'lost'] as const) forest.training.exclude(forest.keys.functionKey(0), why);
    await until(async () => (await forest.status()).model?.excluded.failed === 3, 'what failed is counted');
    await forest.stop();
    const names = (await readdir(dir)).sort();
    expect(names).toHaveLength(3);
    expect(names.at(-1)).toBe('observations.jsonl');
    let recorded = 0;
    const excluded: Record<string, number> = {};
    const predicted: unknown[] = [];
    for (const name of names) {
      const content = await readFile(join(dir, name));
      const [header, ...lines] = (name.endsWith('.gz') ? gunzipSync(content) : content).toString().trimEnd().split('\n');
      expect(parseLogHeader(header!, name).source).toBe('recorded');
      for (const line of lines) {
        const { function: called, node, situation, phases, served, excluded: why, count = 1 } = parseObservation(line, name);
        if (why !== undefined) {
          excluded[why] = (excluded[why] ?? 0) + count;
          continue;
        }
        if (served !== undefined) predicted.push(served);
        expect(called).toMatch(/^(video|log|any2md|ml)-/);
        expect(node).toMatch(/^node-\d$/);
        expect(situation.startState ?? COLD).toBeGreaterThan(0); // cold is what stands for not known
        expect(phases?.ranMs).toBeGreaterThan(0);
        recorded++;
      }
    }
    expect(recorded).toBeGreaterThan(20);
    expect(excluded).toEqual({ failed: 3, timedOut: 1 });
    expect(predicted).toEqual([{ meanMs: 20, p95Ms: 25, p99Ms: 30.5 }]);
    // It goes on in the same file after a restart.
    await appendFile(join(dir, 'observations.jsonl'), '');
    const again = start({ recording: { folder: dir, maxBytes: 1e6, files: 3 } });
    await again.feed(10);
    expect((await readFile(join(dir, 'observations.jsonl'), 'utf8')).match(/"metronome"/g)).toHaveLength(1);
  });
});
