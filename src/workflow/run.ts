/**
 * The progress of one workflow run: which calls are made with which input, and how the run ends. Pure: no I/O, no timers; time is
 * injected. The workflow machine and the scheduler drive it.
 *
 * Input of a step:
 * - no `after`: the run's own payload and inputs;
 * - after one step of one call: that call's payload as it is, and its outputs;
 * - after one step that fanned out: the JSON array of its payloads in call order, and all its outputs in call order;
 * - after several steps: a JSON object of their payloads by step name, and all their outputs in the order of `after`.
 * Fan-out over "objects": one call for each input object; each gets that one object and the whole payload of the step.
 * Fan-out over "payload": one call for each element of the payload, which must be a JSON array; each gets its element and all inputs.
 * Zero elements: the step completes at once with [] and no outputs. The result of the run is that of its terminal steps, put together
 * by the same rules. In JSON, an empty payload stands as null.
 */
import { MetronomeError, type ErrorCode, type ErrorExtras, type ErrorRecord } from '../core/errors.ts';
import { formatBytes } from '../core/units.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import type { InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import type { WorkflowSpec, WorkflowStep } from '../rpc/gen/metronome/v1/workflow.ts';
import { findCycle, terminalSteps } from './graph.ts';
import type { StepTargets } from './step-targets.ts';

/** Most calls of one fan-out. */
export const MAX_CALLS_PER_STEP = 1_024;

const JSON_TYPE = 'application/json';
const NO_BYTES = new Uint8Array();
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** One function call that the run asks for. */
export interface StepCall {
  /** Number of the call in this run, from 0; given back in stepCompleted and stepFailed. */
  readonly call: number;
  /** Name of the step. */
  readonly step: string;
  /** Place in the fan-out, from 0; 0 for a single call. */
  readonly index: number;
  /** Calls of the step. */
  readonly count: number;
  /** "analyze[3]" in a fan-out, else "split". */
  readonly label: string;
  readonly function: string;
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly inputs: readonly ObjectRef[];
  /** Its own latency target, ms, at least 1: what is left of the run's, less what the steps after it take (step-targets.ts). */
  readonly slaMs: number;
  /** The run's deadline, ms since 1970; 0: none. */
  readonly deadlineAtMs: number;
  readonly critical: boolean;
}

/** How a run ends. */
export type WorkflowOutcome =
  | { readonly kind: 'completed'; readonly payload: Uint8Array; readonly contentType: string; readonly outputs: readonly ObjectRef[] }
  | { readonly kind: 'failed'; readonly error: ErrorRecord }
  | { readonly kind: 'cancelled' };

/** What a run needs. */
export interface WorkflowRunOptions {
  /** Id of the run; stands in its errors. */
  readonly id: string;
  /** A valid spec (validateWorkflowSpec). */
  readonly spec: WorkflowSpec;
  readonly payload: Uint8Array;
  /** Media type of the payload; empty: JSON. */
  readonly contentType: string;
  readonly inputs: readonly ObjectRef[];
  /** Latency target of the run, ms; 0: the workflow's own. */
  readonly slaMs: number;
  /** What its steps leave each other; learns from this run when it completes. @default every step gets all that is left */
  readonly targets?: StepTargets;
  /** When the run arrived, ms since 1970. */
  readonly arrivedAtMs: number;
  /** Absolute deadline handed to every call; 0: none. Watching it is the caller's business. */
  readonly deadlineAtMs: number;
  /** The time, ms since 1970. */
  readonly nowMs: () => number;
  /** Makes a call. May complete or fail it before it returns; must not throw: a refusal is told with stepFailed. */
  readonly submit: (call: StepCall) => void;
  /** Cancels a call that is under way; its completion no longer matters. */
  readonly cancelCall: (call: number) => void;
  /** No later step reads these objects; not called for what the run ends with, nor once it has ended. */
  readonly onUnneeded?: (objects: readonly ObjectRef[]) => void;
  /** The end; called exactly once, after every call that was still under way was cancelled. */
  readonly onEnd: (outcome: WorkflowOutcome) => void;
  /** Largest payload of a call or of the result, bytes. @default 1 MiB */
  readonly maxPayloadBytes?: number;
  /** Most input objects of a call. @default 1024 */
  readonly maxInputs?: number;
}

/** The state of a step for people and for the inspector. */
export interface StepProgress {
  readonly step: string;
  readonly function: string;
  readonly state: 'waiting' | 'running' | 'completed';
  /** Calls made, of `count`. */
  readonly completed: number;
  /** Calls of the step; 0 while it waits. */
  readonly count: number;
}

