import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { MetronomeError } from '../../src/core/errors.ts';
import { LocalityClass, StartState, type ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { GetFunctionResponse, ListFunctionsResponse } from '../../src/rpc/gen/metronome/v1/function.ts';
import { DecisionAction, ExplainResponse, GetStatusResponse, ListPoliciesResponse, PlanResponse } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { GetInvocationResponse, InvocationState, ListInvocationsResponse, Transition } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { ListNodesResponse, NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { startTestGateway, type TestGateway } from '../gateway/fake-loop.ts';
import { run, start, type RunOptions } from './run.ts';

const AT = Date.UTC(2026, 5, 1, 12);

let door: TestGateway;
let dir: string;
let objects: Server;
let dataUrl: string;
const stored = new Map<string, Buffer>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-commands-'));
  door = await startTestGateway();
  // A node's object store, as far as commands use it.
  objects = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://node');
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const id = url.pathname.split('/')[2];
      const found = id === undefined ? undefined : stored.get(id);
      if (request.method === 'POST') {
        const bytes = Buffer.concat(chunks);
        const digest = createHash('sha256').update(bytes).digest('hex');
        stored.set(`obj-${digest.slice(0, 8)}`, bytes);
        response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ id: `obj-${digest.slice(0, 8)}`, sizeBytes: bytes.length, digest, name: url.searchParams.get('name') }));
      } else if (found === undefined) response.writeHead(404).end(JSON.stringify({ error: { code: 'OBJECT_NOT_FOUND', message: 'none' } }));
      else response.end(found);
    });
  });
  await new Promise<void>((resolve) => objects.listen(0, '127.0.0.1', resolve));
  dataUrl = `http://127.0.0.1:${(objects.address() as { port: number }).port}`; // it listens on TCP
});
beforeEach(() => {
  door.loop.submitted.length = 0;
  door.loop.handlers.listNodes = () => ListNodesResponse.fromPartial({
    nodes: [
      { name: 'n1', status: NodeStatus.READY, slots: 2, slotsUsed: 1, waiting: 3, stateAgeMs: 12.34, dataUrl, objects: 2, objectBytes: 3 * 1024 ** 2, warm: [{ function: 'f', idle: 1, busy: 1 }], metrics: { cpuUtilisation: 0.256 } },
      { name: 'n2', status: NodeStatus.LOST, slots: 2 },
    ],
  });
});
afterAll(async () => {
  objects.closeAllConnections();
  objects.close();
  await door.close();
  await rm(dir, { recursive: true, force: true });
});

const cli = (args: readonly string[], options: RunOptions = {}) => run(['--scheduler', door.address, ...args], { cwd: dir, ...options });

