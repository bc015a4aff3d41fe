/**
 * Policy `data-locality` (the paper's "Basic", the reference of its section 2.2): a free node that holds input data, the least loaded of
 * them, then the one with most bytes; otherwise the least loaded free node, at once. Blind to warm sandboxes and packages; never waits for a better node.
 */
import { delayForRoom, dispatchTo, leastLoadedRow, type Policy } from './policy.ts';

/** Bit of Candidates.kinds. */
const HAS_DATA = 1;

export function createDataLocalityPolicy(): Policy {
  return {
    name: 'data-locality',
    description: 'A free node with input data, else the least loaded free one; never waits (the paper\'s Basic).',
    decide({ candidates, mayRun }, out) {
      const { count, kinds, room, load, missingBytes } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      let best = -1;
      for (let row = 0; row < count; row++) {
        if ((room[row] as number) <= 0 || ((kinds[row] as number) & HAS_DATA) === 0) continue;
        const less = best < 0 ? -1 : (load[row] as number) - (load[best] as number) || (missingBytes[row] as number) - (missingBytes[best] as number);
        if (less < 0) best = row;
      }
      if (best >= 0) return dispatchTo(out, best, 'hasData', 0);
      best = leastLoadedRow(candidates);
      if (best < 0) return delayForRoom(out, 'noRoom');
      dispatchTo(out, best, 'leastLoaded', 0);
    },
  };
}
