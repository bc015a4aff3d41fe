/**
 * Policy `rule-delay` (the paper's RDS): delay scheduling by rule after Zaharia et al., EuroSys 2010, Algorithm 3 without the rack
 * level. An invocation whose data lie on busy nodes waits for one of them, at most W, one constant for all functions; then it takes
 * the least loaded free node. It knows nothing of warm sandboxes, packages, or of how long the function runs.
 *
 * W comes from the environment: D slot offers make a launch local with the probability λ when one of M nodes has the data, so
 * D = ⌈ln(1 − λ) / ln(1 − 1/M)⌉ (the exact form of the paper's bound for one task, one replica); in a cluster of S busy slots one is
 * offered every T/S, so W = D · T / S, with T the mean service time over all functions. Simplified: T is the running mean, not that
 * of a calibration run; one replica is assumed, though an object that was fetched has several.
 */
import { delayFor, delayForRoom, dispatchTo, leastLoadedRow, MAX_ALSO, type ClusterFacts, type Policy, type PolicyOptions } from './policy.ts';

/** Bit of Candidates.kinds. */
const HAS_DATA = 1;
/** T before anything was measured, ms. */
const FIRST_GUESS_MS = 1_000;

/** D: slot offers until a launch is local with probability `locality` when one of `nodes` has the data. 0 with one node. */
export function offersFor(locality: number, nodes: number): number {
  return nodes <= 1 ? 0 : Math.ceil(Math.log(1 - locality) / Math.log(1 - 1 / nodes));
}

/** W = D · T / S, ms. */
export function waitFor(locality: number, { readyNodes, readySlots, meanServiceMs }: ClusterFacts): number {
  return readySlots <= 0 ? 0 : (offersFor(locality, readyNodes) * (meanServiceMs > 0 ? meanServiceMs : FIRST_GUESS_MS)) / readySlots;
}

export function createRuleDelayPolicy(options: PolicyOptions): Policy {
  const locality = options.ruleDelay?.locality ?? 0.95;
  const fixedMs = options.ruleDelay?.waitMs ?? 0;
  const waitMs = (facts: ClusterFacts): number => (fixedMs > 0 ? fixedMs : waitFor(locality, facts));
  return {
    name: 'rule-delay',
    description: 'Waits a fixed time, computed from the cluster, for a node with the data (Zaharia\'s delay scheduling, the paper\'s RDS).',
    decide({ candidates, invocation, nowMs, mayRun, cluster }, out) {
      const { count, kinds, room, load } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      // P: the nodes with data of it; the least loaded of those that are free.
      let holder = -1, free = -1;
      for (let row = 0; row < count; row++) {
        if (((kinds[row] as number) & HAS_DATA) === 0) continue;
        if (holder < 0) holder = row;
        if ((room[row] as number) > 0 && (free < 0 || (load[row] as number) < (load[free] as number))) free = row;
      }
      if (free >= 0) return dispatchTo(out, free, 'hasData', 0);
      const deadlineMs = (invocation.firstDelayedAtMs > 0 ? invocation.firstDelayedAtMs : nowMs) + waitMs(cluster);
      if (holder >= 0 && nowMs < deadlineMs) {
        delayFor(out, holder, 'waitForData', deadlineMs, deadlineMs - nowMs);
        for (let row = holder + 1; row < count && out.alsoCount < MAX_ALSO; row++) if (((kinds[row] as number) & HAS_DATA) !== 0) out.also[out.alsoCount++] = row;
        return;
      }
      const least = leastLoadedRow(candidates);
      if (least < 0) return delayForRoom(out, 'noRoom');
      dispatchTo(out, least, holder < 0 ? 'leastLoaded' : 'waitIsOver', 0);
    },
    // Locality is ignored then, and so are predictions.
    fallback: ({ candidates }) => leastLoadedRow(candidates),
    parameters(facts) {
      const D = offersFor(locality, facts.readyNodes);
      return { locality: String(locality), offers: String(D), meanServiceMs: facts.meanServiceMs.toFixed(1), waitMs: waitMs(facts).toFixed(1), source: fixedMs > 0 ? 'configured' : `${D} offers × ${facts.meanServiceMs > 0 ? 'mean service time' : 'a first guess of 1 s'} ÷ ${facts.readySlots} slots` };
    },
  };
}