describe('lists', () => {
  it('are tables for people', async () => {
    const { out, err, code } = await cli(['node', 'list']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toBe(['NAME  STATUS  SLOTS  WAITING  WARM      OBJECTS  CPU  AGE ms', 'n1    ready     1/2        3  f 2   2 (3.0 MiB)  26%    12.3', 'n2    lost      0/2        0                  0            0', ''].join('\n'));
  });

  it('have further columns with -o wide', async () => {
    expect((await cli(['node', 'list', '-o', 'wide'])).out).toContain(dataUrl);
  });

  it('are arrays with -o json and -o yaml, wherever the option stands', async () => {
    const json = JSON.parse((await cli(['-o', 'json', 'node', 'list'])).out) as { name: string; status: string }[];
    expect(json.map(({ name, status }) => [name, status])).toEqual([['n1', 'NODE_STATUS_READY'], ['n2', 'NODE_STATUS_LOST']]);
    expect(parse((await cli(['node', 'list', '-o', 'yaml'])).out)).toEqual(json);
  });

  it('that are empty say so on standard error and leave data empty', async () => {
    door.loop.handlers.listFunctions = () => ListFunctionsResponse.fromPartial({ functions: [] });
    expect(await cli(['function', 'list'])).toMatchObject({ code: 0, out: '', err: expect.stringContaining('function apply') });
    expect(await cli(['function', 'list', '-q'])).toMatchObject({ code: 0, out: '', err: '' });
    expect((await cli(['function', 'list', '-o', 'json'])).out).toBe('[]\n');
  });

  it('of invocations filter by state, function and number', async () => {
    let asked: unknown;
    door.loop.handlers.listInvocations = (request) => {
      asked = request;
      return ListInvocationsResponse.fromPartial({ invocations: [{ id: 'inv-1', function: 'f', state: InvocationState.DELAYING, delayingFor: 'locality', node: 'n1', arrivedAtUnixMs: Date.now() - 5_000, reason: 'waitForLocalNode' }] });
    };
    const { out } = await cli(['invocation', 'list', '--state', 'delaying', '--function', 'f', '-n', '7']);
    expect(asked).toMatchObject({ function: 'f', state: InvocationState.DELAYING, limit: 7 });
    expect(out).toMatch(/inv-1 +f +delaying \(locality\) +n1 .* 5s +waitForLocalNode/);
  });

  it('of policies mark the one in force', async () => {
    door.loop.handlers.listPolicies = () => ListPoliciesResponse.fromPartial({ policies: [{ name: 'metronome', description: 'Delays.' }, { name: 'round-robin', description: 'Turns.' }], active: 'metronome' });
    expect((await cli(['policy', 'list'])).out).toMatch(/metronome +yes +Delays\.\nround-robin +Turns\./);
  });

  it('of nodes, where nothing limits sandboxes, are why there is nothing to tune', async () => {
    door.loop.handlers.getWorkflow = () => {
      throw new MetronomeError('WORKFLOW_NOT_FOUND', 'There is no workflow "f".');
    };
    door.loop.handlers.getFunction = () => GetFunctionResponse.fromPartial({ function: { spec: { name: 'f', cpu: 1, memoryMb: 128, slaMs: 1_000 }, version: 'v' } });
    const ran = await cli(['policy', 'tune-resources', 'f']);
    expect(ran).toMatchObject({ code: 2, out: '', err: expect.stringMatching(/CONFIG_INVALID.*On "n1" nothing holds "f" to its CPU and memory \(isolation process\).*METRONOME_AGENT__LIMITS=all/) });
    expect(door.loop.submitted).toEqual([]);
  });

  it('keep ids whole on a narrow terminal and drop what matters least', async () => {
    const id = 'inv-mwtyeey3-00000w';
    door.loop.handlers.listInvocations = () => ListInvocationsResponse.fromPartial({ invocations: [{ id, function: 'a-function-with-a-long-name', state: InvocationState.COMPLETED, node: 'a-node-with-a-long-name', reason: 'completed' }] });
    const { out } = await cli(['invocation', 'list'], { columns: 70 });
    expect(out).toContain(id);
    expect(out).not.toContain('REASON');
    for (const line of out.split('\n')) expect([...line].length).toBeLessThanOrEqual(70);
  });
});

describe('invoke', () => {
  it('prints the result on standard output and where the time went on standard error', async () => {
    const ran = await cli(['invoke', 'echo', '--data', '{"a":1}']);
    expect(ran).toEqual({ code: 0, out: '{"a":1}\n', err: expect.stringMatching(/^n1 · local 100% · 3\.0 ms · predicted 0\.10, dispatched 0\.50, ran 2\.00 ms · inv-\d+\n$/) });
  });

  it('passes everything on that a request can carry', async () => {
    await cli(['invoke', 'echo', '--data', 'text', '--content-type', 'text/plain', '--sla', '2s', '--timeout', '1m', '--policy', 'round-robin', '--locality-key', 'k', '--idempotency-key', 'i']);
    const [item] = door.loop.submitted;
    expect(item).toMatchObject({ mode: 'sync', target: 'echo', contentType: 'text/plain', slaMs: 2_000, policy: 'round-robin', localityKey: 'k', idempotencyKey: 'i' });
    expect(Buffer.from(item?.payload ?? []).toString()).toBe('text');
    expect((item?.deadlineAtMs ?? 0) - Date.now()).toBeGreaterThan(50_000);
  });

  it('reads the payload from a file or from standard input', async () => {
    await writeFile(join(dir, 'event.json'), '{"from":"file"}');
    expect((await cli(['invoke', 'echo', '--data', '@event.json'])).out).toBe('{"from":"file"}\n');
    expect((await cli(['invoke', 'echo', '--data', '-'], { stdin: '{"from":"stdin"}' })).out).toBe('{"from":"stdin"}\n');
    expect(await cli(['invoke', 'echo', '--data', '@nowhere.json'])).toMatchObject({ code: 2, err: expect.stringContaining('nowhere.json') });
  });

  it('prints bytes as they are', async () => {
    await writeFile(join(dir, 'bytes'), Buffer.from([0xc3, 0xa9, 0x21]));
    expect((await cli(['invoke', 'echo', '--data', '@bytes', '--content-type', 'application/octet-stream'])).out).toBe('é!');
  });

  it('gives everything with -o json, the payload readable', async () => {
    const answer = JSON.parse((await cli(['invoke', 'echo', '--data', '[1]', '-o', 'json'])).out) as unknown;
    expect(answer).toMatchObject({ payload: [1], node: 'n1', locality: { class: 'LOCALITY_CLASS_LOCAL', degree: 1 }, phases: { ranMs: 2 } });
  });

  it.each([['missing', 'FUNCTION_NOT_FOUND', 3], ['full', 'QUEUE_FULL', 5], ['nodeless', 'NO_NODES', 6]])('of %s ends with the exit code of %s: %i', async (name, code, exit) => {
    const ran = await cli(['invoke', name]);
    expect(ran).toMatchObject({ code: exit, out: '' });
    expect(ran.err).toContain(`error ${code}: refused: ${name}`);
  });

  it("shows a function's own error with its stack", async () => {
    const ran = await cli(['invoke', 'fails']);
    expect(ran.code).toBe(9);
    expect(ran.err).toBe('error FUNCTION_FAILED: refused: fails\n  TypeError: x is not a function\n    at handler\n  invocation inv-' + (door.loop.submitted[0]?.ticket ?? '') + '\n');
  });

  it('says when to try again', async () => {
    expect((await cli(['invoke', 'full'])).err).toContain('try again in 1.50 s');
  });

  it('accepts with --async and prints the id alone, for scripts', async () => {
    const ran = await cli(['invoke', 'echo', '--async']);
    expect(ran.out).toMatch(/^inv-\d+\n$/);
    expect(door.loop.submitted[0]?.mode).toBe('async');
    expect(ran.err).toContain('invocation watch inv-');
  });

  it('stores files first and passes references on as they are', async () => {
    await writeFile(join(dir, 'access.log'), 'one line\n');
    const ran = await cli(['invoke', 'echo', '--input', 'access.log', '--input', `{"id":"obj-x","sizeBytes":"5","digest":"${'ab'.repeat(32)}","holders":["n2"],"name":"x"}`]);
    expect(ran.code).toBe(0);
    expect(ran.err).toContain('access.log: stored on n1 (9 B)');
    const inputs = door.loop.submitted[0]?.inputs ?? [];
    expect(inputs.map(({ name, sizeBytes, holders }) => ({ name, sizeBytes, holders }))).toEqual([{ name: 'access.log', sizeBytes: 9, holders: ['n1'] }, { name: 'x', sizeBytes: 5, holders: ['n2'] }]);
    expect(stored.get(inputs[0]?.id ?? '')?.toString()).toBe('one line\n');
  });

  it('refuses an input that is neither', async () => {
    expect(await cli(['invoke', 'echo', '--input', 'nowhere.log'])).toMatchObject({ code: 2, err: expect.stringContaining('nowhere.log') });
    expect(await cli(['invoke', 'echo', '--input', '{"name":"x"}'])).toMatchObject({ code: 2, err: expect.stringContaining('it has no id') });
    expect(door.loop.submitted).toEqual([]);
  });

  it('cancels the invocation at Ctrl-C', async () => {
    const controller = new AbortController();
    const ran = cli(['invoke', 'hang'], { signal: controller.signal });
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(1));
    const ticket = door.loop.submitted[0]?.ticket;
    controller.abort();
    expect((await ran).out).toBe('');
    await vi.waitFor(() => expect(door.loop.cancelled).toContain(ticket));
  });

  it('ends with 130 at Ctrl-C, without complaints', async () => {
    const process = start(['--scheduler', door.address, 'invoke', 'hang']);
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(1), { timeout: 15_000 });
    process.child.kill('SIGINT');
    expect(await process.ended).toMatchObject({ code: 130, out: '', err: '' });
  });
});

