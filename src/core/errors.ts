/**
 * The one error table: code → gRPC status, HTTP status, CLI exit code, whose fault, retryable.
 * Nothing else in the project maps statuses. docs/reference/errors.md is generated from it.
 */

/** Whose fault an error is. */
export type Fault = 'caller' | 'function' | 'platform';

/** One row of the error table. */
export interface ErrorRow {
  /** gRPC status number (google.rpc.Code). */
  readonly grpc: number;
  /** HTTP status. */
  readonly http: number;
  /** Exit code of the CLI. 1 failure, 2 usage, 3 and above as listed here. */
  readonly exit: number;
  readonly fault: Fault;
  /** True when the same request may succeed later. */
  readonly retryable: boolean;
  /** What it means, one sentence. */
  readonly meaning: string;
}

const row = (
  grpc: number,
  http: number,
  exit: number,
  fault: Fault,
  retryable: boolean,
  meaning: string,
): ErrorRow => ({ grpc, http, exit, fault, retryable, meaning });

// gRPC status numbers, so that core needs no gRPC library.
const CANCELLED = 1;
const UNKNOWN = 2;
const INVALID_ARGUMENT = 3;
const DEADLINE_EXCEEDED = 4;
const NOT_FOUND = 5;
const ALREADY_EXISTS = 6;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;
const FAILED_PRECONDITION = 9;
const ABORTED = 10;
const UNIMPLEMENTED = 12;
const INTERNAL = 13;
const UNAVAILABLE = 14;
const DATA_LOSS = 15;

/** Every error that a user can see. */
export const ERRORS = {
  INVALID_REQUEST: row(INVALID_ARGUMENT, 400, 2, 'caller', false, 'A field of the request is not valid.'),
  MANIFEST_INVALID: row(INVALID_ARGUMENT, 400, 2, 'caller', false, 'A manifest is not valid; the message names line and field.'),
  CONFIG_INVALID: row(INVALID_ARGUMENT, 400, 2, 'caller', false, 'The configuration is not valid; the message names the place.'),
  TRACE_INVALID: row(INVALID_ARGUMENT, 400, 2, 'caller', false, 'A trace or recording cannot be read; the message names file and line.'),
  PAYLOAD_INVALID: row(INVALID_ARGUMENT, 400, 2, 'caller', false, 'The payload is not what its media type says.'),
  PAYLOAD_TOO_LARGE: row(RESOURCE_EXHAUSTED, 413, 2, 'caller', false, 'The payload is larger than limits.maxPayloadBytes; pass large data as objects.'),
  POLICY_UNKNOWN: row(INVALID_ARGUMENT, 400, 2, 'caller', false, 'There is no scheduling policy of that name.'),
  IDEMPOTENCY_CONFLICT: row(FAILED_PRECONDITION, 409, 1, 'caller', false, 'The idempotency key was used for another function.'),
  FUNCTION_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'There is no function or workflow of that name.'),
  WORKFLOW_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'There is no workflow of that name.'),
  INVOCATION_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'The invocation is unknown or no longer remembered.'),
  NODE_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'There is no node of that name.'),
  OBJECT_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'There is no object of that id.'),
  ROUTE_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'The HTTP door has no such path.'),
  BUNDLE_NOT_FOUND: row(NOT_FOUND, 404, 3, 'caller', false, 'There is no function code of that digest.'),
  NAME_TAKEN: row(ALREADY_EXISTS, 409, 1, 'caller', false, 'The name is taken by something of another kind.'),
  MODEL_UNAVAILABLE: row(FAILED_PRECONDITION, 409, 1, 'caller', true, 'There is no forest, or not yet.'),
  IN_USE: row(FAILED_PRECONDITION, 409, 1, 'caller', false, 'It is still needed by something else.'),
  NODE_NAME_TAKEN: row(ALREADY_EXISTS, 409, 4, 'caller', false, 'Another living agent has that name.'),
  PORT_IN_USE: row(FAILED_PRECONDITION, 409, 4, 'caller', false, 'Another program listens on that port.'),
  STATE_LOCKED: row(FAILED_PRECONDITION, 409, 4, 'caller', false, 'Another process uses that data directory.'),
  STATE_CORRUPT: row(DATA_LOSS, 500, 1, 'platform', false, 'Stored state cannot be read.'),
  QUEUE_FULL: row(RESOURCE_EXHAUSTED, 429, 5, 'platform', true, 'Too many invocations wait already; try again after the hint.'),
  NO_NODES: row(UNAVAILABLE, 503, 6, 'platform', true, 'No node is ready.'),
  DRAINING: row(UNAVAILABLE, 503, 6, 'platform', true, 'The scheduler is shutting down.'),
  UNAVAILABLE: row(UNAVAILABLE, 503, 6, 'platform', true, 'The other side cannot be reached.'),
  CANCELLED: row(CANCELLED, 499, 7, 'caller', false, 'Somebody cancelled it.'),
  DEADLINE_EXCEEDED: row(DEADLINE_EXCEEDED, 504, 8, 'caller', true, 'The time that the caller allowed was up.'),
  FUNCTION_FAILED: row(UNKNOWN, 502, 9, 'function', false, 'The function threw; its own error is inside.'),
  FUNCTION_LOAD_FAILED: row(FAILED_PRECONDITION, 502, 9, 'function', false, 'The function could not be loaded: module or handler missing, or it threw on import.'),
  FUNCTION_CRASHED: row(ABORTED, 502, 9, 'function', false, 'The process of the function ended during the run.'),
  FUNCTION_TIMEOUT: row(DEADLINE_EXCEEDED, 504, 8, 'function', false, 'The handler ran longer than the timeout of the function.'),
  MEMORY_EXCEEDED: row(RESOURCE_EXHAUSTED, 502, 9, 'function', false, 'The sandbox used more memory than the function may.'),
  RESULT_TOO_LARGE: row(RESOURCE_EXHAUSTED, 502, 9, 'function', false, 'The result is larger than limits.maxResultBytes; write large data as objects.'),
  STEP_FAILED: row(ABORTED, 502, 9, 'function', false, 'A step of the workflow failed; its own error is inside.'),
  NODE_FULL: row(RESOURCE_EXHAUSTED, 429, 5, 'platform', true, 'The node has no slot or memory left.'),
  NODE_LOST: row(UNAVAILABLE, 503, 6, 'platform', true, 'The node went away during the run and the attempts are used up.'),
  INTERRUPTED: row(ABORTED, 500, 1, 'platform', false, 'It may have run when a process died; it is not idempotent, so it was not run again.'),
  SANDBOX_FAILED: row(UNAVAILABLE, 503, 6, 'platform', true, 'The sandbox could not be started or its protocol broke.'),
  PACKAGES_FAILED: row(FAILED_PRECONDITION, 502, 9, 'function', false, 'The packages of the function could not be installed.'),
  OBJECT_LOST: row(DATA_LOSS, 500, 1, 'platform', false, 'No holder has the object any more; the message names its maker.'),
  OBJECT_CORRUPT: row(DATA_LOSS, 500, 1, 'platform', true, 'The bytes do not match the digest.'),
  STORE_FULL: row(RESOURCE_EXHAUSTED, 507, 5, 'platform', true, 'The store is full and everything in it is in use.'),
  UNIMPLEMENTED: row(UNIMPLEMENTED, 501, 1, 'platform', false, 'This build does not offer it.'),
  PERMISSION_DENIED: row(PERMISSION_DENIED, 403, 1, 'caller', false, 'It is not allowed.'),
  INTERNAL: row(INTERNAL, 500, 1, 'platform', false, 'A defect of Metronome; please report it.'),
} as const satisfies Record<string, ErrorRow>;

