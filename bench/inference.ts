/**
 * Bench `inference`: how long a question takes from the loop through the shared-memory ring to the inference thread and back, while the
 * training thread replaces trees without a pause; what the prediction alone costs in a thread; and the same rows through the predict of ml-random-forest.
 */
import { RandomForestRegression } from 'ml-random-forest';
import { ALONE } from '../src/core/invocation.ts';
import { METRIC_NAMES } from '../src/scheduler/cluster-view.ts';
import { createRandom } from '../src/core/random.ts';
import { SITUATION_WIDTH, encodeSituation, FIRST_FEATURE } from '../src/predictor/features.ts';
import { createPredictionOut } from '../src/predictor/model/model-view.ts';
import { OBSERVATION_WIDTH, encodeObservation } from '../src/predictor/model/observation.ts';
import { createOnlineModel } from '../src/predictor/model/online-model.ts';
import { ModelReader, ModelWriter, createPublishedModel } from '../src/predictor/model/published-model.ts';
import { WARM, createPredictionRows } from '../src/predictor/predictor.ts';
import { createSyntheticExecutions } from '../src/workload/synthetic-executions.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';
import { WINDOW, createTrainedForest, type TrainedForest } from './trained-forest.ts';

const SIZES = [10, 100, 1_000] as const;
const TREES = 100;
/** Rows that the library is trained with: its cost grows with the square. */
const LIBRARY_ROWS = 150;

