/**
 * What must always hold of a scheduler (ARCHITECTURE.md), checked between events. Each breach is one sentence. Used by the random
 * stories of the tests and by simulations with faults. O(live invocations + nodes + functions).
 */
import { DELAYING, DISPATCHED, isTerminal } from '../core/invocation.ts';
import { READY } from '../scheduler/cluster-view.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

/**
 * All breaches at this moment; no timer that is due may be outstanding. `monitorMs`: how late a prediction may be. `hasLied`: nodes that said wrong things of
 * their slots; what they were given before the truth may be too much. `byPolls`: it decides again by polls only (delay.decideOn).
 */
export function breachesOf(scheduler: Scheduler, now: number, monitorMs: number, hasLied: (node: number) => boolean = () => false, byPolls = false): string[] {
  const found: string[] = [];
  const { cluster, live, lines, functions } = scheduler;
  const dispatchedTo = new Map<number, number>();
  const runningOf = new Map<number, number>();
  /** Functions of which one waits by a rule of XFaaS (for its group, or put off): who waits for its turn comes behind such a one. */
  const byRule = new Set<number>();
  for (const { state, reason, functionIndex } of live.values()) if (state === DELAYING && (reason === 'groupFull' || reason === 'putOff')) byRule.add(functionIndex);
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
      const entry = functions.entries[invocation.functionIndex];
      const concurrency = entry?.settings.concurrency ?? 0;
      const limited = concurrency > 0 && (entry?.running ?? 0) >= concurrency;
      // By polls it looks for room when its next one is due, and not before.
      const isBetweenPolls = byPolls && invocation.dueAtMs >= now;
      if (anyRoom && !limited && !isBetweenPolls && !byRule.has(invocation.functionIndex)) found.push(`${id} waits for room (${invocation.reason}) while a node has some`);
    }
  }
  if (lines.locality !== locality || lines.capacity !== capacity) found.push(`lines count ${lines.locality} + ${lines.capacity} waiters, there are ${locality} + ${capacity}`);
  for (let node = 0; node < cluster.count; node++) {
    const used = cluster.used[node] ?? 0, slots = cluster.slots[node] ?? 0;
    const running = cluster.running[node]?.length ?? 0, foreign = cluster.foreign[node]?.size ?? 0;
    const name = cluster.name(node);
    if (used !== running + foreign) found.push(`${name} has ${used} slots used, ${running + foreign} booked`);
    if ((dispatchedTo.get(node) ?? 0) !== running) found.push(`${name} lists ${running} runs, ${dispatchedTo.get(node) ?? 0} are dispatched there`);
    if (cluster.status[node] === READY && used > slots && foreign === 0 && !hasLied(node)) found.push(`${name} is given ${used} of ${slots} slots`);
  }
  for (const entry of functions.entries) {
    if (entry.running !== (runningOf.get(entry.index) ?? 0)) found.push(`${entry.settings.name} counts ${entry.running} running, there are ${runningOf.get(entry.index) ?? 0}`);
  }
  return found;
}

/** What must hold once nothing lives any more. */
export function leftoversOf({ cluster, lines, live, functions }: Scheduler): string[] {
  const found: string[] = [];
  if (live.size > 0) found.push(`${live.size} live on: ${[...live.values()].map(({ id, state, reason }) => `${id} in ${state} (${reason})`).join(', ')}`);
  if (lines.locality + lines.capacity > 0) found.push(`${lines.locality + lines.capacity} stand in lines`);
  for (let node = 0; node < cluster.count; node++) {
    if (cluster.used[node] !== 0) found.push(`${cluster.name(node)} has ${cluster.used[node]} slots used (${cluster.running[node]?.length ?? 0} running, ${cluster.foreign[node]?.size ?? 0} foreign)`);
    if (lines.waitingFor(node) > 0) found.push(`${lines.waitingFor(node)} wait for ${cluster.name(node)}`);
    if (lines.headOfNode(node) !== undefined) found.push(`${cluster.name(node)} has a head in its line`);
  }
  if (lines.headOfRoom() !== undefined) found.push('the line for room has a head');
  for (const entry of functions.entries) if (entry.running !== 0) found.push(`${entry.settings.name} counts ${entry.running} running`);
  return found;
}
