/**
 * The form in which a model is stored: plain values and typed arrays, for structured clones and for msgpackr with `moreTypes: true`. What comes
 * from a disk is believed in nothing: sizes, ranges and the shape of every tree are checked, and the message names what is wrong.
 */
import { MetronomeError } from '../../core/errors.ts';
import { FIRST_FEATURE, ROW_WIDTH } from '../features.ts';
import type { FlatTree } from './flat-forest.ts';

/** Changes with the shape of a snapshot or with the meaning of what is in it. */
export const SNAPSHOT_FORMAT = 3;

/** Characters of a name in a snapshot. */
const MOST_TEXT = 1_024;
/** No leaf says more than this (logarithm): what trees learn is bounded below it. */
const MOST_VALUE = 2;

/** Why a snapshot is refused. */
export function corruptSnapshot(what: string): MetronomeError {
  return new MetronomeError('STATE_CORRUPT', `This is no model snapshot that can be used: ${what}.`);
}

/** Reads parts of something that should be an object. */
export class SnapshotParts {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path = '') {
    if (typeof value !== 'object' || value === null) throw corruptSnapshot(`${path === '' ? 'it' : `"${path}"`} is no object`);
    this.#value = value as Readonly<Record<string, unknown>>; // checked just now
    this.#path = path;
  }

  part(name: string): unknown {
    return this.#value[name];
  }

  object(name: string): SnapshotParts {
    return new SnapshotParts(this.#value[name], this.#name(name));
  }

  /** A finite number, within bounds. */
  number(name: string, low = 0, high = Number.MAX_SAFE_INTEGER): number {
    const value = this.#value[name];
    if (typeof value !== 'number' || !(value >= low && value <= high)) throw corruptSnapshot(`"${this.#name(name)}" is no number from ${low} to ${high}`);
    return value;
  }

  integer(name: string, low = 0, high = Number.MAX_SAFE_INTEGER): number {
    const value = this.number(name, low, high);
    if (!Number.isInteger(value)) throw corruptSnapshot(`"${this.#name(name)}" is no whole number`);
    return value;
  }

  /** Text of at most MOST_TEXT characters: names are no longer than that. */
  text(name: string): string {
    const value = this.#value[name];
    if (typeof value !== 'string') throw corruptSnapshot(`"${this.#name(name)}" is no text`);
    if (value.length > MOST_TEXT) throw corruptSnapshot(`"${this.#name(name)}" has ${value.length} characters; ${MOST_TEXT} are the most`);
    return value;
  }

  list(name: string): readonly unknown[] {
    const value = this.#value[name];
    if (!Array.isArray(value)) throw corruptSnapshot(`"${this.#name(name)}" is no list`);
    return value;
  }

  /** Finite numbers of 64 bits; `length`: how many, `most`: how far from zero. */
  floats(name: string, length?: number, most = Number.MAX_VALUE): Float64Array {
    const value = this.#value[name];
    if (!(value instanceof Float64Array)) throw corruptSnapshot(`"${this.#name(name)}" holds no numbers of 64 bits`);
    if (length !== undefined && value.length !== length) throw corruptSnapshot(`"${this.#name(name)}" holds ${value.length} numbers, not ${length}`);
    if (!value.every(Number.isFinite)) throw corruptSnapshot(`"${this.#name(name)}" holds something that is no finite number`);
    if (!value.every((one) => Math.abs(one) <= most)) throw corruptSnapshot(`"${this.#name(name)}" holds a number beyond ±${most}`);
    return value;
  }

  #name(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }
}

/** A tree of a snapshot, if a walk in it always ends and tests only columns that exist. */
export function readTree(value: unknown, path: string, maxSize: number): FlatTree {
  const parts = new SnapshotParts(value, path);
  const size = parts.integer('size', 1, maxSize), depth = parts.integer('depth', 0, 255);
  const column = parts.part('column'), threshold = parts.part('threshold'), link = parts.part('link');
  if (!(column instanceof Uint8Array) || !(threshold instanceof Float64Array) || !(link instanceof Int32Array) || column.length !== size || threshold.length !== size || link.length !== size) throw corruptSnapshot(`"${path}" is no tree of ${size} nodes`);
  const depths = new Uint8Array(size);
  for (let node = 0; node < size; node++) {
    const next = link[node] as number;
    const isLeaf = next === node;
    // Children come after their parents, so no walk is endless.
    if (!isLeaf && !(next > node && next + 1 < size)) throw corruptSnapshot(`"${path}" links node ${node} to ${next}`);
    if (isLeaf ? threshold[node] !== Infinity : !Number.isFinite(threshold[node]) || (column[node] as number) < FIRST_FEATURE || (column[node] as number) >= ROW_WIDTH) throw corruptSnapshot(`"${path}" tests column ${column[node]} against ${threshold[node]} in node ${node}`);
    if (isLeaf) continue;
    depths[next] = depths[next + 1] = (depths[node] as number) + 1;
    if ((depths[next] as number) > depth) throw corruptSnapshot(`"${path}" is deeper than ${depth}`);
  }
  return { size, depth, column, threshold, link, value: parts.floats('value', size, MOST_VALUE) };
}
