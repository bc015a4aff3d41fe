/**
 * What calibration learns from the records of an evaluation: which execution was on which input is planned, and records say where steps ran and how long. They do not say
 * how large the inputs of later steps were: those are what the simulator would give them. When steps began follows from the times of those before them.
 */
import { COLD, PACKAGES, WARM, ZYGOTE } from '../predictor/predictor.ts';
import { runApplications, type ApplicationModel, type SimulatedInput } from '../sim/applications.ts';
import type { CalibrationSample } from '../sim/calibration-samples.ts';
import { placesOf } from '../workflow/graph.ts';
import type { ExecutionRecord, StepRecord } from './execution-record.ts';
import type { PlannedExecution } from './plan.ts';

/** A cell of an evaluation that ended. */
export interface RecordedCell {
  readonly application: ApplicationModel;
  /** Warm-up first, as they were planned. */
  readonly calls: readonly PlannedExecution[];
  readonly warmUp: number;
  readonly records: readonly ExecutionRecord[];
}

const START_STATES: Readonly<Record<StepRecord['startState'], number>> = { cold: COLD, packages: PACKAGES, zygote: ZYGOTE, warm: WARM };
/** From this share of the time that the link alone needs for an input, it was moved. */
const MOVED_FROM = 0.7;
/** Longer than any cell. */
const CELL_MS = 1e8;
/** Nothing else runs there, so that only sizes matter. */
const ONE_NODE = { nodes: 1, node: { slots: 64, cores: 64, memoryMb: 1e6, keepAliveMs: 60_000, zygoteMb: 0, objectQuotaBytes: 1e15 }, bytesPerMs: 1e6, installed: true };

/** By function: bytes that each of its calls in one execution reads, ascending. */
export type BytesRead = ReadonlyMap<string, readonly number[]>;

/** What calls read, for each input. */
export function bytesRead(application: ApplicationModel, inputs: readonly SimulatedInput[]): BytesRead[] {
  return inputs.map(({ bytes }) => {
    const { executions } = runApplications({ seed: 1, policy: 'round-robin', cluster: ONE_NODE, applications: [application], copies: 1, inputs: [{ bytes, node: 0 }], requests: [{ application: application.name, copy: 0, input: 0 }], warmUp: 0, concurrency: 1 });
    const steps = executions.flatMap((execution) => execution.steps);
    return new Map(application.functions.map(({ name }) => [name, steps.filter((step) => step.function === name).map(({ invocation }) => invocation.inputBytes).sort((a, b) => a - b)]));
  });
}

/**
 * The samples of one cell. `cellNumber` keeps the cells apart in time, `linkBytesPerMs` tells what was moved from what was there. Executions that failed are no samples.
 * What a sandbox ran in the warm-up was not recorded: one that is warm when it is first seen counts as having run once.
 */
export function samplesOfCell({ application, calls, warmUp, records }: RecordedCell, inputs: readonly SimulatedInput[], sizes: readonly BytesRead[], cellNumber: number, linkBytesPerMs: number): CalibrationSample[] {
  const places = placesOf(application.workflow.steps);
  const stages = new Map(application.workflow.steps.map((step) => [step.function, places.get(step.name)?.stage ?? 0]));
  const runs = new Map<string, number>();
  const samples: CalibrationSample[] = [];
  for (const { index, ok, startedAtMs, steps } of [...records].sort((a, b) => a.startedAtMs - b.startedAtMs)) {
    const call = calls[warmUp + index];
    if (!ok || call === undefined || inputs[call.input] === undefined) continue;
    const ends: number[] = [];
    for (const step of [...steps].sort((a, b) => (stages.get(a.function) ?? 0) - (stages.get(b.function) ?? 0))) {
      const { function: name, node, startState, queuedMs, delayedMs, fetchMs, initMs, runMs } = step;
      const stage = stages.get(name) ?? 0;
      const beganAtMs = Math.max(startedAtMs, ...ends.slice(0, stage)) + queuedMs + delayedMs;
      ends[stage] = Math.max(ends[stage] ?? 0, beganAtMs + fetchMs + initMs + runMs);
      const sandbox = `${name} ${call.copy} ${node}`;
      const earlierRuns = startState === 'warm' ? (runs.get(sandbox) ?? 1) : 0;
      runs.set(sandbox, earlierRuns + 1);
      const parallel = steps.filter((each) => each.function === name).sort((a, b) => a.runMs - b.runMs);
      // The sound of a video takes less than its pictures: in a fan-out the longest run had the largest part.
      const read = sizes[call.input]?.get(name) ?? [];
      const inputBytes = read.at(parallel.indexOf(step) - parallel.length) ?? read[0] ?? 0;
      samples.push({
        function: name, application: application.name, stage, fanOut: parallel.length, startState: START_STATES[startState], inputBytes,
        movedBytes: fetchMs >= (MOVED_FROM * inputBytes) / linkBytesPerMs ? inputBytes : 0, fetchedMs: fetchMs, initialisedMs: initMs, ranMs: runMs, node, earlierRuns, beganAtMs: cellNumber * CELL_MS + beganAtMs, content: String(call.input),
      });
    }
  }
  return samples;
}

