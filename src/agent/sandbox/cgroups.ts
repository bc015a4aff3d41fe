/**
 * Limits by the kernel's control groups, where the agent may make some: memory, CPU and number of processes of each sandbox, below the agent's
 * own group, so that whatever limits the agent limits them together. Version 1 (one hierarchy per controller) and version 2
 * (one for all) behind one interface.
 */
import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ownCgroups, type OwnCgroups } from '../own-cgroups.ts';
import { isDead, ownerOfGroup } from './group-name.ts';
import { killNow } from './proc.ts';

/** What can be limited. */
export type Controller = 'memory' | 'cpu' | 'pids';

/** Limits of one group; 0: none. */
export interface CgroupLimits {
  readonly memoryBytes: number;
  /** Cores. */
  readonly cpu: number;
  readonly pids: number;
}

/** The group of one sandbox. */
export interface Cgroup {
  /** Files to which a process writes its id to join; best before its first instruction. */
  readonly joinFiles: readonly string[];
  limit(limits: CgroupLimits): void;
  /** Moves a process in. The kernel takes some milliseconds for each hierarchy, so not in the agent's thread. */
  add(pid: number): Promise<void>;
  /** Processes that the kernel ended for want of memory. */
  oomKills(): number;
  /** Ends all processes in it. */
  kill(): void;
  /** Removes it; it must be empty, or about to be. */
  remove(): Promise<void>;
}

/** The groups of one agent. */
export interface Cgroups {
  readonly version: 1 | 2;
  /** What it can limit, in this order: memory, cpu, pids. */
  readonly controllers: readonly Controller[];
  create(name: string): Cgroup;
  /** Ends and removes what former agents with the same folder left, and removes empty groups of agents that are dead. */
  sweep(): Promise<void>;
  /** Removes the agent's group, when its sandboxes are gone. */
  close(): Promise<void>;
}

const CONTROLLERS: readonly Controller[] = ['memory', 'cpu', 'pids'];
/** Processes of one sandbox. */
export const MAX_PROCESSES = 256;
/** Memory that the kernel needs for a sandbox besides what the function may use. */
const KERNEL_BYTES = 16 * 1024 ** 2;
/** As in live-sandbox.ts, for the kernel's limit. */
const LEAST_MEMORY_BYTES = 96 * 1024 ** 2;
/** A short period: a sandbox that used up its share is held for less than that. */
const CPU_PERIOD_US = 20_000;
const LEAST_CPU_QUOTA_US = 1_000;
/** Of the group in which the agent itself is, under version 2. */
const LEAF_SUFFIX = '-agent';
const REMOVE_TRIES = 50;
const REMOVE_EVERY_MS = 20;

/** Where the kernel shows processes and mounts; another folder in tests. */
export interface CgroupSource {
  readonly procDir: string;
  /** Put before the paths that the mount table names. */
  readonly root: string;
}

/** What the kernel holds the sandbox of a function to. `cpu` 0: as many cores as there are. */
export function sandboxLimits(memoryMb: number, cpu: number): CgroupLimits {
  return { memoryBytes: Math.max(memoryMb * 1024 ** 2, LEAST_MEMORY_BYTES) + KERNEL_BYTES, cpu, pids: MAX_PROCESSES };
}

/** Whether a function gets no more memory and CPU than its manifest says. */
export function limitsSizes(cgroups: Cgroups | undefined): boolean {
  return cgroups !== undefined && cgroups.controllers.includes('memory') && cgroups.controllers.includes('cpu');
}

/** What a shell does to be in a group, before the first instruction of anything that is the function's. */
export function joinScript(group: Cgroup | undefined): string {
  return (group?.joinFiles ?? []).map((file) => `echo $$ > '${file}' || exit 126; `).join('');
}

/**
 * Makes a group for an agent below the one that it runs in. Undefined where it may not, or where there is no controller of use. `name`: by
 * group-name.ts, so that the next agent finds what is left.
 */
export function openCgroups(name: string, source: CgroupSource = { procDir: '/proc', root: '' }): Cgroups | undefined {
  const own = ownCgroups(`${source.procDir}/self`, source.root);
  return openFirst(name, own) ?? openSecond(name, own);
}

