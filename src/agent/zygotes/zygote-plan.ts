/**
 * Which kinds of zygotes are worth their memory: greedily, the one that saves the most initialisation per MiB beyond what those
 * chosen before save already, until nothing is worth keeping or fits. Greedy is good here: what a further zygote saves only shrinks
 * as others are there (record 016).
 */
import { NO_ZYGOTE } from '../../core/zygote-distance.ts';

/** One kind of zygotes with the demand for it. */
export interface PlanItem {
  /** Starts per second that were not warm. */
  readonly startsPerS: number;
  /** What such a start takes without a zygote, ms. */
  readonly coldMs: number;
  /** What a zygote takes, MiB. */
  readonly mb: number;
  /** One is there already. */
  readonly isKept: boolean;
}

/** One choice. */
export interface PlanChoice {
  readonly index: number;
  /** ms of initialisation saved per second and MiB. */
  readonly worth: number;
}

/** Saving less than this is not worth a process, ms per second: one start a quarter of an hour ago that would have been 100 ms shorter. */
const LEAST_SAVED = 1 / 60;
/** What is there already is preferred by this factor, so that two of the same worth do not drive each other out in turns. */
const KEPT_BONUS = 1.25;

/** Chooses, best first. `distance(demand, zygote)`: 0 to 1. O(items³) at most. */
export function planZygotes(items: readonly PlanItem[], distance: (demand: number, zygote: number) => number, limitMb: number): PlanChoice[] {
  const chosen: PlanChoice[] = [];
  const nearest = items.map(() => NO_ZYGOTE);
  const distances = items.map((_, demand) => items.map((_zygote, zygote) => distance(demand, zygote)));
  const taken = new Set<number>();
  for (let leftMb = limitMb; ; ) {
    let best = -1;
    let bestWorth = 0;
    for (let zygote = 0; zygote < items.length; zygote++) {
      const { mb, isKept } = items[zygote] as PlanItem;
      if (taken.has(zygote) || mb > leftMb) continue;
      let saved = 0;
      for (let demand = 0; demand < items.length; demand++) {
        const { startsPerS, coldMs } = items[demand] as PlanItem;
        const nearer = (nearest[demand] as number) - (distances[demand]?.[zygote] ?? NO_ZYGOTE);
        if (nearer > 0) saved += startsPerS * coldMs * nearer;
      }
      if (isKept) saved *= KEPT_BONUS;
      if (saved >= LEAST_SAVED && saved / mb > bestWorth) {
        best = zygote;
        bestWorth = saved / mb;
      }
    }
    if (best < 0) return chosen;
    taken.add(best);
    leftMb -= (items[best] as PlanItem).mb;
    chosen.push({ index: best, worth: bestWorth });
    for (let demand = 0; demand < items.length; demand++) nearest[demand] = Math.min(nearest[demand] as number, distances[demand]?.[best] ?? NO_ZYGOTE);
  }
}
