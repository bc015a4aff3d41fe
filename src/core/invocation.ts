/**
 * One request for one function (γ), as the mutable record that the invocation machine, the policies and the scheduler
 * share. It is one flat object with all fields set from the start, so that the hot path stays monomorphic and allocates nothing more.
 */
import type { ErrorRecord } from './errors.ts';
import type { Timed } from './heap.ts';
import type { Reason } from './reasons.ts';

/** The states of machines/invocation.ts, by number; the numbers are those of the protobuf enum InvocationState. */
export const INVOCATION_STATES = ['unspecified', 'arriving', 'classified', 'delaying', 'dispatched', 'completed', 'failed', 'cancelled', 'timedOut'] as const;
export type InvocationStateName = (typeof INVOCATION_STATES)[number];
export const ARRIVING = 1, CLASSIFIED = 2, DELAYING = 3, DISPATCHED = 4, COMPLETED = 5, FAILED = 6, CANCELLED = 7, TIMED_OUT = 8;

/** What a delaying invocation waits for. */
export type DelayingFor = '' | 'locality' | 'capacity';

/** An immutable input object: its size and the nodes that hold it. */
export interface InputObject {
  readonly id: string;
  readonly sizeBytes: number;
  readonly digest: string;
  readonly name: string;
  /** Names of holders as the caller gave them, the maker first. */
  readonly holders: readonly string[];
}

/** Where a step stands in its workflow. */
export interface StepPlace {
  /** Steps before it, along the longest way. */
  readonly stage: number;
  /** Steps whose outputs it reads. */
  readonly predecessors: number;
  /** Calls of the step. */
  readonly fanOut: number;
}

/** The place of what runs alone. */
export const ALONE: StepPlace = { stage: 0, predecessors: 0, fanOut: 1 };

/** What a run said at its end. */
export interface RunResult {
  /** Absent: success. */
  readonly error?: ErrorRecord;
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly outputs: readonly InputObject[];
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  /** Part of initialisedMs: bringing code and packages to the node. */
  readonly installedMs: number;
  /** Part of initialisedMs: until the runtime took up the function. @default 0 */
  readonly startedMs?: number;
  /** Part of initialisedMs: the import of the handler. @default 0 */
  readonly loadedMs?: number;
  readonly ranMs: number;
  /** Of the zygote that was used, 0 to 1. @default 0 */
  readonly zygoteDistance?: number;
  /** 1 cold, 2 packages, 3 zygote, 4 warm. */
  readonly startState: number;
  readonly fetchedBytes: number;
  readonly logs?: { readonly stdout: string; readonly stderr: string; readonly truncatedBytes: number };
  /** When the agent took it in, ms since 1970. */
  readonly acceptedAtMs: number;
  /** When its slot became free, ms since 1970. */
  readonly releasedAtMs: number;
}

/** The events of the invocation machine: facts, in the past tense or as the command that the policy gave. */
export type InvocationEvent =
  | { readonly type: 'PREDICTED'; readonly reason: Reason }
  | { readonly type: 'DISPATCH'; readonly reason: Reason; readonly node: number }
  | { readonly type: 'DELAY'; readonly reason: Reason; readonly for: DelayingFor; readonly node: number }
  | { readonly type: 'NODE_RELEASED'; readonly reason: Reason; readonly node: number }
  | { readonly type: 'SLACK_EXHAUSTED'; readonly reason: Reason; readonly node: number }
  | { readonly type: 'TARGET_LOST'; readonly reason: Reason }
  | { readonly type: 'CLASSIFY'; readonly reason: Reason }
  | { readonly type: 'STARTED'; readonly reason: Reason; readonly startState: number }
  | { readonly type: 'RESULT'; readonly reason: Reason; readonly result: RunResult }
  | { readonly type: 'REJECTED'; readonly reason: Reason; readonly error: ErrorRecord }
  | { readonly type: 'NODE_LOST'; readonly reason: Reason; readonly error: ErrorRecord }
  | { readonly type: 'CANCEL'; readonly reason: Reason; readonly error: ErrorRecord }
  | { readonly type: 'EXPIRE'; readonly reason: Reason; readonly error: ErrorRecord }
  | { readonly type: 'FAIL'; readonly reason: Reason; readonly error: ErrorRecord };

