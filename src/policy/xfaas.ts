/**
 * Policy `xfaas`: the scheduling of Meta's XFaaS (SOSP 2023) as far as one cluster can show it.
 *
 * - Locality groups: functions and workers are divided into groups, memory-hungry functions spread over them; a call only goes to its
 *   group, to the less loaded of two workers chosen at random. An optimiser moves at most one worker and one function a round.
 * - FuncBuffers and RunQ: what may run now waits for its group ordered by criticality, then deadline (the group's line); what may not is held.
 * - Criticality and opportunistic rate: functions that are not critical run at a rate r0 · S. S follows the utilisation of the workers (0 when
 *   they are busy, growing when they idle) and a guard lets a call go before its SLA would be in danger.
 *
 * Simplified: no durable queues, quotas or regions (a call is in memory, every function's own rate is its mean rate of arrival), the promise of
 * 24 h for deferred calls is the SLA, and back-pressure to downstream services is left out. Data locality does not exist in it.
 */
import { delayForRoom, dispatchTo, hold, MAX_LINES, type Policy, type PolicyControl, type PolicyOptions } from './policy.ts';

/** U_high and U_low: at and above the one deferred work stops, below the other it is let in. */
const HIGH_UTILISATION = 0.85, LOW_UTILISATION = 0.66;
const MAX_SCALE = 4;
const SCALE_STEP = 0.2;
/** The guard lets a call go when so many mean latencies are left of its SLA. */
const GUARD = 1.2;
const TICK_MS = 1_000;
const OPTIMISE_EVERY_TICKS = 60;
/** Weight of a new value in the moving means. */
const WEIGHT = 0.1;
/** A function changes its group only when the memory of groups differs by more than this. */
const IMBALANCE = 1.25;
const NODES_PER_GROUP = 4;
/** Behind everything that is critical. */
const NOT_CRITICAL_MS = 1e13;

interface FunctionLoad {
  group: number;
  /** Mean of peak concurrency × memory, MiB. */
  memoryMb: number;
  /** Busy time per second, ms. */
  busyMsPerS: number;
  /** Mean arrivals per second. */
  rate: number;
  /** Mean latency from arrival to result, ms. */
  latencyMs: number;
  /** Since the last tick. */
  arrivals: number;
  servedMs: number;
  /** Opportunistic calls that may go now. */
  tokens: number;
  refilledAtMs: number;
}

/** Groups for so many workers. */
export function groupsFor(nodes: number): number {
  return Math.max(1, Math.min(MAX_LINES - 1, Math.ceil(nodes / NODES_PER_GROUP)));
}

/** S after one second at this utilisation. */
export function nextScale(scale: number, utilisation: number): number {
  return utilisation >= HIGH_UTILISATION ? 0 : Math.min(MAX_SCALE, Math.max(0, scale + (SCALE_STEP * (LOW_UTILISATION - utilisation)) / LOW_UTILISATION));
}

/** Workers per group in proportion to load, at least one each: largest remainders. */
export function shareWorkers(loads: readonly number[], workers: number): number[] {
  const groups = loads.length;
  const counts = loads.map(() => 1);
  let left = Math.max(0, workers - groups);
  const weights = loads.map((load) => Math.max(load, 1e-9));
  const sum = weights.reduce((a, b) => a + b, 0);
  const exact = weights.map((weight) => (weight / sum) * left);
  exact.forEach((share, g) => {
    counts[g] = (counts[g] as number) + Math.floor(share);
    left -= Math.floor(share);
  });
  const order = exact.map((share, g) => [share - Math.floor(share), g] as const).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  for (let i = 0; i < left; i++) {
    const g = order[i % groups]?.[1] ?? 0;
    counts[g] = (counts[g] as number) + 1;
  }
  return counts;
}