/** A run of a workflow. */
export interface WorkflowRun {
  readonly id: string;
  /** Makes the first calls. Once. */
  start(): void;
  /** A call completed, which had waited `delayedMs` for a better node. O(1) but for collecting a step's results. False if the call is unknown or over, or the run has ended. */
  stepCompleted(call: number, response: Pick<InvokeResponse, 'payload' | 'contentType' | 'outputs'>, delayedMs?: number): boolean;
  /** A call failed for good: cancels the others and ends the run with STEP_FAILED. False as in stepCompleted. */
  stepFailed(call: number, error: ErrorRecord): boolean;
  /** Cancels the calls that are under way and ends the run. False if it has ended. */
  cancel(): boolean;
  readonly hasEnded: boolean;
  /** The steps in the order of the spec. */
  progress(): readonly StepProgress[];
}

interface Part {
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly outputs: readonly ObjectRef[];
}

interface StepState {
  readonly step: WorkflowStep;
  readonly predecessors: StepState[];
  readonly successors: StepState[];
  /** Predecessors that have not completed. */
  awaited: number;
  state: StepProgress['state'];
  /** Results by index, once the calls are known. */
  parts: (Part | undefined)[];
  remaining: number;
  /** Payload bytes of the results so far. */
  bytes: number;
  startedAtMs: number;
  /** Until the last of its results, ms, without waits for better nodes. */
  tookMs: number;
}

interface LiveCall {
  readonly state: StepState;
  readonly index: number;
}

