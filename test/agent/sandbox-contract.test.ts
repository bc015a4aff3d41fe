/** One contract for every kind of sandbox, however its process came to be: spawned, a Node process that waited, or a forked Python child. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { link, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { PackageLayer } from '../../src/agent/program.ts';
import type { Sandbox, SandboxDriver, SandboxRun, SandboxSpec, Zygote, ZygoteSpec } from '../../src/agent/sandbox/sandbox-driver.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { CONTRACT_KINDS, openDriver } from './drivers.ts';
import { lives, tempDir } from './harness.ts';
import { NODE_PACKAGES, makeBundle, makeLayer } from './layers.ts';

const ENDED = new MetronomeError('CANCELLED', 'The test is over.');
const FIXTURES = { node: fileURLToPath(new URL('./fixtures/node', import.meta.url)), python3: fileURLToPath(new URL('./fixtures/python', import.meta.url)) };
const ORPHANS = fileURLToPath(new URL('./fixtures/orphaned-driver.ts', import.meta.url));

describe.each(CONTRACT_KINDS)('a sandbox of the kind $name', ({ name, missing }) => {
  let dir: Awaited<ReturnType<typeof tempDir>>;
  let driver: SandboxDriver;
  let runs = 0;
  const skipped = it.skipIf(missing !== undefined);

  beforeAll(async () => {
    dir = await tempDir();
    if (missing === undefined) driver = await openDriver(name, join(dir.path, 'sandboxes'));
  });
  afterAll(async () => {
    await driver?.close();
    if (missing === undefined) expect(readdirSync(join(dir.path, 'sandboxes'))).toEqual([]);
    await dir[Symbol.asyncDispose]();
  });

  const specOf = (runtime: 'node' | 'python3', handler: string, more: Partial<SandboxSpec> = {}): SandboxSpec => ({
    functionName: 'f', runtime, isolation: '', bundleDir: FIXTURES[runtime], handler, layer: undefined, memoryMb: 128, cpu: 1, network: false, env: {}, maxResultBytes: 1024 ** 2, logBytes: 4096, ...more,
  });
  const zygoteOf = (runtime: 'node' | 'python3', more: Partial<ZygoteSpec> = {}): Zygote => {
    const zygote = driver.createZygote({ runtime, isolation: '', layer: undefined, memoryMb: 256, network: false, functionName: driver.zygoteTraits(runtime, '')?.isPerFunction === true ? 'f' : undefined, ...more });
    if (zygote === undefined) throw new Error(`${name} has no zygotes for ${runtime}`);
    return zygote;
  };
  const runOf = (sandbox: Sandbox, event: unknown = {}, more: Partial<SandboxRun> = {}): SandboxRun => ({
    invocationId: 'inv', attempt: 1, deadlineUnixMs: Number.MAX_SAFE_INTEGER, traceparent: '', payload: Buffer.from(JSON.stringify(event)), contentType: 'application/json', inputs: [],
    outputDir: join(sandbox.outputsDir, String(++runs)), ...more,
  });
  const call = async (sandbox: Sandbox, event: unknown = {}, more: Partial<SandboxRun> = {}): Promise<unknown> => {
    const outcome = await sandbox.run(runOf(sandbox, event, more));
    if (outcome.kind === 'threw') throw new Error(`${outcome.error.type}: ${outcome.error.message}`);
    return outcome.payload.length === 0 ? null : JSON.parse(outcome.payload.toString());
  };
  /** Made in both ways: its process was started for it, or comes of a zygote. */
  const born = async (way: 'spawned' | 'of a zygote', spec: SandboxSpec): Promise<Sandbox> => {
    if (way === 'spawned') return driver.create(spec);
    const zygote = zygoteOf(spec.runtime, { layer: spec.layer, memoryMb: spec.memoryMb });
    await zygote.ready;
    const sandbox = zygote.specialise(spec);
    // A fork server ends with its last child.
    if (!zygote.traits.isConsumed) void zygote.kill(ENDED);
    return sandbox;
  };

  describe.each([['node', 'spawned'], ['node', 'of a zygote'], ['python3', 'spawned'], ['python3', 'of a zygote']] as const)('with %s, %s,', (runtime, way) => {
    const isNode = runtime === 'node';
    const hello = isNode ? 'hello.mjs' : 'hello.py';

    skipped('runs its handler again and again, keeps its module, and says how its start divides', async () => {
      const sandbox = await born(way, specOf(runtime, hello));
      await sandbox.ready;
      expect(sandbox.startMs).toBeGreaterThan(0);
      expect(sandbox.loadMs).toBeGreaterThan(0);
      expect(await call(sandbox, { name: 'Ada' })).toMatchObject({ hello: 'Ada', runs: 1 });
      expect(await call(sandbox, { name: 'Ada' })).toMatchObject({ runs: 2 });
      await sandbox.kill(ENDED);
      expect(sandbox.isAlive).toBe(false);
    });

    skipped('has the environment of its function and nothing else', async () => {
      const sandbox = await born(way, specOf(runtime, isNode ? 'hello.mjs#environment' : 'hello.py#environment', { env: { GREETING: 'hi', PATH: '/usr/bin:/bin' } }));
      await sandbox.ready;
      const env = (await call(sandbox)) as Record<string, string>;
      expect(Object.keys(env).filter((key) => !['PWD', 'LC_CTYPE', 'SHLVL', '_'].includes(key)).sort()).toEqual(['GREETING', 'HOME', 'LANG', 'METRONOME_FUNCTION', 'METRONOME_SANDBOX', 'PATH', 'TMPDIR']);
      expect(env).toMatchObject({ GREETING: 'hi', PATH: '/usr/bin:/bin', METRONOME_FUNCTION: 'f' });
      await sandbox.kill(ENDED);
    });

    skipped('gives each run what it printed, and what it printed while loading to the load', async () => {
      const bundleDir = await makeBundle(dir.path, { 'h.mjs': "console.log('loaded'); export const handler = (e) => void console.log('run', e);", 'h.py': "print('loaded')\ndef handler(e, c):\n    print('run', e)\n" });
      const sandbox = await born(way, specOf(runtime, isNode ? 'h.mjs' : 'h.py', { bundleDir }));
      await sandbox.ready;
      expect(sandbox.takeLogs()?.stdout).toBe('loaded\n');
      await call(sandbox, 1);
      expect(sandbox.takeLogs()?.stdout).toBe('run 1\n');
      await call(sandbox, 2);
      expect(sandbox.takeLogs()).toEqual({ stdout: 'run 2\n', stderr: '', truncatedBytes: 0 });
      await sandbox.kill(ENDED);
    });

    skipped('reads inputs and writes outputs as files', async () => {
      const sandbox = await born(way, specOf(runtime, isNode ? 'hello.mjs#upper' : 'hello.py#count'));
      await sandbox.ready;
      const object = join(dir.path, `object-${++runs}`);
      await writeFile(object, 'one\ntwo\n', { mode: 0o444 });
      const folder = join(sandbox.inputsDir, String(++runs));
      await mkdir(folder, { recursive: true });
      const path = join(folder, 'in.txt');
      await link(object, path);
      const outputDir = join(sandbox.outputsDir, String(++runs));
      const outcome = await sandbox.run(runOf(sandbox, {}, { inputs: [{ id: 'o', name: 'in.txt', path, sizeBytes: 8 }], outputDir }));
      expect(outcome).toMatchObject({ kind: 'returned', hasOutputs: true });
      const [file = ''] = (await readdir(outputDir)).sort().reverse();
      expect(readFileSync(join(outputDir, file), 'utf8')).toBe(isNode ? 'ONE\nTWO\n' : '2');
      await sandbox.kill(ENDED);
    });

    skipped('that cannot be loaded says why', async () => {
      const missingExport = await born(way, specOf(runtime, `${hello}#missing`));
      await expect(missingExport.ready).rejects.toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringContaining('no function "missing"') });
      const bundleDir = await makeBundle(dir.path, { 'h.mjs': "console.error('last words'); process.exit(5);", 'h.py': "import sys\nprint('last words', file=sys.stderr)\nsys.exit(5)\n" });
      const quits = await born(way, specOf(runtime, isNode ? 'h.mjs' : 'h.py', { bundleDir }));
      await expect(quits.ready).rejects.toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringMatching(/exit code 5[\s\S]*last words/) });
      await quits.gone;
    });

    skipped('that ends during a run fails that run with its last words', async () => {
      const sandbox = await born(way, specOf(runtime, `${hello}#exits`));
      await sandbox.ready;
      await expect(sandbox.run(runOf(sandbox))).rejects.toMatchObject({ code: 'FUNCTION_CRASHED', message: expect.stringMatching(/exit code [34][\s\S]*last words/) });
      await sandbox.gone;
    });

    skipped('that takes too much memory is ended with MEMORY_EXCEEDED', async () => {
      const sandbox = await born(way, specOf(runtime, isNode ? 'hello.mjs#allocatesBuffers' : 'hello.py#allocates', { memoryMb: 128 }));
      await sandbox.ready;
      await expect(sandbox.run(runOf(sandbox))).rejects.toMatchObject({ code: 'MEMORY_EXCEEDED' });
      await sandbox.gone;
    });

    it.skipIf(missing !== undefined || name === 'process')('gets no more CPU than its function asks for, where the kernel sees to it', async () => {
      if (driver.limited.length === 0) return; // bubblewrap without control groups
      const bundleDir = await makeBundle(dir.path, {
        'h.mjs': 'export function handler() { const at = performance.now(), before = process.cpuUsage(); let used = 0; while (used < 200_000) { const { user, system } = process.cpuUsage(before); used = user + system; } return used / 1_000 / (performance.now() - at); }',
        'h.py': 'import time\ndef handler(e, c):\n    at, before = time.monotonic(), time.process_time()\n    while time.process_time() - before < 0.2: pass\n    return (time.process_time() - before) / (time.monotonic() - at)\n',
      });
      const sandbox = await born(way, specOf(runtime, isNode ? 'h.mjs' : 'h.py', { bundleDir, cpu: 0.25 }));
      await sandbox.ready;
      // Of a core; neighbours can only make it less.
      expect(await call(sandbox)).toBeLessThan(0.35);
      await sandbox.kill(ENDED);
    });

    skipped('that spins is killed with its children at once, and the run rejects with the reason', async () => {
      const bundleDir = await makeBundle(dir.path, {
        'h.mjs': "import { spawn } from 'node:child_process'; import { mkdirSync, writeFileSync } from 'node:fs'; export function handler(e, c) { const child = spawn('sleep', ['300'], { stdio: 'ignore' }); child.on('error', () => {}); writeFileSync(c.output('spins'), 'x'); for (;;); }",
        'h.py': "import subprocess\ndef handler(e, c):\n    subprocess.Popen(['sleep', '300'])\n    open(c.output('spins'), 'w').write('x')\n    while True: pass\n",
      });
      const sandbox = await born(way, specOf(runtime, isNode ? 'h.mjs' : 'h.py', { bundleDir }));
      await sandbox.ready;
      const outputDir = join(sandbox.outputsDir, String(++runs));
      const running = sandbox.run(runOf(sandbox, {}, { outputDir }));
      running.catch(() => {});
      await vi.waitFor(() => expect(existsSync(join(outputDir, 'spins'))).toBe(true), { timeout: 20_000, interval: 20 });
      const marked = processesOf(sandbox);
      expect(marked.length).toBeGreaterThan(0);
      const reason = new MetronomeError('FUNCTION_TIMEOUT', 'too long');
      await sandbox.kill(reason);
      await expect(running).rejects.toBe(reason);
      // SIGKILL was sent to all; the kernel may take a moment for those that are not its children.
      await vi.waitFor(() => expect(marked.filter(lives)).toEqual([]), { timeout: 2_000, interval: 10 });
    });

    skipped('that answers with more than is allowed, or with garbage, harms nobody', async () => {
      const large = await born(way, specOf(runtime, isNode ? 'hello.mjs#echo' : 'hello.py#echo', { maxResultBytes: 1000 }));
      await large.ready;
      await expect(large.run(runOf(large, 'x'.repeat(2000)))).rejects.toMatchObject({ code: 'RESULT_TOO_LARGE' });
      expect(await call(large, 1)).toBe(1);
      await large.kill(ENDED);
      const garbage = await born(way, specOf(runtime, isNode ? 'hello.mjs#writesGarbage' : 'hello.py#writes_garbage'));
      await garbage.ready;
      await expect(garbage.run(runOf(garbage))).rejects.toMatchObject({ code: expect.stringMatching(/SANDBOX_FAILED|FUNCTION_CRASHED/) });
      await garbage.gone;
    });
  });

  describe('a Node zygote', () => {
    const handler = `
      import { createRequire } from 'node:module';
      import { name as common } from 'common';
      import { name as modern } from 'modern';
      import { name as dual } from '@scope/dual';
      const require = createRequire(import.meta.url);
      export const handler = () => ({ names: [common, modern, dual, require('@scope/dual').name], evaluated: globalThis.evaluated });`;
    let layer: PackageLayer;
    let bundleDir: string;
    beforeAll(async () => {
      layer = await makeLayer(dir.path, 'node', 'layer-a', NODE_PACKAGES);
      bundleDir = await makeBundle(dir.path, { 'h.mjs': handler }, layer);
    });

    skipped('has imported the direct packages, in both ways, and leaves out what cannot be imported', async () => {
      const zygote = zygoteOf('node', { layer });
      await zygote.ready;
      expect([...zygote.importMs.keys()].sort()).toEqual(['@scope/dual@1.0.0', 'common@1.0.0', 'modern@1.0.0']);
      expect(zygote.rssBytes).toBeGreaterThan(10 * 1024 ** 2);
      const sandbox = zygote.specialise(specOf('node', 'h.mjs', { bundleDir, layer }));
      expect(zygote.isAlive).toBe(false);
      await zygote.gone;
      await sandbox.ready;
      expect(await call(sandbox)).toEqual({ names: ['common', 'modern', 'dual', 'dual'], evaluated: { common: 1, deep: 1, modern: 1, 'dual-import': 1, 'dual-require': 1 } });
      expect(() => zygote.specialise(specOf('node', 'h.mjs', { bundleDir, layer }))).toThrow('cannot serve');
      await sandbox.kill(ENDED);
    });

    skipped('serves a function that has more packages, which takes the loaded copies of those that are the same', async () => {
      const zygote = zygoteOf('node', { layer });
      await zygote.ready;
      const extra = { files: { 'package.json': '{"name":"extra"}', 'index.js': "exports.common = require('common');" } };
      const wider = await makeLayer(dir.path, 'node', 'layer-b', { ...NODE_PACKAGES, extra });
      const wide = await makeBundle(dir.path, { 'h.mjs': `import extra from 'extra'; ${handler.replace('names:', 'same: extra.common.name, names:')}` }, wider);
      const spec = specOf('node', 'h.mjs', { bundleDir: wide, layer: wider });
      expect(zygote.canServe(spec)).toBe(!zygote.traits.needsSameLayer);
      if (!zygote.traits.needsSameLayer) {
        const sandbox = zygote.specialise(spec);
        await sandbox.ready;
        expect(await call(sandbox)).toEqual({ same: 'common', names: ['common', 'modern', 'dual', 'dual'], evaluated: { common: 1, deep: 1, modern: 1, 'dual-import': 1, 'dual-require': 1 } });
        await sandbox.kill(ENDED);
      }
      await zygote.kill(ENDED);
    });

    skipped('refuses functions that it would be wrong for', async () => {
      const zygote = zygoteOf('node', { layer });
      expect(zygote.canServe(specOf('node', 'h.mjs', { bundleDir, layer }))).toBe(false); // not ready
      await zygote.ready;
      const other = await makeLayer(dir.path, 'node', 'layer-c', { ...NODE_PACKAGES, common: { ...NODE_PACKAGES.common, subtree: 'another version' } });
      expect(zygote.canServe(specOf('node', 'h.mjs', { bundleDir, layer }))).toBe(true);
      expect(zygote.canServe(specOf('node', 'h.mjs', { layer: other }))).toBe(false);
      expect(zygote.canServe(specOf('node', 'h.mjs', { layer: { ...layer, dir: `${layer.dir}-anew` } }))).toBe(false);
      expect(zygote.canServe(specOf('node', 'h.mjs', { layer: undefined }))).toBe(false);
      expect(zygote.canServe(specOf('node', 'h.mjs', { layer, memoryMb: 512 }))).toBe(false);
      expect(zygote.canServe(specOf('node', 'h.mjs', { layer, env: { NODE_OPTIONS: '--stack-trace-limit=1' } }))).toBe(false);
      expect(zygote.canServe(specOf('python3', 'h.py', { layer }))).toBe(false);
      await zygote.kill(ENDED);
      expect(zygote.canServe(specOf('node', 'h.mjs', { bundleDir, layer }))).toBe(false);
    });

    skipped('of a package that ends its process says so', async () => {
      const quits = await makeLayer(dir.path, 'node', 'layer-q', { quits: { files: { 'package.json': '{"name":"quits"}', 'index.js': "console.error('not today'); process.exit(7);" } } });
      const zygote = zygoteOf('node', { layer: quits });
      await expect(zygote.ready).rejects.toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringMatching(/quits@1\.0\.0[\s\S]*exit code 7[\s\S]*not today/) });
      await zygote.gone;
    });
  });

  describe('a Python zygote', () => {
    const files = { 'h.py': 'import os, random, counted\ndef handler(e, c):\n    return {"count": counted.count, "pid": os.getpid(), "sid": os.getsid(0), "random": random.random(), "bits": os.urandom(4).hex()}\ndef exits(e, c):\n    os._exit(6)\n' };
    let layer: PackageLayer;
    let bundleDir: string;
    beforeAll(async () => {
      layer = await makeLayer(dir.path, 'python3', 'py-a', {
        'counted-package': { files: { 'counted.py': 'import os\ncount = 1\npid = os.getpid()\n', 'counted_package-1.0.0.dist-info/top_level.txt': 'counted\n', 'counted_package-1.0.0.dist-info/METADATA': 'Metadata-Version: 2.1\nName: counted-package\nVersion: 1.0.0\n' } },
        threaded: { files: { 'threaded.py': 'import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n' } },
        failing: { files: { 'failing.py': 'raise RuntimeError("not here")\n' } },
      });
      bundleDir = await makeBundle(dir.path, files, layer);
    });

    skipped('forks sandboxes that share what it imported, in sessions of their own, with random numbers of their own', async () => {
      const zygote = zygoteOf('python3', { layer });
      await zygote.ready;
      expect([...zygote.importMs.keys()]).toEqual(['counted-package@1.0.0']);
      const spec = specOf('python3', 'h.py', { bundleDir, layer });
      const sandboxes = Array.from({ length: 3 }, () => zygote.specialise(spec));
      await Promise.all(sandboxes.map(({ ready }) => ready));
      const told = (await Promise.all(sandboxes.map((sandbox) => call(sandbox)))) as { count: number; pid: number; sid: number; random: number }[];
      expect(new Set(told.map(({ random }) => random)).size).toBe(3);
      for (const { count, pid, sid } of told) expect({ count, sid }).toEqual({ count: 1, sid: pid });
      // One that crashes or is killed is no concern of the others.
      await sandboxes[0]?.kill(ENDED);
      const crashing = zygote.specialise(specOf('python3', 'h.py#exits', { bundleDir, layer }));
      await crashing.ready;
      await expect(crashing.run(runOf(crashing))).rejects.toMatchObject({ code: 'FUNCTION_CRASHED', message: expect.stringContaining('exit code 6') });
      expect(await call(sandboxes[1] as Sandbox)).toMatchObject({ count: 1 });
      // Told to end, it stays until its last child has ended.
      let isGone = false;
      const ending = zygote.kill(ENDED).then(() => (isGone = true));
      expect(zygote.isAlive).toBe(false);
      expect(await call(sandboxes[2] as Sandbox)).toMatchObject({ count: 1 });
      expect(isGone).toBe(false);
      await sandboxes[1]?.kill(ENDED);
      await sandboxes[2]?.kill(ENDED);
      await ending;
    });

    skipped('that dies takes its sandboxes along, with an error for what they ran', async () => {
      const zygote = zygoteOf('python3');
      await zygote.ready;
      const sandbox = zygote.specialise(specOf('python3', 'hello.py#spins'));
      await sandbox.ready;
      const running = sandbox.run(runOf(sandbox));
      running.catch(() => {});
      for (const pid of recordedPids(join(dir.path, 'sandboxes'), zygote.id)) process.kill(pid, 'SIGKILL');
      await expect(running).rejects.toMatchObject({ code: 'FUNCTION_CRASHED' });
      await Promise.all([zygote.gone, sandbox.gone]);
    });
  });

  skipped('left by a driver that was killed with -9 ends, and the next one cleans up', async () => {
    await using orphans = await tempDir();
    const child = spawn(process.execPath, [ORPHANS, name, orphans.path], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    const pids = JSON.parse(line) as number[];
    expect(pids.length).toBeGreaterThan(4);
    expect(pids.filter((pid) => !lives(pid))).toEqual([]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const next = await openDriver(name, orphans.path);
    await vi.waitFor(() => expect(pids.filter(lives)).toEqual([]), 5_000);
    expect(readdirSync(orphans.path)).toEqual([]);
    await next.close();
  });

  function processesOf(sandbox: Sandbox): number[] {
    return recordedPids(join(dir.path, 'sandboxes'), sandbox.id.slice(3));
  }
});

/** Pids that were written down for private directories whose name holds a text, with all that descends from them. */
function recordedPids(root: string, holding: string): number[] {
  const found: number[] = [];
  for (const entry of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!entry.includes(holding) || !entry.endsWith('process.json')) continue;
    const { pid } = JSON.parse(readFileSync(join(root, entry), 'utf8')) as { pid: number };
    for (const queue = [pid]; queue.length > 0; ) {
      const next = queue.pop() as number;
      found.push(next);
      for (const task of readdirSync(`/proc/${next}/task`)) queue.push(...readFileSync(`/proc/${next}/task/${task}/children`, 'latin1').split(' ').filter((each) => each !== '').map(Number));
    }
  }
  return found;
}