export function createXfaasPolicy(options: PolicyOptions): Policy {
  const { random } = options;
  const prefetch = options.xfaas?.prefetch ?? false;
  const loads: (FunctionLoad | undefined)[] = [];
  const groupOfNode: number[] = [];
  let groups = 1;
  let scale = 1;
  let ticks = 0;

  const memoryOf = (group: number): number => loads.reduce((sum, load) => sum + (load?.group === group ? load.memoryMb : 0), 0);
  const busyOf = (group: number): number => loads.reduce((sum, load) => sum + (load?.group === group ? load.busyMsPerS : 0), 0);
  const leastOf = (value: (group: number) => number): number => {
    let best = 0;
    for (let group = 1; group < groups; group++) if (value(group) < value(best)) best = group;
    return best;
  };
  const loadOf = (functionIndex: number, memoryMb: number, nowMs: number): FunctionLoad => {
    let load = loads[functionIndex];
    if (load === undefined) {
      // A new function: where least memory is used.
      load = { group: leastOf(memoryOf), memoryMb, busyMsPerS: 0, rate: 1, latencyMs: 0, arrivals: 0, servedMs: 0, tokens: 1, refilledAtMs: nowMs };
      loads[functionIndex] = load;
    }
    return load;
  };
  const groupOf = (node: number): number => {
    let group = groupOfNode[node];
    if (group === undefined || group >= groups) groupOfNode[node] = group = leastOf((g) => groupOfNode.filter((of) => of === g).length);
    return group;
  };
  /** An opportunistic call may go: a token of r0 · S, or its SLA leaves no more time. */
  const mayGo = (load: FunctionLoad, nowMs: number, endMs: number): boolean => {
    if (nowMs >= endMs - GUARD * load.latencyMs) return true;
    const rate = load.rate * scale;
    load.tokens = Math.min(Math.max(1, rate), load.tokens + ((nowMs - load.refilledAtMs) / 1_000) * rate);
    load.refilledAtMs = nowMs;
    if (scale <= 0 || load.tokens < 1) return false;
    load.tokens--;
    return true;
  };
  const optimise = (control: PolicyControl): void => {
    const ready: number[] = [];
    for (let node = 0; node < control.nodes; node++) if (control.isReady(node)) ready.push(node);
    const wanted = groupsFor(ready.length);
    if (wanted !== groups) {
      groups = wanted;
      groupOfNode.length = 0;
      loads.forEach((load) => {
        if (load !== undefined && load.group >= groups) load.group = load.group % groups;
      });
    }
    for (const node of ready) groupOf(node);
    if (groups === 1) return;
    // One function from the group with most memory to the one with least, if that evens them out.
    const heavy = leastOf((group) => -memoryOf(group)), light = leastOf(memoryOf);
    if (memoryOf(heavy) > IMBALANCE * Math.max(1, memoryOf(light))) {
      const gap = memoryOf(heavy) - memoryOf(light);
      let moved: FunctionLoad | undefined;
      for (const load of loads) if (load !== undefined && load.group === heavy && load.memoryMb < gap && (moved === undefined || load.memoryMb > moved.memoryMb)) moved = load;
      if (moved !== undefined) moved.group = light;
    }
    // One worker from the group that has most too many to the one that lacks most.
    const counts = shareWorkers(Array.from({ length: groups }, (_, group) => busyOf(group)), ready.length);
    const surplus = (group: number): number => ready.filter((node) => groupOfNode[node] === group).length - (counts[group] as number);
    const from = leastOf((group) => -surplus(group)), to = leastOf(surplus);
    if (surplus(from) > 0 && surplus(to) < 0) {
      const node = ready.find((each) => groupOfNode[each] === from);
      if (node !== undefined) groupOfNode[node] = to;
    }
  };

  return {
    name: 'xfaas',
    description: 'Locality groups of functions and workers, the less loaded of two random workers, work that is not critical put off while workers are busy (Meta\'s XFaaS).',
    needsAllNodes: true,
    tickMs: TICK_MS,
    decide(view, out) {
      const { candidates, invocation, nowMs, mayRun } = view;
      const { count, node, room, load: nodeLoad, kinds } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      const load = loadOf(invocation.functionIndex, view.function.memoryMb, nowMs);
      if (invocation.decidedBy === '') load.arrivals++;
      const { critical } = view.function;
      const endMs = invocation.arrivedAtMs + invocation.slaMs;
      // Room of the group, before the rate: a token must not be spent on a call that cannot run.
      let free = 0;
      for (let row = 0; row < count; row++) if ((room[row] as number) > 0 && groupOf(node[row] as number) === load.group) free++;
      if (free === 0) {
        delayForRoom(out, 'groupFull', load.group + 1);
        out.keyMs = endMs + (critical ? 0 : NOT_CRITICAL_MS);
        return;
      }
      if (!critical && !mayGo(load, nowMs, endMs)) return hold(out, 'putOff', Math.min(endMs - GUARD * load.latencyMs, nowMs + TICK_MS));
      // Two choices among the free workers of the group.
      const first = random.below(free);
      let second = free > 1 ? random.below(free - 1) : first;
      if (free > 1 && second >= first) second++;
      let a = -1, b = -1;
      for (let row = 0, place = 0; row < count; row++) {
        if ((room[row] as number) <= 0 || groupOf(node[row] as number) !== load.group) continue;
        if (place === first) a = row;
        if (place === second) b = row;
        place++;
      }
      const warmth = ((kinds[b] as number) & IS_WARM) - ((kinds[a] as number) & IS_WARM);
      const better = (nodeLoad[b] as number) < (nodeLoad[a] as number) || (nodeLoad[b] === nodeLoad[a] && warmth > 0) ? b : a;
      dispatchTo(out, better, 'twoChoices', 0);
    },
    lineOf: (node) => groupOf(node) + 1,
    served(functionIndex, serviceMs, totalMs) {
      const load = loads[functionIndex];
      if (load === undefined) return;
      load.servedMs += serviceMs;
      load.latencyMs = load.latencyMs === 0 ? totalMs : load.latencyMs + WEIGHT * (totalMs - load.latencyMs);
    },
    tick(control) {
      let used = 0, slots = 0;
      for (let node = 0; node < control.nodes; node++) {
        if (!control.isReady(node)) continue;
        used += control.used(node);
        slots += control.slots(node);
      }
      scale = nextScale(scale, slots > 0 ? used / slots : 0);
      for (let index = 0; index < control.functions; index++) {
        const facts = control.functionOf(index);
        if (facts === undefined) {
          loads[index] = undefined;
          continue;
        }
        const load = loads[index];
        if (load === undefined) continue;
        load.memoryMb += WEIGHT * (control.takePeak(index) * facts.memoryMb - load.memoryMb);
        load.busyMsPerS += WEIGHT * (load.servedMs - load.busyMsPerS);
        load.rate = Math.max(1, load.rate + WEIGHT * (load.arrivals - load.rate));
        load.arrivals = load.servedMs = 0;
      }
      if (ticks++ % OPTIMISE_EVERY_TICKS === 0) optimise(control);
      if (!prefetch) return;
      for (let index = 0; index < control.functions; index++) {
        const load = loads[index];
        if (load === undefined || control.functionOf(index) === undefined) continue;
        for (let node = 0; node < control.nodes; node++) {
          if (control.isReady(node) && groupOf(node) === load.group && control.idle(index, node) + control.busy(index, node) === 0) control.prewarm(index, node, 1);
        }
      }
    },
    parameters: () => ({ groups: String(groups), opportunisticScale: scale.toFixed(2), prefetch: String(prefetch), groupOfFunctions: loads.map((load, index) => (load === undefined ? '' : `${index}:${load.group}`)).filter((text) => text !== '').join(' ') }),
  };
}

/** Bit of Candidates.kinds. */
const IS_WARM = 2;
