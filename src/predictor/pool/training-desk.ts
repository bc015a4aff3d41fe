/** What the training thread does with its tasks: it owns the model, learns, publishes, and reads and writes snapshots. One per thread. */
import { MetronomeError } from '../../core/errors.ts';
import { createOnlineModel, restoreOnlineModel, type FunctionProfile, type OnlineModel, type OnlineModelOptions } from '../model/online-model.ts';
import { trainTree } from '../model/train-tree.ts';
import type { Trainer } from '../model/trainer.ts';
import { fitsKeys, type KeyNames } from '../model-keys.ts';
import { ModelWriter, createPublishedModel, grownCapacity } from '../model/published-model.ts';
import { ObservationRecorder } from './observation-recorder.ts';
import { decodeSnapshot, encodeSnapshot, moveAside, readSnapshotFile, writeSnapshotFile, type NamedSnapshot } from './snapshot-file.ts';
import type { FunctionChange, Published, RecordingOptions, TrainAnswers, TrainKind, TrainTask, UpdateStep } from './training-protocol.ts';
import { TreeByTree } from './tree-by-tree.ts';

/** Functions and nodes that fit into the first memory; it grows by doubling. */
const FIRST_CAPACITY = { functions: 256, nodes: 256 };

export class TrainingDesk {
  #model: OnlineModel | undefined;
  #writer: ModelWriter | undefined;
  #options: OnlineModelOptions | undefined;
  #recorder: ObservationRecorder | undefined;
  /** Of the model; 0: it has no forest yet. */
  #version = 0;
  #observations = 0;
  readonly #functions = new Map<number, FunctionProfile>();
  readonly #nodes = new Map<number, string>();
  readonly #spentMs: () => number;
  readonly #grow: Trainer;
  /** The update that is under way. */
  #update: TreeByTree | undefined;

  /** `spentMs`: what this thread has computed so far, ms. `grow`: what grows trees. */
  constructor(spentMs: () => number, grow: Trainer = trainTree) {
    this.#spentMs = spentMs;
    this.#grow = grow;
  }

