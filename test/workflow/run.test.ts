/** The progress of a workflow run, by hand-made cases. */
import { describe, expect, it } from 'vitest';
import type { ErrorRecord } from '../../src/core/errors.ts';
import type { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { WorkflowSpec } from '../../src/rpc/gen/metronome/v1/workflow.ts';
import { createStepTargets } from '../../src/workflow/step-targets.ts';
import { createWorkflowRun, type StepCall, type WorkflowOutcome, type WorkflowRun, type WorkflowRunOptions } from '../../src/workflow/run.ts';

type Steps = readonly { readonly name: string; readonly after?: string[]; readonly forEach?: string; readonly critical?: boolean }[];

interface Bench {
  readonly run: WorkflowRun;
  readonly calls: StepCall[];
  readonly cancelled: number[];
  readonly ends: WorkflowOutcome[];
  readonly setNow: (ms: number) => void;
  /** Completes the call with this label. */
  readonly complete: (label: string, payload: unknown, outputs?: readonly ObjectRef[]) => boolean;
}

const object = (id: string): ObjectRef => ({ id, sizeBytes: 1, digest: '', holders: ['n1'], name: id });
const bytes = (value: unknown): Uint8Array => (value instanceof Uint8Array ? value : Buffer.from(JSON.stringify(value)));
const textOf = (payload: Uint8Array | undefined): string => Buffer.from(payload ?? []).toString();
const ids = (inputs: readonly ObjectRef[] | undefined): string[] => (inputs ?? []).map(({ id }) => id);

function start(steps: Steps, options: Partial<WorkflowRunOptions> = {}): Bench {
  const calls: StepCall[] = [];
  const cancelled: number[] = [];
  const ends: WorkflowOutcome[] = [];
  let now = 1_000;
  const run = createWorkflowRun({
    id: 'run-1',
    spec: WorkflowSpec.fromPartial({ name: 'w', slaMs: 500, timeoutMs: 1_000, steps: steps.map((step) => ({ function: `f-${step.name}`, after: [], forEach: '', ...step })) }),
    payload: bytes({ given: true }),
    contentType: 'application/json',
    inputs: [object('in')],
    slaMs: 0,
    arrivedAtMs: 1_000,
    deadlineAtMs: 0,
    nowMs: () => now,
    submit: (call) => void calls.push(call),
    cancelCall: (call) => void cancelled.push(call),
    onEnd: (outcome) => void ends.push(outcome),
    ...options,
  });
  run.start();
  const complete: Bench['complete'] = (label, payload, outputs = []) => {
    const call = calls.find((each) => each.label === label);
    if (call === undefined) throw new Error(`there is no call ${label}; calls: ${calls.map((each) => each.label).join(', ')}`);
    return run.stepCompleted(call.call, { payload: Buffer.from(bytes(payload)), contentType: 'application/json', outputs: [...outputs] });
  };
  return { run, calls, cancelled, ends, setNow: (ms) => void (now = ms), complete };
}

const failure: ErrorRecord = { code: 'FUNCTION_FAILED', message: 'boom', invocationId: 'inv-7', functionError: { type: 'TypeError', message: 'boom', stack: 'at x' }, logs: { stdout: 'o', stderr: 'e', truncatedBytes: 0 } };
const error = (bench: Bench): ErrorRecord => {
  const [end] = bench.ends;
  if (end?.kind !== 'failed') throw new Error(`the run did not fail: ${JSON.stringify(end)}`);
  return end.error;
};

describe('a sequence', () => {
  it('hands payload and outputs of each step to the next and ends with the last result', () => {
    const bench = start([{ name: 'a' }, { name: 'b', after: ['a'] }]);
    expect(bench.calls).toHaveLength(1);
    expect(bench.calls[0]).toMatchObject({ call: 0, step: 'a', index: 0, count: 1, label: 'a', function: 'f-a', contentType: 'application/json', critical: false });
    expect(textOf(bench.calls[0]?.payload)).toBe('{"given":true}');
    expect(ids(bench.calls[0]?.inputs)).toEqual(['in']);
    expect(bench.complete('a', [1, 2], [object('x'), object('y')])).toBe(true);
    expect(textOf(bench.calls[1]?.payload)).toBe('[1,2]');
    expect(ids(bench.calls[1]?.inputs)).toEqual(['x', 'y']);
    bench.complete('b', 'end', [object('z')]);
    expect(bench.ends).toEqual([{ kind: 'completed', payload: Buffer.from('"end"'), contentType: 'application/json', outputs: [object('z')] }]);
    expect(bench.run.hasEnded).toBe(true);
  });

  it('passes bytes of any media type through unchanged', () => {
    const bench = start([{ name: 'a' }, { name: 'b', after: ['a'] }], { payload: Uint8Array.of(0, 255), contentType: 'image/png' });
    expect(bench.calls[0]).toMatchObject({ payload: Uint8Array.of(0, 255), contentType: 'image/png' });
    bench.run.stepCompleted(0, { payload: Buffer.of(1, 254), contentType: 'image/webp', outputs: [] });
    expect(bench.calls[1]).toMatchObject({ payload: Buffer.of(1, 254), contentType: 'image/webp' });
  });

  it('gives every call what is left of the latency target, at least 1 ms', () => {
    const bench = start([{ name: 'a' }, { name: 'b', after: ['a'] }, { name: 'c', after: ['b'] }], { deadlineAtMs: 9_000 });
    expect(bench.calls[0]).toMatchObject({ slaMs: 500, deadlineAtMs: 9_000 });
    bench.setNow(1_300);
    bench.complete('a', 1);
    expect(bench.calls[1]?.slaMs).toBe(200);
    bench.setNow(5_000);
    bench.complete('b', 1);
    expect(bench.calls[2]?.slaMs).toBe(1);
  });

  it('leaves time for the later steps once runs have ended, waits for better nodes not counted', () => {
    const steps = [{ name: 'a' }, { name: 'b', after: ['a'], forEach: 'payload' }, { name: 'c', after: ['b'] }];
    const targets = createStepTargets(steps.map(({ name, after = [] }) => ({ name, after })));
    const first = start(steps, { targets });
    expect(first.calls[0]?.slaMs).toBeCloseTo(500 / 3, 9);
    first.setNow(1_010);
    first.complete('a', [1, 2]);
    // b[0] takes 40, b[1] 100 of which it waited 70: the step takes 40 without that.
    first.setNow(1_050);
    first.complete('b[0]', 1);
    first.setNow(1_110);
    first.run.stepCompleted(2, { payload: Buffer.from('2'), contentType: 'application/json', outputs: [] }, 70);
    first.setNow(1_170);
    first.complete('c', 1);
    expect(first.ends[0]?.kind).toBe('completed');
    const second = start(steps, { targets });
    expect(second.calls[0]?.slaMs).toBe(500 - 40 - 60);
    second.setNow(1_100);
    second.complete('a', [1, 2]);
    expect(second.calls.slice(1).map(({ slaMs }) => slaMs)).toEqual([340, 340]);
    second.setNow(1_300);
    second.complete('b[0]', 1);
    second.complete('b[1]', 1);
    expect(second.calls.at(-1)?.slaMs).toBe(200);
  });

  it('learns nothing for the targets from a run that fails', () => {
    const targets = createStepTargets([{ name: 'a', after: [] }, { name: 'b', after: ['a'] }]);
    const steps = [{ name: 'a' }, { name: 'b', after: ['a'] }];
    const bench = start(steps, { targets });
    bench.setNow(1_100);
    bench.complete('a', 1);
    bench.run.stepFailed(1, failure);
    expect(start(steps, { targets }).calls[0]?.slaMs).toBe(250);
  });

  it('takes the target of the request before that of the workflow', () => {
    expect(start([{ name: 'a' }], { slaMs: 77 }).calls[0]?.slaMs).toBe(77);
  });

  it('does not grow the stack when thousands of completions come at once', () => {
    const steps = Array.from({ length: 5_000 }, (_, i) => ({ name: `s${i}`, ...(i === 0 ? {} : { after: [`s${i - 1}`] }) }));
    const ends: WorkflowOutcome[] = [];
    const run: WorkflowRun = createWorkflowRun({
      id: 'r', spec: WorkflowSpec.fromPartial({ name: 'w', slaMs: 1, timeoutMs: 1, steps: steps.map((step) => ({ function: 'f', ...step })) }), payload: new Uint8Array(), contentType: '', inputs: [],
      slaMs: 0, arrivedAtMs: 0, deadlineAtMs: 0, nowMs: () => 0, cancelCall: () => undefined, onEnd: (outcome) => void ends.push(outcome),
      submit: ({ call }) => void run.stepCompleted(call, { payload: Buffer.from('1'), contentType: 'application/json', outputs: [] }),
    });
    run.start();
    expect(ends.map(({ kind }) => kind)).toEqual(['completed']);
  });
});

describe('fan-out and fan-in', () => {
  it('over objects makes one call for each object, all with the payload of the step', () => {
    const bench = start([{ name: 'split' }, { name: 'analyze', after: ['split'], forEach: 'objects' }, { name: 'merge', after: ['analyze'] }]);
    bench.complete('split', { parts: 3 }, [object('p0'), object('p1'), object('p2')]);
    const fan = bench.calls.slice(1);
    expect(fan.map(({ label, index, count }) => [label, index, count])).toEqual([['analyze[0]', 0, 3], ['analyze[1]', 1, 3], ['analyze[2]', 2, 3]]);
    expect(fan.map(({ inputs }) => ids(inputs))).toEqual([['p0'], ['p1'], ['p2']]);
    expect(fan.map(({ payload }) => textOf(payload))).toEqual(Array(3).fill('{"parts":3}'));
    // Completions in another order than the calls.
    bench.complete('analyze[2]', { n: 2 }, [object('t2')]);
    bench.complete('analyze[0]', { n: 0 }, [object('t0'), object('u0')]);
    expect(bench.run.progress()).toEqual([
      { step: 'split', function: 'f-split', state: 'completed', completed: 1, count: 1 },
      { step: 'analyze', function: 'f-analyze', state: 'running', completed: 2, count: 3 },
      { step: 'merge', function: 'f-merge', state: 'waiting', completed: 0, count: 0 },
    ]);
    bench.complete('analyze[1]', null, [object('t1')]);
    expect(textOf(bench.calls[4]?.payload)).toBe('[{"n":0},null,{"n":2}]');
    expect(ids(bench.calls[4]?.inputs)).toEqual(['t0', 'u0', 't1', 't2']);
  });

  it('over the payload makes one call for each element, all with all inputs', () => {
    const bench = start([{ name: 'a', forEach: 'payload' }], { payload: bytes([1, 'zwei', { n: 3 }, null]) });
    expect(bench.calls.map(({ payload }) => textOf(payload))).toEqual(['1', '"zwei"', '{"n":3}', 'null']);
    expect(bench.calls.map(({ inputs }) => ids(inputs))).toEqual(Array(4).fill(['in']));
    for (let i = 3; i >= 0; i--) bench.complete(`a[${i}]`, i);
    expect(bench.ends[0]).toMatchObject({ kind: 'completed', payload: new Uint8Array(Buffer.from('[0,1,2,3]')) });
  });

  it('of one element is still a list', () => {
    const bench = start([{ name: 'a', forEach: 'payload' }], { payload: bytes([7]) });
    bench.complete('a[0]', 'x');
    expect(bench.ends[0]?.kind === 'completed' && textOf(bench.ends[0].payload)).toBe('["x"]');
  });

  it.each(['objects', 'payload'])('of nothing over %s completes at once with an empty list', (forEach) => {
    const bench = start([{ name: 'a', forEach }, { name: 'b', after: ['a'] }], { inputs: [], payload: bytes([]) });
    expect(bench.calls.map(({ label }) => label)).toEqual(['b']);
    expect(textOf(bench.calls[0]?.payload)).toBe('[]');
    expect(bench.calls[0]?.inputs).toEqual([]);
  });

  it('of nothing at the end completes the run', () => {
    const bench = start([{ name: 'a', forEach: 'objects' }], { inputs: [] });
    expect(bench.ends).toEqual([{ kind: 'completed', payload: new Uint8Array(Buffer.from('[]')), contentType: 'application/json', outputs: [] }]);
  });

  it('after several steps the payload is keyed by step, and the result of several ends too', () => {
    const bench = start([{ name: 'a' }, { name: 'b', forEach: 'objects' }, { name: 'c', after: ['b', 'a'] }, { name: 'd', after: ['a'] }]);
    bench.complete('a', 'A', [object('oa')]);
    bench.complete('b[0]', { b: 1 }, [object('ob')]);
    const c = bench.calls.find(({ step }) => step === 'c');
    expect(textOf(c?.payload)).toBe('{"b":[{"b":1}],"a":"A"}');
    expect(ids(c?.inputs)).toEqual(['ob', 'oa']);
    bench.complete('d', 'D', [object('od')]);
    expect(bench.ends).toEqual([]);
    bench.run.stepCompleted(c?.call ?? -1, { payload: Buffer.alloc(0), contentType: '', outputs: [] });
    expect(bench.ends[0]?.kind === 'completed' && textOf(bench.ends[0].payload)).toBe('{"c":null,"d":"D"}');
    expect(bench.ends[0]?.kind === 'completed' && ids(bench.ends[0].outputs)).toEqual(['od']);
  });

  it.each([
    ['an object', bytes({ a: 1 }), 'application/json', 'PAYLOAD_INVALID', /needs a JSON array, but the payload of the run is JSON of another kind \(object\)/],
    ['broken JSON', Buffer.from('[1,'), 'application/json', 'PAYLOAD_INVALID', /the payload of the run is no valid JSON/],
    ['bytes', Buffer.from('[1]'), 'text/csv', 'PAYLOAD_INVALID', /the payload of the run is text\/csv/],
    ['nothing', Buffer.alloc(0), '', 'PAYLOAD_INVALID', /the payload of the run is no valid JSON/],
  ])('over %s as payload fails', (_name, payload, contentType, code, message) => {
    const bench = start([{ name: 'a', forEach: 'payload' }], { payload, contentType });
    expect(error(bench)).toMatchObject({ code, message: expect.stringMatching(message), invocationId: 'run-1' });
    expect(bench.calls).toEqual([]);
  });

  it('over a function\'s result that is no list is the function\'s fault', () => {
    const bench = start([{ name: 'a' }, { name: 'b', after: ['a'], forEach: 'payload' }]);
    bench.complete('a', 'x');
    expect(error(bench)).toMatchObject({ code: 'STEP_FAILED', message: 'Step "b" fans out over the payload, which needs a JSON array, but the result of step "a" is JSON of another kind (string).' });
  });

  it('makes 1024 calls and not one more', () => {
    expect(start([{ name: 'a', forEach: 'payload' }], { payload: bytes(Array(1_024).fill(0)) }).calls).toHaveLength(1_024);
    const bench = start([{ name: 'a', forEach: 'payload' }], { payload: bytes(Array(1_025).fill(0)) });
    expect(error(bench)).toMatchObject({ code: 'STEP_FAILED', message: 'Step "a" would fan out into 1025 calls, at most 1024 are allowed.' });
    expect(error(start([{ name: 'a', forEach: 'objects' }], { inputs: Array(1_025).fill(object('x')) })).code).toBe('STEP_FAILED');
  });

  it('cannot put bytes together with JSON', () => {
    const bench = start([{ name: 'a' }, { name: 'b' }, { name: 'c', after: ['a', 'b'] }]);
    bench.complete('a', 1);
    bench.run.stepCompleted(1, { payload: Buffer.of(1), contentType: 'image/png', outputs: [] });
    expect(error(bench)).toMatchObject({ code: 'STEP_FAILED', message: expect.stringContaining('step "b" returned image/png') });
  });

  it('refuses payloads that grow too large, and more inputs than allowed', () => {
    const fan = start([{ name: 'a', forEach: 'objects' }, { name: 'b', after: ['a'] }], { inputs: [object('x'), object('y'), object('z')], maxPayloadBytes: 100 });
    fan.complete('a[0]', 'x'.repeat(60));
    fan.complete('a[1]', 'x'.repeat(60));
    // It does not wait for the third result.
    expect(error(fan)).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', message: expect.stringContaining('step "a"') });
    expect(fan.cancelled).toEqual([2]);
    const join = start([{ name: 'a' }, { name: 'b' }, { name: 'c', after: ['a', 'b'] }], { maxPayloadBytes: 100 });
    join.complete('a', 'x'.repeat(60));
    join.complete('b', 'x'.repeat(60));
    expect(error(join)).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', message: expect.stringContaining('Step "c"') });
    const many = start([{ name: 'a' }, { name: 'b', after: ['a'] }], { maxInputs: 2 });
    many.complete('a', 1, [object('x'), object('y'), object('z')]);
    expect(error(many)).toMatchObject({ code: 'STEP_FAILED', message: 'Step "b" would get 3 input objects, at most 2 are allowed.' });
  });
});

describe('failure and cancellation', () => {
  it('a failed call ends the run with the function\'s own error and cancels the others', () => {
    const bench = start([{ name: 'a', forEach: 'objects' }, { name: 'b' }, { name: 'c', after: ['a'] }], { inputs: [object('x'), object('y')] });
    bench.complete('a[0]', 1);
    expect(bench.run.stepFailed(1, failure)).toBe(true);
    expect(error(bench)).toEqual({ ...failure, code: 'STEP_FAILED', message: 'Step "a[1]" (function f-a) of workflow "w" failed with FUNCTION_FAILED: boom' });
    expect(bench.cancelled).toEqual([2]);
    expect(bench.calls.map(({ step }) => step)).toEqual(['a', 'a', 'b']);
  });

  it('cancels before it reports the end', () => {
    const events: string[] = [];
    const bench = start([{ name: 'a' }, { name: 'b' }], { cancelCall: (call) => void events.push(`cancel ${call}`), onEnd: ({ kind }) => void events.push(kind) });
    bench.run.stepFailed(0, failure);
    expect(events).toEqual(['cancel 1', 'failed']);
  });

  it('ends once: what comes afterwards is ignored', () => {
    const bench = start([{ name: 'a' }, { name: 'b' }]);
    bench.run.stepFailed(0, failure);
    expect(bench.complete('b', 1)).toBe(false);
    expect(bench.run.stepFailed(1, failure)).toBe(false);
    expect(bench.run.cancel()).toBe(false);
    bench.run.start();
    expect(bench.ends).toHaveLength(1);
  });

  it('ignores a completion that comes twice or belongs to nobody', () => {
    const bench = start([{ name: 'a' }, { name: 'b', after: ['a'] }]);
    expect(bench.complete('a', 1)).toBe(true);
    expect(bench.complete('a', 2)).toBe(false);
    expect(bench.run.stepCompleted(99, { payload: Buffer.alloc(0), contentType: '', outputs: [] })).toBe(false);
    expect(textOf(bench.calls[1]?.payload)).toBe('1');
    expect(bench.calls).toHaveLength(2);
  });

  it('can be cancelled, also before it starts', () => {
    const bench = start([{ name: 'a' }, { name: 'b' }]);
    expect(bench.run.cancel()).toBe(true);
    expect(bench.cancelled).toEqual([0, 1]);
    expect(bench.ends).toEqual([{ kind: 'cancelled' }]);
  });

  it('makes no further call when one fails inside submit', () => {
    const made: number[] = [];
    const ends: string[] = [];
    const run: WorkflowRun = createWorkflowRun({
      id: 'r', spec: WorkflowSpec.fromPartial({ name: 'w', slaMs: 1, timeoutMs: 1, steps: [{ name: 'a', function: 'f', forEach: 'payload' }, { name: 'b', function: 'f' }] }), payload: bytes([1, 2, 3]), contentType: '', inputs: [],
      slaMs: 0, arrivedAtMs: 0, deadlineAtMs: 0, nowMs: () => 0, cancelCall: (call) => void ends.push(`cancel ${call}`), onEnd: ({ kind }) => void ends.push(kind),
      submit: ({ call }) => {
        made.push(call);
        if (call === 1) run.stepFailed(call, { code: 'QUEUE_FULL', message: 'full', retryAfterMs: 5 });
      },
    });
    run.start();
    expect(made).toEqual([0, 1]);
    expect(ends).toEqual(['cancel 0', 'failed']);
  });

  it('refuses a spec that was never validated', () => {
    expect(() => start([{ name: 'a', after: ['b'] }, { name: 'b', after: ['a'] }])).toThrow(/has a cycle \(b → a → b\)|has a cycle \(a → b → a\)/);
    expect(() => start([{ name: 'a', after: ['x'] }])).toThrow(/unknown step "x"/);
  });
});

describe('objects that nobody needs any more', () => {
  it('are told when the last step that reads them has completed, and never for the end of the run', () => {
    const gone: string[] = [];
    const bench = start([{ name: 'a' }, { name: 'b', after: ['a'] }, { name: 'c', after: ['a'] }, { name: 'd', after: ['b', 'c'] }], { onUnneeded: (objects) => gone.push(...ids(objects)) });
    bench.complete('a', 1, [object('from-a')]);
    expect(gone).toEqual(['in']);
    bench.complete('b', 1, [object('from-b')]);
    expect(gone).toEqual(['in']);
    bench.complete('c', 1, [object('from-c')]);
    expect(gone).toEqual(['in', 'from-a']);
    bench.complete('d', 1, [object('from-d')]);
    expect(gone).toEqual(['in', 'from-a', 'from-b', 'from-c']);
    expect(bench.ends).toHaveLength(1);
  });

  it('of the run itself are needed until all first steps have completed', () => {
    const gone: string[] = [];
    const bench = start([{ name: 'a' }, { name: 'b' }], { onUnneeded: (objects) => gone.push(...ids(objects)) });
    bench.complete('b', 1);
    expect(gone).toEqual([]);
    bench.complete('a', 1);
    expect(gone).toEqual(['in']);
  });
});
