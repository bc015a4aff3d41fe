/**
 * Bench `model-accuracy` (the paper's figure 7): every contestant predicts each execution before it learns from it. Synthetic executions with a known noise, and
 * a recording of real ones where there is one (`--recording file.jsonl.gz`, or the committed one). Errors are |predicted − measured| / measured
 * in %, over the executions after the warm-up; coverage is the share that did not take longer than the quantile said.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MODEL_DEFAULTS, type FunctionProfile } from '../src/predictor/model/online-model.ts';
import { cumulative, drawLines, writePlot } from '../src/report/plot.ts';
import { readRecording, type Execution } from '../src/workload/observation-file.ts';
import { createSyntheticExecutions } from '../src/workload/synthetic-executions.ts';
import { measuredMs, modelContestant, movingAverageContestant, type Contestant } from '../src/workload/test-then-train.ts';
import { BASELINE_ONLY, libraryContestant, type LibraryOptions } from './contestants.ts';
import { overRounds, quantile, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

/** The recording that is committed, if it is. */
const RECORDING = fileURLToPath(new URL('recordings/applications.jsonl.gz', import.meta.url));
const SHARES = [['p50', 0.5], ['p90', 0.9], ['p95', 0.95], ['p99', 0.99]] as const;

/** What came of one contestant. */
interface Outcome {
  /** Errors in %, in order of the executions. */
  readonly errors: number[];
  readonly functions: number[];
  covered95: number;
  covered99: number;
  asked: number;
}

/** Lets all predict and learn; the first `warmUp` executions do not count. */
function compete(contestants: readonly Contestant[], executions: readonly Execution[], warmUp: number): Map<string, Outcome> {
  const outcomes = new Map<string, Outcome>();
  for (const contestant of contestants) {
    const outcome: Outcome = { errors: [], functions: [], covered95: 0, covered99: 0, asked: 0 };
    outcomes.set(contestant.name, outcome);
    executions.forEach((execution, at) => {
      const measured = measuredMs(execution);
      if (at >= warmUp) {
        const { meanMs, p95Ms, p99Ms } = contestant.predict(execution);
        outcome.errors.push((100 * Math.abs(meanMs - measured)) / measured);
        outcome.functions.push(execution.situation.functionIndex);
        if (p95Ms !== undefined && p99Ms !== undefined) {
          outcome.asked++;
          if (measured <= p95Ms) outcome.covered95++;
          if (measured <= p99Ms) outcome.covered99++;
        }
      }
      contestant.learn(execution);
    });
  }
  return outcomes;
}

/**
 * Relative spread of identical warm repetitions around their medians, %: the least error that any model can have. By execution; undefined where it was no
 * such repetition.
 */
function repetitionSpread(executions: readonly Execution[]): (number | undefined)[] {
  const groups = new Map<string, number[]>();
  executions.forEach((execution, at) => {
    const { functionIndex, nodeIndex, startState, missingBytes = 0, inputBytes = 0, payloadBytes = 0 } = execution.situation;
    if (startState !== 4 || missingBytes > 0) return;
    const key = `${functionIndex} ${nodeIndex} ${inputBytes} ${payloadBytes}`;
    groups.set(key, [...(groups.get(key) ?? []), at]);
  });
  const spread = new Array<number | undefined>(executions.length).fill(undefined);
  for (const members of groups.values()) {
    if (members.length < 5) continue;
    const times = members.map((at) => measuredMs(executions[at] as Execution)); // they are its indexes
    const middle = quantile([...times].sort((a, b) => a - b), 0.5);
    members.forEach((at, i) => void (spread[at] = (100 * Math.abs((times[i] as number) - middle)) / middle));
  }
  return spread;
}

const errorFigures = (prefix: string, rounds: readonly (readonly number[])[]): Figure[] =>
  SHARES.map(([name, share]) => overRounds(`${prefix}_${name}`, '%', rounds.map((errors) => quantile([...errors].sort((a, b) => a - b), share)), rounds.reduce((sum, errors) => sum + errors.length, 0)));

/**
 * The short form trains it as often as ours is updated, every 20 executions. The long one every 60, as often as `ours_library_trainer` replaces a tree: a forest of 20
 * trees on 300 rows takes two seconds, so every 20 would be a quarter of an hour.
 */
const libraryOptions = (quick: boolean): LibraryOptions => (quick ? { window: 150, every: MODEL_DEFAULTS.updateEvery, trees: 8 } : { window: 300, every: 60, trees: 20 });

