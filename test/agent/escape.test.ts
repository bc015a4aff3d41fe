/**
 * What a hostile function can and cannot do. Under bubblewrap every attempt must fail. The kind "process" needs no privileges and stops less:
 * what it does not stop stands here as a fact, so that nobody is surprised.
 */
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { PackageLayer } from '../../src/agent/program.ts';
import type { Isolation, Sandbox, SandboxDriver, SandboxSpec, Zygote } from '../../src/agent/sandbox/sandbox-driver.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { MAX_FILE_BYTES, bubblewrapMissing, openDriver } from './drivers.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { defineFunction, lives, packed, putObject, tempDir, testAgent } from './harness.ts';
import { NODE_PACKAGES, makeBundle, makeLayer } from './layers.ts';

const ENDED = new MetronomeError('CANCELLED', 'The test is over.');
const HOSTILE = fileURLToPath(new URL('./fixtures/hostile', import.meta.url));
const isRoot = process.getuid?.() === 0;

interface Attempt {
  readonly got?: unknown;
  readonly refused?: string;
}

/** A hostile function at work. */
class Intruder {
  readonly sandbox: Sandbox;
  #runs = 0;

  constructor(sandbox: Sandbox) {
    this.sandbox = sandbox;
  }

  /** Lets it try; the caller says what the answer looks like, and tests look at it. */
  async try<T = Attempt>(event: object = {}): Promise<T> {
    await this.sandbox.ready;
    const outcome = await this.sandbox.run({
      invocationId: 'i', attempt: 1, deadlineUnixMs: Number.MAX_SAFE_INTEGER, traceparent: '', payload: Buffer.from(JSON.stringify(event)), contentType: 'application/json', inputs: [],
      outputDir: this.outputDir(++this.#runs),
    });
    if (outcome.kind === 'threw') throw new Error(`${outcome.error.type}: ${outcome.error.message}`);
    return (outcome.payload.length === 0 ? null : JSON.parse(outcome.payload.toString())) as T; // a fixture's answer
  }

  outputDir(run: number): string {
    return join(this.sandbox.outputsDir, String(run));
  }
}

/** Sets up a node with a secret, another function at work, and a port that listens. */
async function stage(kind: Isolation) {
  const dir = await tempDir();
  const driver = await openDriver(kind, join(dir.path, 'sandboxes'));
  const secret = join(dir.path, 'objects', 'secret');
  await mkdir(join(dir.path, 'objects'));
  await writeFile(secret, 'the secret of another function', { mode: 0o644 });
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const layer = await makeLayer(dir.path, 'node', 'own', NODE_PACKAGES);
  const foreign = await makeLayer(dir.path, 'node', 'foreign', NODE_PACKAGES);
  return { dir, driver, secret, server, port: (server.address() as { port: number }).port, layer, foreign };
}

const specOf = (handler: string, more: Partial<SandboxSpec> = {}): SandboxSpec => ({
  functionName: 'hostile', runtime: handler.endsWith('.py') || handler.includes('.py#') ? 'python3' : 'node', isolation: '', bundleDir: HOSTILE, handler, layer: undefined, memoryMb: 128, cpu: 1, network: false, env: { TOKEN: 'mine' },
  maxResultBytes: 1024 ** 2, logBytes: 4096, ...more,
});

describe.skipIf(bubblewrapMissing !== undefined)('under bubblewrap a hostile function', () => {
  let dir: Awaited<ReturnType<typeof tempDir>>;
  let driver: SandboxDriver;
  let secret = '';
  let server: Server;
  let port = 0;
  let layer: PackageLayer;
  let foreign: PackageLayer;
  beforeAll(async () => {
    ({ dir, driver, secret, server, port, layer, foreign } = await stage('bubblewrap'));
  });
  afterAll(async () => {
    await driver?.close();
    server?.close();
    await dir?.[Symbol.asyncDispose]();
  });

  const node = (handler: string, more: Partial<SandboxSpec> = {}): Intruder => new Intruder(driver.create(specOf(`hostile.mjs#${handler}`, more)));
  const python = (handler: string, more: Partial<SandboxSpec> = {}): Intruder => new Intruder(driver.create(specOf(`hostile.py#${handler}`, more)));
  /** A child of a fork server: shares its namespaces with the server and its siblings. */
  const forked = async (handler: string, memoryMb = 128): Promise<Intruder> => {
    const zygote = driver.createZygote({ runtime: 'python3', isolation: '', layer: undefined, memoryMb, network: false, functionName: 'hostile' });
    await zygote?.ready;
    const sandbox = zygote?.specialise(specOf(`hostile.py#${handler}`, { memoryMb }));
    if (zygote !== undefined) servers.push(zygote);
    if (sandbox === undefined) throw new Error('There are no Python zygotes.');
    return new Intruder(sandbox);
  };
  const servers: Zygote[] = [];
  const done = async (...intruders: readonly Intruder[]): Promise<void> => void (await Promise.all(intruders.map(({ sandbox }) => sandbox.kill(ENDED))));

  it('does not see files of others: objects, code, packages, sandboxes, the agent\'s own', async () => {
    const other = driver.create(specOf('hostile.mjs#status', { functionName: 'other', bundleDir: await makeBundle(dir.path, { 'hostile.mjs': 'export const status = () => 1;' }) }));
    await other.ready;
    const reader = node('readFile', { layer });
    const lister = node('list', { layer });
    for (const path of [secret, join(HOSTILE, 'hostile.mjs'), join(foreign.dir, 'node_modules/common/index.js'), join(other.dir, 'process.json'), fileURLToPath(import.meta.url), '/etc/shadow', '/etc/hostname', '/root/.bashrc', `/proc/${process.pid}/environ`, `/proc/${process.pid}/mem`, `/proc/${process.ppid}/cmdline`]) {
      expect(await reader.try({ path }), path).toHaveProperty('refused');
    }
    // Its own packages are there, beside no others.
    expect(await reader.try({ path: join(layer.dir, 'node_modules/common/index.js') })).toHaveProperty('got');
    expect(await lister.try({ path: dir.path })).toEqual({ got: ['sandboxes', layer.dir.slice(dir.path.length + 1)].sort() });
    expect(await lister.try({ path: join(dir.path, 'sandboxes') })).toEqual({ got: [lister.sandbox.id] });
    expect((await lister.try({ path: '/home' })).got ?? []).toEqual([]);
    await done(reader, lister, new Intruder(other));
  });

  it('has no rights, whoever started the agent', async () => {
    for (const intruder of [node('status'), python('status'), await forked('status')]) {
      const status = await intruder.try<Record<'Uid' | 'CapBnd', string>>();
      expect(status).toMatchObject({ CapEff: '0000000000000000', CapPrm: '0000000000000000', NoNewPrivs: '1', Seccomp: '2' });
      expect(status.Uid.split(/\s+/)).not.toContain('0');
      if (isRoot) {
        // Its files on the disk are its own user's, not root's.
        const { uid } = await stat(intruder.sandbox.outputsDir);
        expect(uid).toBeGreaterThan(65_536);
        expect(status.Uid.split(/\s+/)).toEqual(Array.from({ length: 4 }, () => String(uid)));
        expect(status.CapBnd).toBe('0000000000000000');
      }
      await done(intruder);
    }
  });

  it('knows nothing of the environment of the agent, nor of other processes', async () => {
    vi.stubEnv('METRONOME_TOKEN', 'secret of the agent');
    const environment = node('seesEnvironment');
    const seen = await environment.try();
    vi.unstubAllEnvs();
    expect(Object.keys(seen).sort()).toEqual(['HOME', 'LANG', 'METRONOME_FUNCTION', 'METRONOME_SANDBOX', 'PATH', 'TMPDIR', 'TOKEN']);
    // And others know nothing of its own: it is on no command line, which everybody on the node may read.
    const lines = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      } catch {
        return '';
      }
    });
    expect(lines.some((line) => line.includes(environment.sandbox.id))).toBe(true);
    expect(lines.filter((line) => line.includes('TOKEN=mine'))).toEqual([]);
    const processes = node('processes');
    const visible = await processes.try<string[]>();
    expect(visible.length).toBeLessThan(5);
    expect(visible.join('\n')).not.toContain('vitest');
    const signals = node('signal');
    expect(await signals.try({ pid: process.pid })).toEqual({ refused: 'ESRCH' });
    await done(environment, processes, signals);
  });

  it('cannot change its code, its packages, its runtime or the system', async () => {
    const code = readFileSync(join(HOSTILE, 'hostile.mjs'), 'utf8');
    const bundleDir = await makeBundle(dir.path, { 'hostile.mjs': code }, layer);
    const own = node('writeOwn', { bundleDir, layer });
    for (const [what, attempt] of Object.entries(await own.try<Record<string, Attempt>>())) expect(attempt.refused, what).toMatch(/EROFS|EACCES|ETXTBSY/);
    const writer = node('write', { bundleDir, layer });
    for (const path of [join(layer.dir, 'node_modules/common/index.js'), join(layer.dir, 'node_modules/new'), join(writer.sandbox.inputsDir, 'new'), '/etc/passwd', '/dev/new', '/proc/sys/kernel/core_pattern', '/proc/self/oom_score_adj-new']) {
      expect((await writer.try({ path })).refused, path).toMatch(/EROFS|EACCES|EPERM|ENOENT/);
    }
    // Folders on the way to its mounts may be its own in its /tmp; on the node they are not.
    for (const path of [join(writer.sandbox.dir, 'new'), join(own.sandbox.dir, 'new'), join(dir.path, 'new')]) {
      await writer.try({ path });
      expect(existsSync(path), path).toBe(false);
    }
    expect(readFileSync(join(bundleDir, 'hostile.mjs'), 'utf8')).toBe(code);
    await done(own, writer);
  });

  it('does not reach the network, the agent on loopback included, unless its manifest asks for it', async () => {
    for (const intruder of [node('reach'), python('reach'), await forked('reach')]) {
      expect(await intruder.try({ host: '127.0.0.1', port })).toHaveProperty('refused');
      expect(await intruder.try({ host: '192.0.2.1', port: 80 })).toHaveProperty('refused');
      await done(intruder);
    }
    for (const intruder of [node('reach', { network: true }), python('reach', { network: true })]) {
      expect(await intruder.try({ host: '127.0.0.1', port })).toEqual({ got: 'connected' });
      await done(intruder);
    }
  });

  it('cannot use system calls that lead out', async () => {
    for (const intruder of [python('kernel'), await forked('kernel')]) {
      const attempts = await intruder.try<Record<string, Attempt>>();
      for (const [what, { refused }] of Object.entries(attempts)) expect(refused, what).toMatch(what === 'clone3' ? /not implemented/ : /not permitted/);
      await done(intruder);
    }
    const namespaces = node('namespaces');
    expect(await namespaces.try()).toHaveProperty('refused');
    await done(namespaces);
  });

  it('cannot look into the fork server that made it', async () => {
    const intruder = await forked('ptrace_parent');
    for (const [what, { refused }] of Object.entries(await intruder.try<Record<string, Attempt>>())) expect(refused, what).toMatch(/not permitted|denied/);
    await done(intruder);
  });

  it('that makes processes without end gets no more than its share, and the node goes on', async () => {
    for (const intruder of [node('forkBomb', { memoryMb: 8192 }), python('fork_bomb', { memoryMb: 8192 }), await forked('fork_bomb', 8192)]) {
      const { started, refused } = await intruder.try<Attempt & { started: number }>({ most: 400 });
      expect(started).toBeLessThan(257);
      expect(refused).toMatch(/EAGAIN|temporarily unavailable/);
      const other = node('status');
      expect(await other.try()).toMatchObject({ Seccomp: '2' });
      await done(intruder, other);
    }
  });

  it('that fills the memory is ended, and its /tmp is full before the machine is', async () => {
    for (const intruder of [node('fillMemory'), python('fill_memory')]) await expect(intruder.try()).rejects.toMatchObject({ code: 'MEMORY_EXCEEDED' });
    for (const folder of [undefined, '/tmp', '/dev/shm']) {
      const filler = node('fillFolder', { memoryMb: 512 });
      const { written, refused } = await filler.try<Attempt & { written: number }>({ folder, most: 256 * 1024 ** 2 });
      expect(refused).toBe('ENOSPC');
      expect(written).toBeLessThanOrEqual(64 * 1024 ** 2);
      await done(filler);
    }
    const outputs = node('fillFolder');
    // One file has its bound too.
    expect(await outputs.try({ folder: outputs.sandbox.outputsDir, most: 256 * 1024 ** 2 })).toEqual({ written: MAX_FILE_BYTES, refused: 'EFBIG' });
    await done(outputs);
  });

  it('leaves nothing running, however it hides', async () => {
    const before = sleepers();
    for (const intruder of [node('daemon'), python('daemon'), await forked('daemon')]) {
      const inner = await intruder.try<number>();
      const left = allWithin(intruder.sandbox);
      const daemon = outerPid(inner, left.at(-1) ?? 0);
      expect(daemon).toBeGreaterThan(1);
      left.push(daemon);
      await done(intruder);
      // Killed; the kernel may take a moment to bury those that had left their parent.
      await vi.waitFor(() => expect(left.filter(lives)).toEqual([]), 5_000);
    }
    const stubborn = await forked('after_end');
    await stubborn.sandbox.ready;
    const running = stubborn.try();
    running.catch(() => {});
    await vi.waitFor(() => expect(existsSync(join(stubborn.outputDir(1), 'child'))).toBe(true), { timeout: 20_000, interval: 20 });
    const left = allWithin(stubborn.sandbox);
    await done(stubborn);
    await vi.waitFor(() => expect([...left.filter(lives), ...sleepers().filter((pid) => !before.includes(pid))]).toEqual([]), 5_000);
  });

  it('cannot bring in files of the node as outputs, by links to files or folders', async () => {
    await using agent = await testAgent({ isolation: 'bubblewrap', fetchBundle: async () => (await packed(HOSTILE)).bytes });
    const object = await putObject(agent.agent.dataUrl, 'secret', 'of somebody else');
    const bundleDigest = (await packed(HOSTILE)).digest;
    for (const [handler, target, code] of [['linkedOutput', '/etc/hostname', 'FUNCTION_FAILED'], ['linkedFolder', '/etc', 'FUNCTION_FAILED'], ['linkedFolder', join(agent.dir, 'objects', 'data'), 'FUNCTION_FAILED']] as const) {
      const definition = await defineFunction(`hostile.mjs#${handler}`, {}, { bundleDigest });
      const { result } = await agent.client.run(definition, { target });
      expect(result.error?.code, `${handler} ${target}`).toBe(code);
      expect(result.outputs).toEqual([]);
    }
    expect(await (await fetch(`${agent.agent.dataUrl}/objects/${object.id}`)).text()).toBe('of somebody else');
    expect(existsSync('/etc/hostname')).toBe(true);
    // What a forked one may write to lies within what its fork server sees. Every number that a run's folder may have leads to a secret.
    const target = join(agent.dir, 'elsewhere');
    const secrets = Array.from({ length: 64 }, (_, run) => join(target, String(run), 'secret'));
    for (const file of secrets) {
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, 'of root alone', { mode: 0o600 });
    }
    for (const handler of ['linked_output', 'linked_folder', 'linked_outputs']) {
      const definition = await defineFunction(`hostile.py#${handler}`, {}, { bundleDigest });
      await new Promise<void>((resolve, reject) => agent.client.stub.prewarm({ function: definition, count: 1, zygotes: true }, (error) => (error ? reject(error) : resolve())));
      const { result } = await agent.client.run(definition, { target });
      expect(result.startState, handler).toBe(StartState.ZYGOTE);
      if (result.error === undefined) expect(JSON.parse(result.payload.toString()), handler).toHaveProperty('refused');
      else expect(result.error.code, handler).toBe('FUNCTION_FAILED');
      expect(result.outputs, handler).toEqual([]);
      expect(secrets.filter((file) => !existsSync(file)), handler).toEqual([]);
    }
    const hard = await agent.client.run(await defineFunction('hostile.mjs#hardLink', {}, { bundleDigest }), { target: '/etc/passwd' });
    expect(JSON.parse(hard.result.payload.toString())).toHaveProperty('refused');
  });
});

