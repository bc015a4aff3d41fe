/** A forest that has seen enough synthetic executions to serve, with its threads; and a stream of further ones that keeps its training busy. */
import { createSystemClock } from '../src/core/clock.ts';
import { OBSERVATION_WIDTH, encodeObservation } from '../src/predictor/model/observation.ts';
import { startForest, type Forest } from '../src/predictor/pool/forest.ts';
import { MAX_WAITING_OBSERVATIONS } from '../src/predictor/pool/training-pool.ts';
import { createSyntheticExecutions, type SyntheticExecutions } from '../src/workload/synthetic-executions.ts';

/** Window of the model, full when the measuring begins: the 2 000 observations that the issue of this bench names. The default is 4 000. */
export const WINDOW = 2_000;
/** How often, and how many, ms: about a thousand a second, which makes an update due every 20 ms. */
const FEED_EVERY_MS = 2, FEED = 2;
/** Observations a second while it trains. */
export const OBSERVATIONS_PER_S: number = (1_000 / FEED_EVERY_MS) * FEED;
/** Executions that are made; then they come again. */
const EXECUTIONS = 20_000;

export interface TrainedForest {
  readonly forest: Forest;
  readonly source: SyntheticExecutions;
  /**
   * Begins to feed the training thread, or nobody: then the loop wakes up as often and copies as many numbers, and that is all. The returned function ends it and waits
   * until the thread rests.
   */
  train(whom?: 'training' | 'nobody'): () => Promise<void>;
}

/** Makes it. `updatePauseMs` 0: an update follows the other. `lateAfterMs` is so long that every answer is waited for: the bench wants to know how long it takes. */
export async function createTrainedForest(seed: number, updatePauseMs: number): Promise<TrainedForest> {
  const source = createSyntheticExecutions(seed);
  const forest = startForest({
    clock: createSystemClock(), engine: 'table', model: { seed, window: WINDOW }, threads: 1, lateAfterMs: 5_000, maxRows: 1_024, dir: '', snapshotEveryMs: 0, updatePauseMs, recording: undefined,
    profileOf: (index) => source.functions[index], functionName: (index) => source.functions[index]?.name ?? '', nodeName: (node) => `n${node}`, log: { info() {}, warn: (fields, event) => process.stderr.write(`${event} ${JSON.stringify(fields)}\n`) },
  });
  await forest.opened;
  source.functions.forEach((_, index) => forest.predictor.functionPut(index));
  // Made before: making them must not cost the loop that is measured.
  const executions = new Float64Array(EXECUTIONS * OBSERVATION_WIDTH);
  for (let i = 0; i < EXECUTIONS; i++) {
    const { situation, phases } = source.next();
    encodeObservation({ ...situation, functionIndex: forest.keys.functionKey(situation.functionIndex), nodeIndex: forest.keys.nodeKey(situation.nodeIndex) }, phases, executions, i * OBSERVATION_WIDTH);
  }
  let next = 0;
  const feed = (count: number): void => {
    for (let i = 0; i < count; i++) forest.training.observe(executions, (next++ % EXECUTIONS) * OBSERVATION_WIDTH);
  };
  const drop = createBin(executions);
  const rests = async (): Promise<void> => {
    for (let quiet = 0, last = -1; quiet < 10; ) {
      const { learned, updates } = forest.training.counters;
      quiet = forest.training.waiting === 0 && learned + updates === last ? quiet + 1 : 0;
      last = learned + updates;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  for (let seen = 0; seen < WINDOW; seen += 500) {
    feed(500);
    await rests();
  }
  while (forest.state !== 'serving' || !forest.predictor.isPoolGood) await new Promise((resolve) => setTimeout(resolve, 20));
  return {
    forest, source,
    train(whom = 'training') {
      const timer = setInterval(whom === 'nobody' ? () => drop(FEED) : () => forest.training.waiting < 500 && feed(FEED), FEED_EVERY_MS);
      return async () => {
        clearInterval(timer);
        await rests();
      };
    },
  };
}

/** Takes observations like the line to the training thread, number by number into a ring of as many, and tells nobody. */
function createBin(executions: Float64Array): (count: number) => void {
  const ring = new Float64Array(MAX_WAITING_OBSERVATIONS * OBSERVATION_WIDTH);
  let next = 0;
  return (count) => {
    for (let i = 0; i < count; i++, next++) {
      const from = (next % EXECUTIONS) * OBSERVATION_WIDTH, to = (next % MAX_WAITING_OBSERVATIONS) * OBSERVATION_WIDTH;
      for (let column = 0; column < OBSERVATION_WIDTH; column++) ring[to + column] = executions[from + column] as number;
    }
  };
}