/** Told of every transition, synchronously. Must not keep the event. */
export interface TransitionObserver {
  /** Called right after `invocation` went from state `from` to `to` (numbers; equal for a transition within a state). */
  transitioned(invocation: Invocation, from: number, to: number, event: InvocationEvent): void;
}

/** What all invocations of one scheduler share. */
export interface InvocationHost {
  /** The time of the event being handled, ms; read from the clock once per event. */
  nowMs: number;
  readonly observer: TransitionObserver;
}

/** Rejections for other causes than lack of room after which an invocation fails instead of trying on. */
export const MAX_REJECTIONS = 32;

export class Invocation implements Timed {
  readonly host: InvocationHost;
  /** Serial number in this process; breaks ties. */
  readonly seq: number;
  readonly id: string;
  readonly functionName: string;
  readonly functionIndex: number;
  readonly arrivedAtMs: number;
  /** θ: latency target from arrival to result, ms. */
  readonly slaMs: number;
  /** When it is given up, ms; Infinity: never. */
  readonly expiresAtMs: number;
  readonly inputs: readonly InputObject[];
  readonly inputBytes: number;
  readonly localityKey: string;
  /** Policy asked for by the caller; '': the function's or the scheduler's. */
  readonly policyName: string;
  readonly idempotent: boolean;
  readonly maxAttempts: number;
  /** Bytes of the request itself. */
  readonly payloadBytes: number;
  /** Its StepPlace. */
  readonly stage: number;
  readonly predecessors: number;
  readonly fanOut: number;

  state = ARRIVING;
  reason: Reason = 'arrived';
  delayingFor: DelayingFor = '';
  /** Node it was sent to; -1: none. */
  node = -1;
  /** Node it waits for; -1: none. */
  target = -1;
  attempt = 0;
  rejections = 0;
  cancelError: ErrorRecord | undefined = undefined;
  started = false;
  startState = 0;
  result: RunResult | undefined = undefined;
  error: ErrorRecord | undefined = undefined;

  enteredAtMs: number;
  predictedMs = 0;
  queuedMs = 0;
  delayedMs = 0;
  dispatchedAtMs = 0;
  endedAtMs = 0;
  /** Predicted execution time on the chosen node, ms. */
  predictedRunMs = 0;
  predictedSpreadMs = 0;
  predictedP95Ms = 0;
  predictedP99Ms = 0;
  /** The predictor's handle of the situation it was dispatched in; -1: none. */
  situation = -1;
  /** Locality of the chosen node. */
  localClass = 0;
  degree = 0;
  degreeData = 0;
  degreeInfrastructure = 0;
  decidedBy = '';
  /** Why it was sent to its node at that time. */
  placedBecause: Reason = 'arrived';

  /** When it first had to wait for locality, ms; 0: never yet. */
  firstDelayedAtMs = 0;
  /** Until when it may wait for locality, or when the policy that makes it wait for room wants to be asked again, ms. */
  slackDeadlineMs = Infinity;
  dueAtMs = Infinity;
  duePlace = -1;
  /** Changes whenever it leaves its waiting lines; entries with another number are dead. */
  lineStamp = 0;
  /** Nodes under whose lines it stands; undefined while in none. */
  lineNodes: number[] | undefined = undefined;
  /** Its place in the lines of nodes, smaller first: the deadline of its wait, ms, unless its policy says otherwise. */
  lineKeyMs = 0;
  /** While it waits for room: the line that it stands in; negative: none. */
  roomLine: number | string = 0;
  /** T of the target when it began to wait, ms. */
  targetMs = 0;
  /** T of the best node with room that it passed over when it first waited for locality, ms; 0: there was none. */
  passedOverMs = 0;
  /** The target counted as local then: it is given up when it no longer does. */
  targetWasLocal = false;
  /** What a sandbox on the target would have started from then, and the input bytes that the target lacked. */
  targetStartState = 0;
  targetMissingBytes = 0;
  /** The function's warmth generation that its last decision saw. */
  seenGeneration = 0;
  /** Place in its node's list of running invocations. */
  runPlace = -1;
  /** The running machine; only the scheduler touches it. */
  machine: { send(event: InvocationEvent): void } | undefined = undefined;
  /** The caller's own data (payload, ticket …); the scheduler carries it and never looks. */
  cargo: unknown = undefined;
  /** What the inspector keeps of it beyond the rings, while it lives; undefined: nothing more. Only the inspector touches it. */
  detail: object | undefined = undefined;