function openFirst(name: string, { v1 }: OwnCgroups): Cgroups | undefined {
  const parents = new Map<Controller, string>();
  for (const controller of CONTROLLERS) {
    const own = v1.get(controller);
    if (own === undefined) continue;
    const dir = join(own, name);
    if (!makeDir(dir)) continue;
    parents.set(controller, dir);
    // That was the trial; it is made again with the first sandbox, so that an agent without isolated functions leaves nothing behind, however it ends.
    removeIfEmpty(dir);
  }
  if (parents.size === 0) return undefined;
  return {
    version: 1,
    controllers: [...parents.keys()],
    create: (child) => new FirstCgroup(new Map(Array.from(parents, ([controller, dir]) => [controller, join(dir, child)]))),
    close: async () => void (await Promise.all(Array.from(parents.values(), removeDir))),
    // The own groups of the controllers, in the order of `parents`: each has one.
    sweep: () => sweepAll(name, Array.from(parents.keys(), (controller) => v1.get(controller) as string), (dirs) => new FirstCgroup(new Map(dirs.map((dir, i) => [[...parents.keys()][i] as Controller, dir])))),
  };
}

function openSecond(name: string, { unified: v2 }: OwnCgroups): Cgroups | undefined {
  if (v2 === undefined) return undefined;
  const offered = readOr(join(v2, 'cgroup.controllers'), '').split(/\s+/);
  const wanted = CONTROLLERS.filter((controller) => offered.includes(controller));
  if (wanted.length === 0) return undefined;
  const all = wanted.map((controller) => `+${controller}`).join(' ');
  if (!writeTo(join(v2, 'cgroup.subtree_control'), all)) {
    // A group with processes may not hand controllers on: the agent moves into a leaf. If others stay, it is not ours to divide.
    const leaf = join(v2, `${name}${LEAF_SUFFIX}`);
    if (!makeDir(leaf) || !writeTo(join(leaf, 'cgroup.procs'), String(process.pid)) || !writeTo(join(v2, 'cgroup.subtree_control'), all)) return undefined;
  }
  const dir = join(v2, name);
  if (!makeDir(dir) || !writeTo(join(dir, 'cgroup.subtree_control'), all)) return undefined;
  return {
    version: 2,
    controllers: wanted,
    create: (child) => new SecondCgroup(join(dir, child)),
    close: () => removeDir(dir),
    sweep: () => sweepAll(name, [v2], ([child = '']) => new SecondCgroup(child)),
  };
}

/** `bases`: the folders in which agents make their groups, one or one per controller. */
async function sweepAll(name: string, bases: readonly string[], open: (dirs: readonly string[]) => Cgroup): Promise<void> {
  await sweepGroup(name, bases, open);
  const own = ownerOfGroup(name);
  if (own === undefined) return;
  const others = [...new Set(bases.flatMap(childGroups))].filter((other) => other !== name && other !== `${name}${LEAF_SUFFIX}`);
  await Promise.all(others.map(async (other) => {
    const owner = ownerOfGroup(other.endsWith(LEAF_SUFFIX) ? other.slice(0, -LEAF_SUFFIX.length) : other);
    if (owner === undefined) return;
    const dirs = bases.map((base) => join(base, other));
    if (owner.folder === own.folder) {
      // The folder is locked: whoever had it is gone.
      await sweepGroup(other, bases, open);
      await Promise.all(dirs.map(removeDir));
    } else if (isDead(owner)) {
      // Nobody will come for it with that folder. What still runs in it is not ours to end.
      for (const dir of dirs) for (const path of [...childGroups(dir).map((child) => join(dir, child)), dir]) removeIfEmpty(path);
    }
  }));
}

/** Ends and removes the sandboxes' groups in the group of an agent. */
async function sweepGroup(name: string, bases: readonly string[], open: (dirs: readonly string[]) => Cgroup): Promise<void> {
  const parents = bases.map((base) => join(base, name));
  await Promise.all([...new Set(parents.flatMap(childGroups))].map((child) => {
    const left = open(parents.map((parent) => join(parent, child)));
    left.kill();
    return left.remove();
  }));
}

class FirstCgroup implements Cgroup {
  readonly joinFiles: readonly string[];
  readonly #dirs: ReadonlyMap<Controller, string>;

  constructor(dirs: ReadonlyMap<Controller, string>) {
    this.#dirs = dirs;
    for (const dir of dirs.values()) makeDir(dir);
    this.joinFiles = Array.from(dirs.values(), (dir) => join(dir, 'cgroup.procs'));
  }

