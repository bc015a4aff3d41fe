/**
 * The isolation `bubblewrap`: namespaces of its own for processes, IPC, host name, mounts and (unless the function asks for it) the network;
 * a read-only root with the system's programs, the function's runtime, its code and its packages; a bounded /tmp; a filter of system
 * calls; and limits of memory, CPU and processes by the kernel where the agent may set them (cgroups.ts).
 *
 * An agent that runs as root mounts as root and then gives up everything: the sandbox has a user id that nobody else has. Any other agent needs
 * a kernel that lets it make user namespaces. Why so, and what it costs: docs/decisions/012-bubblewrap.md.
 *
 * Code is linked into the private directory, which is mounted when the process starts: so a process that waited for its function sees it,
 * and no other function's code.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { chownSync, closeSync, existsSync, fchmodSync, lstatSync, mkdirSync, openSync, readFileSync, readlinkSync, realpathSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { chmod, copyFile, link, lstat, mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises';
import { constants } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { PackageLayer } from '../program.ts';
import { removeTrees } from '../remove-trees.ts';
import { MAX_PROCESSES, joinScript, limitsSizes, sandboxLimits, type Cgroup, type Cgroups } from './cgroups.ts';
import { stdioOf, type Containment, type LaunchPlan, type Places, type ProcessEnd } from './containment.ts';
import { childrenOf, descendantsOf, killNow, processesWithEnvironment } from './proc.ts';
import { limitsScript } from './process-containment.ts';
import { SHIMS_DIR } from './runtimes.ts';

/** What the containment works with. */
export interface BubblewrapOptions {
  /** Absolute path of bwrap. */
  readonly bwrap: string;
  /** Absolute path of setpriv, under /usr; needed by root only. */
  readonly setpriv: string | undefined;
  /** File with the filter of system calls. */
  readonly filterFile: string;
  readonly cgroups: Cgroups | undefined;
  /** The largest file that a function may write. */
  readonly maxFileBytes: number;
}

/** Size of /tmp, which lies in memory and counts for the function. */
const TMP_BYTES = 64 * 1024 ** 2;
const SHM_BYTES = 16 * 1024 ** 2;
/** User ids that no system hands out: above the container ranges of systemd, below 2^31. */
const FIRST_UID = 1_879_048_192;
const UIDS = 200_000_000;
const NOBODY = 65_534;
/** Read-only parts of /etc that runtimes and libraries look at; those for the network only with it. */
const ETC = ['/etc/ld.so.cache', '/etc/ld.so.conf', '/etc/ld.so.conf.d', '/etc/alternatives', '/etc/localtime', '/etc/mime.types', '/etc/nsswitch.conf', '/etc/hosts'];
const ETC_NETWORK = ['/etc/resolv.conf', '/etc/gai.conf', '/etc/services', '/etc/protocols', '/etc/ssl/certs', '/etc/ssl/openssl.cnf', '/etc/pki/tls/certs', '/etc/ca-certificates'];

/** What is known of a private directory. */
interface Cell {
  readonly uid: number;
  readonly codeDir: string;
  /** Code that was linked already, by its folder; shared by the children of a fork server. */
  readonly staged: Map<string, Promise<string>>;
  readonly isForked: boolean;
  cgroup: Cgroup | undefined;
  /** Of bwrap itself. */
  pid: number | undefined;
}

/** Makes the containment. That it works here is for the probe to find out (isolation-probe.ts). */
export function createBubblewrapContainment(options: BubblewrapOptions): Containment {
  return new BubblewrapContainment(options);
}

class BubblewrapContainment implements Containment {
  readonly isolation = 'bubblewrap';
  readonly passesEnvironment = false;
  readonly isLimited: boolean;
  readonly #options: BubblewrapOptions;
  readonly #isRoot = process.getuid?.() === 0;
  readonly #cells = new Map<string, Cell>();
  readonly #systemArguments: readonly string[] = systemArguments();
  readonly #runtimes = new Map<string, readonly string[]>();
  #nextUid = Math.floor(Math.random() * UIDS);
  #staged = 0;

  constructor(options: BubblewrapOptions) {
    this.#options = options;
    this.isLimited = limitsSizes(options.cgroups);
  }

  zygoteTraits(runtime: 'node' | 'python3'): ReturnType<Containment['zygoteTraits']> {
    // What is mounted is fixed when the process starts, so the packages are. Children of a fork server share its mounts, with the code in them.
    return { isConsumed: runtime === 'node', isPerFunction: runtime === 'python3', needsSameLayer: true };
  }

