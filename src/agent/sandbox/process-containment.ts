/**
 * The isolation `process`: a process in a session of its own, with a clean environment, a private working directory and limits. Needs
 * no privileges. It isolates crashes, hangs, memory and output; it does not hide the file system or the network (bubblewrap does).
 *
 * A sandbox dies with its agent: setpriv --pdeathsig where util-linux has it, and the end of the control socket everywhere.
 * What survives even that (children of a function after kill -9 of the agent) is found by the next agent's sweep.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stdioOf, type Containment, type LaunchPlan, type ProcessEnd } from './containment.ts';
import { descendantsOf, killNow, processesWithEnvironment } from './proc.ts';

/** Open files of a process. Node raises its soft limit to the hard one, so both are set. */
export const MAX_OPEN_FILES = 4_096;

/** Makes the containment. `maxFileBytes`: the largest file that a function may write. */
export function createProcessContainment(maxFileBytes: number): Containment {
  const setpriv = findExecutable('setpriv');
  const bound = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL'];
  const script = `${limitsScript(maxFileBytes)}; exec "$@"`;
  return {
    isolation: 'process',
    passesEnvironment: true,
    zygoteTraits: (runtime) => ({ isConsumed: runtime === 'node', isPerFunction: false, needsSameLayer: false }),
    places(root, id) {
      const dir = join(root, id);
      const workDir = join(dir, 'work');
      return { dir, inputsDir: join(dir, 'in'), outputsDir: join(dir, 'out'), homeDir: workDir, tmpDir: workDir };
    },
    prepare: ({ homeDir }) => void mkdirSync(homeDir, { recursive: true }),
    launch({ places, interpreter, args, env, channel }: LaunchPlan): ChildProcess {
      // detached: a session and process group of its own, so that one signal reaches all its children. exec: the pid stays that of the session's leader.
      return spawn('/bin/sh', ['-c', script, 'sh', ...bound, interpreter, ...args], { cwd: places.homeDir, env, detached: true, stdio: stdioOf(channel) });
    },
    stageCode: (_places, bundleDir) => bundleDir,
    limit: () => undefined,
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
      // Children that left its session have lost their parent by now: only the marker finds them.
      if (isThorough) for (const left of processesWithEnvironment(`METRONOME_SANDBOX=${dir}\0`)) killNow(left);
    },
    ranOutOfMemory: () => false,
    remove: ({ dir }) => rm(dir, { recursive: true, force: true, maxRetries: 3 }),
    sweep: async () => {},
    close: async () => {},
  };
}

/**
 * Shell commands that set limits: no core files (a function that aborts would fill the disk), open files, size of one file. A file
 * that grows too large is an error of the write (EFBIG), not a signal that kills. The number of processes is not limited here: that limit
 * counts all processes of the agent's user. Nor is the address space: V8 reserves terabytes; Python's data segment is limited by its shim.
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