  /** Does one task. */
  async handle<K extends TrainKind>(task: Extract<TrainTask, { kind: K }>): Promise<TrainAnswers[K]> {
    // The kind decides on both types; TypeScript does not follow.
    return (await this.#do(task)) as TrainAnswers[K];
  }

  async #do(task: TrainTask): Promise<TrainAnswers[TrainKind]> {
    if (task.kind === 'open') return this.#open(task);
    const model = this.#model;
    if (model === undefined) throw new MetronomeError('INTERNAL', 'The training thread has no model: the first task must open one.');
    switch (task.kind) {
      case 'learn': {
        const begin = this.#spentMs();
        this.#functionsChanged(model, task.functions);
        for (const [index, name] of task.nodes) this.#nodes.set(index, name);
        const judged = new Uint8Array(task.count);
        const taken = model.observe(task.batch, task.count, judged);
        for (const { functionIndex, why, count } of task.excluded) for (let i = 0; i < count; i++) model.exclude(functionIndex, why);
        const notRecorded = this.#record(task, judged);
        this.#observations += taken;
        const due = this.#update === undefined ? model.updateDue : undefined;
        return { ...this.#publish(model), taken, due, observations: this.#observations, computedMs: this.#spentMs() - begin, ...(notRecorded === undefined ? {} : { notRecorded }) };
      }
      case 'update':
      case 'tree':
        return this.#step(model, task.kind);
      case 'status':
        return model.status();
      case 'save': {
        const bytes = encodeSnapshot({ names: task.names, model: model.toSnapshot() });
        await writeSnapshotFile(task.path, bytes);
        return { bytes: bytes.length, version: this.#version };
      }
      case 'export':
        return { bytes: encodeSnapshot({ names: task.names, model: model.toSnapshot() }), version: this.#version };
      case 'import': {
        const snapshot = decodeSnapshot(task.bytes, 'The imported file');
        const imported = this.#restored(snapshot);
        // Whoever serves must go on serving.
        if (imported.status().version === 0) throw new MetronomeError('INVALID_REQUEST', 'The imported file holds a model that has no forest yet (version 0); there is nothing to predict with. Export one from a scheduler whose model has a version.', { component: 'scheduler' });
        this.#use(imported);
        // Into memory of its own: readers go over to it together with its keys.
        this.#writer = undefined;
        return { ...this.#publish(imported), observations: this.#observations, names: snapshot.names };
      }
    }
  }

  /** Does what the task is to do for an update; publishes at its end. */
  #step(model: OnlineModel, kind: 'update' | 'tree'): UpdateStep {
    const begin = this.#spentMs();
    if (kind === 'update') this.#update = new TreeByTree(model, this.#grow);
    const update = this.#update;
    if (update === undefined) throw new MetronomeError('INTERNAL', 'No update of the model is under way: there is no tree to grow.');
    if (kind === 'tree') update.growNext();
    if (model.options.trainer === 'extra-trees') while (update.treesLeft > 0) update.growNext();
    const { treesLeft, failed } = update;
    if (treesLeft > 0) return { version: this.#version, treesLeft, due: undefined, computedMs: this.#spentMs() - begin };
    this.#update = undefined;
    ({ version: this.#version } = update.end());
    const computedMs = this.#spentMs() - begin;
    return { ...this.#publish(model), treesLeft, due: model.updateDue, computedMs, ...(failed === undefined ? {} : { failed: { trees: failed.trees, error: failed.error.toRecord() } }) };
  }

  async #open(task: Extract<TrainTask, { kind: 'open' }>): Promise<TrainAnswers['open']> {
    this.#options = task.options;
    const notRecorded = this.#openRecorder(task.recording);
    let refused: MetronomeError | undefined;
    let names: KeyNames | undefined;
    try {
      const bytes = task.snapshotPath === '' ? undefined : await readSnapshotFile(task.snapshotPath);
      const snapshot = bytes === undefined ? undefined : decodeSnapshot(bytes, task.snapshotPath);
      if (snapshot !== undefined) {
        if (task.names !== undefined && !fitsKeys(snapshot.names, task.names)) throw new MetronomeError('STATE_CORRUPT', `${task.snapshotPath} is the snapshot of another model: its keys of nodes are not those in use.`, { component: 'scheduler' });
        this.#use(this.#restored(snapshot));
        ({ names } = snapshot);
      }
    } catch (error) {
      const aside = await moveAside(task.snapshotPath).catch(() => undefined); // then it is written over by the next one
      const cause = MetronomeError.from(error);
      refused = new MetronomeError(cause.code, `${cause.message} The model starts cold${aside === undefined ? '' : `; the file was moved to ${aside}`}.`, { cause: error });
    }
    const model = (this.#model ??= createOnlineModel(task.options));
    // A thread that follows another one leaves readers the old memory until it has something to show.
    const published = task.names !== undefined && this.#version === 0 ? { version: 0 } : this.#publish(model);
    return { ...published, restored: names !== undefined, names, observations: this.#observations, ...(refused === undefined ? {} : { refused: refused.toRecord() }), ...(notRecorded === undefined ? {} : { notRecorded }) };
  }

  /** A folder that cannot be made must not keep the model from opening: nothing is recorded, and the reason is told. */
  #openRecorder(recording: RecordingOptions | undefined): string | undefined {
    if (recording === undefined) return undefined;
    try {
      this.#recorder = new ObservationRecorder(recording, { functionName: (index) => this.#functions.get(index), nodeName: (index) => this.#nodes.get(index) });
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  #restored(snapshot: NamedSnapshot): OnlineModel {
    if (this.#options === undefined) throw new MetronomeError('INTERNAL', 'The training thread was not opened.');
    // The size of the forest and of its window are those of the snapshot.
    const { trainer, updateEvery, replace, forgetting, bootstrapAfter } = this.#options;
    const changed = Object.fromEntries(Object.entries({ trainer, updateEvery, replace, forgetting, bootstrapAfter }).filter(([, value]) => value !== undefined));
    return restoreOnlineModel(snapshot.model, changed);
  }

  #use(model: OnlineModel): void {
    this.#model = model;
    this.#update = undefined;
    ({ version: this.#version, observations: this.#observations } = model.status());
  }

  #functionsChanged(model: OnlineModel, changes: readonly FunctionChange[]): void {
    for (const change of changes) {
      if ('gone' in change) {
        this.#functions.delete(change.gone);
        model.forgetFunction(change.gone);
      } else {
        this.#functions.set(change.index, change);
        model.setFunction(change);
      }
    }
  }

  /** A full disk must not keep the model from learning: recording ends, and the reason is told. `judged`: 1 for each observation that the model took in. */
  #record({ batch, count, excluded }: Extract<TrainTask, { kind: 'learn' }>, judged: Uint8Array): string | undefined {
    try {
      this.#recorder?.record(batch, count, judged);
      this.#recorder?.recordExcluded(excluded);
      return undefined;
    } catch (error) {
      this.#recorder = undefined;
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** Publishes what the model would predict with. A reader that is still in the other copy puts it off to the next task. */
  #publish(model: OnlineModel): Published {
    const first = this.#writer === undefined;
    const { functions, nodes, ...trees } = model.capacity;
    const fitting = (least: { readonly functions: number; readonly nodes: number }): ModelWriter => new ModelWriter(createPublishedModel({ ...trees, ...grownCapacity({ ...trees, ...least }, functions, nodes) }));
    let writer = (this.#writer ??= fitting(FIRST_CAPACITY));
    let memory = first ? writer.buffer : undefined;
    if (this.#version === 0) return { version: 0, ...(memory === undefined ? {} : { memory }) };
    if (model.publishTo(writer) === 'tooSmall') {
      writer = this.#writer = fitting(writer.capacity);
      memory = writer.buffer;
      if (model.publishTo(writer) !== 'published') throw new MetronomeError('INTERNAL', 'The model does not fit into memory that was made for it.');
    }
    return { version: writer.version, ...(memory === undefined ? {} : { memory }) };
  }
}