/** A new run; nothing happens before start(). */
export function createWorkflowRun(options: WorkflowRunOptions): WorkflowRun {
  const { id, spec } = options;
  const maxPayloadBytes = options.maxPayloadBytes ?? 1024 * 1024;
  const maxInputs = options.maxInputs ?? 1_024;
  const slaMs = options.slaMs > 0 ? options.slaMs : spec.slaMs;
  const states = link(spec);
  const terminal = terminalSteps(spec.steps).map((step) => states[spec.steps.indexOf(step)]).filter((state) => state !== undefined);
  const live = new Map<number, LiveCall>();
  /** Steps whose predecessors have completed; a queue, so that a long chain of synchronous completions does not recurse. */
  const ready: StepState[] = [];
  let nextCall = 0;
  let unfinished = states.length;
  let isStarted = false;
  let hasEnded = false;
  let isPumping = false;

  const end = (outcome: WorkflowOutcome): void => {
    hasEnded = true;
    ready.length = 0;
    const calls = [...live.keys()];
    live.clear();
    for (const call of calls) options.cancelCall(call);
    options.onEnd(outcome);
  };

  const fail = (code: ErrorCode, message: string, extras: ErrorExtras = {}): void => end({ kind: 'failed', error: { ...new MetronomeError(code, message, extras).toRecord(), invocationId: extras.invocationId ?? id } });

  const pump = (): void => {
    if (isPumping) return;
    isPumping = true;
    try {
      for (let state = ready.shift(); state !== undefined && !hasEnded; state = ready.shift()) startStep(state);
      if (!hasEnded && unfinished === 0) finish();
    } finally {
      isPumping = false;
    }
  };

  const startStep = (state: StepState): void => {
    const { step } = state;
    const input = gather(state.predecessors, `Step "${step.name}"`);
    if ('problem' in input) return fail(input.code, input.problem);
    const calls = fanOut(state, input);
    if ('problem' in calls) return fail(calls.code, calls.problem);
    state.state = 'running';
    state.startedAtMs = options.nowMs();
    state.parts = Array.from({ length: calls.length }, () => undefined);
    state.remaining = calls.length;
    if (calls.length === 0) return complete(state);
    for (const [index, { payload, contentType, inputs }] of calls.entries()) {
      // A call that failed inside submit ends the run; the rest is not made any more.
      if (hasEnded) return;
      const call = nextCall++;
      live.set(call, { state, index });
      options.submit({
        call,
        step: step.name,
        index,
        count: calls.length,
        label: labelOf(state, index),
        function: step.function,
        payload,
        contentType,
        inputs,
        slaMs: targetOf(step.name),
        deadlineAtMs: options.deadlineAtMs,
        critical: step.critical,
      });
    }
  };

  /** Of a step that begins now. */
  const targetOf = (step: string): number => {
    const leftMs = options.arrivedAtMs + slaMs - options.nowMs();
    return options.targets === undefined ? Math.max(1, leftMs) : options.targets.targetMs(step, leftMs);
  };

  const complete = (state: StepState): void => {
    state.state = 'completed';
    unfinished--;
    if (options.onUnneeded !== undefined) tellUnneeded(state, options.onUnneeded);
    for (const successor of state.successors) {
      successor.awaited--;
      if (successor.awaited === 0) ready.push(successor);
    }
  };

  /** What only this step and others that have completed read is not needed any more. */
  const tellUnneeded = (state: StepState, tell: (objects: readonly ObjectRef[]) => void): void => {
    const isOver = (readers: readonly StepState[]): boolean => readers.every((reader) => reader.state === 'completed');
    for (const predecessor of state.predecessors) if (isOver(predecessor.successors)) tell(predecessor.parts.flatMap((part) => part?.outputs ?? []));
    if (state.predecessors.length === 0 && isOver(states.filter(({ predecessors }) => predecessors.length === 0))) tell(options.inputs);
  };

  const finish = (): void => {
    const result = gather(terminal, `The result of workflow "${spec.name}"`);
    if ('problem' in result) return fail(result.code, result.problem);
    options.targets?.runEnded(new Map(states.map(({ step, tookMs }) => [step.name, tookMs])));
    end({ kind: 'completed', payload: result.payload, contentType: result.contentType, outputs: result.inputs });
  };

  /** What comes out of these steps together; of none: the run's own input. */
  const gather = (from: readonly StepState[], whose: string): Input | Problem => {
    const [first] = from;
    if (first === undefined) return { payload: options.payload, contentType: options.contentType === '' ? JSON_TYPE : options.contentType, inputs: options.inputs, source: 'the payload of the run' };
    const inputs = from.flatMap((state) => state.parts.flatMap((part) => part?.outputs ?? []));
    if (from.length === 1 && first.step.forEach === '') {
      const part = first.parts[0];
      return { payload: part?.payload ?? NO_BYTES, contentType: part?.contentType ?? JSON_TYPE, inputs, source: `the result of step "${first.step.name}"` };
    }
    const bytes = from.reduce((sum, state) => sum + state.bytes, 0);
    for (const state of from) {
      for (const [index, part] of state.parts.entries()) {
        if (part !== undefined && !isJson(part.contentType)) {
          return { code: 'STEP_FAILED', problem: `${whose} puts several results together, which needs JSON, but step "${labelOf(state, index)}" returned ${part.contentType}. Return JSON, or write an output object.` };
        }
      }
    }
    // Before anything of that size is put together.
    if (bytes > maxPayloadBytes) return { code: 'PAYLOAD_TOO_LARGE', problem: tooLarge(whose, bytes) };
    const payload = from.length === 1 ? joinStep(first) : joinBytes(from.flatMap((state, i) => [i === 0 ? '{' : ',', `${JSON.stringify(state.step.name)}:`, joinStep(state)]), '}');
    return { payload, contentType: JSON_TYPE, inputs, source: from.length === 1 ? `the results of step "${first.step.name}"` : `the results of the steps ${from.map((state) => `"${state.step.name}"`).join(', ')}` };
  };

  const fanOut = (state: StepState, input: Input): readonly CallInput[] | Problem => {
    const { step } = state;
    if (step.forEach === '') return checkCalls(step, [input]);
    if (step.forEach === 'objects') {
      if (input.inputs.length > MAX_CALLS_PER_STEP) return tooMany(step, input.inputs.length);
      return checkCalls(step, input.inputs.map((object) => ({ ...input, inputs: [object] })));
    }
    const elements = isJson(input.contentType) ? parseJson(input.payload) : undefined;
    if (!Array.isArray(elements)) {
      const found = isJson(input.contentType) ? (elements === undefined ? 'no valid JSON' : `JSON of another kind (${elements === null ? 'null' : typeof elements})`) : `${input.contentType}`;
      // The run's own payload is the caller's, everything else comes from a function.
      return { code: state.predecessors.length === 0 ? 'PAYLOAD_INVALID' : 'STEP_FAILED', problem: `Step "${step.name}" fans out over the payload, which needs a JSON array, but ${input.source} is ${found}.` };
    }
    if (elements.length > MAX_CALLS_PER_STEP) return tooMany(step, elements.length);
    return checkCalls(step, (elements as unknown[]).map((element) => ({ payload: encoder.encode(JSON.stringify(element)), contentType: JSON_TYPE, inputs: input.inputs })));
  };

  const checkCalls = (step: WorkflowStep, calls: readonly CallInput[]): readonly CallInput[] | Problem => {
    for (const { payload, inputs } of calls) {
      if (payload.length > maxPayloadBytes) return { code: 'PAYLOAD_TOO_LARGE', problem: tooLarge(`Step "${step.name}"`, payload.length) };
      if (inputs.length > maxInputs) return { code: 'STEP_FAILED', problem: `Step "${step.name}" would get ${inputs.length} input objects, at most ${maxInputs} are allowed.` };
    }
    return calls;
  };

  const tooLarge = (whose: string, bytes: number): string => `${whose} would get a payload of ${formatBytes(bytes)}, at most ${formatBytes(maxPayloadBytes)} is allowed. Pass large data as output objects.`;

  /** Forgets a call that ended; undefined if there is no such call any more. */
  const settle = (call: number): LiveCall | undefined => {
    const found = live.get(call);
    live.delete(call);
    return found;
  };

  return {
    id,
    get hasEnded() {
      return hasEnded;
    },
    start() {
      if (isStarted || hasEnded) return;
      isStarted = true;
      for (const state of states) if (state.awaited === 0) ready.push(state);
      pump();
    },
    stepCompleted(call, response, delayedMs = 0) {
      const found = settle(call);
      if (found === undefined) return false;
      const { state, index } = found;
      state.tookMs = Math.max(state.tookMs, options.nowMs() - state.startedAtMs - delayedMs);
      state.parts[index] = { payload: response.payload, contentType: response.contentType, outputs: response.outputs };
      state.remaining--;
      state.bytes += response.payload.length;
      if (state.step.forEach !== '' && state.bytes > maxPayloadBytes) {
        // The results of a fan-out are always put together, so this run can only fail: now, before more is kept in memory.
        fail('PAYLOAD_TOO_LARGE', `The results of step "${state.step.name}" are larger than ${formatBytes(maxPayloadBytes)} together. Return less, or write output objects.`);
      } else if (state.remaining === 0) {
        complete(state);
        pump();
      }
      return true;
    },
    stepFailed(call, error) {
      const found = settle(call);
      if (found === undefined) return false;
      const { state, index } = found;
      const { code, message, violations: _, ...extras } = error;
      fail('STEP_FAILED', `Step "${labelOf(state, index)}" (function ${state.step.function}) of workflow "${spec.name}" failed with ${code}: ${message}`, extras);
      return true;
    },
    cancel() {
      if (hasEnded) return false;
      end({ kind: 'cancelled' });
      return true;
    },
    progress: () =>
      states.map((state) => ({ step: state.step.name, function: state.step.function, state: state.state, completed: state.parts.length - state.remaining, count: state.parts.length })),
  };
}

