/**
 * A model in shared memory, for readers in other threads. Two copies: readers use the active one while the writer fills the other, and
 * one atomic store makes that the active one. A reader notes in its own cell which copy it reads, and looks again whether that is still
 * the active one; the writer never touches a copy that stands in a cell. So no reader sees a torn model, no reader waits, and a
 * writer that finds its copy still in use gives up this publication after a bounded number of looks and says so.
 */
import { MetronomeError } from '../../core/errors.ts';
import { copyForest, type FlatForest } from './flat-forest.ts';
import { FUNCTION_STRIDE, GLOBAL_STRIDE, NODE_STRIDE, type ModelCapacity, type ModelView, type PredictionOut } from './model-view.ts';
import { createPredictionScratch, predictRows } from './predict-rows.ts';

/** Readers of one model at a time. */
export const MAX_READERS = 32;

const MAGIC = 0x4d4e_4d31;
/** Changes with the layout: a reader of another build refuses. */
const LAYOUT = 2;
// Header, as 32-bit cells.
const AT_MAGIC = 0, AT_LAYOUT = 1, AT_FUNCTIONS = 2, AT_NODES = 3, AT_TREES = 4, AT_TREE_SIZE = 5, AT_ACTIVE = 6, AT_VERSION = 7, AT_SKIPPED = 8, AT_READERS = 16, HEADER_CELLS = AT_READERS + MAX_READERS;
// Each copy begins with these cells.
const COPY_VERSION = 0, COPY_FUNCTIONS = 1, COPY_NODES = 2, COPY_TREES = 3, COPY_CELLS = 4;
/** How often the writer looks whether the last reader has left before it gives up. A look costs some nanoseconds, a prediction of ten rows tens of microseconds. */
const LOOKS = 20_000;

const align = (bytes: number): number => (bytes + 63) & ~63;

interface Copy {
  readonly cells: Int32Array;
  readonly view: ModelView;
}

function copyBytes({ functions, nodes, trees, treeSize }: ModelCapacity): number {
  const treeNodes = trees * treeSize;
  return align(COPY_CELLS * 4) + align(functions * FUNCTION_STRIDE * 8) + align(nodes * NODE_STRIDE * 8) + align(GLOBAL_STRIDE * 8) + 2 * align(treeNodes * 8) + align(treeNodes * 4) + align(treeNodes) + 2 * align(trees * 4);
}

function openCopy(buffer: SharedArrayBuffer, begin: number, capacity: ModelCapacity): Copy {
  const { functions, nodes, trees, treeSize } = capacity;
  const treeNodes = trees * treeSize;
  let at = begin;
  const take = (bytes: number): number => {
    const here = at;
    at += align(bytes);
    return here;
  };
  const cells = new Int32Array(buffer, take(COPY_CELLS * 4), COPY_CELLS);
  const functionRecords = new Float64Array(buffer, take(functions * FUNCTION_STRIDE * 8), functions * FUNCTION_STRIDE);
  const nodeRecords = new Float64Array(buffer, take(nodes * NODE_STRIDE * 8), nodes * NODE_STRIDE);
  const globals = new Float64Array(buffer, take(GLOBAL_STRIDE * 8), GLOBAL_STRIDE);
  const threshold = new Float64Array(buffer, take(treeNodes * 8), treeNodes);
  const value = new Float64Array(buffer, take(treeNodes * 8), treeNodes);
  const link = new Int32Array(buffer, take(treeNodes * 4), treeNodes);
  const column = new Uint8Array(buffer, take(treeNodes), treeNodes);
  const sizes = new Int32Array(buffer, take(trees * 4), trees);
  const depths = new Int32Array(buffer, take(trees * 4), trees);
  const forest: FlatForest = { treeCount: 0, treeSize, column, threshold, link, value, sizes, depths };
  return { cells, view: { functionCount: 0, functions: functionRecords, nodeCount: 0, nodes: nodeRecords, globals, forest } };
}

/** Bytes of shared memory that a model of this capacity takes. */
export function publishedModelBytes(capacity: ModelCapacity): number {
  return align(HEADER_CELLS * 4) + 2 * copyBytes(capacity);
}

/** Shared memory for a model, empty: readers find version 0. */
export function createPublishedModel(capacity: ModelCapacity): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(publishedModelBytes(capacity));
  const header = new Int32Array(buffer, 0, HEADER_CELLS);
  header[AT_MAGIC] = MAGIC;
  header[AT_LAYOUT] = LAYOUT;
  header[AT_FUNCTIONS] = capacity.functions;
  header[AT_NODES] = capacity.nodes;
  header[AT_TREES] = capacity.trees;
  header[AT_TREE_SIZE] = capacity.treeSize;
  return buffer;
}

function openPublishedModel(buffer: SharedArrayBuffer): { header: Int32Array; capacity: ModelCapacity; copies: readonly [Copy, Copy] } {
  if (buffer.byteLength < HEADER_CELLS * 4) throw new MetronomeError('INTERNAL', `${buffer.byteLength} bytes are no published model.`);
  const header = new Int32Array(buffer, 0, HEADER_CELLS);
  if (header[AT_MAGIC] !== MAGIC || header[AT_LAYOUT] !== LAYOUT) throw new MetronomeError('INTERNAL', 'This shared memory is no published model of this build.');
  const capacity = { functions: header[AT_FUNCTIONS] as number, nodes: header[AT_NODES] as number, trees: header[AT_TREES] as number, treeSize: header[AT_TREE_SIZE] as number };
  const first = align(HEADER_CELLS * 4);
  return { header, capacity, copies: [openCopy(buffer, first, capacity), openCopy(buffer, first + copyBytes(capacity), capacity)] };
}