const now = (): number => performance.now();

function contestantsFor(functions: readonly FunctionProfile[], seed: number, quick: boolean): readonly [ReturnType<typeof modelContestant>, ...Contestant[]] {
  return [
    modelContestant('ours', functions, { seed }, now),
    modelContestant('ours_library_trainer', functions, { seed, trainer: 'ml-random-forest', ...(quick ? { trees: 10, replace: 1, updateEvery: 200 } : { trees: 50, replace: 1, updateEvery: 60 }) }, now),
    modelContestant('baseline', functions, { seed, ...BASELINE_ONLY }, now),
    movingAverageContestant(),
    libraryContestant(libraryOptions(quick), seed),
  ];
}

/** Errors per application as lines of a figure. */
function byApplication(outcome: Outcome, functions: readonly FunctionProfile[]): { name: string; points: { x: number; y: number }[] }[] {
  const errors = new Map<string, number[]>();
  outcome.errors.forEach((error, at) => {
    const profile = functions[outcome.functions[at] as number];
    const name = profile?.application === '' ? profile.name : (profile?.application ?? '');
    errors.set(name, [...(errors.get(name) ?? []), error]);
  });
  return [...errors].map(([name, values]) => ({ name, points: cumulative(values) }));
}

async function plotErrors(folder: string, name: string, source: string, outcomes: Map<string, Outcome>, floor: readonly number[], functions: readonly FunctionProfile[]): Promise<void> {
  const ours = outcomes.get('ours');
  if (ours === undefined) return;
  const caption = `${source}, ${ours.errors.length} executions, test-then-train`;
  const axes = { x: { label: 'relative error, %', domain: [0, 6] }, y: { label: 'share of the executions', domain: [0, 1] } } as const;
  await writePlot(folder, `figure-7-${name}`, drawLines({ title: 'Prediction errors by application (as figure 7 of the paper)', caption, ...axes, series: [...byApplication(ours, functions), { name: 'all', points: cumulative(ours.errors) }] }));
  await writePlot(folder, `contestants-${name}`, drawLines({ title: 'Prediction errors by model', caption, ...axes, series: [...[...outcomes].map(([label, { errors }]) => ({ name: label.replaceAll('_', ' '), points: cumulative(errors) })), ...(floor.length > 0 ? [{ name: 'noise floor', points: cumulative(floor) }] : [])] }));
}

/** The accuracy bench. */
export const modelAccuracyBench: Bench = {
  description: 'error and coverage of the prediction model on synthetic and recorded executions, against noise floor, moving average, baseline and ml-random-forest',
  async run(context: BenchContext): Promise<BenchResult> {
    const { quick, seed, progress } = context;
    const warmUp = quick ? 2_500 : 4_000, counted = quick ? 1_000 : 3_000;
    const rounds = quick ? 1 : 3;
    const collected = new Map<string, number[][]>();
    const floors: number[][] = [], covered95: number[] = [], covered99: number[] = [], updateMs: number[] = [], libraryUpdateMs: number[] = [], windowTrainMs: number[] = [];
    let oursBytes = 0;
    for (let round = 0; round < rounds; round++) {
      const source = createSyntheticExecutions(seed + round);
      progress(`model-accuracy: synthetic executions ${round + 1} of ${rounds}, ${warmUp} to learn and ${counted} to count, noise ${100 * source.noise} %`);
      const executions = Array.from({ length: warmUp + counted }, () => source.next());
      const contestants = contestantsFor(source.functions, seed + round, quick);
      const outcomes = compete(contestants, executions, warmUp);
      for (const [name, { errors }] of outcomes) collected.set(name, [...(collected.get(name) ?? []), errors]);
      const floor = executions.slice(warmUp).map((execution) => (100 * Math.abs(execution.truthMs - measuredMs(execution))) / measuredMs(execution));
      floors.push(floor);
      const ours = outcomes.get('ours');
      if (ours === undefined) throw new Error('bench model-accuracy: no outcome of the model');
      covered95.push((100 * ours.covered95) / ours.asked);
      covered99.push((100 * ours.covered99) / ours.asked);
      updateMs.push(quantile([...(contestants[0].updateMs ?? [])].sort((a, b) => a - b), 0.5));
      libraryUpdateMs.push(quantile([...(contestants[1]?.updateMs ?? [])].sort((a, b) => a - b), 0.5));
      windowTrainMs.push(quantile([...(contestants.at(-1)?.updateMs ?? [])].sort((a, b) => a - b), 0.5));
      oursBytes = contestants[0].model.status().bytes;
      if (round === 0 && context.out !== undefined) await plotErrors(context.out, 'synthetic', `synthetic executions with ${100 * source.noise} % noise`, outcomes, floor, source.functions);
    }
    const figures: Figure[] = [
      ...errorFigures('synthetic_error', collected.get('ours') ?? []), ...errorFigures('noise_floor', floors),
      overRounds('coverage_p95', '%', covered95, rounds * counted), overRounds('coverage_p99', '%', covered99, rounds * counted),
      ...errorFigures('synthetic_library_trainer', collected.get('ours_library_trainer') ?? []), ...errorFigures('synthetic_baseline', collected.get('baseline') ?? []),
      ...errorFigures('synthetic_moving_average', collected.get('moving_average') ?? []), ...errorFigures('synthetic_library_window', collected.get('library_window') ?? []),
      overRounds('update_p50', 'ms', updateMs, rounds), overRounds('library_trainer_update_p50', 'ms', libraryUpdateMs, rounds), overRounds('library_window_train_p50', 'ms', windowTrainMs, rounds), overRounds('model_memory', 'MB', [oursBytes / 1e6], 1),
    ];
    const path = context.recording ?? (existsSync(RECORDING) ? RECORDING : undefined);
    if (path === undefined) progress('model-accuracy: no recording of real executions (--recording file.jsonl.gz), so no figures real_…');
    else figures.push(...(await recorded(path, context)));
    return { mode: 'micro', figures, params: { warmUp, counted, rounds, noise: 0.005, updateEvery: MODEL_DEFAULTS.updateEvery, libraryWindow: libraryOptions(quick), recording: path === undefined ? null : path.split('/').at(-1) } };
  },
};