describe('without isolation (the kind "process") a hostile function', () => {
  let dir: Awaited<ReturnType<typeof tempDir>>;
  let driver: SandboxDriver;
  let secret = '';
  let server: Server;
  let port = 0;
  beforeAll(async () => {
    ({ dir, driver, secret, server, port } = await stage('process'));
  });
  afterAll(async () => {
    await driver.close();
    server.close();
    await dir[Symbol.asyncDispose]();
  });
  const node = (handler: string, more: Partial<SandboxSpec> = {}): Intruder => new Intruder(driver.create(specOf(`hostile.mjs#${handler}`, more)));

  it('is not stopped from reading what the agent\'s user can read, reaching the network and signalling its processes', async () => {
    const reader = node('readFile');
    expect(await reader.try({ path: secret })).toEqual({ got: 'the secret of another function' });
    const reach = node('reach');
    expect(await reach.try({ host: '127.0.0.1', port })).toEqual({ got: 'connected' });
    const signals = node('signal');
    expect(await signals.try({ pid: process.pid })).toEqual({ got: true });
    await Promise.all([reader, reach, signals].map(({ sandbox }) => sandbox.kill(ENDED)));
  });

  it('inherits no environment, writes no file beyond its bound, and is ended when it takes too much memory', async () => {
    vi.stubEnv('METRONOME_TOKEN', 'secret of the agent');
    const environment = node('seesEnvironment');
    expect(await environment.try()).not.toHaveProperty('METRONOME_TOKEN');
    vi.unstubAllEnvs();
    const filler = node('fillFolder');
    expect(await filler.try({ most: 256 * 1024 ** 2 })).toEqual({ written: MAX_FILE_BYTES, refused: 'EFBIG' });
    await expect(node('fillMemory').try()).rejects.toMatchObject({ code: 'MEMORY_EXCEEDED' });
    await Promise.all([environment, filler].map(({ sandbox }) => sandbox.kill(ENDED)));
  });

  it('cannot lead the agent away by a link in the place of the folder of its outputs', async () => {
    await using agent = await testAgent({ isolation: 'process', fetchBundle: async () => (await packed(HOSTILE)).bytes });
    const target = join(agent.dir, 'elsewhere');
    const secrets = Array.from({ length: 16 }, (_, run) => join(target, String(run), 'secret'));
    for (const file of secrets) await mkdir(dirname(file), { recursive: true }).then(() => writeFile(file, 'of root alone'));
    const { result } = await agent.client.run(await defineFunction('hostile.py#linked_outputs', {}, { bundleDigest: (await packed(HOSTILE)).digest }), { target });
    expect(result.error).toMatchObject({ code: 'FUNCTION_FAILED' });
    expect(result.outputs).toEqual([]);
    expect(secrets.filter((file) => !existsSync(file))).toEqual([]);
  });

  it('that was forked leaves no daemon behind, whether it is killed or ends by itself', async () => {
    const own = await openDriver('process', join(dir.path, 'forked'));
    const zygote = own.createZygote({ runtime: 'python3', isolation: '', layer: undefined, memoryMb: 128, network: false, functionName: undefined });
    await zygote?.ready;
    for (const end of ['killed', 'crashed'] as const) {
      const intruder = new Intruder(zygote?.specialise(specOf('hostile.py#daemon')) as Sandbox); // it is ready
      const pid = await intruder.try<number>();
      expect(lives(pid)).toBe(true);
      if (end === 'killed') await intruder.sandbox.kill(ENDED);
      else process.kill((JSON.parse(readFileSync(join(intruder.sandbox.dir, 'process.json'), 'utf8')) as { pid: number }).pid, 'SIGKILL');
      await intruder.sandbox.gone;
      await vi.waitFor(() => expect(lives(pid), end).toBe(false), 5_000);
    }
    await own.close();
  });

  it('leaves a daemon behind only until its agent ends', async () => {
    const own = await openDriver('process', join(dir.path, 'daemons'));
    const intruder = new Intruder(own.create(specOf('hostile.mjs#daemon')));
    const pid = await intruder.try<number>();
    await intruder.sandbox.kill(ENDED);
    await own.close();
    await vi.waitFor(() => expect(lives(pid)).toBe(false), 5_000);
  });
});

