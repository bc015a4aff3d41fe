/**
 * What calibration learns from: one execution of one function with its phases, from whatever recording. Readers of further formats make these samples; the
 * fit knows no file. Here: recordings of observations (src/predictor/observation-log.ts).
 */
import { readRecording } from '../workload/observation-file.ts';

/** One successful execution. Times ms. */
export interface CalibrationSample {
  readonly function: string;
  /** '' when it is not known. */
  readonly application: string;
  /** Steps before it in its workflow, and parallel calls of its step; undefined: it ran alone or first, or that is not known. */
  readonly stage?: number;
  readonly fanOut?: number;
  /** 1 cold, 2 packages, 3 zygote, 4 warm. */
  readonly startState: number;
  readonly inputBytes: number;
  /** Input bytes that were not on its node. */
  readonly movedBytes: number;
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  /** Parts of initialisedMs, where they were measured. */
  readonly startedMs?: number;
  readonly loadedMs?: number;
  readonly ranMs: number;
  /** Sizes of what it made, where they were recorded. */
  readonly outputBytes?: readonly number[];
  /** Node it ran on. */
  readonly node?: string;
  /** Runs that its sandbox had done before; undefined: counted from the order of the samples, where the node is known. */
  readonly earlierRuns?: number;
  /** When the fetch began, ms on one clock for all; undefined: not recorded. */
  readonly beganAtMs?: number;
  /** Share of the CPU in use when it was sent there, 0 to 1; undefined: not known. */
  readonly cpuUtilisation?: number;
  /** A name of what its workflow run was given: inputs of one size may differ in what they cost. @default not known */
  readonly content?: string;
}

/** A recording as samples. */
export interface CalibrationRecording {
  readonly path: string;
  readonly note: string;
  readonly samples: readonly CalibrationSample[];
  /** Executions that failed, were cancelled or timed out. */
  readonly excluded: number;
}

const COLD = 1;

/** Reads a recording of observations, plain or gzipped. STATE_CORRUPT names file and line. */
export async function readCalibration(path: string): Promise<CalibrationRecording> {
  const { header, functions, nodes, executions, excluded } = await readRecording(path);
  const samples = executions.map(({ situation, phases }): CalibrationSample => {
    const { functionIndex, nodeIndex, startState = COLD, inputBytes = 0, missingBytes = 0, stage, fanOut = 1, cpuUtilisation } = situation;
    const { name = '', application = '' } = functions[functionIndex] ?? {};
    return { function: name, application, node: nodes[nodeIndex] ?? '', startState, inputBytes, movedBytes: missingBytes, ...phases, ...(stage === undefined ? {} : { stage, fanOut }), ...(cpuUtilisation === undefined ? {} : { cpuUtilisation }) };
  });
  return { path, note: header.note, samples, excluded };
}
