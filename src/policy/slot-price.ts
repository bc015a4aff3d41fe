/** What a millisecond of a slot is worth to others, in milliseconds of theirs: those who wait for one now (waiters ÷ slots), and those who come while slots are busy (mean load). */
import type { DecisionView } from './policy.ts';

/** waiters ÷ slots + mean load of the candidates. O(candidates). */
export function slotPrice({ candidates: { count, load }, cluster }: DecisionView): number {
  let loads = 0;
  for (let row = 0; row < count; row++) loads += load[row] as number;
  return cluster.waiting / Math.max(1, cluster.readySlots) + loads / count;
}
