/** Where cells run: real nodes or the simulator, behind one interface. */
import type { ExecutionRecord } from './execution-record.ts';
import type { Cell } from './plan.ts';

/** What a cell gave. */
export interface CellResult {
  readonly records: readonly ExecutionRecord[];
  readonly conditions: Conditions;
}

/** Under which conditions a cell ran. */
export interface Conditions {
  /** From the start of the first execution that counts to that of the first one that no longer does, s; virtual for simulated cells. */
  readonly seconds: number;
  /** Share of the slots' time in which they fetched, initialised or ran, 0 to 1. */
  readonly slotUtilisation: number;
  /** Share of this machine's CPU time that was used during the interval, by whomever; undefined: simulated. */
  readonly hostCpu: number | undefined;
  /** Whether the machine was the bottleneck: figures of such a cell say more about it than about the policy. */
  readonly isSaturated: boolean;
}

/** What a cell needs to know of the cells before it. */
export interface Load {
  /** Latency target of an execution, ms; undefined: the workflow's own. */
  readonly slaMs?: number;
  /** Executions per second; only for open loops. */
  readonly ratePerS?: number;
}

/** A place where cells run, one after the other or, where it can, several at once. */
export interface Backend {
  readonly isSimulated: boolean;
  /** Cells that may run at once. */
  readonly parallel: number;
  /** What it is, one line for captions: "4 nodes × 2 slots, 100 Mbit/s (kernel), 0.35 CPUs (quota)". */
  describe(): string;
  /** Facts for the report. */
  parameters(): Readonly<Record<string, unknown>>;
  /** Runs a cell. */
  run(cell: Cell, load: Load, signal: AbortSignal): Promise<CellResult>;
  close(): Promise<void>;
}

/** Share of the slots' time that executions fetched, initialised or ran, if as many start in every such interval. */
export function slotUtilisation(records: readonly ExecutionRecord[], intervalMs: number, slots: number): number {
  const busyMs = records.reduce((sum, { steps }) => sum + steps.reduce((own, step) => own + step.fetchMs + step.initMs + step.runMs, 0), 0);
  return intervalMs <= 0 ? 0 : busyMs / (intervalMs * slots);
}

/** From this share of the CPU time on a machine counts as saturated. */
export const SATURATED_FROM = 0.92;
