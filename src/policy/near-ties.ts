/** Nodes that predictions cannot tell apart: the less loaded one is the better choice, so that locality never fights balance. */
import type { Candidates } from './policy.ts';

/**
 * Of the rows with room whose T is about the least one (that of `best`, which has room): the least loaded. Near is what neither its own spread nor that of `best` can tell apart, and at most
 * `tolerance` · T. O(candidates).
 */
export function leastLoadedNear({ count, meanMs, spreadMs, room, load }: Candidates, best: number, tolerance: number): number {
  const leastMs = meanMs[best] as number, mostMs = leastMs * tolerance, spreadOfBest = spreadMs[best] as number;
  let chosen = best;
  for (let row = 0; row < count; row++) {
    if ((room[row] as number) > 0 && (load[row] as number) < (load[chosen] as number) && (meanMs[row] as number) - leastMs <= Math.min(mostMs, Math.max(spreadMs[row] as number, spreadOfBest))) chosen = row;
  }
  return chosen;
}