describe('a burst', () => {
  it('runs as often as it is told and prints percentiles', async () => {
    const ran = await cli(['invoke', 'echo', '-n', '25', '--concurrency', '5']);
    expect(ran.code).toBe(0);
    expect(door.loop.submitted).toHaveLength(25);
    expect(ran.out).toMatch(/^25 of 25 succeeded in .* s: .* per second, 100% local \(n1 25\)\n/);
    expect(ran.out).toMatch(/ms +P50 +P95 +P99 +MAX +MEAN\n/);
    expect(ran.out).toMatch(/\nran +2\.00 +2\.00 +2\.00 +2\.00 +2\.00\n/);
  });

  it('never has more in flight than it is told', async () => {
    const controller = new AbortController();
    const ran = cli(['invoke', 'hang', '-n', '10', '--concurrency', '3'], { signal: controller.signal });
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(3));
    controller.abort();
    await ran;
    expect(door.loop.submitted).toHaveLength(3);
  });

  it('counts errors by code and shows the first', async () => {
    const ran = await cli(['invoke', 'fails', '-n', '4', '-o', 'json']);
    expect(ran.code).toBe(9);
    expect(JSON.parse(ran.out)).toMatchObject({ invocations: 4, succeeded: 0, failed: 4, errors: { FUNCTION_FAILED: 4 } });
    expect(ran.err).toContain('FUNCTION_FAILED');
  });
});