/** A code of the error table. */
export type ErrorCode = keyof typeof ERRORS;

/** What a function itself reported. */
export interface FunctionFailure {
  readonly type: string;
  readonly message: string;
  readonly stack: string;
}

/** One invalid field with its place. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/** What an error may carry beside code and message. */
export interface ErrorExtras {
  readonly component?: string;
  readonly invocationId?: string;
  /** Milliseconds after which a retry makes sense. */
  readonly retryAfterMs?: number;
  readonly functionError?: FunctionFailure;
  readonly logs?: { readonly stdout: string; readonly stderr: string; readonly truncatedBytes: number };
  readonly violations?: readonly Violation[];
  readonly cause?: unknown;
}

/** An error as plain data, for messages between threads and processes. */
export interface ErrorRecord extends Omit<ErrorExtras, 'cause'> {
  readonly code: ErrorCode;
  readonly message: string;
}

/** The one error class. The message says what happened, the offending value, and what to do. */
export class MetronomeError extends Error {
  readonly code: ErrorCode;
  readonly extras: ErrorExtras;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.name = 'MetronomeError';
    this.code = code;
    this.extras = extras;
  }

  /** Any thrown value as a MetronomeError; what is not one becomes INTERNAL. */
  static from(thrown: unknown): MetronomeError {
    if (thrown instanceof MetronomeError) return thrown;
    const message = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    return new MetronomeError('INTERNAL', message, { cause: thrown });
  }

  /** As plain data. */
  toRecord(): ErrorRecord {
    const { cause: _, ...extras } = this.extras;
    return { code: this.code, message: this.message, ...extras };
  }

  /** From plain data. */
  static fromRecord(record: ErrorRecord): MetronomeError {
    const { code, message, ...extras } = record;
    return new MetronomeError(code, message, extras);
  }
}

/** True for a code of the table. */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}

/** The known name nearest to a misspelt one, or undefined. Edit distance at most a third of the length. */
export function suggest(given: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(given.length / 3)) + 1;
  for (const name of known) {
    const distance = editDistance(given.toLowerCase(), name.toLowerCase());
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      current.push(Math.min((previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + cost));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
