/**
 * What is checked at the door, before the scheduler sees a request: names, sizes, numbers, JSON, deadline. All
 * problems of one request are reported together, each with its field.
 */
import { MetronomeError, type Violation } from '../core/errors.ts';
import type { ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import type { InvokeRequest } from '../rpc/gen/metronome/v1/invoke.ts';
import { assertJson, exactBytes, isJson } from './payloads.ts';
import type { SubmitItem } from './protocol.ts';

/** Bounds of one request. */
export interface AdmissionLimits {
  readonly maxPayloadBytes: number;
  readonly maxInputs: number;
}

/** What the call says beside the request. */
export interface Arrival {
  readonly ticket: number;
  readonly mode: SubmitItem['mode'];
  /** Now, ms since 1970. */
  readonly nowMs: number;
  /** The call's own deadline, ms since 1970; 0: none. */
  readonly deadlineAtMs: number;
  /** Trace context of the call, used when the request has none. */
  readonly traceparent: string;
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const OBJECT_ID = /^[A-Za-z0-9._-]{1,128}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const MEDIA_TYPE = /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(\s*;[\t\x20-\x7e]{0,255})?$/;
// version 00 to fe, trace id and parent id not all zero (W3C Trace Context).
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}/;
const MAX_KEY_CHARS = 255;
const MAX_HOLDERS = 256;
const MAX_DURATION_MS = 86_400_000;

/**
 * A request as the loop takes it. Throws INVALID_REQUEST with violations, PAYLOAD_TOO_LARGE, PAYLOAD_INVALID, or
 * DEADLINE_EXCEEDED when its time was up before it came in.
 */
export function admit(request: InvokeRequest, arrival: Arrival, limits: AdmissionLimits): SubmitItem {
  const violations = findViolations(request, limits);
  if (violations !== undefined) {
    const text = violations.map((violation) => `${violation.field}: ${violation.description}`).join('; ');
    throw new MetronomeError('INVALID_REQUEST', `The request is not valid. ${text}`, { component: 'gateway', violations });
  }
  assertPayloadSize(request.payload.byteLength, limits.maxPayloadBytes);
  const contentType = request.contentType === '' ? 'application/json' : request.contentType;
  if (isJson(contentType)) assertJson(request.payload);
  const deadlineAtMs = earliestDeadline(arrival, request.timeoutMs);
  if (deadlineAtMs !== 0 && deadlineAtMs <= arrival.nowMs) {
    throw new MetronomeError('DEADLINE_EXCEEDED', 'The deadline had passed before the request came in.', { component: 'gateway' });
  }
  const traceparent = request.traceparent === '' ? arrival.traceparent : request.traceparent;
  return {
    ticket: arrival.ticket,
    mode: arrival.mode,
    target: request.function,
    payload: exactBytes(request.payload),
    contentType,
    inputs: request.inputs,
    idempotencyKey: request.idempotencyKey,
    slaMs: request.slaMs,
    deadlineAtMs,
    localityKey: request.localityKey,
    policy: request.policy,
    // W3C: a trace context that cannot be read is dropped, never an error.
    traceparent: traceparent !== '' && TRACEPARENT.test(traceparent) ? traceparent : '',
  };
}

/** Throws PAYLOAD_TOO_LARGE with both numbers. `bytes` may be a lower bound when the rest was not read. */
export function assertPayloadSize(bytes: number, maxPayloadBytes: number): void {
  if (bytes <= maxPayloadBytes) return;
  throw new MetronomeError('PAYLOAD_TOO_LARGE', `The payload has ${bytes} bytes; the limit is ${maxPayloadBytes}. Pass large data as objects (POST /objects).`, { component: 'gateway' });
}

/** True for a well-formed function or workflow name. */
export function isFunctionName(name: string): boolean {
  return NAME.test(name);
}

function earliestDeadline(arrival: Arrival, timeoutMs: number): number {
  if (timeoutMs === 0) return arrival.deadlineAtMs;
  const byTimeout = arrival.nowMs + timeoutMs;
  return arrival.deadlineAtMs === 0 ? byTimeout : Math.min(byTimeout, arrival.deadlineAtMs);
}

function findViolations(request: InvokeRequest, limits: AdmissionLimits): Violation[] | undefined {
  let violations: Violation[] | undefined;
  const add = (field: string, description: string): void => void (violations ??= []).push({ field, description });

  if (request.function === '') add('function', 'is missing; name a function or workflow');
  else if (!NAME.test(request.function)) add('function', `${quote(request.function)} is not a name: lower-case letters, digits and inner hyphens, at most 63`);
  if (request.contentType !== '' && !MEDIA_TYPE.test(request.contentType)) add('content_type', `${quote(request.contentType)} is not a media type like "application/json"`);
  if (request.inputs.length > limits.maxInputs) add('inputs', `${request.inputs.length} objects; the limit is ${limits.maxInputs}`);
  else for (let i = 0; i < request.inputs.length && (violations?.length ?? 0) < 16; i++) checkInput(request.inputs[i], i, add);
  if (request.idempotencyKey.length > MAX_KEY_CHARS) add('idempotency_key', `has ${request.idempotencyKey.length} characters; the limit is ${MAX_KEY_CHARS}`);
  if (request.localityKey.length > MAX_KEY_CHARS) add('locality_key', `has ${request.localityKey.length} characters; the limit is ${MAX_KEY_CHARS}`);
  if (request.policy.length > MAX_KEY_CHARS) add('policy', `has ${request.policy.length} characters; the limit is ${MAX_KEY_CHARS}`);
  if (!isDuration(request.slaMs)) add('sla_ms', `${request.slaMs} is not between 0 and ${MAX_DURATION_MS}`);
  if (!isDuration(request.timeoutMs)) add('timeout_ms', `${request.timeoutMs} is not between 0 and ${MAX_DURATION_MS}`);
  return violations;
}

function checkInput(input: ObjectRef | undefined, index: number, add: (field: string, description: string) => void): void {
  const field = `inputs[${index}]`;
  if (input === undefined || !OBJECT_ID.test(input.id)) add(`${field}.id`, `${quote(input?.id ?? '')} is not an object id: 1 to 128 characters of [A-Za-z0-9._-]`);
  if (input === undefined) return;
  if (!DIGEST.test(input.digest)) add(`${field}.digest`, `${quote(input.digest)} is not a SHA-256 in lower-case hex (64 characters)`);
  if (!Number.isSafeInteger(input.sizeBytes) || input.sizeBytes < 0) add(`${field}.size_bytes`, `${input.sizeBytes} is not a size`);
  if (input.holders.length > MAX_HOLDERS) add(`${field}.holders`, `${input.holders.length} names; the limit is ${MAX_HOLDERS}`);
  if (input.name.length > 255 || /[/\\\0]/.test(input.name)) add(`${field}.name`, `${quote(input.name)} is longer than 255 characters or holds a path separator`);
}

function isDuration(ms: number): boolean {
  return ms >= 0 && ms <= MAX_DURATION_MS;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