describe('objects', () => {
  it('are put on a node and come back as they were', async () => {
    await writeFile(join(dir, 'data.bin'), Buffer.from('some bytes'));
    const put = await cli(['object', 'put', 'data.bin', '--name', 'renamed']);
    const reference = JSON.parse(put.out) as ObjectRef;
    expect(reference).toMatchObject({ name: 'renamed', sizeBytes: 10, holders: ['n1'] });
    expect((await cli(['object', 'get', put.out.trim()])).out).toBe('some bytes');
    expect((await cli(['object', 'get', reference.id])).out).toBe('some bytes');
  });

  it('go through the gateway when the nodes cannot be reached', async () => {
    await writeFile(join(dir, 'via.bin'), 'via');
    expect(JSON.parse((await cli(['object', 'put', 'via.bin', '--via', door.http])).out)).toMatchObject({ name: 'via.bin', holders: ['n1'] });
  });

  it('that are not there end with 3, that are broken with 1', async () => {
    expect(await cli(['object', 'get', 'obj-none'])).toMatchObject({ code: 3, err: expect.stringContaining('OBJECT_NOT_FOUND') });
    stored.set('obj-bad', Buffer.from('changed'));
    const out = join(dir, 'bad.out');
    const ran = await cli(['object', 'get', JSON.stringify({ id: 'obj-bad', digest: 'a'.repeat(64) }), '--out', out]);
    expect(ran).toMatchObject({ code: 1, err: expect.stringContaining('OBJECT_CORRUPT') });
    await expect(import('node:fs/promises').then(({ stat }) => stat(out))).rejects.toThrow('ENOENT');
  });

  it('cannot go to a node that is not ready', async () => {
    await writeFile(join(dir, 'x.bin'), 'x');
    expect(await cli(['object', 'put', 'x.bin', '--node', 'n2'])).toMatchObject({ code: 3, err: expect.stringContaining('Ready: n1') });
  });
});

