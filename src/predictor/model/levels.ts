/**
 * What baseline and forest get wrong the same way again: a factor per function on top of both. Real executions are skewed and change their level from minute to
 * minute (caches, neighbours, clocks), least squares and means of leaves follow neither. Several followers with different memories walk after the residuals in
 * bounded steps; one of them stands still. Their advice is mixed by how wrong each was lately, so where there is nothing to follow, as little as possible is followed.
 *
 * Wrong is what the model is judged by: the relative error |predicted − measured| / measured. How fast that changes with the level is predicted over measured, and so
 * long are the steps: an execution that took long by accident hardly moves them, and they end a little below the median, where least is lost relative to what was measured.
 */

/** Part of a residual that each follower goes; the first one goes nowhere. */
const PACES = [0, 0.05, 0.12, 0.25] as const;
/** Longest residual that is followed, in mean |residuals| of the function. */
const LONGEST = 1;
/** Most and least that predicted over measured counts for: an execution that was much shorter is an accident, too, and from one that was much longer something is learned. */
const STEEPEST = 1.5, GENTLEST = 0.25;
/** Losses fade by this per execution. */
const FADING = 0.98;
/** How fast weight moves to who was less wrong, per mean |residual|. */
const EAGERNESS = 0.4;
/** What the others are behind at first, and most that one execution counts for, in mean |residuals|. */
const HANDICAP = 4, MOST_LOSS = 4;
/** Farthest that a level goes (logarithm). */
const MOST_LEVEL = 1;
/** Memory of the mean |residual|, and what it is at first. */
const SCALE_WEIGHT = 0.03, FIRST_SCALE = 0.1, LEAST_SCALE = 1e-4;
/** Executions of a function before anything is followed: until then the least squares take large steps of their own. */
const FOLLOWED_FROM = 12;

interface Level {
  /** Executions seen since the level was zero. */
  count: number;
  scale: number;
  /** By follower. */
  readonly levels: Float64Array;
  readonly losses: Float64Array;
  /** What they agreed on. */
  level: number;
}

/** A function's followers as plain numbers: count, scale, level, then levels, then losses. */
export type LevelSnapshot = Float64Array;

const PARTS = 3 + 2 * PACES.length;

export class FunctionLevels {
  readonly #levels: (Level | undefined)[] = [];

  /** Logarithm of the factor on what baseline and forest say. */
  level(record: number): number {
    return this.#levels[record]?.level ?? 0;
  }

  /** Takes in log(measured / predicted) of a prediction without the level, made before the measurement. O(followers). */
  add(record: number, residual: number): void {
    const of = (this.#levels[record] ??= { count: 0, scale: FIRST_SCALE, levels: new Float64Array(PACES.length), losses: handicaps(), level: 0 });
    const { levels, losses, scale } = of;
    of.count++;
    of.scale = Math.max(LEAST_SCALE, scale + Math.max(SCALE_WEIGHT, 1 / (of.count + 3)) * (Math.min(MOST_LEVEL, Math.abs(residual - of.level)) - scale));
    if (of.count <= FOLLOWED_FROM) return;
    let least = Infinity;
    for (let i = 0; i < PACES.length; i++) {
      const off = residual - (levels[i] as number);
      const overMeasured = Math.exp(-off);
      const loss = (losses[i] = FADING * (losses[i] as number) + Math.min(MOST_LOSS, Math.abs(1 - overMeasured) / scale));
      if (loss < least) least = loss;
      const step = (PACES[i] as number) * Math.min(STEEPEST, Math.max(GENTLEST, overMeasured)) * Math.min(LONGEST * scale, Math.max(-LONGEST * scale, off));
      levels[i] = Math.min(MOST_LEVEL, Math.max(-MOST_LEVEL, (levels[i] as number) + step));
    }
    let sum = 0, weights = 0;
    for (let i = 0; i < PACES.length; i++) {
      const weight = Math.exp(EAGERNESS * (least - (losses[i] as number)));
      weights += weight;
      sum += weight * (levels[i] as number);
    }
    of.level = sum / weights;
  }

  /** The function is new, or changed: what it was off by says nothing any more. */
  forget(record: number): void {
    this.#levels[record] = undefined;
  }

  /** Bytes of what grows. */
  get bytes(): number {
    return this.#levels.filter((of) => of !== undefined).length * PARTS * 8;
  }

  toSnapshot(): (LevelSnapshot | null)[] {
    return Array.from(this.#levels, (of) => (of === undefined ? null : Float64Array.of(of.count, of.scale, of.level, ...of.levels, ...of.losses)));
  }

  /** Takes over a snapshot of finite numbers; what lies beyond what this class makes is cut off. Throws a RangeError for another length. */
  restore(from: readonly (LevelSnapshot | null)[]): void {
    from.forEach((parts, record) => {
      if (parts === null) return;
      if (parts.length !== PARTS) throw new RangeError(`level ${record} has ${parts.length} parts`);
      const [count, scale, level, ...rest] = parts as unknown as [number, number, number, ...number[]]; // its length was checked
      const bounded = (value: number): number => Math.min(MOST_LEVEL, Math.max(-MOST_LEVEL, value));
      this.#levels[record] = {
        count: Math.max(0, count), scale: Math.min(MOST_LEVEL, Math.max(LEAST_SCALE, scale)), level: bounded(level),
        levels: Float64Array.from(rest.slice(0, PACES.length), bounded), losses: Float64Array.from(rest.slice(PACES.length), (loss) => Math.max(0, loss)),
      };
    });
  }
}

function handicaps(): Float64Array {
  return Float64Array.from(PACES, (_, i) => (i === 0 ? 0 : HANDICAP));
}
