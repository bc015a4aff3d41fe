/** A predictor whose every number the test chooses: a run takes `runMs`, a start costs by its state, bytes by `bytesPerMs`. */
import { COLD, NO_TICKET, PACKAGES, WARM, ZYGOTE, type Observation, type Predictor } from '../../src/predictor/predictor.ts';

export interface FakePredictor extends Predictor {
  runMs: number;
  /** Prediction for one node whatever its state; wins over all else. */
  readonly onNode: Map<number, number>;
  readonly initMs: { [state: number]: number };
  /** Answers at once; false: questions with a ticket wait for `answer()`. */
  atOnce: boolean;
  /** Answers what was asked; returns how many waited. */
  answer(): number;
  readonly observed: Observation[];
}

export function createFakePredictor(): FakePredictor {
  let listener: (ticket: number) => void = () => {};
  const asked: number[] = [];
  const answered = new Set<number>();
  const initMs: { [state: number]: number } = { [COLD]: 500, [PACKAGES]: 100, [ZYGOTE]: 20, [WARM]: 0 };
  const predictor: FakePredictor = {
    name: 'fake', runMs: 100, onNode: new Map(), initMs, atOnce: true, observed: [],
    predict(_functionIndex, _inputBytes, rows, ticket) {
      if (!predictor.atOnce && !answered.delete(ticket)) {
        if (ticket !== NO_TICKET) asked.push(ticket);
        return false;
      }
      for (let i = 0; i < rows.count; i++) {
        rows.meanMs[i] = predictor.onNode.get(rows.node[i]!) ?? predictor.runMs + (initMs[rows.startState[i]!] ?? 0) + rows.missingBytes[i]! / 1_000;
        rows.spreadMs[i] = 0;
      }
      return true;
    },
    listen: (ready) => void (listener = ready),
    answer() {
      const tickets = asked.splice(0);
      for (const ticket of tickets) {
        answered.add(ticket);
        listener(ticket);
      }
      return tickets.length;
    },
    initialiseMs: (_functionIndex, state) => initMs[state] ?? 0,
    bytesPerMs: () => 1_000,
    observations: () => 1,
    observe: (observation) => void predictor.observed.push(observation),
    accuracy: () => [],
  };
  return predictor;
}
