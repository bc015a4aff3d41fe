/** The choice of isolation: by the agent's configuration, and by each function. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, rmdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { ownCgroups } from '../../src/agent/own-cgroups.ts';
import { limitsSizes, openCgroups } from '../../src/agent/sandbox/cgroups.ts';
import { groupName, ownerOfGroup } from '../../src/agent/sandbox/group-name.ts';
import { seccompFilter } from '../../src/agent/sandbox/seccomp.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { bubblewrapMissing, limitsMissing } from './drivers.ts';
import { defineFunction, json, putObject, tempDir, testAgent } from './harness.ts';

const isolated = describe.skipIf(bubblewrapMissing !== undefined);

/** Of all processes, as anybody can read them. */
function commandLines(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      return [readFileSync(`/proc/${pid}/cmdline`, 'latin1')];
    } catch {
      return []; // it ended
    }
  });
}

isolated('an agent', () => {
  it('gives a function the isolation that it asks for, and its own default to the others', async () => {
    for (const [choice, byDefault] of [['process', 'process'], ['auto', 'bubblewrap'], ['bubblewrap', 'bubblewrap']] as const) {
      await using node = await testAgent({ isolation: choice });
      for (const isolation of ['', 'process', 'bubblewrap']) {
        const wanted = isolation === '' ? byDefault : isolation;
        const { result } = await node.client.run(await defineFunction('hello.mjs#environment', { name: `f${isolation}`, isolation }));
        // An operator who wants nothing but isolated functions is not overruled by a manifest.
        if (choice === 'bubblewrap' && isolation === 'process') expect(result.error).toMatchObject({ code: 'SANDBOX_FAILED', message: expect.stringContaining('no isolation "process"') });
        else expect((json(result) as Record<string, string>)['HOME'] === '/tmp', `${choice}, ${isolation}`).toBe(wanted === 'bubblewrap');
      }
    }
  });

  it('that demands it says at its start why it cannot be had', async () => {
    vi.stubEnv('PATH', '/nowhere');
    await expect(testAgent({ isolation: 'bubblewrap' })).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringMatching(/bubblewrap is not installed.*apt-get install/) });
    vi.unstubAllEnvs();
  });

  it('shows nobody on the machine what a function has in its environment, and gives it the function to the letter', async () => {
    const secret = `it's "$HOME" \\ \n ${randomUUID()}`;
    const part = secret.slice(-36);
    await using node = await testAgent({ isolation: 'bubblewrap' });
    for (const handler of ['hello.mjs#environment', 'hello.py#environment']) {
      // Read by the runtimes at their start, so that it has to be there before any channel is.
      const { result } = await node.client.run(await defineFunction(handler, { env: { NODE_SECRET: secret, PYTHON_SECRET: secret, LC_SECRET: secret, PLAIN: secret } }));
      expect(json(result)).toMatchObject({ NODE_SECRET: secret, PYTHON_SECRET: secret, LC_SECRET: secret, PLAIN: secret });
      // Its sandbox is warm, and so is what started it.
      expect(commandLines().some((line) => line.includes('bwrap'))).toBe(true);
      expect(commandLines().filter((line) => line.includes(part))).toEqual([]);
    }
  });

  it('runs isolated functions as all others: warm, with inputs and outputs as objects, with the phases of a start', async () => {
    await using node = await testAgent({ isolation: 'bubblewrap' });
    const object = await putObject(node.agent.dataUrl, 'in.txt', 'some text');
    for (const handler of ['hello.mjs#upper', 'hello.py#count']) {
      const definition = await defineFunction(handler);
      const first = await node.client.run(definition, {}, { inputs: [object] });
      json(first.result);
      expect(first.result.startedMs).toBeGreaterThan(0);
      expect(first.result.loadedMs).toBeGreaterThan(0);
      expect(first.result.startedMs + first.result.loadedMs).toBeLessThanOrEqual(first.result.initialisedMs + 1);
      const second = await node.client.run(definition, {}, { inputs: [object] });
      expect(second.result).toMatchObject({ startState: StartState.WARM, startedMs: 0, loadedMs: 0 });
      for (const output of second.result.outputs) expect(await (await fetch(`${node.agent.dataUrl}/objects/${output.id}`)).text()).toMatch(/^(SOME TEXT|9|1)$/);
      expect(second.result.outputs.length).toBeGreaterThan(0);
    }
  });
});