/** What became of a publication: published; or the copy was still read, so nothing changed; or the model outgrew this memory. */
export type Publication = 'published' | 'busy' | 'tooSmall';

/** The one writer of a published model. */
export class ModelWriter {
  readonly buffer: SharedArrayBuffer;
  readonly capacity: ModelCapacity;
  readonly #header: Int32Array;
  readonly #copies: readonly [Copy, Copy];

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    const { header, capacity, copies } = openPublishedModel(buffer);
    this.capacity = capacity;
    this.#header = header;
    this.#copies = copies;
  }

  /** Version that readers see; 0: none. */
  get version(): number {
    return Atomics.load(this.#header, AT_VERSION);
  }

  /** Publications given up because a reader was still in the copy to be written. */
  get skipped(): number {
    return Atomics.load(this.#header, AT_SKIPPED);
  }

  /**
   * Publishes the model as `version` (> 0). 'busy': nothing changed, the next publication brings it all; 'tooSmall': make a larger
   * memory (`grownCapacity`), publish there and hand it to the readers. O(records + nodes of the trees).
   */
  publish(model: ModelView, version: number): Publication {
    const { functions, nodes, trees, treeSize } = this.capacity;
    if (model.functionCount > functions || model.nodeCount > nodes || model.forest.treeCount > trees || model.forest.treeSize !== treeSize) return 'tooSmall';
    const target = Atomics.load(this.#header, AT_ACTIVE) === 1 ? 2 : 1;
    if (!this.#isFree(target)) {
      Atomics.add(this.#header, AT_SKIPPED, 1);
      return 'busy';
    }
    const { cells, view } = this.#copies[target - 1] as Copy;
    view.functions.set(model.functions.subarray(0, model.functionCount * FUNCTION_STRIDE));
    view.nodes.set(model.nodes.subarray(0, model.nodeCount * NODE_STRIDE));
    view.globals.set(model.globals);
    copyForest(model.forest, view.forest);
    cells[COPY_VERSION] = version;
    cells[COPY_FUNCTIONS] = model.functionCount;
    cells[COPY_NODES] = model.nodeCount;
    cells[COPY_TREES] = model.forest.treeCount;
    Atomics.store(this.#header, AT_ACTIVE, target);
    Atomics.store(this.#header, AT_VERSION, version);
    return 'published';
  }

  /** Frees the cell of a reader whose thread died. */
  forgetReader(reader: number): void {
    Atomics.store(this.#header, AT_READERS + reader, 0);
  }

  #isFree(copy: number): boolean {
    for (let reader = 0, looks = 0; reader < MAX_READERS; reader++) {
      while (Atomics.load(this.#header, AT_READERS + reader) === copy) if (++looks > LOOKS) return false;
    }
    return true;
  }
}

/** One reader of a published model. */
export class ModelReader {
  readonly #header: Int32Array;
  readonly #copies: readonly [Copy, Copy];
  readonly #cell: number;
  readonly #scratch = createPredictionScratch();

  /** `reader`: 0 … MAX_READERS − 1, another number for each reader at the same memory. */
  constructor(buffer: SharedArrayBuffer, reader: number) {
    if (!Number.isInteger(reader) || reader < 0 || reader >= MAX_READERS) throw new MetronomeError('INTERNAL', `Reader ${reader} of a published model: 0 to ${MAX_READERS - 1} are possible.`);
    const { header, copies } = openPublishedModel(buffer);
    this.#header = header;
    this.#copies = copies;
    this.#cell = AT_READERS + reader;
  }

  /** Version that a prediction would use now; 0: none yet. */
  get version(): number {
    return Atomics.load(this.#header, AT_VERSION);
  }

  /**
   * Predicts `count` situations that begin at `rows[rowOffset]`, SITUATION_WIDTH numbers each, into `out` from `outOffset` on. Returns the version
   * used, or 0 when none is published (then `out` is untouched). All from one version; no allocation, no waiting.
   */
  predict(rows: Float64Array, rowOffset: number, count: number, out: PredictionOut, outOffset: number): number {
    let active = Atomics.load(this.#header, AT_ACTIVE);
    for (;;) {
      if (active === 0) return 0;
      Atomics.store(this.#header, this.#cell, active);
      const again = Atomics.load(this.#header, AT_ACTIVE);
      if (again === active) break;
      active = again;
    }
    try {
      const { cells, view } = this.#copies[active - 1] as Copy;
      view.functionCount = cells[COPY_FUNCTIONS] as number;
      view.nodeCount = cells[COPY_NODES] as number;
      view.forest.treeCount = cells[COPY_TREES] as number;
      predictRows(view, rows, rowOffset, count, out, outOffset, this.#scratch);
      return cells[COPY_VERSION] as number;
    } finally {
      Atomics.store(this.#header, this.#cell, 0);
    }
  }
}

/** The next capacity for a model that no longer fits: doubled where it must be. */
export function grownCapacity(capacity: ModelCapacity, functions: number, nodes: number): ModelCapacity {
  const fit = (have: number, need: number): number => {
    let size = have;
    while (size < need) size *= 2;
    return size;
  };
  return { ...capacity, functions: fit(capacity.functions, functions), nodes: fit(capacity.nodes, nodes) };
}