  limit({ memoryBytes, cpu, pids }: CgroupLimits): void {
    const memory = this.#dirs.get('memory');
    if (memory !== undefined) {
      const bytes = memoryBytes > 0 ? String(memoryBytes) : '-1';
      // With swap never below without: which of the two may be written first depends on the direction.
      writeTo(join(memory, 'memory.memsw.limit_in_bytes'), bytes);
      writeTo(join(memory, 'memory.limit_in_bytes'), bytes);
      writeTo(join(memory, 'memory.memsw.limit_in_bytes'), bytes);
    }
    const cpuDir = this.#dirs.get('cpu');
    if (cpuDir !== undefined) {
      writeTo(join(cpuDir, 'cpu.cfs_period_us'), String(CPU_PERIOD_US));
      // More than the agent itself may use is refused: then its limit holds.
      writeTo(join(cpuDir, 'cpu.cfs_quota_us'), cpu > 0 ? String(quotaUs(cpu)) : '-1');
    }
    const pidsDir = this.#dirs.get('pids');
    if (pidsDir !== undefined) writeTo(join(pidsDir, 'pids.max'), pids > 0 ? String(pids) : 'max');
  }

  add(pid: number): Promise<void> {
    return addTo(this.joinFiles, pid);
  }

  oomKills(): number {
    const memory = this.#dirs.get('memory');
    return memory === undefined ? 0 : numberAfter(readOr(join(memory, 'memory.oom_control'), ''), 'oom_kill');
  }

  kill(): void {
    for (const file of this.joinFiles) killAll(file);
  }

  async remove(): Promise<void> {
    await Promise.all(Array.from(this.#dirs.values(), removeDir));
  }
}

class SecondCgroup implements Cgroup {
  readonly joinFiles: readonly string[];
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    makeDir(dir);
    this.joinFiles = [join(dir, 'cgroup.procs')];
  }

  limit({ memoryBytes, cpu, pids }: CgroupLimits): void {
    writeTo(join(this.#dir, 'memory.max'), memoryBytes > 0 ? String(memoryBytes) : 'max');
    writeTo(join(this.#dir, 'memory.swap.max'), memoryBytes > 0 ? '0' : 'max');
    writeTo(join(this.#dir, 'cpu.max'), cpu > 0 ? `${quotaUs(cpu)} ${CPU_PERIOD_US}` : `max ${CPU_PERIOD_US}`);
    writeTo(join(this.#dir, 'pids.max'), pids > 0 ? String(pids) : 'max');
  }

  add(pid: number): Promise<void> {
    return addTo(this.joinFiles, pid);
  }

  oomKills(): number {
    return numberAfter(readOr(join(this.#dir, 'memory.events'), ''), 'oom_kill');
  }

  kill(): void {
    if (!writeTo(join(this.#dir, 'cgroup.kill'), '1')) for (const file of this.joinFiles) killAll(file);
  }

  remove(): Promise<void> {
    return removeDir(this.#dir);
  }
}

function quotaUs(cpu: number): number {
  return Math.max(LEAST_CPU_QUOTA_US, Math.round(cpu * CPU_PERIOD_US));
}

async function addTo(joinFiles: readonly string[], pid: number): Promise<void> {
  // A process that has ended meanwhile needs no limits; its end is told otherwise.
  await Promise.all(joinFiles.map((file) => writeFile(file, String(pid), { flag: 'r+' }).catch(() => {})));
}

/** A process may fork while it is being looked for; a few rounds find its children too. */
function killAll(procsFile: string): void {
  for (let round = 0; round < 10; round++) {
    const pids = readOr(procsFile, '').split('\n').filter((pid) => pid !== '');
    if (pids.length === 0) return;
    for (const pid of pids) killNow(Number(pid));
  }
}

function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // It is in use, or gone already.
  }
}

async function removeDir(dir: string): Promise<void> {
  for (let tries = 0; tries < REMOVE_TRIES; tries++) {
    try {
      rmdirSync(dir);
      return;
    } catch (error) {
      // EBUSY: its processes are ending. Whatever is left after all tries goes in the sweep of the next agent.
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') return;
      await new Promise((resolve) => setTimeout(resolve, REMOVE_EVERY_MS));
    }
  }
}

function childGroups(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return [];
  }
}

function makeDir(dir: string): boolean {
  try {
    mkdirSync(dir, { recursive: true });
    return true;
  } catch {
    return false; // read-only, or not ours
  }
}

function writeTo(file: string, text: string): boolean {
  try {
    writeFileSync(file, text, { flag: 'r+' });
    return true;
  } catch {
    return false; // the kernel has no such file, or does not allow it
  }
}

function readOr(file: string, otherwise: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return otherwise;
  }
}

function numberAfter(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
}
