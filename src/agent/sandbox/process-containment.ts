/**
 * The isolation `process`: a process in a session of its own, with a clean environment, a private working directory and limits. Needs
 * no privileges. It isolates crashes, hangs, memory and output; it does not hide the file system or the network (bubblewrap does). With
 * control groups the kernel holds each to the memory, CPU and number of processes of its function, too.
 *
 * A sandbox dies with its agent: setpriv --pdeathsig where util-linux has it, and the end of the control socket everywhere.
 * What survives even that (children of a function after kill -9 of the agent) is found by the next agent's sweep.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { joinScript, limitsSizes, sandboxLimits, type Cgroup, type Cgroups } from './cgroups.ts';
import { stdioOf, type Containment, type LaunchPlan, type ProcessEnd } from './containment.ts';
import { descendantsOf, killNow, processesWithEnvironment } from './proc.ts';

/** Open files of a process. Node raises its soft limit to the hard one, so both are set. */
export const MAX_OPEN_FILES = 4_096;

/** Makes the containment. `maxFileBytes`: the largest file that a function may write; `cgroups`: undefined for no limits by the kernel. */
export function createProcessContainment(maxFileBytes: number, cgroups?: Cgroups): Containment {
  const setpriv = findExecutable('setpriv');
  const bound = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL'];
  const script = `${limitsScript(maxFileBytes)}; exec "$@"`;
  /** By private directory. */
  const groups = new Map<string, Cgroup>();
  const groupIn = (dir: string): Cgroup | undefined => {
    const made = cgroups?.create(basename(dir));
    if (made !== undefined) groups.set(dir, made);
    return made;
  };
  return {
    isolation: 'process',
    passesEnvironment: true,
    isLimited: limitsSizes(cgroups),
    zygoteTraits: (runtime) => ({ isConsumed: runtime === 'node', isPerFunction: false, needsSameLayer: false }),
    places(root, id) {
      const dir = join(root, id);
      const workDir = join(dir, 'work');
      return { dir, inputsDir: join(dir, 'in'), outputsDir: join(dir, 'out'), homeDir: workDir, tmpDir: workDir };
    },
    prepare: ({ homeDir }) => void mkdirSync(homeDir, { recursive: true }),
    launch({ places, interpreter, args, env, channel, memoryMb, cpu }: LaunchPlan): ChildProcess {
      const group = groupIn(places.dir);
      group?.limit(sandboxLimits(memoryMb, cpu));
      // detached: a session and process group of its own, so that one signal reaches all its children. exec: the pid stays that of the session's leader.
      return spawn('/bin/sh', ['-c', `${joinScript(group)}${script}`, 'sh', ...bound, interpreter, ...args], { cwd: places.homeDir, env, detached: true, stdio: stdioOf(channel) });
    },
    stageCode: (_places, bundleDir) => bundleDir,
    limit({ dir }, pid, { memoryMb, cpu }) {
      const here = groups.get(dir);
      // A child of a fork server begins in the server's group.
      const group = here ?? groupIn(dir);
      group?.limit(sandboxLimits(memoryMb, cpu));
      return here === undefined ? group?.add(pid) : undefined;
    },
    endOf: (end: ProcessEnd) => end,
    outerPid: (_serverPid, pid) => pid,
    memoryPid: (pid) => pid,
    kill(pid) {
      for (const child of descendantsOf(pid)) killNow(child);
      killNow(-pid);
      killNow(pid);
    },
    killRemains(pid, { dir }, isThorough) {
      killNow(-pid);
      const group = groups.get(dir);
      if (group !== undefined) group.kill();
      // Children that left its session have lost their parent by now: without a group only the marker finds them.
      else if (isThorough) for (const left of processesWithEnvironment(`METRONOME_SANDBOX=${dir}\0`)) killNow(left);
    },
    ranOutOfMemory: ({ dir }) => (groups.get(dir)?.oomKills() ?? 0) > 0,
    async remove({ dir }) {
      const group = groups.get(dir);
      groups.delete(dir);
      await Promise.all([group?.remove(), rm(dir, { recursive: true, force: true, maxRetries: 3 })]);
    },
    sweep: async () => cgroups?.sweep(),
    close: async () => cgroups?.close(),
  };
}

/**
 * Shell commands that set limits: no core files (a function that aborts would fill the disk), open files, size of one file. A file
 * that grows too large is an error of the write (EFBIG), not a signal that kills. The number of processes is not limited here: this way
 * all processes of the agent's user would count. Nor is the address space: V8 reserves terabytes; Python's data segment is limited by its shim.
 */
export function limitsScript(maxFileBytes: number): string {
  // ulimit counts files in blocks of 512 bytes. Where the hard limit is lower already, it stays.
  return `trap '' XFSZ; ulimit -c 0; ulimit -n ${MAX_OPEN_FILES} 2>/dev/null; ulimit -f ${Math.ceil(maxFileBytes / 512)} 2>/dev/null`;
}

/** The path of a program on the PATH, or undefined. */
export function findExecutable(name: string, searchPath = process.env['PATH'] ?? '/usr/bin:/bin'): string | undefined {
  for (const folder of searchPath.split(':')) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}
