/**
 * A predictor that can be made to fail, for faults from the seed: its predictions are wrong, come late, or never come. What it learns is what the
 * one behind it learns. While nothing is wrong with it, it is that one.
 */
import type { Clock } from '../core/clock.ts';
import type { Random } from '../core/random.ts';
import { NO_TICKET, type Predictor } from '../predictor/predictor.ts';

/** What is wrong at the moment; undefined: nothing of the kind. */
export interface PredictionFaults {
  /** Each prediction is drawn into or out of proportion, by up to WRONG_BY either way. */
  wrong: Random | undefined;
  /** Answers to who can wait come so much later, ms. */
  lateMs: number;
  /** Who can wait waits in vain. */
  missing: boolean;
}

/** A predictor with its faults. */
export interface UnreliablePredictor extends Predictor {
  readonly faults: PredictionFaults;
}

/** Greatest factor of a wrong prediction, up or down. */
const WRONG_BY = 16;

/** Makes one of another; several may have their faults together. */
export function createUnreliablePredictor(inner: Predictor, clock: Clock, faults: PredictionFaults = { wrong: undefined, lateMs: 0, missing: false }): UnreliablePredictor {
  let ready: (ticket: number) => void = () => {};
  return {
    // Methods do not ask for `this`: a predictor is made of closures.
    ...inner,
    faults,
    get excluded() {
      return inner.excluded;
    },
    predict(subject, rows, ticket) {
      // Only arrivals wait; who is looked at again gets what there is.
      if (ticket !== NO_TICKET && faults.missing) return false;
      if (ticket !== NO_TICKET && faults.lateMs > 0) {
        clock.setTimer(clock.nowMs() + faults.lateMs, () => ready(ticket));
        return false;
      }
      const isAnswered = inner.predict(subject, rows, ticket);
      if (!isAnswered || faults.wrong === undefined) return isAnswered;
      for (let row = 0; row < rows.count; row++) {
        const factor = WRONG_BY ** (2 * faults.wrong.uniform() - 1);
        for (const column of [rows.meanMs, rows.spreadMs, rows.p95Ms, rows.p99Ms]) column[row] = factor * (column[row] as number);
      }
      return true;
    },
    listen(listener) {
      ready = listener;
      inner.listen(listener);
    },
  };
}
