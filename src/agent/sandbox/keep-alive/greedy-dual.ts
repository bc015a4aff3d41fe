/**
 * `greedy-dual`: keep-alive as caching (FaasCache, ASPLOS 2021). An idle sandbox stays until memory is needed; the least of
 *
 *   priority = clock at its last use + frequency × cost / size
 *
 * goes first, and the clock moves on to the priority of what went: whatever is not used ages, however dear it was. Frequency, cost
 * and size are IdleFacts.uses, costMs and sizeMb. Only what a function asks for itself ends it earlier.
 */
import { untilItsOwn, type KeepAlivePolicy } from './keep-alive.ts';

/** Keeps what is used often, dear to make and small. */
export function createGreedyDualKeepAlive(): KeepAlivePolicy {
  let clock = 0;
  return {
    name: 'greedy-dual',
    untilMs: untilItsOwn,
    rank: ({ uses, costMs, sizeMb }) => clock + (uses * costMs) / sizeMb,
    drivenOut(rank) {
      clock = Math.max(clock, rank);
    },
  };
}
