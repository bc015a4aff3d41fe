/** Policy `round-robin` (the paper's baseline BS): the next node with room, no locality at all; when all are full, the first release. */
import { delayForRoom, dispatchTo, type Policy } from './policy.ts';

export function createRoundRobinPolicy(): Policy {
  let last = -1;
  return {
    name: 'round-robin',
    description: 'The next node in turn that has room; blind to locality (the paper\'s BS).',
    needsAllNodes: true,
    decide({ candidates, mayRun }, out) {
      const { count, node, room } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      // Rows stand in order of node index: the first with room behind `last`, else the first with room at all.
      let first = -1, next = -1;
      for (let row = 0; row < count; row++) {
        if ((room[row] as number) <= 0) continue;
        if (first < 0) first = row;
        if ((node[row] as number) > last) {
          next = row;
          break;
        }
      }
      const chosen = next >= 0 ? next : first;
      if (chosen < 0) return delayForRoom(out, 'noRoom');
      last = node[chosen] as number;
      dispatchTo(out, chosen, 'nextInTurn', 0);
    },
  };
}
