/** The training thread's desk, without a thread: updates that grow tree by tree, and what comes between two trees. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MetronomeError } from '../../../src/core/errors.ts';
import { COLUMN } from '../../../src/predictor/features.ts';
import { FETCHED_MS, OBSERVATION_WIDTH, RAN_MS, SERVED_MS, SERVED_P95_MS } from '../../../src/predictor/model/observation.ts';
import { parseObservation } from '../../../src/predictor/observation-log.ts';
import type { FlatTree } from '../../../src/predictor/model/flat-forest.ts';
import { createOnlineModel, type OnlineModelOptions } from '../../../src/predictor/model/online-model.ts';
import { trainTree } from '../../../src/predictor/model/train-tree.ts';
import type { Trainer } from '../../../src/predictor/model/trainer.ts';
import { decodeSnapshot } from '../../../src/predictor/pool/snapshot-file.ts';
import { TrainingDesk } from '../../../src/predictor/pool/training-desk.ts';
import type { TrainAnswers } from '../../../src/predictor/pool/training-protocol.ts';
import { createSyntheticExecutions } from '../../../src/workload/synthetic-executions.ts';
import { introduce, observationsOf, take } from '../training-data.ts';

const OPTIONS: OnlineModelOptions = { seed: 7, trainer: 'ml-random-forest', trees: 6, replace: 2, window: 400, bootstrapAfter: 100 };
const NAMES = { functions: [], nodes: [] };

interface World {
  learn(count: number): Promise<TrainAnswers['learn']>;
  update(): Promise<TrainAnswers['update']>;
  tree(): Promise<TrainAnswers['tree']>;
  status(): Promise<TrainAnswers['status']>;
  export(): Promise<TrainAnswers['export']>;
  import(bytes: Uint8Array): Promise<TrainAnswers['import']>;
  /** The trees that a snapshot holds now. */
  trees(): Promise<readonly FlatTree[]>;
}

async function open(options: OnlineModelOptions, grow?: Trainer): Promise<World> {
  const desk = new TrainingDesk(() => 0, grow);
  await desk.handle<'open'>({ kind: 'open', options, snapshotPath: '', recording: undefined, names: undefined });
  const source = createSyntheticExecutions(3);
  const world: World = {
    learn: (count) => desk.handle<'learn'>({ kind: 'learn', batch: observationsOf(take(source, count)), count, functions: source.functions, nodes: [], excluded: [] }),
    update: () => desk.handle<'update'>({ kind: 'update' }),
    tree: () => desk.handle<'tree'>({ kind: 'tree' }),
    status: () => desk.handle<'status'>({ kind: 'status' }),
    export: () => desk.handle<'export'>({ kind: 'export', names: NAMES }),
    import: (bytes) => desk.handle<'import'>({ kind: 'import', bytes }),
    trees: async () => decodeSnapshot((await world.export()).bytes, 'the export').model.trees as readonly FlatTree[], // toSnapshot makes them
  };
  return world;
}

/** What a tree tests, without what its leaves say. */
const shapesOf = (trees: readonly FlatTree[]): unknown => trees.map(({ column, threshold, link }) => [[...column], [...threshold], [...link]]);

