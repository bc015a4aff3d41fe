/**
 * OpenTelemetry spans of invocations and workflow runs, through the API alone: whoever wants them loads an SDK into the scheduler process
 * (`node --import ./otel.mjs …`, docs/guide/tracing.md). Without one, nothing is hooked in and nothing costs anything.
 *
 * One span per invocation, one below it per state that it went through, and below `dispatched` the phases that the agent measured. The context
 * comes from the caller (W3C traceparent) and goes on to the function as a child of the invocation's span.
 */
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, isSpanContextValid, trace, type Attributes, type Context, type Span, type Tracer } from '@opentelemetry/api';
import type { ErrorRecord } from '../core/errors.ts';
import { DISPATCHED, INVOCATION_STATES, isTerminal, type Invocation, type InvocationEvent, type RunResult } from '../core/invocation.ts';

/** The span of one invocation or run while it lives. */
export interface LiveTrace {
  readonly span: Span;
  /** For spans below it. */
  readonly context: Context;
  /** W3C trace context to hand on. */
  readonly traceparent: string;
  /** When the present state was entered, ms since 1970. */
  enteredAtMs: number;
}

/** What is told when a span begins. */
export interface TraceStart {
  /** Function or workflow. */
  readonly name: string;
  readonly kind: 'invocation' | 'step' | 'run';
  /** Of the caller; '': none. Must be well-formed. */
  readonly traceparent: string;
  /** Of the run that it is a step of. */
  readonly parent?: LiveTrace | undefined;
  readonly atMs: number;
  /** `other`: accepted for later. */
  readonly trigger: 'http' | 'other';
}

const START_STATES = ['', 'cold', 'packages', 'zygote', 'warm'] as const;

/** Makes the spans. All calls are synchronous and in the order of events. */
export class Tracing {
  readonly #tracer: Tracer;
  readonly #nodeName: (node: number) => string;

  constructor(tracer: Tracer, nodeName: (node: number) => string) {
    this.#tracer = tracer;
    this.#nodeName = nodeName;
  }

  /** Begins the span of an invocation or a run. */
  begin({ name, kind, traceparent, parent, atMs, trigger }: TraceStart): LiveTrace {
    const above = parent?.context ?? contextOf(traceparent);
    const span = this.#tracer.startSpan(name, {
      kind: kind === 'step' ? SpanKind.INTERNAL : SpanKind.SERVER, startTime: atMs,
      attributes: { 'faas.trigger': trigger, 'faas.invoked_name': name, 'metronome.kind': kind },
    }, above);
    return { span, context: trace.setSpan(above, span), traceparent: traceparentOf(span), enteredAtMs: atMs };
  }

  /** An invocation went from one state to another. */
  transitioned(live: LiveTrace, invocation: Invocation, from: number, to: number, event: InvocationEvent): void {
    const { nowMs } = invocation.host;
    if (from === to) {
      live.span.addEvent(event.type, { 'metronome.reason': event.reason }, nowMs);
      return;
    }
    const node = invocation.node >= 0 ? invocation.node : invocation.target;
    const state = this.#tracer.startSpan(`metronome.${INVOCATION_STATES[from]}`, {
      startTime: live.enteredAtMs,
      attributes: { 'metronome.left_by': event.type, 'metronome.reason': event.reason, 'metronome.attempt': invocation.attempt, ...(node < 0 ? {} : { 'metronome.node': this.#nodeName(node) }) },
    }, live.context);
    if (from === DISPATCHED && event.type === 'RESULT') this.#phases(trace.setSpan(live.context, state), event.result);
    state.end(nowMs);
    live.enteredAtMs = nowMs;
    if (isTerminal(to)) this.#ended(live, invocation);
  }

  /** Ends a span. `id` '': it never came to life. */
  end(live: LiveTrace, id: string, error: ErrorRecord | undefined, atMs: number, attributes: Attributes = {}): void {
    if (id !== '') live.span.setAttribute('faas.invocation_id', id);
    live.span.setAttributes(attributes);
    if (error !== undefined) {
      live.span.setAttribute('error.type', error.code);
      live.span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    }
    live.span.end(atMs);
  }

  #ended(live: LiveTrace, invocation: Invocation): void {
    this.end(live, invocation.id, invocation.error, invocation.host.nowMs, {
      'metronome.policy': invocation.decidedBy, 'metronome.reason': invocation.placedBecause, 'metronome.sla_ms': invocation.slaMs, 'metronome.delayed_ms': invocation.delayedMs,
      ...(invocation.node < 0 ? {} : { 'metronome.node': this.#nodeName(invocation.node), 'metronome.locality': invocation.localClass === 1 ? 'local' : 'fallback', 'metronome.predicted_ms': invocation.predictedRunMs }),
      ...(invocation.startState === 0 ? {} : { 'faas.coldstart': invocation.startState < 3, 'metronome.start_state': START_STATES[invocation.startState] ?? '' }),
    });
  }

  /** The phases in the order in which the agent went through them, by its clock; what took no time has no span. */
  #phases(context: Context, result: RunResult): void {
    let atMs = result.acceptedAtMs;
    if (atMs <= 0) return;
    for (const [name, ms] of [['fetch', result.fetchedMs], ['initialise', result.initialisedMs], ['run', result.ranMs]] as const) {
      if (ms <= 0) continue;
      this.#tracer.startSpan(`metronome.${name}`, { startTime: atMs, ...(name === 'fetch' ? { attributes: { 'metronome.fetched_bytes': result.fetchedBytes } } : {}) }, context).end(atMs + ms);
      atMs += ms;
    }
  }
}

/** Tracing when an SDK was loaded into this process; otherwise undefined. */
export function createTracing(version: string, nodeName: (node: number) => string): Tracing | undefined {
  const tracer = trace.getTracer('metronome', version);
  const probe = tracer.startSpan('metronome.start', {}, ROOT_CONTEXT);
  probe.end();
  // Also a span that the SDK's sampler leaves out has a valid context; only without an SDK it has none.
  return isSpanContextValid(probe.spanContext()) ? new Tracing(tracer, nodeName) : undefined;
}

/** The context of a well-formed traceparent. */
function contextOf(traceparent: string): Context {
  const [, traceId, spanId, flags] = traceparent.split('-');
  if (traceId === undefined || spanId === undefined || flags === undefined) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true });
}

function traceparentOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}
