/** Functions run for real: results, failures and limits, each without a leak. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { defineFunction, json, lives, tempDir, testAgent, whenWritten, type TestAgent } from './harness.ts';

let it1: TestAgent;
beforeAll(async () => {
  it1 = await testAgent();
});
afterAll(() => it1[Symbol.asyncDispose]());

describe('a Node function', () => {
  it('gets its event as JSON and answers with JSON', async () => {
    const { result, events } = await it1.client.run(await defineFunction('hello.mjs'), { name: 'Ada' });
    expect(json(result)).toMatchObject({ hello: 'Ada', runs: 1, attempt: 1, function: 'hello-mjs' });
    expect(result.contentType).toBe('application/json');
    const kinds = events.map((event) => (event.accepted ? 'accepted' : event.started ? 'started' : event.result ? 'result' : 'other'));
    expect(kinds).toEqual(['accepted', 'started', 'result']);
  });

  it('is started cold, then from the unpacked bundle, then warm, with the phases told apart', async () => {
    await using node = await testAgent();
    const definition = await defineFunction('hello.mjs', { reuse: false });
    const first = await node.client.run(definition, {});
    expect(first.result.startState).toBe(StartState.COLD);
    expect(first.result.initialisedMs).toBeGreaterThan(5);
    const second = await node.client.run(definition, {});
    expect(second.result.startState).toBe(StartState.PACKAGES);
    expect(json(second.result)).toMatchObject({ runs: 1 });
    const reusing = await defineFunction('hello.mjs', { name: 'reusing' });
    await node.client.run(reusing, {});
    const warm = await node.client.run(reusing, {});
    expect(warm.result).toMatchObject({ startState: StartState.WARM, initialisedMs: 0, fetchedMs: 0 });
    expect(json(warm.result)).toMatchObject({ runs: 2 });
    expect(warm.result.releasedAtUnixMs).toBeGreaterThanOrEqual(warm.result.acceptedAtUnixMs);
    expect(node.fetched).toHaveLength(1);
  });

  it('gets bytes when the content type is not JSON and may answer with bytes', async () => {
    const { result } = await it1.client.run(await defineFunction('hello.mjs#bytes'), {}, { payload: Buffer.from([1, 2, 3]), contentType: 'application/octet-stream' });
    expect(result.contentType).toBe('application/octet-stream');
    expect([...result.payload]).toEqual([3, 2, 1]);
  });

  it('sees an empty JSON payload as null and answers undefined with an empty payload', async () => {
    expect(json((await it1.client.run(await defineFunction('hello.mjs#echo'), {}, { payload: Buffer.alloc(0) })).result)).toBeNull();
    const { result } = await it1.client.run(await defineFunction('hello.mjs#noop'));
    expect(result).toMatchObject({ contentType: 'application/json', payload: Buffer.alloc(0) });
  });

  it('may be CommonJS or a default export', async () => {
    expect(json((await it1.client.run(await defineFunction('common.cjs'), 1)).result)).toEqual({ from: 'cjs', event: 1 });
    expect(json((await it1.client.run(await defineFunction('default.mjs'), 2)).result)).toEqual({ from: 'default', event: 2 });
  });

  it('passes a payload and a result of nearly a megabyte', async () => {
    const text = 'é'.repeat(400_000);
    expect(json((await it1.client.run(await defineFunction('hello.mjs#echo'), text)).result)).toBe(text);
  });

  it('gets its context', async () => {
    const deadlineUnixMs = Date.now() + 10_000;
    const { result } = await it1.client.run(await defineFunction('hello.mjs#context'), {}, { traceparent: '00-ab-cd-01', attempt: 3, deadlineUnixMs });
    expect(json(result)).toMatchObject({ traceparent: '00-ab-cd-01', attempt: 3, deadlineMs: deadlineUnixMs, inputs: [], contentType: 'application/json' });
  });

  it('inherits nothing of the environment but gets its own', async () => {
    vi.stubEnv('NODE_EXTRA_CA_CERTS', '/nowhere');
    vi.stubEnv('SECRET_OF_THE_AGENT', 'x');
    const { result } = await it1.client.run(await defineFunction('hello.mjs#environment', { name: 'env', env: { GREETING: 'hi' } }));
    vi.unstubAllEnvs();
    const env = json(result) as Record<string, string>;
    expect(Object.keys(env).sort()).toEqual(['GREETING', 'HOME', 'LANG', 'METRONOME_FUNCTION', 'METRONOME_SANDBOX', 'PATH', 'PWD', 'TMPDIR'].filter((name) => name in env || name !== 'PWD'));
    expect(env['GREETING']).toBe('hi');
    expect(env['HOME']).toContain(it1.dir);
  });

  it('has what it prints in the result, each run its own', async () => {
    const definition = await defineFunction('hello.mjs#prints');
    const first = await it1.client.run(definition, { text: 'one' });
    const second = await it1.client.run(definition, { text: 'two' });
    expect(first.result.logs).toEqual({ stdout: 'out one\n', stderr: 'err one\n', truncatedBytes: 0 });
    expect(second.result.logs).toEqual({ stdout: 'out two\n', stderr: 'err two\n', truncatedBytes: 0 });
  });
});

describe('a Python function', () => {
  it('gets its event, keeps its module and prints', async () => {
    const definition = await defineFunction('hello.py');
    const first = await it1.client.run(definition, { name: 'Grace' });
    expect(json(first.result)).toMatchObject({ hello: 'Grace', runs: 1, same: true });
    expect(first.result.logs?.stdout).toContain('greeting');
    const second = await it1.client.run(definition, null);
    expect(json(second.result)).toMatchObject({ hello: 'nobody', runs: 2 });
    expect(second.result.startState).toBe(StartState.WARM);
  });

  it('handles bytes, nothing, and async', async () => {
    const bytes = await it1.client.run(await defineFunction('hello.py#bytes_back'), {}, { payload: Buffer.from([1, 2, 3]), contentType: 'image/png' });
    expect([...bytes.result.payload]).toEqual([3, 2, 1]);
    expect((await it1.client.run(await defineFunction('hello.py#nothing'))).result).toMatchObject({ payload: Buffer.alloc(0), contentType: 'application/json' });
    expect(json((await it1.client.run(await defineFunction('hello.py#later'))).result)).toEqual({ async: true, left: true });
  });

  it('reports what it raises, with its traceback', async () => {
    const { result } = await it1.client.run(await defineFunction('hello.py#fails'));
    expect(result.error).toMatchObject({ code: 'FUNCTION_FAILED', component: 'function', functionError: { type: 'KeyError', message: "'no such key'" } });
    expect(result.error?.functionError?.stack).toContain('in fails');
  });

  it('that exits, loops, or returns what is no JSON fails with a clear error', async () => {
    expect((await it1.client.run(await defineFunction('hello.py#exits'))).result.error).toMatchObject({ code: 'FUNCTION_CRASHED', message: expect.stringMatching(/exit code 4[\s\S]*last words/) });
    expect((await it1.client.run(await defineFunction('hello.py#spins', { timeoutMs: 100 }))).result.error?.code).toBe('FUNCTION_TIMEOUT');
    expect((await it1.client.run(await defineFunction('hello.py#not_json'))).result.error?.functionError?.type).toBe('ValueError');
  });

  it('that takes too much memory is ended with MEMORY_EXCEEDED, little by little or at once', async () => {
    for (const handler of ['hello.py#allocates', 'hello.py#one_huge']) {
      expect((await it1.client.run(await defineFunction(handler, { memoryMb: 64 }))).result.error?.code, handler).toBe('MEMORY_EXCEEDED');
    }
  });

  it('that is not there says what is', async () => {
    expect((await it1.client.run(await defineFunction('hello.py#missing'))).result.error).toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringContaining('no function "missing"') });
  });
});

describe('a function that fails', () => {
  it('by throwing gives its own error and stays warm', async () => {
    const definition = await defineFunction('hello.mjs#fails');
    const { result } = await it1.client.run(definition);
    expect(result.error).toMatchObject({ code: 'FUNCTION_FAILED', component: 'function', functionError: { type: 'OrderError', message: 'no such order: 17' } });
    expect(result.error?.functionError?.stack).toContain('hello.mjs');
    expect(result.logs?.stderr).toBe('about to fail\n');
    expect((await it1.client.run(definition)).result.startState).toBe(StartState.WARM);
  });

  it('by returning something that is no JSON says so', async () => {
    expect((await it1.client.run(await defineFunction('hello.mjs#cyclic'))).result.error).toMatchObject({ code: 'FUNCTION_FAILED', functionError: { type: 'TypeError' } });
  });

  it('by never returning is ended at its timeout', async () => {
    const { result } = await it1.client.run(await defineFunction('hello.mjs#hangs', { timeoutMs: 150 }));
    expect(result.error).toMatchObject({ code: 'FUNCTION_TIMEOUT', message: expect.stringContaining('150 ms') });
    expect(result.ranMs).toBeGreaterThanOrEqual(149);
  });

  it('by blocking its process is ended at the deadline', async () => {
    await using dir = await tempDir();
    const flag = join(dir.path, 'flag');
    const { result } = await it1.client.run(await defineFunction('hello.mjs#spins'), { flag }, { deadlineUnixMs: Date.now() + 1_500 });
    expect(result.error?.code).toBe('DEADLINE_EXCEEDED');
    expect(lives(Number(await whenWritten(flag)))).toBe(false);
  });

  it('by exiting gives exit code and last words', async () => {
    const { result } = await it1.client.run(await defineFunction('hello.mjs#exits'));
    expect(result.error).toMatchObject({ code: 'FUNCTION_CRASHED', message: expect.stringMatching(/exit code 3[\s\S]*last words/) });
    expect(result.logs?.stderr).toBe('last words\n');
  });

  it('by a signal names it', async () => {
    expect((await it1.client.run(await defineFunction('hello.mjs#killsItself'))).result.error).toMatchObject({ code: 'FUNCTION_CRASHED', message: expect.stringContaining('SIGKILL') });
  });

  it('by taking too much memory is ended, on the heap and outside of it', async () => {
    for (const handler of ['hello.mjs#allocatesBuffers', 'hello.mjs#allocatesHeap']) {
      const { result } = await it1.client.run(await defineFunction(handler, { memoryMb: 128 }));
      expect(result.error, handler).toMatchObject({ code: 'MEMORY_EXCEEDED', message: expect.stringContaining('128 MiB') });
    }
  });

  it('by printing a gigabyte is not held up and leaves head, tail and a count', async () => {
    const before = process.memoryUsage().rss;
    const { result } = await it1.client.run(await defineFunction('hello.mjs#gigabyte', { memoryMb: 512 }));
    expect(json(result)).toBe('done');
    const { stdout = '', truncatedBytes = 0 } = result.logs ?? {};
    expect(stdout.startsWith('FIRST\n')).toBe(true);
    expect(stdout.endsWith('\nLAST\n')).toBe(true);
    expect(stdout.length).toBeLessThan(65_536 + 100);
    expect(truncatedBytes).toBe(1024 ** 3 + 12 - 65_536);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 ** 2);
  });

  it('by a bad handler name or a module that does not load says what is wrong', async () => {
    expect((await it1.client.run(await defineFunction('hello.mjs#missing'))).result.error).toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringContaining('no function "missing"') });
    expect((await it1.client.run(await defineFunction('absent.mjs'))).result.error).toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringContaining('absent.mjs') });
    const broken = (await it1.client.run(await defineFunction('broken.mjs'))).result;
    expect(broken.error).toMatchObject({ code: 'FUNCTION_LOAD_FAILED', functionError: { type: 'RangeError', message: 'cannot be imported' } });
    expect(broken.logs?.stderr).toBe('loading broken\n');
    expect((await it1.client.run(await defineFunction('quits.mjs'))).result.error).toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringContaining('exit code 5') });
  });

  it('by a result over the limit is told how large it was', async () => {
    const { result } = await it1.client.run(await defineFunction('hello.mjs#large'), { size: 2 * 1024 ** 2 });
    expect(result.error).toMatchObject({ code: 'RESULT_TOO_LARGE', message: expect.stringContaining(String(2 * 1024 ** 2 + 2)) });
  });

  it('by writing garbage to its control channel, or closing it, costs only its sandbox', async () => {
    for (const handler of ['hello.mjs#writesGarbage', 'hello.mjs#closesControl']) {
      expect((await it1.client.run(await defineFunction(handler))).result.error, handler).toMatchObject({ code: expect.stringMatching(/SANDBOX_FAILED|FUNCTION_CRASHED/) });
    }
    expect(json((await it1.client.run(await defineFunction('hello.mjs'), { name: 'still here' })).result)).toMatchObject({ hello: 'still here' });
  });
});

describe('an invocation', () => {
  it('is cancelled while it runs, even when its process does not listen', async () => {
    await using dir = await tempDir();
    const flag = join(dir.path, 'flag');
    const id = it1.client.send({ definition: await defineFunction('hello.mjs#spins'), payload: Buffer.from(JSON.stringify({ flag })) });
    const pid = Number(await whenWritten(flag));
    it1.client.cancel(id);
    expect((await it1.client.resultOf(id)).error?.code).toBe('CANCELLED');
    expect(lives(pid)).toBe(false);
    it1.client.acknowledge(id);
  });

  it('is cancelled while its sandbox starts', async () => {
    const id = it1.client.send({ definition: await defineFunction('hello.mjs', { reuse: false }) });
    it1.client.cancel(id);
    expect((await it1.client.resultOf(id)).error?.code).toBe('CANCELLED');
  });

  it('is rejected when all slots are taken, and runs when one is free again', async () => {
    await using node = await testAgent({ slots: 1 });
    const definition = await defineFunction('hello.mjs#hangs');
    const first = node.client.send({ definition });
    await node.client.startOf(first);
    const second = node.client.send({ definition });
    const refusal = await node.client.until(() => node.client.eventsOf(second).find(({ rejected }) => rejected !== undefined)?.rejected);
    expect(refusal).toMatchObject({ code: 'NODE_FULL' });
    node.client.cancel(first);
    await node.client.resultOf(first);
    expect(json((await node.client.run(await defineFunction('hello.mjs#echo'), 7)).result)).toBe(7);
  });

  it('is rejected when no memory is left for its sandbox, and drives idle ones out when that helps', async () => {
    await using node = await testAgent({ memoryMb: 256 });
    const hangs = await defineFunction('hello.mjs#hangs', { memoryMb: 200 });
    const idle = await defineFunction('hello.mjs#echo', { memoryMb: 200 });
    await node.client.run(idle, 1);
    const first = node.client.send({ definition: hangs });
    await node.client.startOf(first);
    const second = node.client.send({ definition: idle });
    const refusal = await node.client.until(() => node.client.eventsOf(second).find(({ rejected }) => rejected !== undefined)?.rejected);
    expect(refusal).toMatchObject({ code: 'NODE_FULL', message: expect.stringContaining('200 of 256 MiB') });
    node.client.cancel(first);
    await node.client.resultOf(first);
  });

  it('of a version that was never defined is rejected', async () => {
    const id = it1.client.send({ function: 'nobody', version: '9' });
    expect(await it1.client.until(() => it1.client.eventsOf(id).find(({ rejected }) => rejected !== undefined)?.rejected)).toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
  });

  it('ends the children that its process left in its group when the sandbox goes, and daemons when the agent stops', async () => {
    const node = await testAgent();
    const inGroup = json((await node.client.run(await defineFunction('hello.mjs#leavesChild', { reuse: false }))).result) as number;
    await vi.waitFor(() => expect(lives(inGroup)).toBe(false), 5_000);
    const daemon = json((await node.client.run(await defineFunction('hello.mjs#leavesChild'), { detached: true })).result) as number;
    expect(lives(daemon)).toBe(true);
    await node[Symbol.asyncDispose]();
    await vi.waitFor(() => expect(lives(daemon)).toBe(false), 5_000);
  });
});

describe('idle sandboxes', () => {
  it('go after their keep-alive', async () => {
    await using node = await testAgent({ keepAliveMs: 100, zygotes: false });
    const { pid } = json((await node.client.run(await defineFunction('hello.mjs'))).result) as { pid: number };
    await vi.waitFor(() => expect(lives(pid)).toBe(false), 5_000);
    await vi.waitFor(() => expect(readdirSync(join(node.dir, 'sandboxes'))).toEqual([]), 5_000);
  });

  it('of an old version go when a newer one comes', async () => {
    await using node = await testAgent();
    const { pid } = json((await node.client.run(await defineFunction('hello.mjs'))).result) as { pid: number };
    const newer = await defineFunction('hello.mjs', {}, { version: '2', appliedAtUnixMs: 2 });
    expect((await node.client.run(newer)).result.startState).toBe(StartState.PACKAGES);
    await vi.waitFor(() => expect(lives(pid)).toBe(false), 5_000);
    expect((await node.client.run(newer)).result.startState).toBe(StartState.WARM);
  });

  it('are made by Prewarm and ended by Evict, which spares what works', async () => {
    await using node = await testAgent();
    const definition = await defineFunction('hello.mjs');
    const prewarm = (count: number): Promise<number> => new Promise((resolve, reject) => node.client.stub.prewarm({ function: definition, count, zygotes: false }, (error, response) => (error ? reject(error) : resolve(response.idle))));
    const evict = (count: number): Promise<number> => new Promise((resolve, reject) => node.client.stub.evict({ function: '', count, zygotes: false }, (error, response) => (error ? reject(error) : resolve(response.evicted))));
    expect(await prewarm(2)).toBe(2);
    expect((await node.client.run(definition)).result.startState).toBe(StartState.WARM);
    const busy = node.client.send({ definition: await defineFunction('hello.mjs#hangs') });
    await node.client.startOf(busy);
    expect(await evict(1)).toBe(1);
    expect(await evict(0)).toBe(1);
    expect(node.client.eventsOf(busy).some(({ result }) => result !== undefined)).toBe(false);
    await expect(prewarm(65)).rejects.toMatchObject({ code: 3 });
  });
});
