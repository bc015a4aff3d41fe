/** What pages of other sites can make a browser do at the HTTP door, and what programs can. */
import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assertNoForeignSite } from '../../src/gateway/foreign-sites.ts';
import { startTestGateway, type TestGateway } from './fake-loop.ts';

const APP = 'https://app.example';
let door: TestGateway;

beforeEach(async () => {
  door = await startTestGateway({ origins: [APP], inspectHosts: ['metronome.internal'] });
});
afterEach(() => door.close());

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

/** Any header may be set, Host as well. */
async function send(method: string, path: string, headers: Record<string, string> = {}, body = '1'): Promise<Answer> {
  const { hostname, port } = new URL(door.http);
  return new Promise((resolve, reject) => {
    request({ hostname, port, method, path, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk)).on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    }).on('error', reject).end(method === 'POST' ? body : undefined);
  });
}

const changing = [['POST', '/run/echo'], ['POST', '/async/echo'], ['POST', '/objects'], ['DELETE', '/invocations/inv-1']] as const;

describe('a page of another site', () => {
  it('cannot make a browser change anything, whatever the browser tells of it', async () => {
    const { port } = new URL(door.http);
    for (const [method, path] of changing) {
      for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, { 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { origin: 'http://127.0.0.1:1' }, { origin: `http://evil.example:${port}`, host: `evil.example:${port}` }]) {
        const { status, text } = await send(method, path, headers as Record<string, string>);
        expect(status, `${method} ${path} ${JSON.stringify(headers)}`).toBe(403);
        expect(JSON.parse(text)).toMatchObject({ error: { code: 'PERMISSION_DENIED' } });
      }
    }
    expect(door.loop.submitted).toEqual([]);
  });

  it('cannot read anything under a name that it lets point here', async () => {
    for (const path of ['/status', '/invocations', '/metrics', '/healthz']) expect((await send('GET', path, { host: 'evil.example:7071' })).status, path).toBe(403);
    expect((await send('GET', '/healthz', { host: 'metronome.internal:7071' })).status).toBe(200);
  });

  it('gets no leave to read answers, nor to send what asks for leave first', async () => {
    const preflight = await send('OPTIONS', '/run/echo', { origin: 'https://evil.example', 'access-control-request-method': 'POST' });
    expect(preflight.status).toBe(404);
    expect(preflight.headers['access-control-allow-origin']).toBeUndefined();
    expect((await send('GET', '/healthz', { origin: 'https://evil.example' })).headers['access-control-allow-origin']).toBeUndefined();
  });
});

describe('a page of a named origin', () => {
  it('may call functions and read the answers, failures too', async () => {
    const preflight = await send('OPTIONS', '/run/echo', { origin: APP, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' });
    expect(preflight.status).toBe(204);
    expect(preflight.headers).toMatchObject({ 'access-control-allow-origin': APP, vary: 'Origin', 'access-control-allow-methods': expect.stringContaining('POST'), 'access-control-allow-headers': expect.stringContaining('content-type') });
    const answer = await send('POST', '/run/echo', { origin: APP, 'sec-fetch-site': 'cross-site', 'content-type': 'application/json' }, '{"a":1}');
    expect(answer).toMatchObject({ status: 200, text: '{"a":1}', headers: { 'access-control-allow-origin': APP, 'access-control-expose-headers': expect.stringContaining('x-metronome-invocation-id') } });
    expect(await send('POST', '/run/missing', { origin: APP })).toMatchObject({ status: 404, headers: { 'access-control-allow-origin': APP } });
  });

  it('has no more right to the inspector than any other', async () => {
    expect((await send('POST', '/inspect/api/nodes/n1/drain', { origin: APP })).status).toBe(403);
  });
});

describe('a program', () => {
  it('is served, and so is what a person types into the browser', async () => {
    expect((await send('POST', '/run/echo')).status).toBe(200);
    expect((await send('POST', '/run/echo', { 'user-agent': 'curl/8', host: `localhost:${new URL(door.http).port}` })).status).toBe(200);
    expect((await send('GET', '/healthz', { 'sec-fetch-site': 'none' })).status).toBe(200);
  });

  it('may use any name for a door that is open to other machines', () => {
    const open = { listensOn: '0.0.0.0', names: [], origins: [] };
    const headers = { host: 'scheduler.cluster.local:7071', origin: undefined, fetchSite: undefined };
    expect(() => assertNoForeignSite(headers, true, open)).not.toThrow();
    expect(() => assertNoForeignSite({ ...headers, origin: 'http://scheduler.cluster.local:7071' }, true, open)).toThrow('scheduler.origins');
    expect(() => assertNoForeignSite(headers, true, { ...open, listensOn: '127.0.0.1' })).toThrow('inspect.hosts');
    expect(() => assertNoForeignSite({ ...headers, host: undefined }, true, { ...open, listensOn: '::1' })).not.toThrow();
  });
});
