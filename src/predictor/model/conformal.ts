/**
 * How sure a prediction is: upper quantiles of execution times that hold whatever the model does wrong (conformal prediction). A function's residuals,
 * log(measured / predicted), are scaled by how large they usually are for it; the quantile of its own scaled residuals is used as far as it has
 * enough of them, that of all functions' for the rest. The level asked for moves with what was missed and hit lately (adaptive
 * conformal inference), so coverage comes back after a change. Young functions begin wide.
 */

/** Residuals kept per function, and of all together. */
const OWN_ROOM = 400, SHARED_ROOM = 1_000;
/** Own residuals from which the own quantile counts as much as the shared one. */
const OWN_P95 = 60, OWN_P99 = 250;
/** Scale of a function without residuals, and how many residuals that counts for. */
const FIRST_SCALE = 0.12, FIRST_WEIGHT = 3;
/** Memory of the scale. */
const SCALE_WEIGHT = 0.02;
/** Step of the adaptive level. */
const STEP_P95 = 0.004, STEP_P99 = 0.0015;
/** From so many own residuals on, quantiles are found anew with every so many more. */
const SETTLED = 100, SET_EVERY = 2;
/** Scaled quantiles before anything was seen: those of a Laplace distribution. */
const FIRST_Z95 = 2.3, FIRST_Z99 = 3.9;
/** Least scale: nobody is known better than to a ten-thousandth. Most that a quantile lies above the mean (logarithm): more than a million times. */
const LEAST_SCALE = 1e-4, MOST_FACTOR = 14;
/** Most that a residual counts for (logarithm), and most of them divided by a scale. */
const MOST_RESIDUAL = 50, MOST_SCALED = MOST_RESIDUAL / LEAST_SCALE;

/** The last so many numbers. */
class Recent {
  readonly values: Float64Array;
  count = 0;
  #at = 0;

  constructor(room: number) {
    this.values = new Float64Array(room);
  }

  add(value: number): void {
    this.values[this.#at] = value;
    this.#at = (this.#at + 1) % this.values.length;
    if (this.count < this.values.length) this.count++;
  }

  /** Oldest first. */
  ordered(): Float64Array {
    const out = new Float64Array(this.count);
    const begin = this.count < this.values.length ? 0 : this.#at;
    for (let i = 0; i < this.count; i++) out[i] = this.values[(begin + i) % this.values.length] as number;
    return out;
  }

  /** Value that a share `level` of them does not exceed, with the correction for few of them; `sorted` is scratch space. */
  quantile(level: number, sorted: Float64Array): number {
    const part = sorted.subarray(0, this.count);
    part.set(this.values.subarray(0, this.count));
    part.sort();
    return part[Math.min(this.count - 1, Math.ceil(level * (this.count + 1)) - 1)] as number;
  }

  restore(values: ArrayLike<number>): void {
    this.count = 0;
    this.#at = 0;
    for (let i = Math.max(0, values.length - this.values.length); i < values.length; i++) this.add(values[i] as number);
  }
}

interface FunctionResiduals {
  /** Residuals divided by the scale of their time. */
  readonly scaled: Recent;
  scale: number;
  count: number;
  /** Levels asked for now. */
  level95: number;
  level99: number;
  /** Factors (logarithms) as of now. */
  q95: number;
  q99: number;
}

/** A function's residuals as plain values. */
export interface ResidualsSnapshot {
  readonly scaled: Float64Array;
  readonly scale: number;
  readonly count: number;
  readonly level95: number;
  readonly level99: number;
  readonly q95: number;
  readonly q99: number;
}

/** All of it as plain values. */
export interface ConformalSnapshot {
  readonly functions: readonly (ResidualsSnapshot | null)[];
  readonly shared: Float64Array;
  readonly shared95: number;
  readonly shared99: number;
  readonly sinceShared: number;
}

export class ConformalQuantiles {
  readonly #functions: (FunctionResiduals | undefined)[] = [];
  readonly #shared = new Recent(SHARED_ROOM);
  readonly #sorted = new Float64Array(SHARED_ROOM);
  #shared95 = FIRST_Z95;
  #shared99 = FIRST_Z99;
  #sinceShared = 0;

  /** Log factor to the P95 of a function. */
  q95(record: number): number {
    return this.#functions[record]?.q95 ?? within(FIRST_SCALE * this.#shared95 * 2, 0, MOST_FACTOR);
  }

  q99(record: number): number {
    return this.#functions[record]?.q99 ?? Math.max(this.q95(record), within(FIRST_SCALE * this.#shared99 * 2, 0, MOST_FACTOR));
  }