/** Milliseconds from question to answer in the loop, sorted. Every question is a new one: the memory of answers must not help. */
async function askTimes({ forest }: TrainedForest, count: number, questions: number, first: number): Promise<Float64Array> {
  const rows = createPredictionRows(count);
  rows.count = count;
  for (let row = 0; row < count; row++) rows.node[row] = row;
  rows.startState.fill(WARM);
  let told: () => void = () => {};
  forest.predictor.listen(() => told());
  // Every node in a state of its own, so that rows take different ways through the trees.
  const random = createRandom(first + 1);
  const table = new Float64Array(count * METRIC_NAMES.length).map(() => random.uniform());
  forest.predictor.attach({ host: { nowMs: 0 }, nodes: { table, used: new Int32Array(count).map(() => random.below(5)), slots: new Int32Array(count).fill(8) }, metrics: METRIC_NAMES, rowLength: METRIC_NAMES.length, receivedAt: 0, functions: [] });
  const times = new Float64Array(questions);
  for (let i = 0; i < questions; i++) {
    const answered = new Promise<void>((resolve) => (told = resolve));
    const begin = performance.now();
    if (forest.predictor.predict({ functionIndex: i % 10, inputBytes: 1e6, inputs: [0], payloadBytes: first + i, ...ALONE }, rows, i)) throw new Error(`bench inference: a question was not asked (state ${forest.state})`);
    await answered;
    times[i] = performance.now() - begin;
    // A pause of the loop, as between requests; the thread sleeps meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return times.sort();
}

/** What one call costs this thread, µs of CPU: a long one would otherwise be timed with all that runs in between. Median over the groups. */
function costOf(calls: number, call: () => void): number {
  for (let i = 0; i < calls >> 1; i++) call();
  const groups: number[] = [];
  for (let group = 0; group < 5; group++) {
    const before = process.threadCpuUsage();
    for (let i = 0; i < calls; i++) call();
    const { user, system } = process.threadCpuUsage(before);
    groups.push((user + system) / calls);
  }
  return quantile(groups.sort((a, b) => a - b), 0.5);
}

/** Our prediction and the library's in this thread: µs per call by number of rows. */
function inThread(seed: number, quick: boolean): { ours: Map<number, number>; library: Map<number, number> } {
  const source = createSyntheticExecutions(seed);
  const model = createOnlineModel({ seed, trees: TREES, window: WINDOW });
  for (const profile of source.functions) model.setFunction(profile);
  const row = new Float64Array(OBSERVATION_WIDTH);
  const situations = new Float64Array(1_000 * SITUATION_WIDTH);
  const matrix: number[][] = [], targets: number[] = [];
  for (let i = 0; i < WINDOW; i++) {
    const { situation, phases } = source.next();
    encodeObservation(situation, phases, row);
    model.observe(row, 1);
    if (i < 1_000) encodeSituation(situation, situations, i * SITUATION_WIDTH);
    matrix.push(Array.from(row.subarray(FIRST_FEATURE, SITUATION_WIDTH)));
    targets.push(Math.log(phases.fetchedMs + phases.initialisedMs + phases.ranMs));
  }
  model.update();
  const memory = createPublishedModel(model.capacity);
  if (model.publishTo(new ModelWriter(memory)) !== 'published') throw new Error('bench inference: the model could not be published');
  const reader = new ModelReader(memory, 0);
  const library = new RandomForestRegression({ nEstimators: TREES, seed, maxFeatures: 0.5, replacement: false, useSampleBagging: false, noOOB: true, treeOptions: { maxDepth: 12, minNumSamples: 3 } });
  library.train(matrix.slice(0, LIBRARY_ROWS), targets.slice(0, LIBRARY_ROWS));
  const out = createPredictionOut(1_000);
  const ours = new Map<number, number>(), theirs = new Map<number, number>();
  for (const size of SIZES) {
    const calls = Math.ceil((quick ? 4_000 : 20_000) / size);
    ours.set(size, costOf(calls, () => reader.predict(situations, 0, size, out, 0)));
    const asked = matrix.slice(0, size);
    theirs.set(size, costOf(Math.max(4, calls / 10), () => library.predict(asked)));
  }
  return { ours, library: theirs };
}

/** The inference bench. */
export const inferenceBench: Bench = {
  description: 'ms from question to answer in the loop through the pool while training runs (10, 100, 1 000 rows), and against ml-random-forest',
  async run({ seed, quick, progress }: BenchContext): Promise<BenchResult> {
    progress('inference: in one thread, and the library');
    const { ours, library } = inThread(seed, quick);
    progress('inference: a forest of 2 000 observations');
    const world = await createTrainedForest(seed, 0);
    const rounds = quick ? 3 : 7;
    const figures: Figure[] = [];
    const stopTraining = world.train();
    let asked = 0;
    for (const size of SIZES) {
      const questions = size === 1_000 ? (quick ? 100 : 300) : quick ? 600 : 2_000;
      progress(`inference: ${size} rows, ${rounds} rounds of ${questions} questions`);
      const p50: number[] = [], p99: number[] = [];
      await askTimes(world, size, questions >> 2, asked);
      for (let round = 0; round < rounds; round++) {
        asked += questions;
        const times = await askTimes(world, size, questions, asked);
        p50.push(quantile(times, 0.5));
        p99.push(quantile(times, 0.99));
      }
      figures.push(overRounds(`rows_${size}_p50`, 'ms', p50, rounds * questions), overRounds(`rows_${size}_p99`, 'ms', p99, rounds * questions));
    }
    const { updates } = world.forest.training.counters;
    await stopTraining();
    await world.forest.stop();
    for (const size of SIZES) figures.push(overRounds(`thread_rows_${size}_cpu`, 'µs', [ours.get(size) ?? Number.NaN], 1), overRounds(`library_rows_${size}_cpu`, 'µs', [library.get(size) ?? Number.NaN], 1));
    figures.push(overRounds('speedup_over_library', '×', SIZES.map((size) => (library.get(size) ?? Number.NaN) / (ours.get(size) ?? Number.NaN)), SIZES.length));
    return { mode: 'micro', figures, params: { trees: TREES, window: WINDOW, libraryRows: LIBRARY_ROWS, libraryTrees: TREES, rounds, updatesMeanwhile: updates, source: 'synthetic' } };
  },
};
