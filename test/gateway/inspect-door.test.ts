/** The inspector's routes and its stream, with a loop that says what the test wants. */
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { assertOwnSite } from '../../src/gateway/own-site.ts';
import { readPageFile } from '../../src/gateway/page-files.ts';
import type { Inspected } from '../../src/gateway/loop-client.ts';
import type { EndedGroup, MachineChart, RecordingList, SimulationRun, Tick, TransitionRow, TransitionsEvent } from '../../src/inspect/page-api.ts';
import { ExplainResponse } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { recordSimulation, writeRecording } from '../recording/recorded-simulation.ts';
import { failure, startTestGateway, type TestGateway } from './fake-loop.ts';

const PATIENCE = { timeout: 20_000, interval: 5 };
let door: TestGateway;

beforeEach(async () => {
  door = await startTestGateway({ inspectClients: 3 });
});
afterEach(() => door.close());

function group(count: number): EndedGroup {
  return { function: 'f', policy: 'metronome', count, failed: 0, slaMissed: 0, latencyMs: 10 * count, delayedMs: 0, savedMs: 0, warm: 0, local: 0, error: 0, leastSlackMs: 5, histogram: [0, count] };
}

/** One moment in which the transitions up to number `next` happened. */
function moment(next: number, records = 1, more: { readonly startedAtMs?: number; readonly text?: string } = {}): Inspected {
  const rows: TransitionRow[] = Array.from({ length: records }, (_, i) => ({ id: `inv-${next - records + i}`, function: 'f', from: 'classified', to: 'delaying', event: 'DELAY', reason: more.text ?? 'worthWaiting', node: 'n1', delayingFor: 'locality', atMs: next }));
  const tick: Tick = { atMs: next, machines: { invocation: { counts: [0, 0, 3], flow: [] } }, live: 3, delayingForLocality: 3, delayingForCapacity: 0, counters: { submitted: next }, ended: [group(1)], nodes: [] };
  return { kind: 'inspected', hello: { version: 'test', startedAtMs: more.startedAtMs ?? 1, policy: 'metronome', shadowPolicy: '', simulated: false }, tick, transitions: { next, missed: 0, records: rows } };
}

interface ServerEvent {
  readonly id: number;
  readonly event: string;
  readonly data: unknown;
}

/** A page that reads the stream. */
async function listen(headers: Record<string, string> = {}): Promise<{ readonly events: ServerEvent[]; readonly response: IncomingMessage; of<T>(event: string): T[]; close(): void }> {
  const events: ServerEvent[] = [];
  const asked = request(`${door.http}/inspect/api/stream`, { headers });
  const response = await new Promise<IncomingMessage>((resolve, reject) => asked.once('response', resolve).once('error', reject).end());
  let text = '';
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = Object.fromEntries(text.slice(0, end).split('\n').map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]));
      text = text.slice(end + 2);
      if (fields['event'] !== undefined) events.push({ id: Number(fields['id']), event: fields['event'], data: JSON.parse(fields['data'] ?? 'null') });
    }
  });
  response.on('error', () => {}); // hung up on purpose
  return { events, response, of: <T>(event: string) => events.filter((each) => each.event === event).map(({ data }) => data as T), close: () => asked.destroy() };
}

const wanted = (): boolean[] => door.loop.messages.flatMap((message) => (message.kind === 'inspect' ? [message.wanted] : []));

