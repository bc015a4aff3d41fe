/**
 * What the policies that manage sandboxes share: where work goes (a free node with a warm sandbox, the least loaded; else in turn, as
 * OpenWhisk does for Aquatope and IceBreaker), and how a number of sandboxes becomes prewarming and expiry on nodes.
 */
import { delayForRoom, dispatchTo, type Decision, type DecisionView, type PolicyControl } from './policy.ts';
import { createRoundRobinPolicy } from './round-robin.ts';

/** Bit of Candidates.kinds. */
const IS_WARM = 2;

/** Placement without data locality and without waiting. */
export function createWarmFirstPlacement(): (view: DecisionView, out: Decision) => void {
  const inTurn = createRoundRobinPolicy();
  return (view, out) => {
    const { count, kinds, room, load } = view.candidates;
    if (!view.mayRun) return delayForRoom(out, 'concurrencyLimit');
    let best = -1;
    for (let row = 0; row < count; row++) {
      if ((room[row] as number) > 0 && ((kinds[row] as number) & IS_WARM) !== 0 && (best < 0 || (load[row] as number) < (load[best] as number))) best = row;
    }
    if (best >= 0) return dispatchTo(out, best, 'warmSandbox', 0);
    inTurn.decide(view, out);
  };
}

/** Sandboxes of one function on all nodes. */
export function poolSize(control: PolicyControl, functionIndex: number): number {
  let size = 0;
  for (let node = 0; node < control.nodes; node++) size += control.idle(functionIndex, node) + control.busy(functionIndex, node);
  return size;
}

/** Memory of a node that no sandbox has, MiB. O(functions). */
function freeMb(control: PolicyControl, node: number): number {
  let usedMb = 0;
  for (let index = 0; index < control.functions; index++) usedMb += (control.functionOf(index)?.memoryMb ?? 0) * (control.idle(index, node) + control.busy(index, node));
  return control.memoryMb(node) - usedMb;
}

/**
 * Brings the sandboxes of a function to `target`: what is missing is made where most memory is free, what is too much goes at once,
 * idle ones only. Never more than fits. Returns what it asked for (negative: to go).
 */
export function bringPoolTo(control: PolicyControl, functionIndex: number, target: number): number {
  const facts = control.functionOf(functionIndex);
  if (facts === undefined) return 0;
  const missing = target - poolSize(control, functionIndex);
  if (missing < 0) {
    let surplus = -missing;
    for (let node = 0; node < control.nodes && surplus > 0; node++) {
      const count = Math.min(surplus, control.idle(functionIndex, node));
      if (count === 0) continue;
      control.evict(functionIndex, node, count);
      surplus -= count;
    }
    return missing + surplus;
  }
  const free: number[] = [];
  for (let node = 0; node < control.nodes; node++) free[node] = control.isReady(node) ? freeMb(control, node) : 0;
  const more = new Map<number, number>();
  let asked = 0;
  for (; asked < missing; asked++) {
    let best = -1;
    for (let node = 0; node < control.nodes; node++) if ((free[node] as number) >= facts.memoryMb && (best < 0 || (free[node] as number) > (free[best] as number))) best = node;
    if (best < 0) break;
    free[best] = (free[best] as number) - facts.memoryMb;
    more.set(best, (more.get(best) ?? 0) + 1);
  }
  for (const [node, count] of more) control.prewarm(functionIndex, node, control.idle(functionIndex, node) + count);
  return asked;
}
