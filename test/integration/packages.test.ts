/** Packages from the manifest to the running function: resolved when it is applied, locked, installed on the node that needs them. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { deploy } from '../../src/cli/deploy.ts';
import { loadManifest } from '../../src/config/manifest.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { fakeRegistry, type FakeRegistry } from '../agent/fake-registry.ts';
import { failure, openCluster, valueOf, type TestCluster } from './harness.ts';

let registry: FakeRegistry;
let cluster: TestCluster;
let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'metronome-it-packages-'));
  registry = await fakeRegistry();
  vi.stubEnv('npm_config_registry', registry.url);
  vi.stubEnv('npm_config_cache', join(folder, 'npm-cache'));
  cluster = await openCluster({ nodes: 1, agent: { npmRegistry: registry.url } });
  await registry.publish('word', '1.0.0', { 'index.js': "module.exports = 'hello';" });
  await registry.publish('word', '2.0.0', { 'index.js': "module.exports = 'HELLO';" });
  await registry.publish('greeting', '1.0.0', { 'index.js': "exports.greet = (name) => require('word') + ' ' + name;" }, { word: '^1.0.0' });
});
afterAll(async () => {
  await cluster?.close();
  await registry?.stop();
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

/** Applies a manifest of one function as the command line does it. */
async function apply(name: string, packages: string, code: string): Promise<string[]> {
  const home = join(folder, name);
  await mkdir(join(home, 'code'), { recursive: true });
  await writeFile(join(home, 'code', 'handler.mjs'), code);
  await writeFile(join(home, 'metronome.yaml'), `apiVersion: metronome/v1\nkind: Function\nmetadata: { name: ${name} }\nspec: { runtime: node, handler: handler.mjs, code: code, packages: ${packages}, reuse: false }\n`);
  const lines: string[] = [];
  await deploy({ client: cluster.client, manifest: await loadManifest(home), progress: (line) => lines.push(line) });
  return lines;
}

const CODE = "import { greet } from 'greeting'; export const handler = (name) => greet(name);";

describe('a function with packages', () => {
  it('gets them on the node at its first start, and every other function with the same ones finds them there', async () => {
    const said = await apply('first', '{ greeting: ^1.0.0 }', CODE);
    expect(said).toEqual(['function first: npm resolves its packages …', expect.stringMatching(/^function first: changed \(\d+ B of code, 2 packages locked\)$/)]);
    const { function: stored } = await cluster.client.getFunction({ name: 'first' });
    expect(stored?.lock?.packages.map(({ name, version, direct, resolved }) => [name, version, direct, resolved])).toEqual([['greeting', '1.0.0', true, ''], ['word', '1.0.0', false, '']]);
    expect(stored?.spec?.dependencyCount).toBe(2);
    expect((await cluster.client.listFunctions({})).functions[0]?.lock).toBeUndefined();

    const cold = await cluster.call('first', 'Ada');
    expect(valueOf(cold)).toBe('hello Ada');
    expect(cold.phases?.startState).toBe(StartState.COLD);
    expect(cold.phases?.installedMs).toBeGreaterThan(0);
    const next = await cluster.call('first', 'Bob');
    expect(next.phases?.startState).toBeGreaterThan(StartState.COLD);
    expect(next.phases?.installedMs).toBe(0);

    const asked = registry.requests.length;
    await apply('second', '{ greeting: ^1.0.0 }', `${CODE} // other code`);
    // The scheduler knows it before the function ever ran.
    const { decision } = await cluster.client.plan({ request: { function: 'second' } });
    expect(decision?.candidates.map(({ startState }) => startState > StartState.COLD)).toEqual([true]);
    const metrics = (await cluster.nodes())['node-1']?.metrics;
    expect(metrics).toMatchObject({ cachedPackages: 2 });
    expect(metrics?.packageBytes).toBeGreaterThan(100);
    expect(valueOf(await cluster.call('second', 'Eve'))).toBe('hello Eve');
    expect(registry.requests.slice(asked).filter((path) => path.endsWith('.tgz'))).toEqual([]);
  });

  it('becomes another version when only its packages change', async () => {
    await apply('third', '{ word: ^1.0.0 }', "import word from 'word'; export const handler = () => word;");
    const before = (await cluster.client.getFunction({ name: 'third' })).function;
    expect(valueOf(await cluster.call('third', null))).toBe('hello');
    await apply('third', '{ word: 2.0.0 }', "import word from 'word'; export const handler = () => word;");
    const after = (await cluster.client.getFunction({ name: 'third' })).function;
    expect(after?.bundleDigest).toBe(before?.bundleDigest);
    expect(after?.version).not.toBe(before?.version);
    expect(valueOf(await cluster.call('third', null))).toBe('HELLO');
    expect((await apply('third', '{ word: 2.0.0 }', "import word from 'word'; export const handler = () => word;")).at(-1)).toContain('unchanged');
  });

  it('is refused with every problem of its lock', async () => {
    const { function: known } = await cluster.client.getFunction({ name: 'first' });
    const packages = [{ ...known!.lock!.packages[0]!, path: '../evil', version: 'latest?' }];
    const error = await failure(cluster.client.applyFunction({ spec: { ...known!.spec!, name: 'evil' }, bundle: Buffer.from('x'), lock: { digest: '', runtime: 'node', packages } }), 'INVALID_REQUEST');
    expect(error.extras.violations?.map(({ field }) => field)).toEqual(['lock.packages[0].version', 'lock.packages[0].path']);
  });

  it('that no registry has any more fails with the name of the package', async () => {
    const { function: known } = await cluster.client.getFunction({ name: 'first' });
    const packages = [{ ...known!.lock!.packages[0]!, name: 'gone', path: 'node_modules/gone' }];
    const chunks: Uint8Array[] = [];
    for await (const { chunk } of cluster.client.getBundle({ digest: known!.bundleDigest })) chunks.push(chunk);
    await cluster.client.applyFunction({ spec: { ...known!.spec!, name: 'gone' }, bundle: Buffer.concat(chunks), lock: { digest: 'x', runtime: 'node', packages } });
    const error = await failure(cluster.call('gone', null), 'PACKAGES_FAILED');
    expect(error.message).toContain('gone@1.0.0');
  });
});
