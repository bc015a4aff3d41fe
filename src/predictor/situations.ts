/**
 * From the scheduler's view to feature rows: the columns of features.ts that the scheduler fills, written straight into the memory that
 * travels to the pool, without an object or a message. And the place where situations of dispatched invocations are kept until their results come.
 */
import { COLUMN, FEATURES, SITUATION_WIDTH, clearSituation } from './features.ts';
import { OWN_PLACES, type Keys } from './model-keys.ts';
import { FETCHED_MS, INITIALISED_MS, OBSERVATION_WIDTH, RAN_MS, SERVED_MS, SERVED_P95_MS, SERVED_P99_MS, type Exclusion as ModelExclusion } from './model/observation.ts';
import { NO_SITUATION, UNKNOWN_PROFILE, ZYGOTE, type Exclusion, type Observation, type PredictionRows, type SituationSource, type Subject } from './predictor.ts';

/** Metrics of nodes that are called otherwise among the features. */
const RENAMED: Readonly<Record<string, string>> = { packageBytes: 'cachedPackageBytes' };

/** Writes feature rows. Holds scratch space, so one per predictor. */
export class SituationEncoder {
  readonly #keys: Keys;
  #source: SituationSource | undefined;
  /** Columns of the node table and of the row that have the same name, in pairs. */
  #metrics = new Int32Array(0);
  /** What all rows of one question share. */
  readonly #template = new Float64Array(SITUATION_WIDTH);

  constructor(keys: Keys = OWN_PLACES) {
    this.#keys = keys;
  }

  attach(source: SituationSource): void {
    this.#source = source;
    const pairs: number[] = [];
    source.metrics.forEach((metricName, metric) => {
      const name = RENAMED[metricName] ?? metricName;
      const column = FEATURES.findIndex((feature) => feature.name === name && feature.source === 'scheduler' && feature.group !== 'function');
      if (column >= 0) pairs.push(metric, column);
    });
    this.#metrics = Int32Array.from(pairs);
  }

  /** Prepares the rows of one subject; write follows. */
  begin(subject: Subject): void {
    const template = this.#template;
    clearSituation(template, 0);
    const entry = this.#source?.functions[subject.functionIndex];
    const profile = entry?.settings.profile ?? UNKNOWN_PROFILE;
    template[COLUMN.functionIndex] = this.#keys.functionKey(subject.functionIndex);
    template[COLUMN.inputBytes] = subject.inputBytes;
    template[COLUMN.inputs] = subject.inputs.length;
    template[COLUMN.payloadBytes] = subject.payloadBytes;
    template[COLUMN.stage] = subject.stage;
    template[COLUMN.predecessors] = subject.predecessors;
    template[COLUMN.fanOut] = subject.fanOut;
    template[COLUMN.memoryMb] = profile.memoryMb;
    template[COLUMN.runtime] = profile.runtime === 'python3' ? 1 : 0;
    template[COLUMN.dependencies] = profile.dependencies;
    template[COLUMN.packageBytes] = entry !== undefined && entry.packageBytes > 0 ? entry.packageBytes : profile.packageBytes;
    template[COLUMN.runningOfFunction] = entry?.running ?? 0;
  }

