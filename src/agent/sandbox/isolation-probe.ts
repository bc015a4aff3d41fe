/** Finds out, by running a sandbox, whether bubblewrap works on this machine; if not, why, and what would help. */
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createBubblewrapContainment } from './bubblewrap-containment.ts';
import type { Cgroups } from './cgroups.ts';
import type { Containment } from './containment.ts';
import { killNow } from './proc.ts';
import { findExecutable } from './process-containment.ts';
import { seccompFilter } from './seccomp.ts';

/** What a machine has to offer. */
export type IsolationProbe = { readonly containment: Containment } | { readonly missing: string };

const TIMEOUT_MS = 20_000;
const INSTALL = 'Install it with: apt-get install -y bubblewrap (Fedora: dnf install -y bubblewrap).';

/** What the probe needs. */
export interface ProbeOptions {
  /** Folder for the filter of system calls and for the trial; made if it is not there. */
  readonly dir: string;
  readonly cgroups: Cgroups | undefined;
  readonly maxFileBytes: number;
  /** Where programs are looked for. @default the PATH of this process */
  readonly searchPath?: string;
}

/** Runs a trivial program in a sandbox, as functions will be run. Takes some 50 ms. */
export async function probeBubblewrap({ dir, cgroups, maxFileBytes, searchPath }: ProbeOptions): Promise<IsolationProbe> {
  const bwrap = findExecutable('bwrap', searchPath);
  if (bwrap === undefined) return { missing: `bubblewrap is not installed. ${INSTALL}` };
  const setpriv = findExecutable('setpriv', searchPath);
  if (process.getuid?.() === 0 && setpriv?.startsWith('/usr/') !== true) return { missing: 'bubblewrap as root needs setpriv under /usr. Install it with: apt-get install -y util-linux.' };
  const filter = seccompFilter(process.arch);
  if (filter === undefined) return { missing: `the filter of system calls is not known for the architecture ${process.arch}.` };
  mkdirSync(dir, { recursive: true });
  const filterFile = join(dir, 'seccomp.bpf');
  writeFileSync(filterFile, filter);
  const containment = createBubblewrapContainment({ bwrap, setpriv, filterFile, cgroups, maxFileBytes });
  const problem = await tried(containment, `${bwrap} ${cgroups?.version ?? 0}`, dir);
  return problem === undefined ? { containment } : { missing: `bubblewrap does not work here: ${problem}` };
}

/** What was found out in this process: the machine does not change. */
const trials = new Map<string, Promise<string | undefined>>();

function tried(containment: Containment, what: string, dir: string): Promise<string | undefined> {
  let found = trials.get(what);
  if (found === undefined) {
    found = trial(containment, dir);
    trials.set(what, found);
    // A failure may have been an accident.
    void found.then((problem) => problem !== undefined && trials.delete(what));
  }
  return found;
}

/** Undefined if it works, else what the programs said. */
async function trial(containment: Containment, dir: string): Promise<string | undefined> {
  const places = containment.places(dir, `trial-${process.pid}`, undefined);
  let said = '';
  try {
    containment.prepare(places, 'single');
    const child = containment.launch({ places, interpreter: process.execPath, args: ['-e', '0'], env: {}, channel: 'frames', layer: undefined, memoryMb: 256, cpu: 0, network: false });
    child.stderr?.on('data', (chunk: Buffer) => (said = (said + String(chunk)).slice(0, 2_000)));
    child.stdout?.resume();
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    const controller = new AbortController();
    const late = delay(TIMEOUT_MS, undefined, { signal: controller.signal }).then(() => 'late' as const, () => 'late' as const);
    const end = await Promise.race([ended, late]);
    controller.abort();
    if (end === 'late') {
      if (child.pid !== undefined) killNow(-child.pid);
      return `it did not end within ${TIMEOUT_MS} ms. ${said.trim()}`;
    }
    const [code, signal] = end;
    return code === 0 ? undefined : said.trim() || `it ended with ${signal ?? `exit code ${code}`} and said nothing.`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    await containment.remove(places).catch(() => {}); // the sweep of the next agent removes what is left
  }
}
