/** A predictor whose every number the test chooses: a run takes `runMs`, a start costs by its state, bytes by `bytesPerMs`. */
import { COLD, NO_TICKET, PACKAGES, WARM, ZYGOTE, type Exclusion, type Observation, type Predictor } from '../../src/predictor/predictor.ts';

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
  /** Situations that are kept: handle → node. */
  readonly situations: Map<number, number>;
}

export function createFakePredictor(): FakePredictor {
  let listener: (ticket: number) => void = () => {};
  const asked: number[] = [];
  const excluded: { [Why in Exclusion]: number } = { failed: 0, cancelled: 0, timedOut: 0, memoryExceeded: 0, lost: 0, refused: 0, deleted: 0 };
  let handles = 0;
  const initMs: { [state: number]: number } = { [COLD]: 500, [PACKAGES]: 100, [ZYGOTE]: 20, [WARM]: 0 };
  const predictor: FakePredictor = {
    name: 'fake', runMs: 100, onNode: new Map(), initMs, atOnce: true, observed: [], situations: new Map(), excluded,
    predict(_subject, rows, ticket) {
      if (!predictor.atOnce && ticket !== NO_TICKET) {
        asked.push(ticket);
        return false;
      }
      for (let i = 0; i < rows.count; i++) {
        rows.meanMs[i] = predictor.onNode.get(rows.node[i]!) ?? predictor.runMs + (initMs[rows.startState[i]!] ?? 0) + rows.missingBytes[i]! / 1_000;
        rows.spreadMs[i] = 0;
        rows.p95Ms[i] = rows.p99Ms[i] = rows.meanMs[i]!;
      }
      return true;
    },
    listen: (ready) => void (listener = ready),
    answer() {
      const tickets = asked.splice(0);
      for (const ticket of tickets) listener(ticket);
      return tickets.length;
    },
    initialiseMs: (_functionIndex, state) => initMs[state] ?? 0,
    bytesPerMs: () => 1_000,
    observations: () => 1,
    attach: () => {},
    functionPut: () => {},
    functionDeleted: () => {},
    dispatched(_subject, rows, row) {
      predictor.situations.set(handles, rows.node[row]!);
      return handles++;
    },
    observe(observation) {
      predictor.observed.push(observation);
      predictor.situations.delete(observation.situation);
    },
    exclude(situation, why) {
      excluded[why]++;
      predictor.situations.delete(situation);
    },
    accuracy: () => [],
  };
  return predictor;
}