  /** Mean |log error| to be expected. */
  spread(record: number): number {
    return this.#functions[record]?.scale ?? FIRST_SCALE;
  }

  /** Takes in log(measured / predicted), a finite number, of a prediction made before the measurement. O(room) for the quantiles. */
  add(record: number, off: number): void {
    const residual = within(off, -MOST_RESIDUAL, MOST_RESIDUAL);
    const of = (this.#functions[record] ??= { scaled: new Recent(OWN_ROOM), scale: FIRST_SCALE, count: 0, level95: 0.95, level99: 0.99, q95: 0, q99: 0 });
    if (of.count > 0) {
      of.level95 = within(of.level95 + STEP_P95 * ((residual > of.q95 ? 1 : 0) - 0.05), 0.9, 0.99);
      of.level99 = within(of.level99 + STEP_P99 * ((residual > of.q99 ? 1 : 0) - 0.01), 0.975, 0.999);
    }
    const scaled = residual / of.scale;
    of.scaled.add(scaled);
    of.count++;
    if (of.count > 10) this.#shared.add(scaled);
    const weight = Math.max(SCALE_WEIGHT, 1 / (FIRST_WEIGHT + of.count));
    of.scale = Math.max(LEAST_SCALE, of.scale + weight * (Math.abs(residual) - of.scale));
    if (++this.#sinceShared >= 20 && this.#shared.count >= 50) {
      this.#sinceShared = 0;
      this.#shared95 = this.#shared.quantile(0.95, this.#sorted);
      this.#shared99 = this.#shared.quantile(0.99, this.#sorted);
    }
    // Sorting is what an observation costs here; once there are many, one more hardly moves a quantile.
    if (of.count <= SETTLED || of.count % SET_EVERY === 0) this.#set(of);
  }

  /** The function changed: what is known of its residuals counts little, and they will be about this large. */
  unsettle(record: number, scale: number): void {
    const of = this.#functions[record];
    if (of === undefined) return;
    of.scale = Math.max(of.scale, scale);
    of.count = Math.min(of.count, 5);
    of.level95 = Math.max(of.level95, 0.95);
    of.level99 = Math.max(of.level99, 0.99);
    this.#set(of);
  }

  forget(record: number): void {
    this.#functions[record] = undefined;
  }

  /** Bytes of what grows. */
  get bytes(): number {
    return (this.#functions.filter((of) => of !== undefined).length * OWN_ROOM + 2 * SHARED_ROOM) * 8;
  }

  toSnapshot(): ConformalSnapshot {
    return {
      functions: Array.from(this.#functions, (of) => (of === undefined ? null : { ...of, scaled: of.scaled.ordered() })),
      shared: this.#shared.ordered(), shared95: this.#shared95, shared99: this.#shared99, sinceShared: this.#sinceShared,
    };
  }

  /** Takes over a snapshot of finite numbers; what lies beyond what this class makes is cut off. */
  restore(from: ConformalSnapshot): void {
    const scaledWithin = (values: Float64Array): Float64Array => values.map((value) => within(value, -MOST_SCALED, MOST_SCALED));
    this.#shared.restore(scaledWithin(from.shared));
    this.#shared95 = within(from.shared95, -MOST_SCALED, MOST_SCALED);
    this.#shared99 = within(from.shared99, -MOST_SCALED, MOST_SCALED);
    this.#sinceShared = from.sinceShared;
    from.functions.forEach((of, record) => {
      if (of === null) return;
      const scaled = new Recent(OWN_ROOM);
      scaled.restore(scaledWithin(of.scaled));
      const q95 = within(of.q95, 0, MOST_FACTOR);
      this.#functions[record] = { ...of, scaled, scale: within(of.scale, LEAST_SCALE, MOST_RESIDUAL), level95: within(of.level95, 0.9, 0.99), level99: within(of.level99, 0.975, 0.999), q95, q99: within(of.q99, q95, MOST_FACTOR) };
    });
  }

  #set(of: FunctionResiduals): void {
    const n = Math.min(of.count, of.scaled.count);
    const own95 = n / (n + OWN_P95), own99 = n / (n + OWN_P99);
    const adapted95 = of.level95, adapted99 = of.level99;
    const z95 = own95 * (n > 0 ? of.scaled.quantile(adapted95, this.#sorted) : 0) + (1 - own95) * this.#shared95;
    const z99 = own99 * (n > 0 ? of.scaled.quantile(adapted99, this.#sorted) : 0) + (1 - own99) * this.#shared99;
    of.q95 = within(of.scale * z95, 0, MOST_FACTOR);
    of.q99 = within(of.scale * z99, of.q95, MOST_FACTOR);
  }
}

const within = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));
