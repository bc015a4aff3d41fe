/** Spans of real invocations, made through OpenTelemetry's API for an SDK that the test loads into the daemon's process. */
import { trace } from '@opentelemetry/api';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace-base';
import { request } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { PATIENCE, openCluster, type TestCluster } from './harness.ts';

const CALLER_TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER_SPAN = 'b7ad6b7169203331';
const exporter = new InMemorySpanExporter();
const ECHO = "export const handler = (event, { traceparent }) => { if (event?.fail) throw new Error('as asked'); return { traceparent }; };";

let cluster: TestCluster;
beforeAll(async () => {
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
  cluster = await openCluster({ nodes: 1, slots: 1 });
  await cluster.deploy('echo', ECHO);
  await cluster.client.applyWorkflow({ spec: { name: 'pair', slaMs: 60_000, timeoutMs: 60_000, steps: [{ name: 'first', function: 'echo' }, { name: 'second', function: 'echo', after: ['first'] }] } });
});
afterAll(async () => {
  await cluster.close();
  trace.disable();
});
beforeEach(() => exporter.reset());

const ms = ([s, ns]: readonly [number, number]): number => s * 1e3 + ns / 1e6;
const idOf = (span: ReadableSpan | undefined): string => span?.spanContext().spanId ?? 'none';
/** All spans, once the one of this name has ended. */
async function spansWith(name: string): Promise<readonly ReadableSpan[]> {
  await vi.waitFor(() => expect(exporter.getFinishedSpans().map((span) => span.name)).toContain(name), PATIENCE);
  return exporter.getFinishedSpans();
}

describe('the spans of an invocation', () => {
  it('hang below the caller, one per state, with the measured phases below dispatched, and the function gets the context', async () => {
    const { statusCode, body } = await request(`${cluster.daemon.httpUrl}/run/echo`, { method: 'POST', headers: { 'content-type': 'application/json', traceparent: `00-${CALLER_TRACE}-${CALLER_SPAN}-01` }, body: '{}' });
    expect(statusCode).toBe(200);
    const answer = (await body.json()) as { traceparent: string };
    const spans = await spansWith('echo');
    const root = spans.find(({ name }) => name === 'echo');
    expect(root?.spanContext().traceId).toBe(CALLER_TRACE);
    expect(root?.parentSpanContext?.spanId).toBe(CALLER_SPAN);
    expect(root?.attributes).toMatchObject({ 'faas.trigger': 'http', 'faas.invoked_name': 'echo', 'faas.coldstart': true, 'metronome.policy': 'metronome', 'metronome.node': 'node-1' });
    expect(root?.attributes['faas.invocation_id']).toMatch(/^inv-/);
    expect(answer.traceparent).toBe(`00-${CALLER_TRACE}-${idOf(root)}-01`);
    const states = spans.filter((span) => span.parentSpanContext?.spanId === idOf(root));
    expect(states.map(({ name }) => name)).toEqual(['metronome.arriving', 'metronome.classified', 'metronome.dispatched']);
    // They follow each other without a gap and fill the whole.
    for (const [i, state] of states.entries()) expect(ms(state.startTime)).toBeCloseTo(ms(states[i - 1]?.endTime ?? root?.startTime ?? [0, 0]), 3);
    expect(ms(states.at(-1)?.endTime ?? [0, 0])).toBeCloseTo(ms(root?.endTime ?? [0, 0]), 3);
    const phases = spans.filter((span) => span.parentSpanContext?.spanId === idOf(states.at(-1)));
    expect(phases.map(({ name }) => name)).toEqual(expect.arrayContaining(['metronome.initialise', 'metronome.run']));
    expect(root?.events.map(({ name }) => name)).toContain('STARTED');
  }, 60_000);

  it('say what a function that throws threw', async () => {
    await expect(cluster.call('echo', { fail: true })).rejects.toThrow(/as asked/);
    const root = (await spansWith('echo')).find(({ name }) => name === 'echo');
    expect(root?.parentSpanContext).toBeUndefined();
    expect(root?.status).toMatchObject({ code: 2, message: expect.stringContaining('as asked') as unknown });
    expect(root?.attributes['error.type']).toBe('FUNCTION_FAILED');
  }, 60_000);

  it('of the steps hang below their workflow run', async () => {
    await cluster.call('pair', {});
    const spans = await spansWith('pair');
    const run = spans.find(({ name }) => name === 'pair');
    const steps = spans.filter(({ name }) => name === 'echo');
    expect(steps).toHaveLength(2);
    for (const step of steps) expect(step.parentSpanContext?.spanId).toBe(idOf(run));
    expect(run?.attributes).toMatchObject({ 'metronome.kind': 'run', 'metronome.steps': 2 });
  }, 60_000);

  it('end although the invocation was refused', async () => {
    await expect(cluster.call('echo', {}, { policy: 'no-such-policy' })).rejects.toThrow(/no-such-policy/);
    const root = (await spansWith('echo')).find(({ name }) => name === 'echo');
    expect(root?.attributes['error.type']).toBe('POLICY_UNKNOWN');
  }, 60_000);
});