describe('control groups', () => {
  it('of version 1 are joined below the agent\'s own, limited, and removed', async () => {
    const groups = openCgroups(`metronome-unit-${process.pid}`);
    if (groups === undefined || groups.version !== 1) return; // this machine has none that may be written
    const group = groups.create('one');
    group.limit({ memoryBytes: 64 * 1024 ** 2, cpu: 0.5, pids: 20 });
    const fileOf = (controller: string, file: string): string => readFileSync(join(group.joinFiles[groups.controllers.indexOf(controller as 'memory')] ?? '', '..', file), 'utf8').trim();
    if (groups.controllers.includes('memory')) expect(fileOf('memory', 'memory.limit_in_bytes')).toBe(String(64 * 1024 ** 2));
    if (groups.controllers.includes('cpu')) expect(fileOf('cpu', 'cpu.cfs_quota_us')).toBe('10000');
    if (groups.controllers.includes('pids')) expect(fileOf('pids', 'pids.max')).toBe('20');
    expect(group.oomKills()).toBe(0);
    await group.remove();
    await groups.close();
    expect(() => fileOf(groups.controllers[0] ?? '', 'cgroup.procs')).toThrow();
  });

  it('of version 2 get their controllers handed on, and limits in their files', async () => {
    await using root = await tempDir();
    const own = join(root.path, 'sys/fs/cgroup/system.slice/agent.service');
    const write = async (path: string, text: string): Promise<void> => {
      await mkdir(join(path, '..'), { recursive: true });
      await writeFile(path, text);
    };
    await write(join(root.path, 'proc/self/cgroup'), '0::/system.slice/agent.service\n');
    await write(join(root.path, 'proc/self/mountinfo'), '31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n');
    await write(join(own, 'cgroup.controllers'), 'cpuset cpu io memory pids\n');
    await write(join(own, 'cgroup.subtree_control'), '');
    // The kernel makes these files in every new group; here they are put in before.
    await write(join(own, 'metronome-x/cgroup.subtree_control'), '');
    for (const file of ['memory.max', 'memory.swap.max', 'cpu.max', 'pids.max', 'cgroup.procs']) await write(join(own, 'metronome-x/one', file), '');
    await write(join(own, 'metronome-x/one/memory.events'), 'low 0\nmax 7\noom 2\noom_kill 2\n');
    const groups = openCgroups('metronome-x', { procDir: join(root.path, 'proc'), root: root.path });
    expect(groups).toMatchObject({ version: 2, controllers: ['memory', 'cpu', 'pids'] });
    expect(readFileSync(join(own, 'cgroup.subtree_control'), 'utf8')).toBe('+memory +cpu +pids');
    const group = groups?.create('one');
    group?.limit({ memoryBytes: 1024 ** 2, cpu: 1.5, pids: 0 });
    const read = (file: string): string => readFileSync(join(own, 'metronome-x/one', file), 'utf8');
    expect([read('memory.max'), read('memory.swap.max'), read('cpu.max'), read('pids.max')]).toEqual(['1048576', '0', '30000 20000', 'max']);
    expect(group?.joinFiles).toEqual([join(own, 'metronome-x/one/cgroup.procs')]);
    expect(group?.oomKills()).toBe(2);
  });

  it.skipIf(limitsMissing !== undefined)('of former agents with the same folder are ended and removed, of dead ones with another folder removed when empty, of living ones left', async () => {
    await using root = await tempDir();
    // In a group of the test's own: agents of other tests that start meanwhile sweep as well.
    await mkdir(join(root.path, 'self'));
    await writeFile(join(root.path, 'self/cgroup'), readFileSync('/proc/self/cgroup', 'utf8').trimEnd().split('\n').map((line) => `${line}/metronome-unit-${process.pid}\n`).join(''));
    await writeFile(join(root.path, 'self/mountinfo'), readFileSync('/proc/self/mountinfo'));
    const source = { procDir: root.path, root: '' };
    const ours = groupName(root.path);
    const { folder } = ownerOfGroup(ours)!;
    const ended = spawn('true');
    await once(ended, 'exit');
    const dead = `${ended.pid}-1`;
    const names = { former: `metronome-${folder}-${dead}`, deadElsewhere: `metronome-${'0'.repeat(16)}-${dead}`, busyElsewhere: `metronome-${'1'.repeat(16)}-${dead}`, living: ours.replace(folder, '2'.repeat(16)) };
    const groups = Object.entries(names).map(([key, name]) => ({ key, cgroups: openCgroups(name, source)!, group: openCgroups(name, source)!.create('sandbox') }));
    const groupOf = (key: string) => groups.find((each) => each.key === key)!.group;
    const left = spawn('sleep', ['300']), notOurs = spawn('sleep', ['300']);
    const leftEnded = once(left, 'exit');
    try {
      await groupOf('former').add(left.pid!);
      await groupOf('busyElsewhere').add(notOurs.pid!);
      await openCgroups(ours, source)!.sweep();
      await leftEnded;
      expect(groups.map(({ key, group }) => [key, existsSync(group.joinFiles[0]!)])).toEqual([['former', false], ['deadElsewhere', false], ['busyElsewhere', true], ['living', true]]);
      expect(notOurs.exitCode ?? notOurs.signalCode).toBeNull();
    } finally {
      left.kill('SIGKILL');
      const notOursEnded = once(notOurs, 'exit');
      notOurs.kill('SIGKILL');
      await notOursEnded;
      for (const { cgroups, group } of groups) {
        await group.remove();
        await cgroups.close();
      }
      const { v1, unified } = ownCgroups(join(root.path, 'self'));
      for (const folder of new Set([...v1.values(), unified ?? ''])) if (existsSync(folder)) rmdirSync(folder);
    }
  });

  it('name the agent that made them', () => {
    expect(ownerOfGroup(groupName('/somewhere'))).toMatchObject({ pid: process.pid, startTime: expect.stringMatching(/^[1-9]\d*$/), folder: expect.stringMatching(/^[0-9a-f]{16}$/) });
    expect(groupName('/somewhere')).not.toBe(groupName('/elsewhere'));
    expect(ownerOfGroup('metronome-doctor-17')).toBeUndefined();
  });

  it('hold sandboxes to their sizes only with controllers for both', () => {
    const with_ = (...controllers: ('memory' | 'cpu' | 'pids')[]) => ({ controllers }) as unknown as NonNullable<ReturnType<typeof openCgroups>>; // nothing else is looked at
    expect([limitsSizes(undefined), limitsSizes(with_('memory', 'pids')), limitsSizes(with_('cpu')), limitsSizes(with_('memory', 'cpu'))]).toEqual([false, false, false, true]);
  });

  it('are none where the agent may make none', async () => {
    await using root = await tempDir();
    expect(openCgroups('x', { procDir: root.path, root: root.path })).toBeUndefined();
  });
});

