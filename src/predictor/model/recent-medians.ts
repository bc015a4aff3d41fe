/**
 * A second opinion on a prediction: what executions like this one lately took. The forest looks at dozens of columns, and where executions vary by themselves it takes
 * some of that for meaning. Medians over the last executions of a function that started alike, with inputs about as large or exactly as large, know less and err in
 * other ways; model and medians together err less than either. Who was less wrong lately, relative to what was measured, has more of a say, per function (exponentiated
 * gradient); a median that there is nothing to make of yet has none.
 *
 * Medians are of measured over a *factor* of the row, and speak of another row as its own factor times that: what the baseline says of transfer and start beside the run, and of
 * the node's speed. So what it knows of differences between nodes, start states and missing bytes stays between the rows of a decision, whoever has the say. What it makes of load
 * and size is left out: that is what the medians disagree with.
 */
import { COLUMN } from '../features.ts';
import { F_OCTAVES, F_SAYS, F_SIZES, OCTAVES, OCTAVE_NUMBERS, SAYS, SIZES, SIZE_NUMBERS } from './baseline-terms.ts';
import { FUNCTION_STRIDE } from './model-view.ts';

/** Executions under the medians of an octave of input size, and under that of an exact size. */
const SHORT = 9, LONG = 20, EXACT = 5;
/** Who has a say, in the order of the weights. */
const MODEL = 0, BY_SHORT = 1, BY_LONG = 2, BY_EXACT = 3;
/** Executions of a function before a median has a say: until then the model learns faster than they tell. */
const HEARD_FROM = 40;
/** Losses fade by this per execution. */
const FADING = 0.99;
/** How fast weight moves to who was less wrong, per mean |residual| of the function; most that one execution counts for. */
const EAGERNESS = 0.1, MOST_LOSS = 8;
/** What the medians are behind the model at first, in mean |residuals|. */
const HANDICAP = 10;
/** Farthest that measured is from the factor in a median, and that a prediction is moved (logarithms). */
const MOST_OFF = 50, MOST_MOVED = 1;

/** What executions in one cell were off by, the oldest first, and the medians of that. */
interface Cell {
  readonly offs: number[];
  readonly medians: number[];
}

interface Opinions {
  /** Executions seen. */
  count: number;
  /** By who has a say. */
  readonly losses: Float64Array;
  /** By key, the least recently used first. */
  readonly octaves: Map<number, Cell>;
  readonly sizes: Map<number, Cell>;
}

/** How far the factor, the model (baseline, forest and level) and the prediction that was served were off: log(measured / said). */
export interface Offs {
  readonly factor: number;
  readonly model: number;
  readonly served: number;
}

/** A function's opinions as plain numbers: count, losses, then key, number and values of each octave, then of each size. */
export type MediansSnapshot = Float64Array;

const OCTAVE_PARTS = 2 + LONG, SIZE_PARTS = 2 + EXACT;
const PARTS = 1 + SAYS + OCTAVES * OCTAVE_PARTS + SIZES * SIZE_PARTS;

/** Keys of cells; 0 is nobody's. Exact for sizes up to 2⁵¹ bytes. */
const sizeKey = (startState: number, bytes: number): number => 4 * Math.floor(bytes) + startState;
const octaveKey = (startState: number, bytes: number): number => sizeKey(startState, Math.log2(1 + bytes));

const within = (value: number, most: number): number => Math.min(most, Math.max(-most, value));

/** The factor (logarithm) of the whole row at `offset`, of whose estimate `totalLog` is the logarithm. */
export function factorOf(rows: Float64Array, offset: number, totalLog: number): number {
  return totalLog - (rows[offset + COLUMN.runEstimateLog] as number) * Math.LN2 + (rows[offset + COLUMN.nodeFactorLog] as number);
}

/** The logarithm of a prediction that model and medians agree on, from the record at functions[f]; `model` is what the model alone says, `factor` that of the row. No allocation. */
export function mixMedians(functions: Float64Array, f: number, startState: number, bytes: number, model: number, factor: number): number {
  const ofModel = functions[f + F_SAYS + MODEL] as number;
  if (ofModel === 0) return model;
  let sum = ofModel * (model - factor), weights = ofModel;
  const octave = octaveKey(startState, bytes), size = sizeKey(startState, bytes);
  for (let at = f + F_OCTAVES, end = at + OCTAVES * OCTAVE_NUMBERS; at < end; at += OCTAVE_NUMBERS) {
    if (functions[at] !== octave) continue;
    const short = functions[f + F_SAYS + BY_SHORT] as number, long = functions[f + F_SAYS + BY_LONG] as number;
    sum += short * (functions[at + 1] as number) + long * (functions[at + 2] as number);
    weights += short + long;
    break;
  }
  for (let at = f + F_SIZES, end = at + SIZES * SIZE_NUMBERS; at < end; at += SIZE_NUMBERS) {
    if (functions[at] !== size) continue;
    const exact = functions[f + F_SAYS + BY_EXACT] as number;
    sum += exact * (functions[at + 1] as number);
    weights += exact;
    break;
  }
  return weights === ofModel ? model : model + within(factor + sum / weights - model, MOST_MOVED);
}

/** Learns the medians and who has how much of a say. */
export class RecentMedians {
  readonly #opinions: (Opinions | undefined)[] = [];

