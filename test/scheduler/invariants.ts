/** What must hold of a scheduler after every event (docs: what must always hold). Each breach is one sentence. */
import { DELAYING, DISPATCHED, isTerminal } from '../../src/core/invocation.ts';
import { READY } from '../../src/scheduler/cluster-view.ts';
import type { Cluster } from './cluster.ts';

/** All breaches at this moment; the clock must not stand before a timer that is due. `monitorMs`: how late a prediction may be. */
export function breaches({ scheduler, clock, ends, starts, nodes }: Cluster, monitorMs: number): string[] {
  const found: string[] = [];
  const now = clock.nowMs();
  const { cluster, live, lines, functions } = scheduler;
  const dispatchedTo = new Map<number, number>();
  const runningOf = new Map<number, number>();
  let locality = 0, capacity = 0;
  let anyRoom = false;
  for (let node = 0; node < cluster.count; node++) if (cluster.room(node, now) > 0) anyRoom = true;
  for (const invocation of live.values()) {
    const { id, state } = invocation;
    if (isTerminal(state)) found.push(`${id} is terminal and lives`);
    if (state === DISPATCHED) {
      dispatchedTo.set(invocation.node, (dispatchedTo.get(invocation.node) ?? 0) + 1);
      runningOf.set(invocation.functionIndex, (runningOf.get(invocation.functionIndex) ?? 0) + 1);
      if (cluster.running[invocation.node]?.[invocation.runPlace] !== invocation) found.push(`${id} is dispatched and not in the list of its node`);
    }
    if ((state === DELAYING) !== (invocation.lineNodes !== undefined)) found.push(`${id} in state ${state} is ${invocation.lineNodes === undefined ? 'in no' : 'in a'} line`);
    if (state !== DELAYING) continue;
    if (invocation.duePlace < 0 || !Number.isFinite(invocation.dueAtMs)) found.push(`${id} delays without an armed deadline`);
    if (invocation.dueAtMs < now) found.push(`${id} delays past its deadline by ${now - invocation.dueAtMs} ms`);
    if (invocation.delayingFor === 'locality') {
      locality++;
      if (anyRoom && invocation.slackDeadlineMs + monitorMs < now) found.push(`${id} waits ${now - invocation.slackDeadlineMs} ms past its slack while a node has room`);
    } else {
      capacity++;
      const { concurrency } = functions.entries[invocation.functionIndex]!.settings;
      const limited = concurrency > 0 && functions.entries[invocation.functionIndex]!.running >= concurrency;
      // XFaaS waits by rule: for its group, or because it is put off; and who waits for its turn comes behind such a one.
      const byRule = [...live.values()].some(({ functionIndex, state: its, reason }) => functionIndex === invocation.functionIndex && its === DELAYING && (reason === 'groupFull' || reason === 'putOff'));
      if (anyRoom && !limited && !byRule) found.push(`${id} waits for room (${invocation.reason}) while a node has some`);
    }
  }
  if (lines.locality !== locality || lines.capacity !== capacity) found.push(`lines count ${lines.locality} + ${lines.capacity} waiters, there are ${locality} + ${capacity}`);
  for (let node = 0; node < cluster.count; node++) {
    const used = cluster.used[node]!;
    const booked = cluster.running[node]!.length + cluster.foreign[node]!.size;
    if (used !== booked) found.push(`${cluster.name(node)} has ${used} slots used, ${booked} booked`);
    if ((dispatchedTo.get(node) ?? 0) !== cluster.running[node]!.length) found.push(`${cluster.name(node)} lists ${cluster.running[node]!.length} runs, ${dispatchedTo.get(node) ?? 0} are dispatched there`);
    if (cluster.status[node] === READY && used > cluster.slots[node]! && cluster.foreign[node]!.size === 0) found.push(`${cluster.name(node)} is given ${used} of ${cluster.slots[node]} slots`);
  }
  for (const entry of functions.entries) {
    if (entry.running !== (runningOf.get(entry.index) ?? 0)) found.push(`${entry.settings.name} counts ${entry.running} running, there are ${runningOf.get(entry.index) ?? 0}`);
  }
  for (const node of nodes) if (node.runs.size > node.slots) found.push(`${node.name} runs ${node.runs.size} on ${node.slots} slots`);
  for (const [id, times] of ends) if (times !== 1) found.push(`${id} ended ${times} times`);
  for (const [id, times] of starts) if (times > 1 && id.startsWith('once-')) found.push(`${id}, which must run once, was started ${times} times`);
  return found;
}

/** What must hold once nothing lives any more. */
export function leftovers({ scheduler, nodes, ends }: Cluster, accepted: number): string[] {
  const found: string[] = [];
  const { cluster, lines, live, functions } = scheduler;
  if (live.size > 0) found.push(`${live.size} live on: ${[...live.values()].map(({ id, state, reason }) => `${id} in ${state} (${reason})`).join(', ')}`);
  if (ends.size !== accepted) found.push(`${accepted} were accepted, ${ends.size} ended`);
  if (lines.locality + lines.capacity > 0) found.push(`${lines.locality + lines.capacity} stand in lines`);
  for (let node = 0; node < cluster.count; node++) {
    if (cluster.used[node] !== 0) found.push(`${cluster.name(node)} has ${cluster.used[node]} slots used (${cluster.running[node]!.length} running, ${cluster.foreign[node]!.size} foreign)`);
    if (lines.waitingFor(node) > 0) found.push(`${lines.waitingFor(node)} wait for ${cluster.name(node)}`);
    if (lines.headOfNode(node) !== undefined) found.push(`${cluster.name(node)} has a head in its line`);
  }
  if (lines.headOfRoom() !== undefined) found.push('the line for room has a head');
  for (const entry of functions.entries) if (entry.running !== 0) found.push(`${entry.settings.name} counts ${entry.running} running`);
  for (const node of nodes) if (node.runs.size > 0) found.push(`${node.name} still runs ${node.runs.size}`);
  return found;
}
