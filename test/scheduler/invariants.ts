/** What must hold of the fake cluster after every event: what holds of every scheduler (src/sim/invariants.ts), and of these nodes. */
import { breachesOf, leftoversOf } from '../../src/sim/invariants.ts';
import type { Cluster } from './cluster.ts';

/** All breaches at this moment; the clock must not stand before a timer that is due. `monitorMs`: how late a prediction may be. */
export function breaches({ scheduler, clock, ends, starts, nodes }: Cluster, monitorMs: number): string[] {
  const found = breachesOf(scheduler, clock.nowMs(), monitorMs);
  for (const node of nodes) if (node.runs.size > node.slots) found.push(`${node.name} runs ${node.runs.size} on ${node.slots} slots`);
  for (const [id, times] of ends) if (times !== 1) found.push(`${id} ended ${times} times`);
  for (const [id, times] of starts) if (times > 1 && id.startsWith('once-')) found.push(`${id}, which must run once, was started ${times} times`);
  return found;
}

/** What must hold once nothing lives any more. */
export function leftovers({ scheduler, nodes, ends }: Cluster, accepted: number): string[] {
  const found = leftoversOf(scheduler);
  if (ends.size !== accepted) found.push(`${accepted} were accepted, ${ends.size} ended`);
  for (const node of nodes) if (node.runs.size > 0) found.push(`${node.name} still runs ${node.runs.size}`);
  return found;
}