  /** Writes one row of the subject of `begin` at `offset`. */
  write(subject: Subject, rows: PredictionRows, row: number, out: Float64Array, offset: number): void {
    out.set(this.#template, offset);
    const node = rows.node[row] as number;
    out[offset + COLUMN.nodeIndex] = this.#keys.nodeKey(node);
    out[offset + COLUMN.startState] = rows.startState[row] as number;
    out[offset + COLUMN.missingBytes] = rows.missingBytes[row] as number;
    if (rows.startState[row] === ZYGOTE) out[offset + COLUMN.zygoteDistance] = (rows.zygoteDistance[row] as number) * (this.#template[COLUMN.dependencies] as number);
    const source = this.#source;
    if (source === undefined) return;
    const { table, used, slots } = source.nodes;
    const base = node * source.rowLength;
    if (base < 0 || base >= table.length) return; // a node that the scheduler does not know
    const metrics = this.#metrics;
    for (let i = 0; i < metrics.length; i += 2) out[offset + (metrics[i + 1] as number)] = table[base + (metrics[i] as number)] as number;
    const taken = used[node] as number, room = slots[node] as number;
    out[offset + COLUMN.usedSlots] = taken;
    out[offset + COLUMN.usedShare] = room > 0 ? taken / room : 1;
    const entry = source.functions[subject.functionIndex];
    if (entry === undefined) return;
    out[offset + COLUMN.idleOfFunction] = entry.idle(node);
    out[offset + COLUMN.busyOfFunction] = entry.busy(node);
    out[offset + COLUMN.missingPackages] = entry.missingPackages(node);
    out[offset + COLUMN.missingPackageBytes] = entry.missingPackageBytes(node);
  }

  /** Changes whenever the features of the node may have changed: its last state, and what the scheduler booked since. */
  stamp(node: number): number {
    const source = this.#source;
    if (source === undefined || node < 0 || node >= source.nodes.used.length) return 0;
    return Math.floor(source.nodes.table[node * source.rowLength + source.receivedAt] as number) * 4_096 + (source.nodes.used[node] as number);
  }

  get nowMs(): number {
    return this.#source?.host.nowMs ?? 0;
  }
}

/** Situations kept at once; more are not kept, and their runs teach nothing. */
const MAX_SITUATIONS = 65_536;

/** Situations of dispatched invocations, in one array with a free list: keeping one is copying numbers. */
export class SituationSlab {
  readonly #keys: Keys;
  /** Dispatches whose situation found no room. */
  overflowed = 0;
  #rows = new Float64Array(256 * OBSERVATION_WIDTH);
  #free = new Int32Array(256);
  #freeCount = 0;
  #size = 0;

  /** Keys may have changed between dispatch and result: they are looked up at the end. */
  constructor(keys: Keys = OWN_PLACES) {
    this.#keys = keys;
  }

  /** Situations kept now. */
  get kept(): number {
    return this.#size - this.#freeCount;
  }

  /** Keeps the situation of a row: its handle, or NO_SITUATION when there is no room. */
  keep(encoder: SituationEncoder, subject: Subject, rows: PredictionRows, row: number): number {
    const handle = this.#take();
    if (handle === NO_SITUATION) return handle;
    encoder.begin(subject);
    encoder.write(subject, rows, row, this.#rows, this.offset(handle));
    return handle;
  }

  #take(): number {
    if (this.#freeCount > 0) return this.#free[--this.#freeCount] as number;
    if (this.#size === this.#free.length && !this.#grow()) {
      this.overflowed++;
      return NO_SITUATION;
    }
    return this.#size++;
  }

  /** Where the columns of a handle stand: an array that holds until the next keep, and the offset in it. */
  get rows(): Float64Array {
    return this.#rows;
  }

  offset(handle: number): number {
    return handle * OBSERVATION_WIDTH;
  }

  /** Completes the situation with what was measured: with what really happened in place of what was expected. */
  complete(handle: number, { functionIndex, node, startState, zygoteDistance = 0, fetchedBytes, fetchedMs, initialisedMs, ranMs, predictedMs, predictedP95Ms = 0, predictedP99Ms = 0 }: Observation): void {
    const at = handle * OBSERVATION_WIDTH, rows = this.#rows;
    rows[at + COLUMN.functionIndex] = this.#keys.functionKey(functionIndex);
    rows[at + COLUMN.nodeIndex] = this.#keys.nodeKey(node);
    rows[at + COLUMN.startState] = startState;
    if (startState === ZYGOTE) rows[at + COLUMN.zygoteDistance] = zygoteDistance * (rows[at + COLUMN.dependencies] as number);
    rows[at + COLUMN.missingBytes] = fetchedBytes;
    rows[at + FETCHED_MS] = fetchedMs;
    rows[at + INITIALISED_MS] = initialisedMs;
    rows[at + RAN_MS] = ranMs;
    rows[at + SERVED_MS] = predictedMs;
    rows[at + SERVED_P95_MS] = predictedP95Ms;
    rows[at + SERVED_P99_MS] = predictedP99Ms;
  }

  release(handle: number): void {
    this.#free[this.#freeCount++] = handle;
  }

  #grow(): boolean {
    const size = Math.min(MAX_SITUATIONS, this.#size * 2);
    if (size === this.#size) return false;
    const rows = new Float64Array(size * OBSERVATION_WIDTH);
    rows.set(this.#rows);
    this.#rows = rows;
    const free = new Int32Array(size);
    free.set(this.#free);
    this.#free = free;
    return true;
  }
}

/** What the model counts of what the scheduler excludes; undefined: it never ran, or there is nobody left to count it for. */
export function toModelExclusion(why: Exclusion): ModelExclusion | undefined {
  if (why === 'refused' || why === 'lost' || why === 'deleted') return undefined;
  return why === 'memoryExceeded' ? 'failed' : why;
}