describe('explain', () => {
  const explanation = ExplainResponse.fromPartial({
    invocation: {
      id: 'inv-7', function: 'log-analyze', state: InvocationState.COMPLETED, node: 'n2', arrivedAtUnixMs: AT, slaMs: 2_000, predictedMs: 120,
      locality: { class: LocalityClass.LOCAL, degree: 0.92, data: 0.4, infrastructure: 0.52 }, phases: { delayedMs: 12.3, ranMs: 131, totalMs: 150 },
    },
    decisions: [{
      atUnixMs: AT + 0.4, policy: 'metronome', action: DecisionAction.DELAY, node: 'n2', reason: 'waitForLocalNode', slackMs: 1_600, deadlineUnixMs: AT + 1_600, candidatesInAll: 20,
      candidates: [
        { node: 'n2', locality: { class: LocalityClass.LOCAL, degree: 0.92, data: 0.4, infrastructure: 0.52 }, predictedMs: 120, spreadMs: 8, p95Ms: 136, expectedWaitMs: 15, room: 0, load: 1, startState: StartState.WARM },
        { node: 'n1', locality: { class: LocalityClass.FALLBACK, degree: 0.01 }, predictedMs: 400, spreadMs: 30, room: 2, startState: StartState.COLD, missingBytes: 5 * 1024 ** 2 },
      ],
    }],
    transitions: [
      { from: InvocationState.CLASSIFIED, to: InvocationState.DELAYING, delayingFor: 'locality', event: 'DELAY', reason: 'waitForLocalNode', node: 'n2', atUnixMs: AT + 0.4 },
      { from: InvocationState.DELAYING, to: InvocationState.DISPATCHED, event: 'NODE_RELEASED', reason: 'localNodeReleased', node: 'n2', atUnixMs: AT + 12.7 },
    ],
  });

  it('tells the story in a sentence, then every decision with its candidates, then the transitions', async () => {
    door.loop.handlers.explain = () => explanation;
    const { out } = await cli(['invocation', 'explain', 'inv-7']);
    expect(out).toContain('inv-7: function log-analyze is completed after 150 ms (target 2.00 s).');
    expect(out).toContain('Chosen n2 (local 92%) because the local node it waited for has room now; waited 12.3 ms for n2; prediction 120 ms, measured 131 ms (+9 %).');
    expect(out).toContain('1. At +0.40 ms policy metronome decided to wait for n2 because a busy local node is better enough to wait for it (waitForLocalNode), at most 1.60 s.');
    expect(out).toMatch(/→ {2}n2 +local +92% +40% +52% +120 ± 8\.00 +136 +15\.0 +0 +100% +warm/);
    expect(out).toMatch(/ n1 +fallback +1% .* cold +5\.0 MiB/);
    expect(out).toContain('… and 18 more');
    expect(out).toMatch(/12\.7 +delaying +dispatched +NODE_RELEASED +localNodeReleased +n2/);
  });

  it('gives the record with -o json', async () => {
    door.loop.handlers.explain = () => explanation;
    expect(JSON.parse((await cli(['invocation', 'explain', 'inv-7', '-o', 'json'])).out)).toEqual(ExplainResponse.toJSON(explanation));
  });

  it('says with 3 that it is not remembered', async () => {
    door.loop.handlers.explain = () => {
      throw new MetronomeError('INVOCATION_NOT_FOUND', 'There is no invocation "inv-0".');
    };
    expect((await cli(['invocation', 'explain', 'inv-0'])).code).toBe(3);
  });

  it('is the same for a plan', async () => {
    door.loop.handlers.plan = (request) => {
      expect(request.request).toMatchObject({ function: 'f', policy: 'metronome' });
      return PlanResponse.fromPartial({ decision: { ...explanation.decisions[0], action: DecisionAction.DISPATCH, reason: 'bestNodeHasRoom', predictedMs: 120 } });
    };
    expect((await cli(['plan', 'f', '--policy', 'metronome'])).out).toMatch(/^Policy metronome chose n2 because the best local node has room \(bestNodeHasRoom\), predicted 120 ms, 1\.60 s of safe delay left\.\n +NODE/);
  });
});

