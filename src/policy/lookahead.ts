/**
 * Policy `lookahead`: our own (docs/decisions/019-what-waiting-costs.md, ARCHITECTURE.md). Algorithm 1 compares execution times and forgets the wait; this one compares
 * completion times, W + T, where W is the predicted time until the node has room (what runs there and who stands before us included).
 *
 * Running where it takes longer also costs others: it holds a slot, and a link, that they wait for. So T beyond the least T of any node has a price per ms,
 * κ · (waiters ÷ slots + load): what others lose by it now, and by those that will come while slots are busy. Without it each invocation moves its data
 * when that is best for itself, all do, and the links are full.
 *
 * Starting where no sandbox is warm makes one that later invocations need not wait for. Rent or buy: what invocations of the function have waited since it last made one, times ρ, is credited
 * to starting now, up to what that takes longer, if the node has memory for it beside the sandboxes that it has. So nobody waits again and again for the same few sandboxes.
 *
 * In the lines of nodes short executions come before long ones that arrived a little earlier: the sum of all waits is less that way, and nobody is overtaken for long.
 *
 * It waits for a busy node only if its cost is below γ · the least cost of a node with room, and if the risk is bounded: the upper quantile
 * of W + T fits into what is left of the SLA (or the alternative's does not either). It decides again while it waits; the node waited
 * for has an advantage of γ, so that choices do not flip. Near-ties go to the lower load. β is not needed.
 */
import { leastLoadedNear } from './near-ties.ts';
import { delayFor, delayForRoom, dispatchTo, MAX_ALSO, type Decision, type DecisionView, type Policy, type PolicyOptions } from './policy.ts';
import { slotPrice, startCredit } from './worth-to-others.ts';

/** In a node's line, those who arrive within so many of its execution times after it may come first if they take less. */
const PATIENCE = 4;

