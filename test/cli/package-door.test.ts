/** The proxy through which emulated nodes reach package registries: what is allowed passes, nothing else does. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { configuredRegistries, openPackageDoor, type PackageDoor } from '../../src/cli/cluster/emulation/package-door.ts';

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

async function listen(server: Server | ReturnType<typeof createTcpServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on TCP
}

async function doorTo(...targets: readonly string[]): Promise<{ readonly door: PackageDoor; readonly port: number }> {
  const door = await openPackageDoor('127.0.0.1', () => Promise.resolve(new Set(targets)));
  open.push(() => door.close());
  return { door, port: Number(new URL(door.env['npm_config_https_proxy'] ?? '').port) };
}

function get(port: number, url: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path: url, headers: { host: new URL(url).host } }, (answer: IncomingMessage) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk)).on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
    }).on('error', reject).end();
  });
}

/** Opens a tunnel, says hello through it and reads until it is closed. */
function hello(port: number, target: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    let isOpen = false;
    const socket = connect(port, '127.0.0.1', () => socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`));
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (isOpen || !text.includes('200 Connection Established')) return;
      isOpen = true;
      socket.write('hello');
    }).on('end', () => resolve(text)).on('error', reject);
  });
}

describe('the door to the registries', () => {
  it('passes requests and tunnels to what is allowed', async () => {
    const registry = await listen(createServer((incoming, answer) => answer.end(`${incoming.method} ${incoming.url}`)));
    const tls = await listen(createTcpServer((socket: Socket) => void socket.once('data', (chunk) => socket.end(`you said ${String(chunk)}`))));
    const { port } = await doorTo(registry, tls);
    expect(await get(port, `http://${registry}/left-pad/-/left-pad-1.0.0.tgz`)).toEqual({ status: 200, text: 'GET /left-pad/-/left-pad-1.0.0.tgz' });
    expect(await hello(port, tls)).toMatch(/200 Connection Established\r\n\r\nyou said hello$/);
  });

  it('refuses everything else, and says when the registry is not there', async () => {
    const secret = await listen(createServer((_incoming, answer) => answer.end('secret')));
    const gone = '127.0.0.1:1';
    const { port } = await doorTo(gone);
    expect(await get(port, `http://${secret}/`)).toMatchObject({ status: 403, text: expect.stringContaining('Only the package registries') });
    expect(await hello(port, secret)).toMatch(/^HTTP\/1\.1 403/);
    expect(await get(port, `http://${gone}/`)).toMatchObject({ status: 502 });
    expect(await hello(port, gone)).toMatch(/^HTTP\/1\.1 502/);
  });

  it('is found by npm and pip, and closes with what is open', async () => {
    const silent = await listen(createTcpServer(() => {}));
    const { door, port } = await doorTo(silent);
    expect(door.env).toEqual({ npm_config_proxy: `http://127.0.0.1:${port}`, npm_config_https_proxy: `http://127.0.0.1:${port}`, PIP_PROXY: `http://127.0.0.1:${port}` });
    const waiting = hello(port, silent).catch((error: NodeJS.ErrnoException) => error.code ?? '');
    // Answered behind it on the same door: the tunnel is there.
    expect(await get(port, 'http://127.0.0.2:9/')).toMatchObject({ status: 403 });
    door.close();
    expect(['', 'ECONNRESET']).toContain((await waiting).replace(/^HTTP\/1\.1 200[\s\S]*$/, ''));
  });
});

const pip = spawnSync('python3', ['-m', 'pip', '--version']);
it.skipIf(pip.status !== 0)('the indices of pip\'s configuration are let through (pip: apt-get install -y python3-pip)', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'metronome-pip-'));
  try {
    await writeFile(join(folder, 'pip.conf'), '[global]\nindex-url = https://index.example/simple\nextra-index-url =\n    http://me:secret@extra.example:8080/simple\n    https://more.example/simple\nproxy = http://proxy.example:3128\n');
    vi.stubEnv('PIP_CONFIG_FILE', join(folder, 'pip.conf'));
    vi.stubEnv('PIP_INDEX_URL', 'http://own.example/simple');
    const known = await configuredRegistries();
    expect([...known]).toEqual(expect.arrayContaining(['index.example:443', 'extra.example:8080', 'more.example:443', 'own.example:80', 'pypi.org:443']));
    expect([...known].filter((target) => target.startsWith('proxy.'))).toEqual([]);
  } finally {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);