/** The same for a recording: the first third is to learn from. */
async function recorded(path: string, { quick, seed, progress, out }: BenchContext): Promise<Figure[]> {
  const recording = await readRecording(path);
  const executions = quick ? recording.executions.slice(0, 4_000) : recording.executions;
  const warmUp = Math.floor(executions.length / 3);
  progress(`model-accuracy: ${executions.length} recorded executions of ${recording.functions.length} functions on ${recording.nodes.length} nodes (${recording.header.note}), ${recording.excluded} excluded`);
  if (executions.length - warmUp < 50) throw new Error(`${path} holds ${executions.length} executions; 75 are the least that makes a figure.`);
  const outcomes = compete(contestantsFor(recording.functions, seed, quick), executions, warmUp);
  const ours = outcomes.get('ours');
  if (ours === undefined) throw new Error('bench model-accuracy: no outcome of the model');
  const spread = repetitionSpread(executions);
  const floor = spread.filter((error) => error !== undefined);
  if (out !== undefined) await plotErrors(out, 'recorded', `${recording.header.source} executions: ${recording.header.note}`, outcomes, floor, recording.functions);
  const errors = (name: string): number[] => outcomes.get(name)?.errors ?? [];
  // The floor is that of quiet repetitions for the most part; these are the errors on the same executions.
  const repeated = (name: string): number[] => errors(name).filter((_, at) => spread[warmUp + at] !== undefined);
  return [
    ...errorFigures('real_error', [ours.errors]), ...(floor.length > 0 ? [...errorFigures('real_noise_floor', [floor]), ...errorFigures('real_repeated_error', [repeated('ours')]), ...errorFigures('real_repeated_moving_average', [repeated('moving_average')])] : []),
    overRounds('real_coverage_p95', '%', [(100 * ours.covered95) / ours.asked], ours.asked), overRounds('real_coverage_p99', '%', [(100 * ours.covered99) / ours.asked], ours.asked),
    ...(['library_trainer', 'baseline', 'moving_average', 'library_window'] as const).flatMap((name) => errorFigures(`real_${name}`, [errors(name === 'library_trainer' ? 'ours_library_trainer' : name)])),
    ...recording.functions.flatMap(({ index, name }) => (['ours', 'moving_average'] as const).map((contestant) => {
      const own = errors(contestant).filter((_, at) => outcomes.get(contestant)?.functions[at] === index);
      return overRounds(`real_${contestant}_${name.replaceAll('-', '_')}_p50`, '%', [quantile([...own].sort((a, b) => a - b), 0.5)], own.length);
    })),
  ];
}