describe('the stream', () => {
  it('asks the loop once for all pages, and greets each with who it is and how things stand', async () => {
    const first = await listen();
    expect(first.response.headers['content-type']).toMatch(/^text\/event-stream/);
    await vi.waitFor(() => expect(wanted()).toEqual([true]), PATIENCE);
    door.loop.post(moment(10, 2));
    await vi.waitFor(() => expect(first.events.map(({ event, id }) => `${event} ${id}`)).toEqual(['hello 10', 'tick 10', 'transitions 10']), PATIENCE);
    const second = await listen();
    await vi.waitFor(() => expect(second.events.map(({ event }) => event)).toEqual(['hello', 'tick']), PATIENCE);
    // What ended before it came is not told again.
    expect(second.of<Tick>('tick')[0]?.ended).toEqual([]);
    expect(wanted()).toEqual([true]);
    first.close();
    second.close();
  });

  it('goes on after a broken connection where it stopped', async () => {
    const before = await listen();
    await vi.waitFor(() => expect(wanted()).toEqual([true]), PATIENCE);
    door.loop.post(moment(10, 10));
    await vi.waitFor(() => expect(before.events.at(-1)?.id).toBe(10), PATIENCE);
    before.close();
    door.loop.post(moment(15, 5));
    door.loop.post(moment(18, 3));
    const after = await listen({ 'last-event-id': '10' });
    await vi.waitFor(() => expect(after.of<TransitionsEvent>('transitions')).toHaveLength(1), PATIENCE);
    const [replayed] = after.of<TransitionsEvent>('transitions');
    expect(replayed).toMatchObject({ next: 18, missed: 0 });
    expect(replayed?.records.map(({ id }) => id)).toEqual(Array.from({ length: 8 }, (_, i) => `inv-${10 + i}`));
    after.close();
  });

  it('tells a page how much it missed when nobody remembers it', async () => {
    const page = await listen();
    door.loop.post(moment(1_000, 4));
    await vi.waitFor(() => expect(page.events.length).toBeGreaterThan(0), PATIENCE);
    const late = await listen({ 'last-event-id': '900' });
    await vi.waitFor(() => expect(late.of<TransitionsEvent>('transitions')[0]).toMatchObject({ missed: 96, next: 1_000 }), PATIENCE);
    page.close();
    late.close();
  });

  it('greets anew when the policy changes', async () => {
    const page = await listen();
    door.loop.post(moment(1));
    door.loop.post(moment(2, 1, { startedAtMs: 2 }));
    await vi.waitFor(() => expect(page.of('hello')).toHaveLength(2), PATIENCE);
    page.close();
  });

  it('refuses more pages than may look', async () => {
    const pages = [await listen(), await listen(), await listen()];
    const refused = await fetch(`${door.http}/inspect/api/stream`);
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({ error: { code: 'QUEUE_FULL' } });
    for (const page of pages) page.close();
    await vi.waitFor(async () => {
      const again = await fetch(`${door.http}/inspect/api/stream`);
      await again.body?.cancel();
      expect(again.status).toBe(200);
    }, PATIENCE);
  });

  it('drops a page that does not read to aggregates, and loses nothing that ended', async () => {
    const socket = connect(Number(new URL(door.http).port), '127.0.0.1');
    const chunks: Buffer[] = [];
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    socket.write('GET /inspect/api/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
    await vi.waitFor(() => expect(wanted()).toEqual([true]), PATIENCE);
    socket.pause();
    const moments = 200;
    const text = 'x'.repeat(300);
    const reader = await listen(); // shows when all was handled
    for (let i = 1; i <= moments; i++) door.loop.post(moment(i * 400, 400, { text }));
    await vi.waitFor(() => expect(reader.of('tick').length).toBeGreaterThanOrEqual(moments), { timeout: 60_000, interval: 20 });
    socket.on('data', (chunk) => chunks.push(chunk)).resume();
    const eventsOf = (name: string): unknown[] => [...Buffer.concat(chunks).toString('utf8').matchAll(new RegExp(`event: ${name}\ndata: (.*)\n`, 'g'))].map((match) => JSON.parse(match[1] ?? 'null'));
    await vi.waitFor(() => {
      // What was put together comes with the next moment.
      door.loop.post(moment(moments * 400 + 400, 0));
      const ended = (eventsOf('tick') as Tick[]).reduce((sum, tick) => sum + tick.ended.reduce((all, { count }) => all + count, 0), 0);
      expect(ended).toBeGreaterThanOrEqual(moments);
    }, { timeout: 60_000, interval: 100 });
    const missed = (eventsOf('transitions') as TransitionsEvent[]).reduce((sum, each) => sum + each.missed, 0);
    const shown = (eventsOf('transitions') as TransitionsEvent[]).reduce((sum, each) => sum + each.records.length, 0);
    expect(missed).toBeGreaterThan(0);
    expect(shown + missed).toBe(moments * 400);
    socket.destroy();
    reader.close();
  }, 150_000);

  it('ends with the gateway', async () => {
    const page = await listen();
    const over = new Promise((resolve) => page.response.once('end', resolve));
    await door.gateway.stop(60_000);
    await over;
  });
});

describe('the traffic over gRPC', () => {
  it('is the same stream, aggregates only', async () => {
    const controller = new AbortController();
    const heard: unknown[] = [];
    const reading = (async () => {
      for await (const message of door.client.watchTraffic({}, { signal: controller.signal })) heard.push(message);
    })();
    await vi.waitFor(() => expect(wanted()).toEqual([true]), PATIENCE);
    door.loop.post(moment(7));
    await vi.waitFor(() => expect(heard).toHaveLength(1), PATIENCE);
    expect(heard[0]).toMatchObject({ policy: 'metronome', live: 3, states: { arriving: 0, classified: 0, delaying: 3 }, counters: { submitted: 7 }, ended: [{ function: 'f', count: 1, histogram: [0, 1] }] });
    controller.abort();
    expect((await failure(reading)).code).toBe('CANCELLED');
  });
});

describe('what the page asks for', () => {
  const ask = async (path: string, init: RequestInit = {}): Promise<{ status: number; body: unknown }> => {
    const response = await fetch(`${door.http}/inspect/api/${path}`, init);
    return { status: response.status, body: await response.json() };
  };
  const put = (path: string, body: unknown, headers: Record<string, string> = {}, method = 'PUT'): Promise<{ status: number; body: unknown }> => ask(path, { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } });

  it('comes from the loop', async () => {
    const { handlers } = door.loop;
    handlers.inspectInvocations = (request) => ({ invocations: [], more: request.limit === 7 && request.state === 'delaying' && request.node === 'n1' && request.beforeMs === 12.5 && request.beforeSeq === 1_234_567_890_123 });
    handlers.inspectNodes = ({ limit }) => ({ nodes: [], leftOut: limit });
    handlers.explain = ({ invocationId }) => ExplainResponse.fromPartial({ invocation: { id: invocationId } });
    handlers.setShadowPolicy = ({ policy }) => ({ previous: 'xfaas', active: policy });
    expect((await ask('invocations?state=delaying&node=n1&limit=7&before=12.5&beforeSeq=1234567890123')).body).toEqual({ invocations: [], more: true });
    expect((await ask('nodes')).body).toEqual({ nodes: [], leftOut: 10_000 });
    expect((await ask('invocations/inv-1')).body).toMatchObject({ invocation: { id: 'inv-1' }, decisions: [], transitions: [] });
    expect((await put('shadow', { policy: 'lookahead' })).body).toEqual({ previous: 'xfaas', active: 'lookahead' });
    const charts = (await ask('machines')).body as MachineChart[];
    expect(charts.map(({ name }) => name)).toEqual(['invocation', 'node', 'sandbox', 'workflow', 'model']);
  });

  it('is checked, with the place', async () => {
    for (const [path, field] of [['invocations?limit=0', 'limit'], ['invocations?limit=501', 'limit'], ['invocations?before=yesterday', 'before'], ['invocations?before=1&beforeSeq=-1', 'beforeSeq'], ['nodes?limit=x', 'limit']] as const) {
      const { status, body } = await ask(path);
      expect(status, path).toBe(400);
      expect(JSON.stringify(body)).toContain(`"field":"${field}"`);
    }
    expect((await put('policy', { policy: 1 })).status).toBe(400);
    expect((await ask('policy', { method: 'PUT', body: '{', headers: { 'content-type': 'application/json' } })).status).toBe(400);
    expect((await ask('policy', { method: 'PUT', body: '{}', headers: { 'content-type': 'text/plain' } })).status).toBe(400);
    expect((await ask('nothing')).status).toBe(404);
  });

  it('runs simulations in a thread, with frames, and refuses what is too large', async () => {
    const { status, body } = await put('simulations', { scenario: 'cold-starts', policies: ['metronome', 'round-robin'], seed: 3, durationMs: 2_000 }, {}, 'POST');
    expect(status).toBe(200);
    const runs = body as SimulationRun[];
    expect(runs.map(({ policy }) => policy)).toEqual(['metronome', 'round-robin']);
    for (const { frames, summary } of runs) {
      expect(frames).toHaveLength(400);
      expect(frames.at(-1)?.simulatedMs).toBeGreaterThan(1_900);
      expect(frames[0]?.nodes).toHaveLength(6);
      expect(frames.reduce((sum, frame) => sum + frame.transitions.length, 0)).toBeGreaterThan(50);
      expect(summary['completed']).toBeGreaterThan(10);
    }
    // The same arrivals under both.
    expect(runs[0]?.summary['submitted']).toBe(runs[1]?.summary['submitted']);
    for (const wrong of [{ scenario: 'cold-start' }, { scenario: 'cold-starts', policies: [] }, { scenario: 'cold-starts', rate: 100, durationMs: 600_000 }, { scenario: { nodes: 1 } }, { seed: -1 }, { scenario: undefined }, { file: 'nodes: 1\nfunctions: [{ name: f }]' }, { scenario: undefined, file: 'nodes: 257\nfunctions: [{ name: f }]' }]) {
      const refused = await put('simulations', { scenario: 'cold-starts', policies: ['metronome'], seed: 1, ...wrong }, {}, 'POST');
      expect(refused.status, JSON.stringify(wrong)).toBe(400);
    }
    expect(JSON.stringify((await put('simulations', { scenario: 'cold-start', policies: ['metronome'], seed: 1 }, {}, 'POST')).body)).toContain('did you mean');
  }, 120_000);

  it('plays recordings of the daemon beside what their traffic would have seen, and takes names only', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'metronome-played-'));
    expect((await ask('recordings')).body).toEqual({ recordings: [], leftOut: 0 });
    await door.close();
    door = await startTestGateway({ recordings: { dir, running: '' } });
    try {
      const { head, sink } = recordSimulation({ durationMs: 3_000, perS: 20 });
      const name = basename(writeRecording(dir, head, sink.blocks).folder);
      const { recordings } = (await ask('recordings')).body as RecordingList;
      expect(recordings).toEqual([{ name, startedAtMs: Date.UTC(2026, 10, 25, 19, 8, 38, 123), bytes: expect.any(Number) as number, isRunning: false }]);
      const { status, body } = await put('simulations', { recording: name, policies: ['round-robin'], seed: 1 }, {}, 'POST');
      expect(status).toBe(200);
      const runs = body as SimulationRun[];
      expect(runs.map(({ kind, policy, frames }) => [kind, policy, frames.length])).toEqual([['recorded', 'metronome', 400], ['whatIf', 'round-robin', 400]]);
      expect((await put('simulations', { recording: name, policies: [], seed: 1 }, {}, 'POST')).body).toHaveLength(1);
      for (const wrong of [{ recording: `../${basename(dir)}/${name}` }, { recording: '20261125T190838123Z-2' }, { scenario: 'cold-starts' }, { nodes: 3 }, { rate: 2 }, { policies: ['fifo2'] }]) {
        expect((await put('simulations', { recording: name, policies: ['metronome'], seed: 1, ...wrong }, {}, 'POST')).status, JSON.stringify(wrong)).toBe(400);
      }
      // What the thread refuses comes with its own code.
      await writeFile(join(dir, name, '000001.mrec'), 'no recording');
      expect((await put('simulations', { recording: name, policies: [], seed: 1 }, {}, 'POST')).body).toMatchObject({ error: { code: 'STATE_CORRUPT' } });
    } finally {
      await rm(dir, { recursive: true });
    }
  }, 120_000);

  it('is refused under a foreign name and from a foreign site', async () => {
    door.loop.handlers.setPolicy = ({ policy }) => ({ previous: '', active: policy });
    const { hostname, port } = new URL(door.http);
    const rebound = await new Promise<number | undefined>((resolve) => request({ hostname, port, path: '/inspect/api/machines', headers: { host: `evil.example:${port}` } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).end());
    expect(rebound).toBe(403);
    for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, { 'sec-fetch-site': 'cross-site' }, { origin: `http://${hostname}:1` }]) expect((await put('policy', { policy: 'xfaas' }, headers as Record<string, string>)).status, JSON.stringify(headers)).toBe(403);
    for (const headers of [{}, { origin: door.http, 'sec-fetch-site': 'same-origin' }]) expect((await put('policy', { policy: 'xfaas' }, headers as Record<string, string>)).status).toBe(200);
  });
});

