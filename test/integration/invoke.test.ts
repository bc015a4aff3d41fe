/** One system, all front doors, and everything that a caller or a function can do wrong. After each test nothing may be held. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { PATIENCE, TOOL, failure, json, linesOf, openCluster, openGate, sandboxProcesses, valueOf, type TestCluster } from './harness.ts';

const PYTHON = `
import os, sys, time
runs = 0
def handler(event, context):
    global runs
    runs += 1
    op = (event or {}).get("op", "echo")
    if op == "throw": raise ValueError("no such thing: %s" % event["value"])
    if op == "hang":
        while True: pass
    if op == "exit": os._exit(3)
    if op == "allocate":
        kept = []
        while True: kept.append(bytearray(8 << 20))
    print("hello from", os.getpid())
    return {"value": event.get("value"), "runs": runs, "pid": os.getpid()}
`;

interface Echo {
  readonly value: unknown;
  readonly runs: number;
  readonly pid: number;
  readonly deadlineMs: number;
  readonly remainingMs: number;
  readonly id: string;
}
const echoOf = (response: { readonly payload: Buffer } | undefined): Echo => valueOf(response) as Echo; // what TOOL returns

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await openCluster({ nodes: 2, slots: 2, config: { 'limits.maxPayloadBytes': '64KiB', 'limits.maxResultBytes': '64KiB' } });
  await Promise.all([
    cluster.deploy('tool', TOOL),
    cluster.deploy('impatient', TOOL, { timeoutMs: 400 }),
    cluster.deploy('single', TOOL, { concurrency: 1 }),
    cluster.deploy('py', PYTHON, { runtime: 'python3', timeoutMs: 1_500, memoryMb: 64 }),
  ]);
});
afterEach(() => cluster.quiet());
afterAll(() => cluster.close());

describe('a function that works', () => {
  it('answers over Invoke with phases that add up, and is warm the second time', async () => {
    const first = await cluster.call('tool', { value: [1, 'ü'] });
    expect(echoOf(first)).toMatchObject({ value: [1, 'ü'], runs: 1, id: first.invocationId });
    expect(first.contentType).toBe('application/json');
    expect(first.phases?.startState).toBe(StartState.COLD);
    expect(first.phases?.initialisedMs).toBeGreaterThan(0);
    const second = await cluster.call('tool', { value: 2 });
    expect(second.node).toBe(first.node);
    expect(echoOf(second)).toMatchObject({ runs: 2, pid: echoOf(first).pid });
    expect(second.phases).toMatchObject({ startState: StartState.WARM, initialisedMs: 0, fetchedMs: 0, fetchedBytes: 0, queuedMs: 0, delayedMs: 0 });
    for (const { phases, attempt } of [first, second]) {
      expect(attempt).toBe(1);
      if (phases === undefined) throw new Error('no phases');
      const { predictedMs, queuedMs, delayedMs, dispatchedMs, fetchedMs, initialisedMs, ranMs, totalMs } = phases;
      expect(ranMs).toBeGreaterThan(0);
      expect(dispatchedMs).toBeGreaterThan(0);
      expect(Math.abs(predictedMs + queuedMs + delayedMs + dispatchedMs + fetchedMs + initialisedMs + ranMs - totalMs)).toBeLessThan(2);
    }
  });

  it('runs Python, warm the second time, with what it printed in the logs', async () => {
    const first = await cluster.call('py', { value: 7 });
    const second = await cluster.call('py', { value: 8 });
    expect(valueOf(first)).toMatchObject({ value: 7, runs: 1 });
    expect(valueOf(second)).toMatchObject({ value: 8, runs: 2 });
    expect(first.logs?.stdout).toMatch(/^hello from \d+\n$/);
    expect(second.phases?.startState).toBe(StartState.WARM);
  });

  it('answers many on one InvokeStream, failures among them', async () => {
    const stream = cluster.client.openInvokeStream();
    const outcomes = await Promise.allSettled(Array.from({ length: 60 }, (_, i) => stream.invoke({ function: i % 10 === 9 ? 'nobody' : 'tool', payload: json(i % 10 === 8 ? { op: 'throw', value: i } : { value: i }) })));
    await stream.close();
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.status === 'fulfilled') expect(echoOf(outcome.value).value).toBe(i);
      else expect((outcome.reason as MetronomeError).code).toBe(i % 10 === 9 ? 'FUNCTION_NOT_FOUND' : 'FUNCTION_FAILED');
      expect(outcome.status).toBe(i % 10 >= 8 ? 'rejected' : 'fulfilled');
    }
  });

  it('takes bytes and gives bytes', async () => {
    const bytes = Buffer.from(Array.from({ length: 3_000 }, (_, i) => i % 256));
    const { payload, contentType } = await cluster.client.invoke({ function: 'tool', payload: bytes, contentType: 'image/x-test' });
    expect(Buffer.compare(payload, bytes)).toBe(0);
    expect(contentType).toBe('application/octet-stream');
  });

  it('answers over HTTP, at once and later', async () => {
    const base = cluster.daemon.httpUrl;
    const now = await fetch(`${base}/run/tool`, { method: 'POST', body: '{"value":5}', headers: { 'content-type': 'application/json' } });
    expect(now.status).toBe(200);
    expect(await now.json()).toMatchObject({ value: 5 });
    expect(now.headers.get('server-timing')).toMatch(/ran;dur=.*total;dur=/);
    expect(now.headers.get('x-metronome-node')).toMatch(/^node-\d$/);

    const later = await fetch(`${base}/async/tool`, { method: 'POST', body: '{"value":6}', headers: { 'content-type': 'application/json' } });
    expect(later.status).toBe(202);
    const { invocationId } = (await later.json()) as { invocationId: string };
    const result = await fetch(`${base}/invocations/${invocationId}/result?wait=20s`);
    expect(result.status).toBe(200);
    expect(await result.json()).toMatchObject({ value: 6, id: invocationId });
    const missing = await fetch(`${base}/run/tol`, { method: 'POST', body: '{}' });
    expect(missing.status).toBe(404);
    expect(await missing.json()).toMatchObject({ error: { code: 'FUNCTION_NOT_FOUND', message: expect.stringContaining('"tool"') as string } });
    const bytes = await fetch(`${base}/run/tool`, { method: 'POST', body: new Uint8Array([1, 2, 255]), headers: { 'content-type': 'application/octet-stream' } });
    expect([...new Uint8Array(await bytes.arrayBuffer())]).toEqual([1, 2, 255]);
  });

  it('is accepted asynchronously, waited for, and its failure is kept', async () => {
    const good = await cluster.callAsync('tool', { value: 9 });
    const bad = await cluster.callAsync('tool', { op: 'throw', value: 9 });
    const done = await cluster.ended(good);
    expect(done.state).toBe(InvocationState.COMPLETED);
    expect(echoOf(done.response)).toMatchObject({ value: 9, id: good });
    const failed = await cluster.ended(bad);
    expect(failed.state).toBe(InvocationState.FAILED);
    expect(failed.error).toMatchObject({ code: 'FUNCTION_FAILED', functionError: { type: 'RangeError', message: 'the value 9 is out of range' } });
    await failure(cluster.look('inv-nobody'), 'INVOCATION_NOT_FOUND');
    await failure(cluster.callAsync('nobody'), 'FUNCTION_NOT_FOUND');
  });

  it('runs once for one idempotency key, whether its callers come together or later, sync or async', async () => {
    const log = cluster.scratch(), gate = cluster.scratch();
    const event = { log, gate };
    const together = [cluster.call('tool', event, { idempotencyKey: 'k1' }), cluster.call('tool', event, { idempotencyKey: 'k1' })];
    await cluster.running('tool');
    openGate(gate);
    const ids = (await Promise.all(together)).map(({ invocationId }) => invocationId);
    const later = await cluster.call('tool', event, { idempotencyKey: 'k1' });
    expect(new Set([...ids, later.invocationId]).size).toBe(1);
    expect(linesOf(log)).toEqual([`${later.invocationId} 1`]);

    const asyncLog = cluster.scratch();
    const asyncIds = await Promise.all([1, 2, 3].map(() => cluster.callAsync('tool', { log: asyncLog }, { idempotencyKey: 'k2' })));
    expect(new Set(asyncIds).size).toBe(1);
    await cluster.ended(asyncIds[0] ?? '');
    expect(linesOf(asyncLog)).toHaveLength(1);
  });
});

describe('a request that is wrong', () => {
  it('names an unknown function and suggests a known one', async () => {
    const error = await failure(cluster.call('tol'), 'FUNCTION_NOT_FOUND');
    expect(error.message).toContain('Did you mean "tool"?');
  });

  it('has a payload that is no JSON, or too large', async () => {
    await failure(cluster.client.invoke({ function: 'tool', payload: Buffer.from('{"a":') }), 'PAYLOAD_INVALID');
    await failure(cluster.client.invoke({ function: 'tool', payload: Buffer.alloc(64 * 1024 + 1), contentType: 'application/octet-stream' }), 'PAYLOAD_TOO_LARGE');
    const answer = await fetch(`${cluster.daemon.httpUrl}/run/tool`, { method: 'POST', body: 'x'.repeat(70_000), headers: { 'content-type': 'text/plain' } });
    expect(answer.status).toBe(413);
  });

  it('asks for a policy that does not exist', async () => {
    const error = await failure(cluster.call('tool', {}, { policy: 'metronom' }), 'POLICY_UNKNOWN');
    expect(error.message).toContain('metronome');
  });

  it('refers to an object that nobody has', async () => {
    const input = { id: 'nothing', sizeBytes: 10, digest: 'a'.repeat(64), name: 'x', holders: ['node-1'] };
    const error = await failure(cluster.call('tool', {}, { inputs: [input] }), 'OBJECT_LOST');
    expect(error.message).toContain('nothing');
  });
});

describe('a function that misbehaves', () => {
  it('throws: its own type, message and stack reach the caller, and its sandbox is used again', async () => {
    const before = echoOf(await cluster.call('tool', {}));
    const error = await failure(cluster.call('tool', { op: 'throw', value: 42 }), 'FUNCTION_FAILED');
    expect(error.extras.functionError).toMatchObject({ type: 'RangeError', message: 'the value 42 is out of range' });
    expect(error.extras.functionError?.stack).toContain('handler.mjs');
    expect(error.extras.invocationId).toMatch(/^inv-/);
    expect(echoOf(await cluster.call('tool', {})).pid).toBe(before.pid);
    const python = await failure(cluster.call('py', { op: 'throw', value: 'x' }), 'FUNCTION_FAILED');
    expect(python.extras.functionError).toMatchObject({ type: 'ValueError', message: 'no such thing: x' });
  });

  it('never returns, awaiting or computing: its time limit ends it and only it', async () => {
    const other = echoOf(await cluster.call('tool', {}));
    const gate = cluster.scratch();
    await Promise.all([
      failure(cluster.call('impatient', { gate }), 'FUNCTION_TIMEOUT'),
      failure(cluster.call('impatient', { op: 'hang' }), 'FUNCTION_TIMEOUT'),
      failure(cluster.call('py', { op: 'hang' }), 'FUNCTION_TIMEOUT'),
    ]);
    expect(echoOf(await cluster.call('tool', {})).pid).toBe(other.pid);
  });

  it('prints 200 MB: it ends well, and the logs are cut in the middle', async () => {
    const response = await cluster.call('tool', { op: 'print', value: 200 });
    // 64 KiB of it, and a line that tells how much is missing.
    expect(response.logs?.stdout.length).toBeLessThan(65_536 + 100);
    expect(response.logs?.truncatedBytes).toBeGreaterThan(199 * 1024 ** 2);
  });

  it('exits: the caller learns the exit code and its last words', async () => {
    const error = await failure(cluster.call('tool', { op: 'exit', value: 7 }), 'FUNCTION_CRASHED');
    expect(error.message).toMatch(/exit code 7[^]*going/);
    await failure(cluster.call('py', { op: 'exit' }), 'FUNCTION_CRASHED');
    expect(valueOf(await cluster.call('py', { value: 1 }))).toMatchObject({ runs: 1 });
  });

  it('allocates without end: its memory limit ends it', async () => {
    const outcomes = await Promise.all([
      failure(cluster.call('tool', { op: 'allocate' }), 'MEMORY_EXCEEDED'),
      failure(cluster.call('tool', { op: 'heap' }), 'MEMORY_EXCEEDED'),
      failure(cluster.call('py', { op: 'allocate' }), 'MEMORY_EXCEEDED'),
    ]);
    for (const { message } of outcomes) expect(message).toMatch(/(128|64) MiB/);
  });

  it('returns too much', async () => {
    const error = await failure(cluster.call('tool', { op: 'large', value: 70_000 }), 'RESULT_TOO_LARGE');
    expect(error.message).toContain('70002');
  });

  it('cannot be loaded: a missing export, an error on import, a missing module, broken syntax', async () => {
    const broken = { 'no-export': 'export const other = 1;', 'throws-early': 'throw new Error("not today"); export function handler() {}', 'no-module': 'import "no-such-package"; export function handler() {}', 'no-syntax': 'export function handler( {' };
    await Promise.all(Object.entries(broken).map(([name, source]) => cluster.deploy(name, source)));
    const messages = await Promise.all(Object.keys(broken).map(async (name) => (await failure(cluster.call(name), 'FUNCTION_LOAD_FAILED')).message));
    expect(messages[0]).toContain('other');
    expect(messages[1]).toContain('not today');
    expect(messages[2]).toContain('no-such-package');
    expect(messages[3]).toContain('SyntaxError');
    await failure(cluster.client.applyFunction({ spec: { name: 'bad', runtime: 'cobol', handler: 'x' }, bundle: Buffer.from('x') }), 'INVALID_REQUEST');
  });

  it('leaves children behind: they end with their sandbox', async () => {
    await cluster.deploy('parent', `import { spawn } from 'node:child_process';
      export function handler() { spawn('sleep', ['600'], { stdio: 'ignore', detached: true }); setTimeout(() => process.exit(1), 20); return new Promise(() => {}); }`);
    await failure(cluster.call('parent'), 'FUNCTION_CRASHED');
    // Beside idle sandboxes and zygotes.
    const idle = async (): Promise<number> => Object.values(await cluster.nodes()).reduce((sum, { warm, metrics }) => warm.reduce((of, each) => of + each.idle, sum + (metrics?.zygotes ?? 0)), 0);
    await vi.waitFor(async () => expect(sandboxProcesses(cluster.dir)).toHaveLength(await idle()), PATIENCE);
  });
});

describe('a caller that gives up', () => {
  it('cancels what runs: the sandbox is stopped and the slot is free', async () => {
    for (const op of ['echo', 'hang']) {
      const controller = new AbortController();
      const call = cluster.call('tool', op === 'hang' ? { op } : { gate: cluster.scratch() }, {}, { signal: controller.signal });
      const [running] = await cluster.running('tool');
      controller.abort();
      await failure(call, 'CANCELLED');
      const ended = await cluster.ended(running?.id ?? '');
      expect(ended).toMatchObject({ state: InvocationState.CANCELLED, error: { code: 'CANCELLED' } });
      await cluster.quiet();
    }
  });

  it('cancels what waits, and who comes after it takes its turn', async () => {
    const gate = cluster.scratch(), log = cluster.scratch();
    const first = cluster.call('single', { gate, log });
    await cluster.running('single');
    const controller = new AbortController();
    const second = cluster.call('single', { log, gate }, {}, { signal: controller.signal });
    const [waiting] = await cluster.delaying('single');
    expect(waiting).toMatchObject({ delayingFor: 'capacity', reason: 'concurrencyLimit' });
    const third = cluster.call('single', { log, value: 3 });
    await cluster.delaying('single', 2);
    controller.abort();
    await failure(second, 'CANCELLED');
    // The caller knows at once, the scheduler a moment later.
    expect((await cluster.ended(waiting?.id ?? '')).state).toBe(InvocationState.CANCELLED);
    openGate(gate);
    expect(echoOf(await third).value).toBe(3);
    await first;
    expect(linesOf(log)).toHaveLength(2);
  });

  it('hangs up: over HTTP and with a whole InvokeStream', async () => {
    const controller = new AbortController();
    const answer = fetch(`${cluster.daemon.httpUrl}/run/tool`, { method: 'POST', body: JSON.stringify({ gate: cluster.scratch() }), headers: { 'content-type': 'application/json' }, signal: controller.signal });
    answer.catch(() => {});
    await cluster.running('tool');
    controller.abort();
    await cluster.quiet();
    const stream = cluster.client.openInvokeStream();
    const calls = [1, 2].map(() => stream.invoke({ function: 'tool', payload: json({ gate: cluster.scratch() }) }));
    const outcomes = Promise.allSettled(calls);
    await cluster.running('tool', 2);
    stream.cancel();
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });

  it('cancels by id what runs asynchronously', async () => {
    const id = await cluster.callAsync('tool', { gate: cluster.scratch() });
    await cluster.running('tool');
    await cluster.client.cancelInvocation({ invocationId: id });
    expect((await cluster.ended(id)).state).toBe(InvocationState.CANCELLED);
  });

  it('sets a deadline: the sandbox knows it, and it ends what runs and what waits', async () => {
    const before = Date.now();
    const told = echoOf(await cluster.call('tool', {}, {}, { timeoutMs: 5_000 }));
    expect(told.deadlineMs).toBeGreaterThan(before + 4_000);
    expect(told.deadlineMs).toBeLessThan(Date.now() + 5_100);
    expect(told.remainingMs).toBeGreaterThan(0);
    expect(told.remainingMs).toBeLessThanOrEqual(5_000);

    const gate = cluster.scratch();
    const runs = await cluster.callAsync('tool', { gate }, { timeoutMs: 500 });
    await failure(cluster.call('tool', { gate }, {}, { timeoutMs: 500 }), 'DEADLINE_EXCEEDED');
    expect(await cluster.ended(runs)).toMatchObject({ state: InvocationState.TIMED_OUT, error: { code: 'DEADLINE_EXCEEDED' } });

    const holder = cluster.call('single', { gate });
    await cluster.running('single');
    await failure(cluster.call('single', {}, { timeoutMs: 200 }), 'DEADLINE_EXCEEDED');
    openGate(gate);
    await holder;
  });
});