  constructor(host: InvocationHost, init: InvocationInit) {
    this.host = host;
    this.seq = init.seq;
    this.id = init.id;
    this.functionName = init.functionName;
    this.functionIndex = init.functionIndex;
    this.arrivedAtMs = init.arrivedAtMs;
    this.slaMs = init.slaMs;
    this.expiresAtMs = init.expiresAtMs;
    this.inputs = init.inputs;
    this.inputBytes = init.inputBytes;
    this.localityKey = init.localityKey;
    this.policyName = init.policyName;
    this.idempotent = init.idempotent;
    this.maxAttempts = init.maxAttempts;
    this.payloadBytes = init.payloadBytes ?? 0;
    const place = init.place ?? ALONE;
    this.stage = place.stage;
    this.predecessors = place.predecessors;
    this.fanOut = place.fanOut;
    this.enteredAtMs = init.arrivedAtMs;
  }
}

/** What an invocation is born with. */
export interface InvocationInit {
  readonly seq: number;
  readonly id: string;
  readonly functionName: string;
  readonly functionIndex: number;
  readonly arrivedAtMs: number;
  readonly slaMs: number;
  readonly expiresAtMs: number;
  readonly inputs: readonly InputObject[];
  readonly inputBytes: number;
  readonly localityKey: string;
  readonly policyName: string;
  readonly idempotent: boolean;
  readonly maxAttempts: number;
  /** @default 0 */
  readonly payloadBytes?: number;
  /** @default ALONE */
  readonly place?: StepPlace;
}

/** True once it ended. */
export function isTerminal(state: number): boolean {
  return state >= COMPLETED;
}

/** Books the time spent in the state that is left and enters the next: the entry action of every state. */
export function enterState(invocation: Invocation, to: number, event: InvocationEvent): void {
  const now = invocation.host.nowMs;
  const from = invocation.state;
  const spent = now - invocation.enteredAtMs;
  if (from === DELAYING) {
    if (invocation.delayingFor === 'locality') invocation.delayedMs += spent;
    else invocation.queuedMs += spent;
    if (to !== DELAYING) invocation.delayingFor = '';
  } else if (from === ARRIVING) invocation.predictedMs += spent;
  invocation.enteredAtMs = now;
  invocation.state = to;
  invocation.reason = event.reason;
  if (to >= COMPLETED) invocation.endedAtMs = now;
  invocation.host.observer.transitioned(invocation, from, to, event);
}

// ── actions of the machine ────────────────────────────────────────────────────────────────────────────────────────

/** Takes the node of the event. */
export function assignNode(invocation: Invocation, event: InvocationEvent): void {
  if (!('node' in event)) return;
  invocation.node = event.node;
  invocation.placedBecause = event.reason;
  invocation.target = -1;
  invocation.attempt++;
  invocation.started = false;
  invocation.dispatchedAtMs = invocation.host.nowMs;
}

/** Notes what is waited for. Runs before the state is entered, so time already waited is booked by enterState. */
export function assignTarget(invocation: Invocation, event: InvocationEvent): void {
  if (event.type !== 'DELAY') return;
  invocation.delayingFor = event.for;
  invocation.target = event.node;
}

