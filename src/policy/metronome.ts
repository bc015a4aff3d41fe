/**
 * Policy `metronome`: the paper's Algorithm 1, differentiated delay scheduling, with the repairs of
 * docs/decisions/002-algorithm-repairs.md. Lines are those of Algorithm 1. `strict` follows the print, faults and all.
 */
import { MAX_ALSO, delayFor, delayForRoom, dispatchTo, type DecisionView, type Policy, type PolicyOptions } from './policy.ts';

/** The policy of the paper. */
export function createMetronomePolicy(options: PolicyOptions): Policy {
  const { localityGain, safetyMargin, strict } = options;
  return strict ? createStrict(localityGain, safetyMargin) : createRepaired(localityGain, safetyMargin);
}

function createRepaired(localityGain: number, safetyMargin: number): Policy {
  return {
    name: 'metronome',
    description: 'Waits for a busy local node when its predicted execution time is below α × the best alternative, never past the safe delay (Algorithm 1, repaired).',
    decide(view, out) {
      const { candidates, invocation, nowMs, mayRun } = view;
      const { count, local, meanMs, room, load } = candidates;
      if (!mayRun) return delayForRoom(out, 'concurrencyLimit');
      if (count === 0) return delayForRoom(out, 'noNodes');
      // Lines 5–6: the best local node (busy or not), and the best node that could start it now.
      let target = -1, alternative = -1, sumMs = 0;
      for (let row = 0; row < count; row++) {
        const t = meanMs[row] as number;
        sumMs += t;
        if (local[row] === 1 && (target < 0 || t < (meanMs[target] as number))) target = row;
        if ((room[row] as number) > 0 && (alternative < 0 || t < (meanMs[alternative] as number) || (t === meanMs[alternative] && (load[row] as number) < (load[alternative] as number)))) alternative = row;
      }
      // Repair: when nothing has room, the alternative is the first room that comes, on any node. Whoever gains by a local node waits for it as ever, instead
      // of taking whatever comes first, and with it more of everybody's time.
      const alternativeMs = alternative < 0 ? sumMs / count : (meanMs[alternative] as number);
      const slackMs = invocation.arrivedAtMs + invocation.slaMs * (1 - safetyMargin) - alternativeMs - nowMs;
      if (alternative < 0 && (target < 0 || (meanMs[target] as number) >= localityGain * alternativeMs || slackMs <= 0)) return delayForRoom(out, 'noRoom');
      if (target < 0) return dispatchTo(out, alternative, 'noLocalNode', slackMs);
      // Lines 9–12. Repair: "at once" means the best node that has room, be it local or not.
      const targetMs = meanMs[target] as number;
      if (targetMs >= localityGain * alternativeMs) return dispatchTo(out, alternative, local[alternative] === 1 ? 'bestNodeHasRoom' : 'gainTooSmall', slackMs);
      // Lines 14–18. Repair: the slack is an absolute deadline, so that time waited counts.
      if (slackMs <= 0) return dispatchTo(out, alternative, 'slackExhausted', slackMs);
      delayFor(out, target, 'waitForLocalNode', nowMs + slackMs, slackMs);
      for (let row = 0; row < count && out.alsoCount < MAX_ALSO; row++) {
        if (row !== target && local[row] === 1 && localityGain * (meanMs[row] as number) <= targetMs) out.also[out.alsoCount++] = row;
      }
    },
    deadlineMs: (view) => view.invocation.arrivedAtMs + view.invocation.slaMs * (1 - safetyMargin) - bestWithRoomMs(view),
  };
}

/** T_f: the least predicted time among nodes with room; among all when none has room (it will have some then); 0 without nodes. */
function bestWithRoomMs(view: DecisionView): number {
  const { count, meanMs, room } = view.candidates;
  let withRoom = Infinity, any = Infinity;
  for (let row = 0; row < count; row++) {
    const t = meanMs[row] as number;
    if (t < any) any = t;
    if ((room[row] as number) > 0 && t < withRoom) withRoom = t;
  }
  return withRoom < Infinity ? withRoom : any < Infinity ? any : 0;
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