describe('invocations', () => {
  it('are waited for, and their result printed alone', async () => {
    door.loop.handlers.getInvocation = ({ waitMs }) => GetInvocationResponse.fromPartial({ invocation: { id: 'i', state: InvocationState.COMPLETED, response: { payload: Buffer.from(waitMs > 0 ? '"waited"' : '"at once"'), contentType: 'application/json' } } });
    expect((await cli(['invocation', 'get', 'i', '--wait', '5s', '--result'])).out).toBe('"waited"\n');
    expect((await cli(['invocation', 'get', 'i', '--result'])).out).toBe('"at once"\n');
  });

  it('that failed fail the command that asks for their result', async () => {
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { id: 'i', state: InvocationState.FAILED, error: { code: 'FUNCTION_CRASHED', message: 'it died' } } });
    expect(await cli(['invocation', 'get', 'i', '--result'])).toMatchObject({ code: 9, out: '' });
    expect(await cli(['invocation', 'get', 'i'])).toMatchObject({ code: 0, out: expect.stringContaining('failed'), err: expect.stringContaining('FUNCTION_CRASHED') });
  });

  it('that have no result yet say how to wait', async () => {
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { id: 'i', state: InvocationState.DELAYING } });
    expect(await cli(['invocation', 'get', 'i', '--result'])).toMatchObject({ code: 8, err: expect.stringContaining('--wait') });
  });

  it('are cancelled one after the other', async () => {
    door.loop.handlers.cancelInvocation = ({ invocationId }) => ({ state: invocationId === 'a' ? InvocationState.CANCELLED : InvocationState.DISPATCHED });
    expect((await cli(['invocation', 'cancel', 'a', 'b'])).err).toBe('a: cancelled\nb: cancelling, still dispatched\n');
  });

  it('are watched until they end', async () => {
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { id: 'i', state: InvocationState.ARRIVING } });
    const before = door.loop.watches.length;
    const ran = cli(['invocation', 'watch', 'i']);
    await vi.waitFor(() => expect(door.loop.watches.length).toBe(before + 1));
    const call = door.loop.watches.at(-1)?.call ?? 0;
    const step = (to: InvocationState, reason: string): Transition => Transition.fromPartial({ invocationId: 'i', function: 'f', from: InvocationState.CLASSIFIED, to, reason, node: 'n1', atUnixMs: AT });
    door.loop.post({ kind: 'transitions', call, transitions: [step(InvocationState.DISPATCHED, 'bestNodeHasRoom')], missed: 0 });
    door.loop.post({ kind: 'transitions', call, transitions: [step(InvocationState.COMPLETED, 'completed')], missed: 2 });
    const { out, err, code } = await ran;
    expect(code).toBe(0);
    expect(out.trimEnd().split('\n')).toEqual([expect.stringMatching(/i {2}f {2}classified → dispatched {2}bestNodeHasRoom {2}n1$/), expect.stringMatching(/classified → completed {2}completed {2}n1$/)]);
    expect(err).toContain('2 transitions were missed');
    await vi.waitFor(() => expect(door.loop.ended).toContain(call));
  });

  it('are watched as one JSON object a line', async () => {
    const before = door.loop.watches.length;
    const ran = cli(['invocation', 'watch', '-o', 'json', '-n', '2']);
    await vi.waitFor(() => expect(door.loop.watches.length).toBe(before + 1));
    const call = door.loop.watches.at(-1)?.call ?? 0;
    door.loop.post({ kind: 'transitions', call, transitions: [1, 2, 3].map((i) => Transition.fromPartial({ invocationId: `i${i}`, to: InvocationState.ARRIVING })), missed: 0 });
    expect((await ran).out.trimEnd().split('\n').map((line) => (JSON.parse(line) as { invocationId: string }).invocationId)).toEqual(['i1', 'i2']);
  });
});