describe('whose site it is', () => {
  it('goes by address, localhost and the names that are allowed', () => {
    const reads = (host: string): boolean => {
      try {
        assertOwnSite({ host, origin: undefined, fetchSite: undefined }, false, ['metronome.internal']);
        return true;
      } catch {
        return false;
      }
    };
    expect(['127.0.0.1:7071', '[::1]:7071', 'localhost', 'a.localhost:1', '10.1.2.3', 'Metronome.internal:80'].map(reads)).toEqual([true, true, true, true, true, true]);
    expect(['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', '', 'a b'].map(reads)).toEqual([false, false, false, false, false]);
  });
});

describe('the files of the page', () => {
  it('are those of its folder and no others, under a strict policy', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'metronome-page-'));
    try {
      await mkdir(join(dir, 'page', 'assets'), { recursive: true });
      await writeFile(join(dir, 'secret.js'), 'secret');
      await writeFile(join(dir, 'page', 'index.html'), '<!doctype html>');
      await writeFile(join(dir, 'page', 'assets', 'index-1a2b.js'), 'go()');
      const read = (name: string) => readPageFile(name, join(dir, 'page'));
      const page = await read('');
      expect(Buffer.from(page?.bytes ?? []).toString()).toBe('<!doctype html>');
      expect(page?.headers['content-security-policy']).toContain("default-src 'none'; script-src 'self'");
      expect((await read('assets/index-1a2b.js'))?.headers).toMatchObject({ 'content-type': 'text/javascript; charset=utf-8', 'cache-control': expect.stringContaining('immutable') });
      for (const name of ['../secret.js', '/etc/passwd', 'assets/../../secret.js', 'assets', 'none.js', '..%2fsecret.js']) expect(await read(name), name).toBeUndefined();
      expect(await readPageFile('', join(dir, 'nothing'))).toBeUndefined();
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