  /** Takes in an execution that was predicted before it was measured; `scale` is the mean |residual| of the function. Bounded by the executions under the medians. */
  add(record: number, startState: number, bytes: number, off: Offs, scale: number): void {
    const of = (this.#opinions[record] ??= newOpinions());
    const octave = usedCell(of.octaves, octaveKey(startState, bytes), OCTAVES), size = usedCell(of.sizes, sizeKey(startState, bytes), SIZES);
    const loss = (by: number): number => Math.min(MOST_LOSS, Math.abs(1 - Math.exp(-by)) / scale);
    // Who had nothing to say was as wrong as what was said.
    const lossOf = (cell: Cell, median: number): number => loss(cell.offs.length === 0 ? off.served : off.factor - (cell.medians[median] as number));
    const losses = [loss(off.model), lossOf(octave, 0), lossOf(octave, 1), lossOf(size, 0)];
    losses.forEach((one, who) => void (of.losses[who] = FADING * (of.losses[who] as number) + one));
    of.count++;
    hold(octave, off.factor, LONG, [SHORT, LONG]);
    hold(size, off.factor, EXACT, [EXACT]);
  }

  /** Writes the function's weights and medians into its record. */
  write(record: number, functions: Float64Array): void {
    const f = record * FUNCTION_STRIDE;
    functions.fill(0, f + F_SAYS, f + F_SIZES + SIZES * SIZE_NUMBERS);
    const of = this.#opinions[record];
    if (of === undefined || of.count < HEARD_FROM) return;
    const least = Math.min(...of.losses);
    for (let who = 0; who < SAYS; who++) functions[f + F_SAYS + who] = Math.exp(EAGERNESS * (least - (of.losses[who] as number)));
    writeCells(of.octaves, functions, f + F_OCTAVES);
    writeCells(of.sizes, functions, f + F_SIZES);
  }

  /** The function is new, or changed: what it took says nothing any more. */
  forget(record: number): void {
    this.#opinions[record] = undefined;
  }

  /** Bytes of what grows. */
  get bytes(): number {
    return this.#opinions.filter((of) => of !== undefined).length * PARTS * 8;
  }

  toSnapshot(): (MediansSnapshot | null)[] {
    return Array.from(this.#opinions, (of) => {
      if (of === undefined) return null;
      const parts = new Float64Array(PARTS);
      parts[0] = of.count;
      parts.set(of.losses, 1);
      storeCells(of.octaves, parts, 1 + SAYS, OCTAVE_PARTS);
      storeCells(of.sizes, parts, 1 + SAYS + OCTAVES * OCTAVE_PARTS, SIZE_PARTS);
      return parts;
    });
  }

  /** Takes over a snapshot of finite numbers; what lies beyond what this class makes is cut off. Throws a RangeError for another length. */
  restore(from: readonly (MediansSnapshot | null)[]): void {
    from.forEach((parts, record) => {
      if (parts === null) return;
      if (parts.length !== PARTS) throw new RangeError(`medians ${record} have ${parts.length} parts`);
      const of = newOpinions();
      of.count = Math.max(0, parts[0] as number);
      for (let who = 0; who < SAYS; who++) of.losses[who] = Math.min(MOST_LOSS / (1 - FADING), Math.max(0, parts[1 + who] as number));
      const sizes = 1 + SAYS + OCTAVES * OCTAVE_PARTS;
      restoreCells(of.octaves, parts.subarray(1 + SAYS, sizes), OCTAVE_PARTS, [SHORT, LONG]);
      restoreCells(of.sizes, parts.subarray(sizes), SIZE_PARTS, [EXACT]);
      this.#opinions[record] = of;
    });
  }
}

const newOpinions = (): Opinions => ({ count: 0, losses: Float64Array.from({ length: SAYS }, (_, who) => (who === MODEL ? 0 : HANDICAP)), octaves: new Map(), sizes: new Map() });

/** The cell of a key, which is then the one used last; the one that was not used for longest makes room for a new one. */
function usedCell(cells: Map<number, Cell>, key: number, room: number): Cell {
  const cell = cells.get(key) ?? { offs: [], medians: [] };
  cells.delete(key);
  const [oldest] = cells.keys();
  if (cells.size >= room && oldest !== undefined) cells.delete(oldest);
  cells.set(key, cell);
  return cell;
}

/** Takes a value into a cell: the last `room` are kept, medians are of the last so many of them. */
function hold(cell: Cell, off: number, room: number, lengths: readonly number[]): void {
  const { offs, medians } = cell;
  offs.push(within(off, MOST_OFF));
  if (offs.length > room) offs.shift();
  lengths.forEach((length, at) => void (medians[at] = medianOf(offs.slice(-length))));
}

function medianOf(values: number[]): number {
  values.sort((a, b) => a - b);
  const middle = values.length >> 1;
  return values.length % 2 === 1 ? (values[middle] as number) : ((values[middle - 1] as number) + (values[middle] as number)) / 2;
}

function writeCells(cells: Map<number, Cell>, functions: Float64Array, first: number): void {
  let at = first;
  for (const [key, { medians }] of cells) {
    functions[at++] = key;
    for (const median of medians) functions[at++] = median;
  }
}

function storeCells(cells: Map<number, Cell>, parts: Float64Array, first: number, stride: number): void {
  let at = first;
  for (const [key, { offs }] of cells) {
    parts[at] = key;
    parts[at + 1] = offs.length;
    parts.set(offs, at + 2);
    at += stride;
  }
}

function restoreCells(cells: Map<number, Cell>, parts: Float64Array, stride: number, lengths: readonly number[]): void {
  for (let at = 0; at < parts.length; at += stride) {
    const key = parts[at] as number, count = Math.min(stride - 2, parts[at + 1] as number);
    if (!(key > 0 && key <= Number.MAX_SAFE_INTEGER && count >= 1)) continue;
    const cell: Cell = { offs: [], medians: [] };
    for (const off of parts.subarray(at + 2, at + 2 + Math.floor(count))) hold(cell, off, stride - 2, lengths);
    cells.set(key, cell);
  }
}