export function createLookaheadPolicy(options: PolicyOptions): Policy {
  const { hysteresis = 0.8, price = 1, rent = 1, wait = 'predicted', risk = 'quantile' } = options.lookahead ?? {};

  /** Place in a node's line, ms: who takes long lets those come first that take less and arrive soon after it, but never past the point where it would miss its SLA. */
  const keyOf = (view: DecisionView, row: number): number => {
    const { arrivedAtMs, slaMs } = view.invocation;
    return arrivedAtMs + Math.min(PATIENCE * (view.candidates.meanMs[row] as number), slaMs - upperMs(view, row));
  };

  /** What the execution time of a row stays below, ms. */
  const upperMs = ({ candidates }: DecisionView, row: number): number => (risk === 'quantile' ? candidates.p95Ms[row] : candidates.meanMs[row]) as number;

  /** W of a node without room, ms. */
  const waitMsOf = (view: DecisionView, node: number, keyMs: number): number => (wait === 'predicted' ? view.expectedWaitMs(node, keyMs) : wait === 'none' ? 0 : view.cluster.meanServiceMs);

  /** What wait and execution on a busy node stay below, ms: both are uncertain, and not in step. */
  const riskMsOf = (view: DecisionView, row: number, waitMs: number): number => {
    const T = view.candidates.meanMs[row] as number;
    const upperWaitMs = wait === 'predicted' && risk === 'quantile' ? view.upperWaitMs(view.candidates.node[row] as number, keyOf(view, row)) : waitMs;
    return waitMs + T + Math.hypot(upperWaitMs - waitMs, upperMs(view, row) - T);
  };

  /** The best row with room: least T; within the predictions' own error the less loaded one. -1: none has room. */
  const bestWithRoom = ({ candidates }: DecisionView): number => {
    const { count, meanMs, room } = candidates;
    let best = -1;
    for (let row = 0; row < count; row++) if ((room[row] as number) > 0 && (best < 0 || (meanMs[row] as number) < (meanMs[best] as number))) best = row;
    if (best < 0) return -1;
    return leastLoadedNear(candidates, best, 1 - hysteresis);
  };

  /** Execution time on a node chosen at random, ms. */
  const meanOf = ({ candidates: { count, meanMs } }: DecisionView): number => {
    let sumMs = 0;
    for (let row = 0; row < count; row++) sumMs += meanMs[row] as number;
    return sumMs / count;
  };

  /** Names the busy nodes where it would run about as long as on the target: whichever has room first. */
  const listAlike = ({ candidates: { count, meanMs, room } }: DecisionView, target: number, out: Decision): void => {
    for (let row = 0; row < count && out.alsoCount < MAX_ALSO; row++) {
      if (row !== target && (room[row] as number) <= 0 && hysteresis * (meanMs[row] as number) <= (meanMs[target] as number)) out.also[out.alsoCount++] = row;
    }
  };

  return {
    name: 'lookahead',
    description: 'Compares completion times: waits for a busy node if waiting and running there ends earlier than running elsewhere now, at what that costs others, with bounded risk.',
    decidesAgain: true,
    decide(view, out) {
      const { candidates, invocation, nowMs, mayRun } = view;
      const { count, node, meanMs, room } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      const now = bestWithRoom(view);
      const nowMeanMs = now < 0 ? Infinity : (meanMs[now] as number);
      let fastestMs = Infinity;
      for (let row = 0; row < count; row++) if ((meanMs[row] as number) < fastestMs) fastestMs = meanMs[row] as number;
      const msPrice = price * slotPrice(view);
      const creditMs = now < 0 || rent === 0 ? 0 : Math.min(rent * startCredit(view, now), nowMeanMs - fastestMs);
      const nowCostMs = now < 0 ? Infinity : nowMeanMs - creditMs + msPrice * (nowMeanMs - creditMs - fastestMs);
      // Only a node whose execution alone beats the alternative can win with a wait before it.
      let target = -1, targetWaitMs = 0, leastMs = Infinity, second = -1, secondMs = Infinity;
      for (let row = 0; row < count; row++) {
        const T = meanMs[row] as number;
        if ((room[row] as number) > 0 || T >= hysteresis * nowMeanMs) continue;
        const waitMs = waitMsOf(view, node[row] as number, keyOf(view, row));
        // The one that is waited for already has the advantage: revisions must win by γ.
        const costMs = (waitMs + T + msPrice * (T - fastestMs)) * (node[row] === invocation.target ? hysteresis : 1);
        if (costMs < leastMs) {
          second = target;
          secondMs = leastMs;
          target = row;
          leastMs = costMs;
          targetWaitMs = waitMs;
        } else if (costMs < secondMs) {
          second = row;
          secondMs = costMs;
        }
      }
      const endMs = invocation.arrivedAtMs + invocation.slaMs;
      if (now < 0) {
        // Nothing has room. Where nodes hardly differ, the first room on any is as good.
        if (target < 0 || fastestMs >= hysteresis * meanOf(view)) return delayForRoom(out, 'noRoom');
        const untilMs = endMs - (second < 0 ? upperMs(view, target) : upperMs(view, second));
        if (untilMs <= nowMs) return delayForRoom(out, 'noRoom');
        delayFor(out, target, 'waitForEarlierEnd', untilMs, untilMs - nowMs);
        out.keyMs = keyOf(view, target);
        return listAlike(view, target, out);
      }
      const slackMs = endMs - upperMs(view, now) - nowMs;
      if (target < 0 || leastMs >= hysteresis * nowCostMs) return dispatchTo(out, now, 'earliestEnd', slackMs);
      const riskMs = riskMsOf(view, target, targetWaitMs);
      const leftMs = endMs - nowMs;
      // Where the SLA is lost already there is nothing to save by haste, and the cost alone decides.
      if (riskMs > leftMs && riskMs >= upperMs(view, now) && nowMeanMs <= leftMs) return dispatchTo(out, now, 'riskTooHigh', slackMs);
      // When the alternative no longer fits, waiting on cannot be undone: that is the last moment, unless it does not fit already.
      const deadlineMs = slackMs > 0 ? nowMs + slackMs : nowMs + Math.max(1, targetWaitMs);
      delayFor(out, target, 'waitForEarlierEnd', deadlineMs, slackMs);
      out.keyMs = keyOf(view, target);
      listAlike(view, target, out);
    },
    fallback: bestWithRoom,
    parameters: () => ({ hysteresis: String(hysteresis), price: String(price), rent: String(rent), wait, risk: risk === 'quantile' ? 'P95' : risk }),
  };
}