describe('the filter of system calls', () => {
  it('is there for the architectures whose numbers are known, and every jump of it stays inside', () => {
    expect(seccompFilter('riscv64')).toBeUndefined();
    for (const architecture of ['x64', 'arm64']) {
      const filter = seccompFilter(architecture) as Buffer;
      const count = filter.length / 8;
      expect(Number.isInteger(count)).toBe(true);
      for (let i = 0; i < count; i++) {
        const isJump = (filter.readUInt16LE(i * 8) & 7) === 5;
        if (isJump) for (const distance of [filter[i * 8 + 2] ?? 0, filter[i * 8 + 3] ?? 0]) expect(i + 1 + distance).toBeLessThan(count);
      }
      expect(judge(filter, architecture, architecture === 'x64' ? 0 : 63)).toBe(ALLOW); // read
      expect(judge(filter, architecture, architecture === 'x64' ? 165 : 40)).toBe(EPERM); // mount
      expect(judge(filter, architecture, architecture === 'x64' ? 101 : 117)).toBe(EPERM); // ptrace
      expect(judge(filter, architecture, 435)).toBe(ENOSYS); // clone3
      const clone = architecture === 'x64' ? 56 : 220;
      expect(judge(filter, architecture, clone, 0x0011)).toBe(ALLOW); // fork
      expect(judge(filter, architecture, clone, 0x003d0f00)).toBe(ALLOW); // thread
      expect(judge(filter, architecture, clone, 0x10000011)).toBe(EPERM); // CLONE_NEWUSER
      expect(judge(filter, architecture === 'x64' ? 'arm64' : 'x64', 0)).toBe(KILL);
    }
    expect(judge(seccompFilter('x64') as Buffer, 'x64', 0x40000000)).toBe(ENOSYS); // the x32 twins of all calls
  });
});

const ALLOW = 0x7fff0000;
const EPERM = 0x00050001;
const ENOSYS = 0x00050026;
const KILL = 0x80000000;

/** What the kernel would answer: the few instructions that the filter uses. */
function judge(filter: Buffer, architecture: string, call: number, firstArgument = 0): number {
  const record = new Map([[0, call], [4, architecture === 'x64' ? 0xc000003e : 0xc00000b7], [16, firstArgument]]);
  let accumulator = 0;
  for (let at = 0; at < filter.length / 8; at++) {
    const code = filter.readUInt16LE(at * 8);
    const [ifTrue, ifFalse] = [filter[at * 8 + 2] ?? 0, filter[at * 8 + 3] ?? 0];
    const value = filter.readUInt32LE(at * 8 + 4);
    if (code === 0x20) accumulator = record.get(value) ?? 0;
    else if (code === 0x06) return value;
    else if (code === 0x15) at += accumulator === value ? ifTrue : ifFalse;
    else if (code === 0x35) at += accumulator >= value ? ifTrue : ifFalse;
    else if (code === 0x45) at += (accumulator & value) === 0 ? ifFalse : ifTrue;
    else throw new Error(`The instruction ${code} is unknown.`);
  }
  throw new Error('The filter ends without an answer.');
}
