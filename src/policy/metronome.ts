/**
 * Policy `metronome`: the paper's Algorithm 1, differentiated delay scheduling, with the repairs of
 * docs/decisions/002-algorithm-repairs.md. Lines are those of Algorithm 1. `strict` follows the print, faults and all.
 */
import { leastLoadedNear } from './near-ties.ts';
import { MAX_ALSO, delayFor, delayForRoom, dispatchTo, type DecisionView, type Policy, type PolicyOptions } from './policy.ts';
import { slotPrice, startCredit } from './worth-to-others.ts';

/** The policy of the paper. */
export function createMetronomePolicy(options: PolicyOptions): Policy {
  const { localityGain, safetyMargin, strict, waitPerGain = 0.75 } = options;
  return strict ? createStrict(localityGain, safetyMargin) : createRepaired(localityGain, safetyMargin, waitPerGain);
}

function createRepaired(localityGain: number, safetyMargin: number, waitPerGain: number): Policy {
  /** Until when waiting is safe if that is what the alternative takes. Repair: an absolute time, so that time waited counts. */
  const safeUntilMs = ({ invocation: { arrivedAtMs, slaMs } }: DecisionView, meanMs: number): number => arrivedAtMs + slaMs * (1 - safetyMargin) - meanMs;

  /** Repair: how long a wait may take that saves so much beyond what α asks for, ms. The time saved is that of a slot, too, which others wait for. */
  const worthMs = (view: DecisionView, gainMs: number): number => waitPerGain * gainMs * (1 + slotPrice(view));

  /** What starting on the alternative takes, less what speaks for it because it makes a sandbox: never less than on the local node, ms. */
  const pricedMs = (view: DecisionView, alternative: number, leastMs: number): number => {
    const meanMs = view.candidates.meanMs[alternative] as number;
    return meanMs <= leastMs ? meanMs : Math.max(leastMs, meanMs - startCredit(view, alternative));
  };

  return {
    name: 'metronome',
    description: 'Waits for a busy local node when its predicted execution time is below α × the best alternative, never past the safe delay nor longer than that is worth (Algorithm 1, repaired).',
    decide(view, out) {
      const { candidates, nowMs, mayRun } = view;
      const { count, local, meanMs, room, load } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      // Lines 5–6: the best local node (busy or not), and the best node that could start it now.
      let target = -1, alternative = -1, sumMs = 0;
      for (let row = 0; row < count; row++) {
        const t = meanMs[row] as number;
        sumMs += t;
        if (local[row] === 1 && (target < 0 || t < (meanMs[target] as number) || (t === meanMs[target] && (load[row] as number) < (load[target] as number)))) target = row;
        if ((room[row] as number) > 0 && (alternative < 0 || t < (meanMs[alternative] as number))) alternative = row;
      }
      // Repair: nodes that predictions cannot tell apart are as good, and the least loaded of them is taken.
      if (alternative >= 0) alternative = leastLoadedNear(candidates, alternative, 1 - localityGain);
      // Repair: when nothing has room, the alternative is the first room that comes, on any node. Whoever gains by a local node waits for it as ever, instead
      // of taking whatever comes first, and with it more of everybody's time.
      const alternativeMs = alternative < 0 ? sumMs / count : (meanMs[alternative] as number);
      const slackMs = safeUntilMs(view, alternativeMs) - nowMs;
      if (alternative < 0 && (target < 0 || (meanMs[target] as number) >= localityGain * alternativeMs || slackMs <= 0)) return delayForRoom(out, 'noRoom');
      if (target < 0) return dispatchTo(out, alternative, 'noLocalNode', slackMs);
      // Lines 9–12. Repair: "at once" means the best node that has room, be it local or not.
      const targetMs = meanMs[target] as number;
      const startMs = alternative < 0 ? alternativeMs : pricedMs(view, alternative, targetMs);
      if (targetMs >= localityGain * startMs) return dispatchTo(out, alternative, local[alternative] === 1 ? 'bestNodeHasRoom' : 'gainTooSmall', slackMs);
      // Lines 14–18. Repair: the slack is an absolute deadline, so that time waited counts.
      if (slackMs <= 0) return dispatchTo(out, alternative, 'slackExhausted', slackMs);
      delayFor(out, target, 'waitForLocalNode', nowMs + slackMs, slackMs);
      for (let row = 0; row < count && out.alsoCount < MAX_ALSO; row++) {
        if (row !== target && local[row] === 1 && localityGain * (meanMs[row] as number) <= targetMs) out.also[out.alsoCount++] = row;
      }
      // Repair: who would still be waiting when the slack is used up, or when more is waited than saved, takes the alternative now and not then.
      if (alternative < 0) return;
      const longestMs = Math.min(slackMs, worthMs(view, localityGain * startMs - targetMs));
      let waitMs = view.expectedWaitMs(candidates.node[target] as number);
      for (let i = 0; i < out.alsoCount && waitMs > longestMs; i++) waitMs = Math.min(waitMs, view.expectedWaitMs(candidates.node[out.also[i] as number] as number));
      if (waitMs > longestMs) dispatchTo(out, alternative, 'waitInVain', slackMs);
    },
    deadlineMs(view) {
      const { candidates: { count, node, meanMs, room }, invocation, nowMs } = view;
      // T_f: the least among nodes with room; among all when none has room, for it will have some then.
      let alternative = -1, any = -1;
      for (let row = 0; row < count; row++) {
        const t = meanMs[row] as number;
        if (any < 0 || t < (meanMs[any] as number)) any = row;
        if ((room[row] as number) > 0 && (alternative < 0 || t < (meanMs[alternative] as number))) alternative = row;
      }
      const best = alternative < 0 ? any : alternative;
      const untilMs = safeUntilMs(view, best < 0 ? 0 : (meanMs[best] as number));
      const nodes = invocation.lineNodes;
      if (alternative < 0 || nodes === undefined || nodes.length === 0) return untilMs;
      let leastMs = Infinity;
      for (let row = 0; row < count; row++) if (nodes.includes(node[row] as number)) leastMs = Math.min(leastMs, meanMs[row] as number);
      const longestMs = Math.min(untilMs - nowMs, worthMs(view, localityGain * pricedMs(view, alternative, leastMs) - leastMs));
      return nodes.every((each) => view.expectedWaitMs(each) > longestMs) ? nowMs : untilMs;
    },
  };
}

