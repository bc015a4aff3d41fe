/** A registry on loopback with packages that tests make up, which can fail in every way that a registry can. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { create } from 'tar';
import { sealLock } from '../../src/config/package-lock.ts';
import { LockedPackage, PackageLock } from '../../src/rpc/gen/metronome/v1/function.ts';

/** A package of the registry. */
export interface FakePackage {
  readonly name: string;
  readonly version: string;
  readonly integrity: string;
  readonly tarball: Buffer;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** Answers a request instead of the registry; false: the registry answers. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface FakeRegistry extends AsyncDisposable {
  readonly url: string;
  /** Paths that were asked for. */
  readonly requests: string[];
  fault: Fault | undefined;
  /** Makes a package; files by name, package.json comes by itself. */
  publish(name: string, version: string, files: Readonly<Record<string, string | Buffer>>, dependencies?: Readonly<Record<string, string>>): Promise<FakePackage>;
  /** Stops listening, so that connections are refused. */
  stop(): Promise<void>;
}

export async function fakeRegistry(): Promise<FakeRegistry> {
  const packages = new Map<string, FakePackage>();
  const requests: string[] = [];
  /** What npm asks for when it resolves. */
  const packument = (path: string): object | undefined => {
    const name = decodeURIComponent(path.slice(1));
    const versions = [...packages].filter(([, one]) => one.name === name);
    if (versions.length === 0) return undefined;
    return {
      name,
      'dist-tags': { latest: versions.at(-1)?.[1].version },
      versions: Object.fromEntries(versions.map(([tarball, { version, integrity, dependencies }]) => [version, { name, version, dependencies, dist: { tarball: `${registry.url}${tarball}`, integrity } }])),
    };
  };
  const server = createServer((request, response) => {
    requests.push(request.url ?? '');
    if (registry.fault?.(request, response) === true) return;
    const found = packages.get(request.url ?? '');
    if (found !== undefined) response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': found.tarball.length }).end(found.tarball);
    else {
      const about = packument(request.url ?? '');
      response.writeHead(about === undefined ? 404 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(about ?? { error: 'not found' }));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  const registry: FakeRegistry = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    fault: undefined,
    async publish(name, version, files, dependencies = {}) {
      const tarball = await pack({ 'package.json': JSON.stringify({ name, version, main: 'index.js', dependencies }), ...files });
      const made = { name, version, tarball, dependencies, integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}` };
      packages.set(`/${name}/-/${name.slice(name.indexOf('/') + 1)}-${version}.tgz`, made);
      return made;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
  return registry;
}

/** A gzipped tar with the files below "package/", as npm packs it. */
async function pack(files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'metronome-pack-'));
  try {
    for (const [name, content] of Object.entries(files)) {
      const path = join(folder, 'package', name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content);
    }
    const chunks: Buffer[] = [];
    for await (const chunk of create({ gzip: true, portable: true, cwd: folder }, ['package'])) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a lock says of a package; direct and at the top unless told otherwise. */
export function locked(made: Pick<FakePackage, 'name' | 'version' | 'integrity'>, more: Partial<LockedPackage> = {}): LockedPackage {
  const { name, version, integrity } = made;
  return LockedPackage.fromPartial({ name, version, integrity, path: `node_modules/${name}`, direct: true, ...more });
}

export function lockOf(packages: readonly LockedPackage[], runtime = 'node'): PackageLock {
  return sealLock({ digest: '', runtime, packages: [...packages] });
}
