/**
 * One end-to-end execution of an application, as the evaluation keeps it: the same record whether real nodes or the simulator made it, so that
 * tables, plots and comparisons need not know. A file of records is JSON Lines, one record a line, appended as executions end.
 */
import { z } from 'zod';

/** From what a sandbox started, as in Phases.start_state. */
export const START_STATE_NAMES = ['cold', 'packages', 'zygote', 'warm'] as const;

const ms = z.number().nonnegative();

const stepSchema = z.strictObject({
  /** Function as the application names it (`video-split`), without the number of a copy. */
  function: z.string(),
  /** Node it ran on; empty if it never ran. */
  node: z.string(),
  startState: z.enum(START_STATE_NAMES),
  /** Waiting because no node had room. */
  queuedMs: ms,
  /** Waiting for a better node. */
  delayedMs: ms,
  fetchMs: ms,
  /** Installing, starting and importing. */
  initMs: ms,
  runMs: ms,
  /** What was predicted for fetching, initialising and running on that node; 0: no prediction. */
  predictedMs: ms,
  /** Whether the node offered locality when it was decided. */
  local: z.boolean(),
});

const recordSchema = z.strictObject({
  application: z.string(),
  /** Name of the variant (src/evaluation/variant.ts). */
  variant: z.string(),
  /** Clients in closed loops; 0: arrivals at a rate. */
  concurrency: z.int().nonnegative(),
  seed: z.int(),
  /** Number of the execution within its cell, from 0, warm-up not counted. */
  index: z.int().nonnegative(),
  /** True: made by the simulator. */
  simulated: z.boolean(),
  /** Since the begin of the measured interval of the cell. */
  startedAtMs: z.number(),
  /** From the request to the result, waiting included. */
  latencyMs: ms,
  /** Latency target of the whole workflow. */
  slaMs: ms,
  /** False: it failed or its result was wrong. `latencyMs` is then the time until that was known. */
  ok: z.boolean(),
  /** Why it is not ok. */
  problem: z.string().optional(),
  steps: z.array(stepSchema),
});

/** One function call of an execution. All times ms. */
export type StepRecord = z.output<typeof stepSchema>;

/** One end-to-end execution. All times ms. */
export type ExecutionRecord = z.output<typeof recordSchema>;

/** The record of one line; undefined if it is none (the last line of a file whose writer was killed). */
export function parseRecord(line: string): ExecutionRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return recordSchema.safeParse(value).data;
}