/** All processes that run for a sandbox, as the node sees them. */
function allWithin(sandbox: Sandbox): number[] {
  const { pid } = JSON.parse(readFileSync(join(sandbox.dir, 'process.json'), 'utf8')) as { pid: number };
  const found: number[] = [];
  for (const queue = [pid]; queue.length > 0; ) {
    const next = queue.pop() as number;
    found.push(next);
    for (const task of readdirSync(`/proc/${next}/task`)) queue.push(...readFileSync(`/proc/${next}/task/${task}/children`, 'latin1').split(' ').filter((each) => each !== '').map(Number));
  }
  return found;
}

/** The process that has this id in the namespace of another one. */
function outerPid(inner: number, neighbour: number): number {
  const namespace = readlinkSync(`/proc/${neighbour}/ns/pid`);
  return Number(readdirSync('/proc').filter((name) => /^\d+$/.test(name)).find((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/ns/pid`) === namespace && new RegExp(`^NSpid:.*\\s${inner}$`, 'm').test(readFileSync(`/proc/${pid}/status`, 'latin1'));
    } catch {
      return false; // gone meanwhile
    }
  }));
}

function sleepers(): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      return /^(sleep|sh -c sleep) 600/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' '));
    } catch {
      return false;
    }
  }).map(Number);
}
