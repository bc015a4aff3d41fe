/** What the agent reads from /proc about processes: start time, children, groups, resident memory. All reads tolerate that the process is gone. */
import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';

const PAGE_BYTES = 4096;
const MAX_DESCENDANTS = 1024;

/** Start time of a process in clock ticks since boot: with the pid it names a process for good. Undefined if there is none. */
export function startTimeOf(pid: number): string | undefined {
  return statFields(pid)?.[19];
}

/** The fields of /proc/<pid>/stat after the command name; [0] is the state, [2] the process group. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name may hold blanks and brackets; the last bracket ends it.
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** True while the process exists and is not a zombie. */
export function isRunning(pid: number): boolean {
  const state = statFields(pid)?.[0];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** All processes that descend from `pid`, without it; at most 1024. */
export function descendantsOf(pid: number): number[] {
  const found: number[] = [];
  const queue = [pid];
  for (let next = queue.pop(); next !== undefined && found.length < MAX_DESCENDANTS; next = queue.pop()) {
    for (const child of childrenOf(next)) {
      found.push(child);
      queue.push(child);
    }
  }
  return found;
}

/** The processes that a process has started and not lost; empty when it is gone. */
export function childrenOf(pid: number): number[] {
  const children: number[] = [];
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      for (const child of readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ')) if (child !== '') children.push(Number(child));
    }
  } catch {
    // It ended meanwhile, or the kernel does not list children.
  }
  return children;
}

/** Processes whose environment holds a text, for example a marker of ours. Reads all of /proc: for starts and ends only. */
export function processesWithEnvironment(marker: string): number[] {
  const found: number[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      if (readFileSync(`/proc/${entry}/environ`, 'latin1').includes(marker)) found.push(Number(entry));
    } catch {
      // Gone, or not ours to look at.
    }
  }
  return found;
}

/** Sends SIGKILL to a process (or, negative, a group). Harmless if it is gone. */
export function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // ESRCH: it is gone already, which is what was wanted.
  }
}

/** Looks at the resident memory of one process and its children again and again, through open descriptors. */
export class RssProbe {
  readonly #pid: number;
  #statm: number | undefined;
  #children: number | undefined;

  constructor(pid: number) {
    this.#pid = pid;
    this.#statm = openOrNothing(`/proc/${pid}/statm`);
    this.#children = openOrNothing(`/proc/${pid}/task/${pid}/children`);
  }

  /** Resident bytes, shared pages of several processes counted for each; 0 when it is gone. */
  sampleBytes(): number {
    let pages = residentPages(readText(this.#statm));
    const children = readText(this.#children);
    if (children !== '') {
      for (const pid of children.trim().split(' ').concat(descendantsOf(this.#pid).map(String)).filter((value, at, all) => all.indexOf(value) === at)) {
        pages += residentPages(readWhole(`/proc/${pid}/statm`));
      }
    }
    return pages * PAGE_BYTES;
  }

  /** As `sampleBytes`, without its children. */
  ownBytes(): number {
    return residentPages(readText(this.#statm)) * PAGE_BYTES;
  }

  close(): void {
    for (const fd of [this.#statm, this.#children]) if (fd !== undefined) closeSync(fd);
    this.#statm = this.#children = undefined;
  }
}

function openOrNothing(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch {
    return undefined;
  }
}

const buffer = Buffer.allocUnsafe(4096);

function readText(fd: number | undefined): string {
  if (fd === undefined) return '';
  try {
    return buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0));
  } catch {
    return ''; // ESRCH: it ended
  }
}

function readWhole(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function residentPages(statm: string): number {
  const start = statm.indexOf(' ') + 1;
  return start === 0 ? 0 : Number.parseInt(statm.slice(start), 10) || 0;
}