interface CallInput {
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly inputs: readonly ObjectRef[];
}

interface Input extends CallInput {
  /** For messages: where the payload comes from. */
  readonly source: string;
}

interface Problem {
  readonly code: ErrorCode;
  readonly problem: string;
}

function link(spec: WorkflowSpec): StepState[] {
  const cycle = findCycle(spec.steps);
  if (cycle !== undefined) throw new MetronomeError('INTERNAL', `Workflow "${spec.name}" has a cycle (${cycle.join(' → ')}); it should have been refused when it was applied.`);
  const states = spec.steps.map((step): StepState => ({ step, predecessors: [], successors: [], awaited: step.after.length, state: 'waiting', parts: [], remaining: 0, bytes: 0, startedAtMs: 0, tookMs: 0 }));
  const byName = new Map(states.map((state) => [state.step.name, state]));
  for (const state of states) {
    for (const name of state.step.after) {
      const predecessor = byName.get(name);
      if (predecessor === undefined) throw new MetronomeError('INTERNAL', `Workflow "${spec.name}" waits for an unknown step "${name}"; it should have been refused when it was applied.`);
      state.predecessors.push(predecessor);
      predecessor.successors.push(state);
    }
  }
  return states;
}

function labelOf(state: StepState, index: number): string {
  return state.step.forEach === '' ? state.step.name : `${state.step.name}[${index}]`;
}

function tooMany(step: WorkflowStep, count: number): Problem {
  return { code: 'STEP_FAILED', problem: `Step "${step.name}" would fan out into ${count} calls, at most ${MAX_CALLS_PER_STEP} are allowed.` };
}

/** The payload of a step as JSON: of a fan-out an array, else the payload itself. */
function joinStep(state: StepState): Uint8Array {
  const json = (part: Part | undefined): Uint8Array | string => (part === undefined || part.payload.length === 0 ? 'null' : part.payload);
  if (state.step.forEach === '') return joinBytes([json(state.parts[0])], '');
  return joinBytes(state.parts.flatMap((part, i) => [i === 0 ? '[' : ',', json(part)]), state.parts.length === 0 ? '[]' : ']');
}

function joinBytes(pieces: readonly (Uint8Array | string)[], last: string): Uint8Array {
  const encoded = [...pieces, last].map((piece) => (typeof piece === 'string' ? encoder.encode(piece) : piece));
  const joined = new Uint8Array(encoded.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of encoded) {
    joined.set(piece, offset);
    offset += piece.length;
  }
  return joined;
}

function isJson(contentType: string): boolean {
  const type = (contentType.split(';', 1)[0] ?? '').trim().toLowerCase();
  return type === '' || type === JSON_TYPE || type.endsWith('+json');
}

function parseJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(payload)) as unknown;
  } catch {
    // Told by the caller together with where the payload came from.
    return undefined;
  }
}