  places(root: string, id: string, parent: Places | undefined): Places {
    const dir = join(root, id);
    if (parent === undefined) return { dir, inputsDir: join(dir, 'in'), outputsDir: join(dir, 'out'), homeDir: '/tmp', tmpDir: '/tmp' };
    // Within what its fork server sees.
    return { dir, inputsDir: join(parent.inputsDir, id), outputsDir: join(parent.outputsDir, id), homeDir: `/tmp/${id}`, tmpDir: `/tmp/${id}` };
  }

  prepare({ dir, inputsDir, outputsDir }: Places, use: 'single' | 'server' | Places): void {
    const isForked = typeof use === 'object';
    const parentCell = isForked ? this.#cells.get(use.dir) : undefined;
    const uid = parentCell?.uid ?? (this.#isRoot ? FIRST_UID + (this.#nextUid++ % UIDS) : NOBODY);
    const cell: Cell = { uid, codeDir: parentCell?.codeDir ?? join(dir, 'code'), staged: parentCell?.staged ?? new Map(), isForked, cgroup: undefined, pid: undefined };
    for (const each of [dir, inputsDir, outputsDir, cell.codeDir]) mkdirSync(each, { recursive: true, mode: 0o755 });
    // Never the folder in which a fork server's children have theirs: whoever owns it could put a link in the place of one, and lead the agent away.
    if (this.#isRoot && use !== 'server') chownSync(outputsDir, uid, uid);
    if (!isForked) {
      writeFileSync(join(dir, 'passwd'), `root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:${uid}:${uid}:sandbox:/tmp:/bin/sh\n`);
      writeFileSync(join(dir, 'group'), `root:x:0:\nsandbox:x:${uid}:\n`);
    }
    this.#cells.set(dir, cell);
  }

  launch(plan: LaunchPlan): ChildProcess {
    const { places, interpreter, args, env, channel, memoryMb, cpu } = plan;
    const { cgroups, filterFile, maxFileBytes } = this.#options;
    const cell = this.#cellOf(places);
    cell.cgroup = cgroups?.create(basename(places.dir));
    cell.cgroup?.limit(sandboxLimits(memoryMb, cpu));
    const stdio = stdioOf(channel);
    // A fresh descriptor for every start: bwrap reads it to its end, and the offset would be shared.
    const opened = [openSync(filterFile, 'r')];
    try {
      opened.push(openEnvironment(join(places.dir, 'environment'), env));
      const child = spawn('/bin/sh', ['-c', `${joinScript(cell.cgroup)}${limitsScript(maxFileBytes)}; exec "$@"`, 'sh', this.#options.bwrap, ...this.#arguments(plan, cell), '--seccomp', '4', '--', ...this.#inner(cell), interpreter, ...args], {
        // What the function has in its environment is none of bwrap's business, which may run as root.
        cwd: '/', env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }, detached: true, stdio: [...stdio, ...opened],
      });
      cell.pid = child.pid;
      return child;
    } finally {
      for (const descriptor of opened) closeSync(descriptor);
    }
  }

  #arguments({ places, interpreter, layer, network }: LaunchPlan, cell: Cell): string[] {
    const { dir, inputsDir, outputsDir } = places;
    const readOnly = [SHIMS_DIR, ...this.#runtimeOf(interpreter), ...foldersOf(layer), inputsDir, cell.codeDir];
    return [
      '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try', ...(network ? [] : ['--unshare-net']), '--hostname', 'sandbox', '--die-with-parent', '--new-session', '--cap-drop', 'ALL',
      ...(this.#isRoot ? ['--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID', '--cap-add', 'CAP_SETPCAP'] : ['--unshare-user', '--uid', String(NOBODY), '--gid', String(NOBODY)]),
      ...this.#systemArguments,
      // The folders on the way to a mount are made by bwrap, for root alone unless they are named.
      ...foldersTo([...ETC, ...(network ? ETC_NETWORK : [])]),
      ...[...ETC, ...(network ? ETC_NETWORK : [])].flatMap((path) => ['--ro-bind-try', path, path]),
      '--ro-bind', join(dir, 'passwd'), '/etc/passwd', '--ro-bind', join(dir, 'group'), '/etc/group',
      '--proc', '/proc', '--dev', '/dev', '--perms', '1777', '--size', String(SHM_BYTES), '--tmpfs', '/dev/shm', '--perms', '1777', '--size', String(TMP_BYTES), '--tmpfs', '/tmp',
      ...foldersTo([...readOnly, outputsDir]),
      ...readOnly.flatMap((path) => ['--ro-bind', path, path]), '--bind', outputsDir, outputsDir,
      '--remount-ro', '/dev', '--remount-ro', '/', '--chdir', '/tmp',
    ];
  }

  /** What stands before the interpreter, inside: everything is given up before the function's environment comes, as file descriptor 5. */
  #inner({ uid }: Cell): string[] {
    const { setpriv, cgroups } = this.#options;
    // Where no group counts processes, the limit of the user id does; the id is the sandbox's own.
    const limited = cgroups?.controllers.includes('pids') === true ? [] : ['/bin/sh', '-c', `ulimit -p ${MAX_PROCESSES} 2>/dev/null || ulimit -u ${MAX_PROCESSES}; exec "$@"`, 'sh'];
    const dropped = this.#isRoot ? [setpriv ?? 'setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--inh-caps=-all', '--bounding-set=-all'] : [];
    return [...limited, ...dropped, '/bin/sh', '-c', '. /proc/self/fd/5; exec 5<&-; exec /usr/bin/env -i "$@"', 'sh'];
  }

  #runtimeOf(interpreter: string): readonly string[] {
    let paths = this.#runtimes.get(interpreter);
    if (paths === undefined) {
      paths = runtimePaths(interpreter);
      this.#runtimes.set(interpreter, paths);
    }
    return paths;
  }

