/**
 * What a start is worth to others. A millisecond of a slot, in milliseconds of theirs: those who wait for one now (waiters ÷ slots), and those who come while slots are busy (mean load).
 * And a sandbox that it makes, which later invocations need not wait for.
 */
import { WARM } from '../predictor/predictor.ts';
import type { DecisionView } from './policy.ts';

/** waiters ÷ slots + mean load of the candidates. O(candidates). */
export function slotPrice({ candidates: { count, load }, cluster }: DecisionView): number {
  let loads = 0;
  for (let row = 0; row < count; row++) loads += load[row] as number;
  return cluster.waiting / Math.max(1, cluster.readySlots) + loads / count;
}

/** What speaks for starting on this row because it makes a sandbox, ms: what invocations of the function have waited since it last made one, if the node has memory for it. */
export function startCredit(view: DecisionView, row: number): number {
  const { node, startState } = view.candidates;
  if ((startState[row] as number) >= WARM) return 0;
  const rentMs = view.rentMs();
  return rentMs > 0 && view.fits(node[row] as number) ? rentMs : 0;
}