describe('an update with ml-random-forest', () => {
  it('grows one tree per task, the same ones as in one piece', async () => {
    const desk = await open(OPTIONS);
    expect(await desk.learn(120)).toMatchObject({ version: 0, taken: 120, due: 'bootstrap' });
    expect(await desk.update()).toMatchObject({ version: 0, treesLeft: 6 });
    for (let left = 5; left > 0; left--) expect(await desk.tree()).toMatchObject({ version: 0, treesLeft: left });
    expect(await desk.tree()).toMatchObject({ version: 1, treesLeft: 0, due: undefined });
    const whole = createOnlineModel(OPTIONS);
    whole.observe(observationsOf(take(introduce(whole, 3), 120)), 120);
    whole.update();
    expect(await desk.trees()).toEqual(whole.toSnapshot().trees);
  });

  it('lets its thread learn, export and tell of itself between two trees, grows the same trees nevertheless, and says at its end what is due next', async () => {
    const calm = await open(OPTIONS), busy = await open(OPTIONS);
    for (const desk of [calm, busy]) {
      await desk.learn(120);
      await desk.update();
    }
    for (let i = 0; i < 6; i++) await calm.tree();
    await busy.tree();
    expect(await busy.learn(50)).toMatchObject({ version: 0, taken: 50, due: undefined });
    await busy.tree();
    expect(await busy.status()).toMatchObject({ version: 0, trees: 0, observations: 170 });
    expect((await busy.export()).version).toBe(0);
    for (let i = 0; i < 3; i++) await busy.tree();
    expect(await busy.tree()).toMatchObject({ version: 1, treesLeft: 0, due: 'observations' });
    expect(shapesOf(await busy.trees())).toEqual(shapesOf(await calm.trees()));
  });

  it('does without a tree that fails, and says so', async () => {
    const desk = await open(OPTIONS, (job) => {
      if (job.place === 0) throw new MetronomeError('INTERNAL', 'This one does not grow.');
      return trainTree(job);
    });
    await desk.learn(120);
    await desk.update();
    for (let i = 0; i < 5; i++) await desk.tree();
    expect(await desk.tree()).toMatchObject({ version: 1, treesLeft: 0, failed: { trees: 1, error: { code: 'INTERNAL', message: 'This one does not grow.' } } });
    expect(await desk.status()).toMatchObject({ trees: 5, version: 1 });
  });

  it('leaves the version that serves when none of its trees grows, and is due again', async () => {
    let isBroken = false;
    const desk = await open(OPTIONS, (job) => {
      if (isBroken) throw new MetronomeError('INTERNAL', 'Nothing grows.');
      return trainTree(job);
    });
    await desk.learn(120);
    await desk.update();
    for (let i = 0; i < 6; i++) await desk.tree();
    isBroken = true;
    expect((await desk.learn(30)).due).toBe('observations');
    const before = shapesOf(await desk.trees());
    expect(await desk.update()).toMatchObject({ version: 1, treesLeft: 2 });
    expect(await desk.tree()).toMatchObject({ version: 1, treesLeft: 1 });
    await expect(desk.tree()).rejects.toThrow('Nothing grows.');
    expect(await desk.status()).toMatchObject({ version: 1, trees: 6 });
    expect(shapesOf(await desk.trees())).toEqual(before);
    isBroken = false;
    expect(await desk.learn(30)).toMatchObject({ version: 1, due: 'observations' });
    await desk.update();
    await desk.tree();
    expect(await desk.tree()).toMatchObject({ version: 2, treesLeft: 0 });
  });

  it('ends without a version when a model is imported, and goes on when what was to be imported is none', async () => {
    const other = await open({ ...OPTIONS, trainer: 'extra-trees' });
    await other.learn(130);
    expect(await other.update()).toMatchObject({ version: 1, treesLeft: 0 });
    const { bytes } = await other.export();
    const desk = await open(OPTIONS);
    await desk.learn(120);
    await desk.update();
    await desk.tree();
    await expect(desk.import(bytes.slice(0, 500))).rejects.toMatchObject({ code: 'STATE_CORRUPT' });
    expect(await desk.tree()).toMatchObject({ treesLeft: 4 });
    expect(await desk.import(bytes)).toMatchObject({ version: 1, observations: 130 });
    await expect(desk.tree()).rejects.toThrow('No update of the model is under way');
    expect(await desk.trees()).toEqual(await other.trees());
  });
});

describe('a recording of observations', () => {
  it('holds what the model took in, and counts what it refused', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'metronome-recorder-'));
    try {
      const desk = new TrainingDesk(() => 0);
      await desk.handle<'open'>({ kind: 'open', options: OPTIONS, snapshotPath: '', recording: { folder, maxBytes: 1e6, files: 2 }, names: undefined });
      const source = createSyntheticExecutions(3);
      const executions = take(source, 8).map(({ situation, ...rest }) => ({ ...rest, situation: { ...situation, functionIndex: 3, nodeIndex: 0 } }));
      const batch = observationsOf(executions);
      const spoil = (i: number, column: number, value: number): void => void (batch[i * OBSERVATION_WIDTH + column] = value);
      spoil(0, RAN_MS, Number.NaN);
      spoil(1, FETCHED_MS, Infinity);
      spoil(2, RAN_MS, -1);
      spoil(3, COLUMN.cpuUtilisation, Number.NaN);
      spoil(4, COLUMN.functionIndex, Number.NaN); // nobody's
      // It is taken in: only what had been predicted cannot be told.
      spoil(5, SERVED_MS, 10);
      spoil(5, SERVED_P95_MS, Infinity);
      const { taken } = await desk.handle<'learn'>({ kind: 'learn', batch, count: 8, functions: source.functions, nodes: [[0, 'node-1']], excluded: [] });
      expect(taken).toBe(3);
      const [, ...lines] = (await readFile(join(folder, 'observations.jsonl'), 'utf8')).trimEnd().split('\n');
      const read = lines.map((line, i) => parseObservation(line, `line ${i + 2}`));
      const { name, application } = source.functions[3]!;
      expect(read.filter(({ phases }) => phases !== undefined).map(({ phases }) => phases)).toEqual(executions.slice(5).map(({ phases }) => phases));
      expect(read.filter(({ phases }) => phases === undefined)).toEqual([{ function: name, node: '', application, situation: {}, excluded: 'invalid', count: 4 }]);
      expect(read.some(({ served }) => served !== undefined)).toBe(false);
      expect((await desk.handle<'status'>({ kind: 'status' })).excluded.invalid).toBe(5);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