function createStrict(localityGain: number, safetyMargin: number): Policy {
  return {
    name: 'metronome',
    description: 'Algorithm 1 exactly as printed, including its faults (delay.strict).',
    decide(view, out) {
      const { candidates, invocation, mayRun } = view;
      const { count, local, meanMs, room } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      let target = -1, fallback = -1;
      for (let row = 0; row < count; row++) {
        const t = meanMs[row] as number;
        if (local[row] === 1) {
          if (target < 0 || t < (meanMs[target] as number)) target = row;
        } else if ((room[row] as number) > 0 && (fallback < 0 || t < (meanMs[fallback] as number))) fallback = row;
      }
      const fallbackMs = fallback < 0 ? Infinity : (meanMs[fallback] as number);
      // Lines 18 and 23 as printed: the time already waited is never subtracted.
      const slackMs = fallback < 0 ? Infinity : invocation.slaMs * (1 - safetyMargin) - fallbackMs;
      if (target < 0 || (meanMs[target] as number) >= localityGain * fallbackMs) {
        if (fallback < 0) return delayForRoom(out, 'noRoom');
        return dispatchTo(out, fallback, target < 0 ? 'noLocalNode' : 'fallbackAsPrinted', slackMs);
      }
      if ((room[target] as number) > 0) return dispatchTo(out, target, 'bestNodeHasRoom', slackMs);
      if (slackMs <= 0) return dispatchTo(out, fallback, 'slackExhausted', slackMs);
      delayFor(out, target, 'waitForLocalNode', Infinity, slackMs);
    },
    deadlineMs(view) {
      const { count, local, meanMs, room } = view.candidates;
      let violation = false;
      for (let row = 0; row < count; row++) {
        if (local[row] === 1 || (room[row] as number) <= 0) continue;
        if (view.invocation.slaMs * (1 - safetyMargin) - (meanMs[row] as number) > 0) return Infinity;
        violation = true;
      }
      return violation ? view.nowMs : Infinity;
    },
  };
}