/** From waiting for locality to waiting for any room. */
export function waitForCapacity(invocation: Invocation, event: InvocationEvent): void {
  const now = invocation.host.nowMs;
  if (invocation.delayingFor === 'locality') invocation.delayedMs += now - invocation.enteredAtMs;
  else invocation.queuedMs += now - invocation.enteredAtMs;
  invocation.enteredAtMs = now;
  invocation.delayingFor = 'capacity';
  invocation.target = -1;
  invocation.reason = event.reason;
  invocation.host.observer.transitioned(invocation, DELAYING, DELAYING, event);
}

/** Leaves the node: the attempt is over without a result. */
export function releaseNode(invocation: Invocation, event: InvocationEvent): void {
  invocation.node = -1;
  invocation.started = false;
  if (event.type === 'REJECTED') {
    // A refusal is no attempt: nothing ran.
    invocation.attempt--;
    if (!isForLackOfRoom(event.error)) invocation.rejections++;
  }
}

/** Notes that the handler was called. */
export function noteStarted(invocation: Invocation, event: InvocationEvent): void {
  if (event.type !== 'STARTED') return;
  invocation.started = true;
  invocation.startState = event.startState;
  invocation.reason = event.reason;
  invocation.host.observer.transitioned(invocation, DISPATCHED, DISPATCHED, event);
}

/** Remembers that somebody wants it to end; the first wish counts. */
export function noteCancelWish(invocation: Invocation, event: InvocationEvent): void {
  if ((event.type !== 'CANCEL' && event.type !== 'EXPIRE') || invocation.cancelError !== undefined) return;
  invocation.cancelError = event.error;
}

/** Keeps result or error. */
export function keepOutcome(invocation: Invocation, event: InvocationEvent): void {
  if (event.type === 'RESULT') {
    invocation.result = event.result;
    invocation.startState = event.result.startState;
    invocation.error = event.result.error === undefined ? undefined : (invocation.cancelError ?? event.result.error);
  } else if ('error' in event) invocation.error = invocation.cancelError ?? event.error;
}

// ── guards of the machine ─────────────────────────────────────────────────────────────────────────────────────────

/** The event names a node with room. */
export function namesNode(_invocation: Invocation, event: InvocationEvent): boolean {
  return 'node' in event && event.node >= 0;
}

/** The run succeeded (even if somebody wanted to cancel it: it was too late). */
export function succeeded(_invocation: Invocation, event: InvocationEvent): boolean {
  return event.type === 'RESULT' && event.result.error === undefined;
}

/** It ended because somebody cancelled it. */
export function endedByCancel(invocation: Invocation, event: InvocationEvent): boolean {
  const code = invocation.cancelError?.code ?? (event.type === 'RESULT' ? event.result.error?.code : undefined);
  return code === 'CANCELLED';
}

/** It ended because its time was up. */
export function endedByTime(invocation: Invocation, event: InvocationEvent): boolean {
  const code = invocation.cancelError?.code ?? (event.type === 'RESULT' ? event.result.error?.code : undefined);
  return code === 'DEADLINE_EXCEEDED' || code === 'FUNCTION_TIMEOUT';
}

const PLATFORM_FAULTS = new Set(['NODE_LOST', 'SANDBOX_FAILED', 'OBJECT_CORRUPT', 'UNAVAILABLE', 'STORE_FULL', 'NODE_FULL']);

/** A full or draining node says nothing about the invocation: it waits on, bounded by its own limits. */
function isForLackOfRoom(error: ErrorRecord): boolean {
  return error.code === 'NODE_FULL' || error.code === 'DRAINING';
}

/** It may be tried again: idempotent, attempts left, nobody wants it to end, and the failure was not the function's. */
export function mayRunAgain(invocation: Invocation, event: InvocationEvent): boolean {
  if (invocation.cancelError !== undefined) return false;
  if (event.type === 'REJECTED') return isForLackOfRoom(event.error) || invocation.rejections < MAX_REJECTIONS;
  const failure = event.type === 'RESULT' ? event.result.error : 'error' in event ? event.error : undefined;
  if (failure === undefined || !PLATFORM_FAULTS.has(failure.code)) return false;
  return invocation.idempotent && invocation.attempt < invocation.maxAttempts;
}