  stageCode(places: Places, bundleDir: string): Promise<string> {
    const cell = this.#cellOf(places);
    let staged = cell.staged.get(bundleDir);
    if (staged === undefined) {
      const to = join(cell.codeDir, String(++this.#staged));
      staged = linkTree(bundleDir, to, this.#isRoot).then(() => to);
      staged.catch(() => cell.staged.delete(bundleDir));
      cell.staged.set(bundleDir, staged);
    }
    return staged;
  }

  limit(places: Places, pid: number, { memoryMb, cpu }: { readonly memoryMb: number; readonly cpu: number }): Promise<void> | undefined {
    const cell = this.#cellOf(places);
    const isNew = cell.cgroup === undefined && cell.isForked;
    if (isNew) cell.cgroup = this.#options.cgroups?.create(basename(places.dir));
    cell.cgroup?.limit(sandboxLimits(memoryMb, cpu));
    return isNew ? cell.cgroup?.add(pid) : undefined;
  }

  endOf({ code, signal }: ProcessEnd): ProcessEnd {
    // bwrap, like a shell, tells a signal as 128 and its number.
    const ended = signal !== null || code === null || code <= 128 ? undefined : signalName(code - 128);
    return ended === undefined ? { code, signal } : { code: null, signal: ended };
  }

  outerPid(serverPid: number, pid: number): number | undefined {
    const server = runtimePid(serverPid);
    return server === undefined ? undefined : [server, ...childrenOf(server)].find((candidate) => innermostPid(candidate) === pid);
  }

  memoryPid(pid: number, places: Places): number {
    return this.#cells.get(places.dir)?.pid === pid ? (runtimePid(pid) ?? pid) : pid;
  }

  kill(pid: number, places: Places): void {
    const cell = this.#cells.get(places.dir);
    if (cell?.pid === pid) {
      // The first process of its namespace takes all others with it; bwrap ends when that is done, and is the proof.
      killNow(childrenOf(pid)[0] ?? pid);
      return;
    }
    for (const child of descendantsOf(pid)) killNow(child);
    killNow(-pid);
    killNow(pid);
    if (cell?.isForked === true) cell.cgroup?.kill();
  }

  killRemains(pid: number, places: Places, isThorough: boolean): void {
    const cell = this.#cells.get(places.dir);
    // Of a namespace nothing remains. A child of a fork server may leave processes in the server's.
    if (cell?.isForked !== true) return;
    killNow(-pid);
    if (cell.cgroup !== undefined) cell.cgroup.kill();
    else if (isThorough) for (const left of processesWithEnvironment(`METRONOME_SANDBOX=${places.dir}\0`)) killNow(left);
  }

  ranOutOfMemory(places: Places): boolean {
    return (this.#cells.get(places.dir)?.cgroup?.oomKills() ?? 0) > 0;
  }

  async remove(places: Places): Promise<void> {
    const cell = this.#cells.get(places.dir);
    this.#cells.delete(places.dir);
    await cell?.cgroup?.remove();
    if (cell?.isForked !== true) return rm(places.dir, { recursive: true, force: true, maxRetries: 3 });
    // Its siblings may still be at work in what it made.
    await removeTrees([places.dir, places.inputsDir, places.outputsDir]);
  }

  async sweep(): Promise<void> {
    await this.#options.cgroups?.sweep();
  }

  async close(): Promise<void> {
    await this.#options.cgroups?.close();
  }

  #cellOf(places: Places): Cell {
    const cell = this.#cells.get(places.dir);
    if (cell === undefined) throw new Error(`The directory ${places.dir} was not prepared.`);
    return cell;
  }
}

/**
 * The environment as shell words in a file that has no name any more: arguments of a process can be read by everybody on the machine for as long as it
 * lives, and bwrap lives as long as the sandbox.
 */
function openEnvironment(path: string, env: Readonly<Record<string, string>>): number {
  const file = openSync(path, 'wx+', 0o600);
  try {
    unlinkSync(path);
    // The sandbox's own user opens it by its descriptor.
    fchmodSync(file, 0o444);
    const words = Object.entries(env).map(([name, value]) => `'${`${name}=${value}`.replaceAll("'", "'\\''")}'`);
    writeSync(file, `set -- ${words.join(' ')} "$@"\n`);
    return file;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

/** The system's programs and libraries, wherever this distribution has them. */
function systemArguments(): string[] {
  const args = ['--ro-bind', '/usr', '/usr'];
  for (const path of ['/lib', '/lib64', '/lib32', '/bin', '/sbin']) {
    if (!existsSync(path)) continue;
    if (lstatSync(path).isSymbolicLink()) args.push('--symlink', readlinkSync(path), path);
    else args.push('--ro-bind', path, path);
  }
  return args;
}

/** What an interpreter needs that is not under /usr: Node is one file, Python has a library beside it. */
function runtimePaths(interpreter: string): string[] {
  const paths = new Set<string>();
  for (const path of [interpreter, realpathSync(interpreter)]) {
    if (path.startsWith('/usr/')) continue;
    paths.add(path);
    const prefix = dirname(dirname(path));
    if (!/python/.test(basename(path))) continue;
    for (const part of ['lib', 'lib64', 'pyvenv.cfg']) if (existsSync(join(prefix, part))) paths.add(join(prefix, part));
  }
  return [...paths];
}

function foldersOf(layer: PackageLayer | undefined): string[] {
  if (layer === undefined) return [];
  return [layer.dir, ...layer.importPaths.filter((path) => path !== layer.dir && !path.startsWith(`${layer.dir}/`))];
}

/** Arguments that make the folders above the paths, for everybody. */
function foldersTo(paths: readonly string[]): string[] {
  return [...new Set(paths.flatMap(parentsOf))].sort().flatMap((folder) => ['--perms', '0755', '--dir', folder]);
}

/** All folders above a path, without the root and what is in the sandbox anyway. */
function parentsOf(path: string): string[] {
  const parents: string[] = [];
  for (let parent = dirname(path); parent !== '/' && parent !== '/usr' && parent !== '/tmp' && !parent.startsWith('/usr/'); parent = dirname(parent)) parents.push(parent);
  return parents;
}

/** Links all files of a folder into another one; links in it stay links. `forOthers`: what the sandbox's user could not read is copied. */
async function linkTree(from: string, to: string, forOthers: boolean): Promise<void> {
  await mkdir(to, { mode: 0o755 });
  const entries = await readdir(from, { withFileTypes: true });
  await Promise.all(entries.map(async (entry) => {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) return linkTree(source, target, forOthers);
    if (entry.isSymbolicLink()) return symlink(await readlink(source), target);
    const { mode } = await lstat(source);
    try {
      if (forOthers && (mode & 0o004) === 0) throw new Error('not readable by the sandbox');
      await link(source, target);
    } catch {
      // Another file system, too many links, or not readable by others: a copy is as good.
      await copyFile(source, target);
      await chmod(target, mode | 0o444);
    }
  }));
}

/** bwrap → first process of the namespace → runtime. */
function runtimePid(bwrapPid: number): number | undefined {
  const [first] = childrenOf(bwrapPid);
  return first === undefined ? undefined : childrenOf(first)[0];
}

/** The id of a process in the namespace that it lives in. */
function innermostPid(pid: number): number | undefined {
  try {
    const ids = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]?.split(/\s+/);
    return Number(ids?.at(-1));
  } catch {
    return undefined; // it ended
  }
}

function signalName(number: number): NodeJS.Signals | undefined {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found?.[0] as NodeJS.Signals | undefined; // the names of that table are the type
}
