import { mkdir, readFile, readdir, realpath, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { processesWithEnvironment } from '../../src/agent/sandbox/proc.ts';
import { createClient } from '../../src/rpc/client.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { run, runAsProcess, start } from './run.ts';
import { processesOf, useUps } from './up-process.ts';

const HELLO = fileURLToPath(new URL('../../apps/hello', import.meta.url));
const { dir, follow, startUp } = useUps();

const exists = (path: string): Promise<boolean> => stat(path).then(() => true, () => false);

async function readyNodes(address: string): Promise<number> {
  const client = createClient({ address, channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  try {
    const { nodes } = await client.listNodes({}, { timeoutMs: 2_000 });
    return nodes.filter((node) => node.status === NodeStatus.READY).length;
  } finally {
    client.close();
  }
}

describe('metronome up', () => {
  it('brings up three nodes, runs functions, outlives the death of its parts, and leaves nothing behind after Ctrl-C', async () => {
    const { up, addresses } = await startUp('--record', 'recordings');
    expect(addresses.nodes).toEqual(['node-1', 'node-2', 'node-3']);
    expect(addresses.pids).toHaveLength(5);
    expect(await exists(addresses.dataDir)).toBe(true);
    const at = ['--scheduler', addresses.grpcAddress];
    expect(await readyNodes(addresses.grpcAddress)).toBe(3);

    expect(await run(['function', 'apply', '-f', HELLO, ...at])).toMatchObject({ code: 0, err: expect.stringContaining('function hello-node: changed') });
    expect(await run(['function', 'apply', '-f', HELLO, ...at])).toMatchObject({ code: 0, err: expect.stringContaining('function hello-node: unchanged') });
    const invoked = await run(['invoke', 'hello-node', '--data', '{"name":"Ada"}', ...at]);
    expect(invoked).toMatchObject({ code: 0, out: expect.stringContaining('Ada') });
    expect(invoked.err).toMatch(/node-\d · .*ran .* ms/);
    const overHttp = await fetch(`${addresses.httpUrl}/run/hello-node`, { method: 'POST', body: '{"name":"Bob"}', headers: { 'content-type': 'application/json' } });
    expect(await overHttp.text()).toContain('Bob');
    const burst = await run(['invoke', 'noop', '-n', '50', '--concurrency', '4', '-o', 'json', ...at]);
    expect(JSON.parse(burst.out)).toMatchObject({ succeeded: 50, failed: 0 });

    const [, scheduler = 0, agent = 0] = addresses.pids;
    process.kill(agent, 'SIGKILL');
    await vi.waitFor(() => expect(up.err()).toMatch(/warning node-1 died: it was killed by SIGKILL[\s\S]*node-1 runs again/), { timeout: 20_000 });
    await vi.waitFor(async () => expect(await readyNodes(addresses.grpcAddress)).toBe(3), { timeout: 20_000 });

    process.kill(scheduler, 'SIGKILL');
    await vi.waitFor(() => expect(up.err()).toMatch(/scheduler runs again/), { timeout: 20_000 });
    await vi.waitFor(async () => expect(await readyNodes(addresses.grpcAddress)).toBe(3), { timeout: 20_000 });
    // The registry survived, at the same address.
    expect(await run(['invoke', 'hello-node', '--data', '{"name":"Eve"}', ...at])).toMatchObject({ code: 0, out: expect.stringContaining('Eve') });

    up.child.kill('SIGINT');
    // npm passes a Ctrl-C on that the terminal has sent already: it is the same one.
    up.child.kill('SIGINT');
    const ended = await up.ended;
    expect(ended).toMatchObject({ code: 0, signal: null });
    expect(ended.err).toMatch(/Ctrl-C: draining[\s\S]*Ended in order/);
    expect(await exists(addresses.dataDir)).toBe(false);
    expect(await processesOf(addresses.dataDir)).toEqual([]);
    // One recording for each life of the scheduler; the newest is replayed.
    expect(await readdir(join(dir(), 'recordings'))).toHaveLength(2);
    expect(await run(['replay', join(dir(), 'recordings')])).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+ decisions reproduced/), err: expect.stringContaining('the newest of 2 recordings') });
  }, 120_000);

  it('runs the demo on real logs, checks its results, and stays up until it is stopped', async () => {
    const up = start(['up', '--demo', '--grpc-port', '0', '--http-port', '0', '--nodes', '2', '--memory', '1GiB', '--demo-runs', '3', '--demo-log-bytes', '300KiB'], { cwd: dir() });
    follow(up);
    await vi.waitFor(() => expect(up.err()).toMatch(/Ctrl-C drains and ends it|error/), { timeout: 90_000, interval: 100 });
    expect(up.err()).toContain('results checked: all 3 agree');
    expect(up.out()).toMatch(/RUN +INVOCATION +STEP +FUNCTION +NODE +LOCALITY +WAITED FOR +QUEUED +DELAYED +FETCHED +INIT +RAN +START +RESULT/);
    // split, four parts, merge, three times.
    expect(up.out().match(/^ +\d +inv-\S+ .* ok$/gm)).toHaveLength(18);
    // The command that it shows works as it stands.
    const curl = /^ {2}(curl .*)$/m.exec(up.out())?.[1] ?? '';
    const { execFile } = await import('node:child_process');
    const result = await new Promise<string>((resolve, reject) => {
      execFile('bash', ['-c', curl], (error, stdout) => (error ? reject(error) : resolve(stdout)));
    });
    expect(JSON.parse(result)).toMatchObject({ parts: 4, malformed: 0 });
    up.child.kill('SIGINT');
    expect(await up.ended).toMatchObject({ code: 0 });
  }, 150_000);

  it('lets what runs end when it is asked to stop, and keeps a data folder that was named', async () => {
    const data = join(dir(), 'kept');
    const { up, addresses } = await startUp('--nodes', '1', '--data-dir', data);
    const at = ['--scheduler', addresses.grpcAddress];
    await deploySleeper(at);
    const invoked = run(['invoke', 'sleeper', '--data', '1500', ...at]);
    await vi.waitFor(async () => expect((await run(['invocation', 'list', '--state', 'dispatched', '-o', 'json', ...at])).out).toContain('sleeper'), { timeout: 10_000 });
    up.child.kill('SIGTERM');
    expect(await invoked).toMatchObject({ code: 0, out: '"slept 1500"\n' });
    expect(await up.ended).toMatchObject({ code: 0 });
    expect(await processesOf(data)).toEqual([]);
    expect((await readdir(data)).sort()).toEqual(expect.arrayContaining(['logs', 'node-1', 'scheduler']));
    // Started again on the same folder it still knows what was deployed.
    const again = await startUp('--nodes', '1', '--data-dir', data);
    expect((await run(['function', 'list', '-o', 'json', '--scheduler', again.addresses.grpcAddress])).out).toContain('sleeper');
    again.up.child.kill('SIGTERM');
    expect(await again.up.ended).toMatchObject({ code: 0 });
  }, 120_000);

  it('kills everything at the second Ctrl-C, also a function that never returns', async () => {
    const { up, addresses } = await startUp('--nodes', '1');
    const at = ['--scheduler', addresses.grpcAddress];
    await deploySleeper(at);
    const invoked = run(['invoke', 'sleeper', '--data', '-1', ...at]);
    await vi.waitFor(async () => expect((await run(['invocation', 'list', '--state', 'dispatched', '-o', 'json', ...at])).out).toContain('sleeper'), { timeout: 10_000 });
    // Scheduler, agent and the sandbox: the search below would see it.
    await vi.waitFor(async () => expect((await processesOf(addresses.dataDir)).length).toBeGreaterThanOrEqual(3), { timeout: 10_000 });
    up.child.kill('SIGINT');
    await vi.waitFor(() => expect(up.err()).toContain('draining'));
    // Not the same Ctrl-C any more.
    await new Promise((resolve) => setTimeout(resolve, 700));
    up.child.kill('SIGINT');
    expect(await up.ended).toMatchObject({ code: 130 });
    expect((await invoked).code).toBe(6);
    await vi.waitFor(async () => expect(await processesOf(addresses.dataDir)).toEqual([]), { timeout: 10_000 });
    expect(await exists(addresses.dataDir)).toBe(false);
  }, 120_000);

  it('kills what functions started also when its data folder was named by a link', async () => {
    await mkdir(join(dir(), 'behind'));
    await symlink('behind', join(dir(), 'link'));
    const { up, addresses } = await startUp('--nodes', '1', '--data-dir', 'link');
    const at = ['--scheduler', addresses.grpcAddress];
    // A process of its own session, which does not end with its maker.
    await deploy(at, 'parent', "import { spawn } from 'node:child_process';\nexport const handler = () => { spawn('sleep', ['301'], { detached: true, stdio: 'ignore' }).unref(); for (;;); };\n");
    const invoked = run(['invoke', 'parent', ...at]);
    const folder = await realpath(join(dir(), 'behind'));
    const sandboxes = (): number[] => processesWithEnvironment(`METRONOME_SANDBOX=${folder}/`);
    await vi.waitFor(async () => expect(await Promise.all(sandboxes().map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))).toContain(['sleep', '301', ''].join('\0')), { timeout: 20_000 });
    up.child.kill('SIGINT');
    await vi.waitFor(() => expect(up.err()).toContain('draining'), { timeout: 20_000 });
    // Not the same Ctrl-C any more.
    await new Promise((resolve) => setTimeout(resolve, 700));
    up.child.kill('SIGINT');
    expect(await up.ended).toMatchObject({ code: 130 });
    await invoked;
    const left = sandboxes();
    for (const pid of left) process.kill(pid, 'SIGKILL');
    expect(left).toEqual([]);
  }, 120_000);

  it('leaves no process when it is killed itself, and the next one removes its folder', async () => {
    const { up, addresses } = await startUp('--nodes', '2');
    const at = ['--scheduler', addresses.grpcAddress];
    await run(['function', 'apply', '-f', HELLO, ...at]);
    expect((await run(['invoke', 'hello-node', ...at])).code).toBe(0);
    up.child.kill('SIGKILL');
    await up.ended;
    await vi.waitFor(async () => expect(await processesOf(addresses.dataDir)).toEqual([]), { timeout: 15_000, interval: 200 });
    const next = await startUp('--nodes', '1');
    expect(await exists(addresses.dataDir)).toBe(false);
    next.up.child.kill('SIGINT');
    expect(await next.up.ended).toMatchObject({ code: 0 });
  }, 120_000);

  it('gives up with 1 when the scheduler dies again and again', async () => {
    const { up, addresses } = await startUp('--nodes', '1');
    let deaths = 0;
    const killScheduler = async (): Promise<void> => {
      const [pid] = (await processesOf(addresses.dataDir)).filter((line) => line.includes(' scheduler ')).map((line) => Number(line.split(' ')[0]));
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    };
    for (; deaths < 5; deaths++) {
      await vi.waitFor(() => expect(up.err().match(/scheduler runs again/g) ?? []).toHaveLength(deaths), { timeout: 20_000 });
      await killScheduler();
    }
    const ended = await up.ended;
    expect(ended.code).toBe(1);
    expect(ended.err).toMatch(/scheduler cannot run: it was killed by SIGKILL, the 5th time/);
    expect(await processesOf(addresses.dataDir)).toEqual([]);
    expect(await exists(addresses.dataDir)).toBe(false);
  }, 120_000);

  it('names the port that is taken, ends with 4 and leaves nothing', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number }; // it listens on TCP
    try {
      const data = join(dir(), 'taken');
      const ran = await runAsProcess(['up', '--grpc-port', String(port), '--http-port', '0', '--data-dir', data]);
      expect(ran).toMatchObject({ code: 4, out: '' });
      expect(ran.err).toMatch(new RegExp(`PORT_IN_USE: .*127\\.0\\.0\\.1:${port}`));
      expect(await processesOf(data)).toEqual([]);
    } finally {
      server.close();
    }
  }, 60_000);

  it('refuses a data folder that another one uses', async () => {
    const data = join(dir(), 'shared');
    const first = await startUp('--nodes', '1', '--data-dir', data);
    const ran = await runAsProcess(['up', '--grpc-port', '0', '--http-port', '0', '--data-dir', data]);
    expect(ran.code).toBe(4);
    expect(ran.err).toContain('STATE_LOCKED');
    first.up.child.kill('SIGTERM');
    expect(await first.up.ended).toMatchObject({ code: 0 });
  }, 60_000);
});

function deploySleeper(at: readonly string[]): Promise<void> {
  return deploy(at, 'sleeper', 'export const handler = (ms) => { while (ms < 0); return new Promise((resolve) => setTimeout(() => resolve(`slept ${ms}`), ms)); };\n');
}

async function deploy(at: readonly string[], name: string, code: string): Promise<void> {
  const folder = join(dir(), name);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'handler.mjs'), code);
  await writeFile(join(folder, 'metronome.yaml'), `apiVersion: metronome/v1\nkind: Function\nmetadata: { name: ${name} }\nspec: { runtime: node, handler: handler.mjs, timeout: 2m, memory: 64MiB }\n`);
  expect(await run(['function', 'apply', '-f', folder, ...at])).toMatchObject({ code: 0 });
}
