/**
 * Policy `naive-locality` (the paper's baseline NLS): the free node that satisfies most kinds of locality (input data,
 * warm sandbox, packages), the least loaded among equals; without any, the least loaded free node. It never waits for a better node.
 */
import { delayForRoom, dispatchTo, type Policy } from './policy.ts';

const KINDS_SET = [0, 1, 1, 2, 1, 2, 2, 3];

export function createNaiveLocalityPolicy(): Policy {
  return {
    name: 'naive-locality',
    description: 'The free node with most kinds of locality, at once; never waits (the paper\'s NLS).',
    decide({ candidates, mayRun }, out) {
      const { count, kinds, room, load } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      let chosen = -1, chosenKinds = -1, chosenLoad = Infinity;
      for (let row = 0; row < count; row++) {
        if ((room[row] as number) <= 0) continue;
        const has = KINDS_SET[kinds[row] as number] as number;
        const rowLoad = load[row] as number;
        if (has > chosenKinds || (has === chosenKinds && rowLoad < chosenLoad)) {
          chosen = row;
          chosenKinds = has;
          chosenLoad = rowLoad;
        }
      }
      if (chosen < 0) return delayForRoom(out, 'noRoom');
      dispatchTo(out, chosen, chosenKinds > 0 ? 'mostLocalityKinds' : 'leastLoaded', 0);
    },
  };
}