describe('operators', () => {
  it('drain and restore nodes, and switch the policy', async () => {
    const asked: boolean[] = [];
    door.loop.handlers.drainNode = ({ name, drain }) => {
      asked.push(drain);
      return { node: ListNodesResponse.fromPartial({ nodes: [{ name, status: drain ? NodeStatus.DRAINING : NodeStatus.READY, slotsUsed: drain ? 1 : 0 }] }).nodes[0] };
    };
    door.loop.handlers.setPolicy = ({ policy }) => ({ previous: 'metronome', active: policy });
    expect((await cli(['node', 'drain', 'n1'])).err).toBe('node n1: draining, 1 still running\n');
    expect((await cli(['node', 'restore', 'n1'])).err).toBe('node n1: ready\n');
    expect(asked).toEqual([true, false]);
    expect((await cli(['policy', 'set', 'round-robin'])).err).toBe('policy round-robin is in force (before: metronome)\n');
  });

  it('see how the scheduler is doing', async () => {
    door.loop.handlers.getStatus = () => GetStatusResponse.fromPartial({ version: '1.2.3', policy: 'metronome', live: 5, delayingForLocality: 2, counters: { decisions: 7, refused: 0 } });
    const { out } = await cli(['status']);
    expect(out).toContain('1 ready of 2, 1 of 2 slots in use');
    expect(out).toContain('5 (waiting for a better node: 2, for room: 0)');
    expect(out).toContain('decisions 7');
  });
});

describe('apply', () => {
  it('deploys functions before workflows and tells what changed', async () => {
    const folder = await mkdtemp(join(dir, 'app-'));
    await writeFile(join(folder, 'handler.mjs'), 'export const handler = () => 1;\n');
    await writeFile(join(folder, 'metronome.yaml'), ['apiVersion: metronome/v1', 'kind: Workflow', 'metadata: { name: w }', 'spec: { steps: [{ name: s, function: f }] }', '---', 'apiVersion: metronome/v1', 'kind: Function', 'metadata: { name: f }', 'spec: { runtime: node, handler: handler.mjs }', ''].join('\n'));
    const order: string[] = [];
    door.loop.handlers.applyFunction = ({ spec, bundle, dryRun }) => {
      order.push(`function ${spec?.name} ${bundle.length > 0} ${dryRun}`);
      return { function: undefined, changed: true };
    };
    door.loop.handlers.applyWorkflow = ({ spec, dryRun }) => {
      order.push(`workflow ${spec?.name} ${dryRun}`);
      if (dryRun) throw new MetronomeError('FUNCTION_NOT_FOUND', 'There is no function "f".');
      return { workflow: undefined, changed: false };
    };
    const ran = await cli(['function', 'apply', '-f', folder]);
    expect(order).toEqual(['function f true false', 'workflow w false']);
    expect(ran.err).toMatch(/^function f: changed \(\d+ B of code\)\nworkflow w: unchanged\n$/);
    expect(ran.out).toMatch(/Function +f +changed[\s\S]*Workflow +w +unchanged/);

    order.length = 0;
    const dry = await cli(['function', 'apply', '-f', folder, '--dry-run', '-o', 'json']);
    expect(order).toEqual(['function f true true', 'workflow w true']);
    expect(JSON.parse(dry.out)).toEqual([{ kind: 'Function', name: 'f', version: '', result: 'valid' }, { kind: 'Workflow', name: 'w', version: '', result: 'valid' }]);

    order.length = 0;
    await cli(['workflow', 'apply', '-f', folder]);
    expect(order).toEqual(['workflow w false']);
  });

  it('says in one go all that is wrong, with the places the scheduler found', async () => {
    const folder = await mkdtemp(join(dir, 'bad-'));
    await writeFile(join(folder, 'handler.mjs'), 'export const handler = () => 1;\n');
    await writeFile(join(folder, 'metronome.yaml'), 'apiVersion: metronome/v1\nkind: Function\nmetadata: { name: f }\nspec: { runtime: node, handler: handler.mjs }\n');
    door.loop.handlers.applyFunction = () => {
      throw new MetronomeError('MANIFEST_INVALID', 'The function is not valid.', { violations: [{ field: 'spec.policy', description: 'there is no policy "x"' }] });
    };
    const ran = await cli(['function', 'apply', '-f', folder]);
    expect(ran.code).toBe(2);
    expect(ran.err).toContain('spec.policy there is no policy "x"');
  });
});
