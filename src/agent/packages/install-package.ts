/**
 * Installs one package into the store: fetched, verified by its integrity, unpacked beside its place, listed, renamed into it. Runs
 * no script of the package. Every way out that is not a whole package leaves nothing.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Unpack, type ReadEntry } from 'tar';
import { tarballPath } from '../../config/lockfile.ts';
import { PIP, WOULD_BUILD } from '../../config/pip.ts';
import { MetronomeError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import { bootId } from '../boot-id.ts';
import { isDiskFull, orDiskFull } from './disk-full.ts';
import type { FileEntry, Installed, InstallOrder, PackageRecord } from './install-protocol.ts';
import { registryOf, type NpmSettings } from './npm-settings.ts';
import { digestOf, listFiles, MAX_PACKAGE_FILES } from './package-files.ts';
import { watchSilence } from './silence.ts';
import { unpackWheel } from './wheel.ts';

/** Waits before the second, third and fourth attempt, ms. */
const RETRY_MS = [200, 800, 3_000] as const;
/** Silence after which a registry is given up, ms. */
const SILENCE_MS = 30_000;
/** Longest time that one archive may take, ms. */
const FETCH_MS = 15 * 60_000;
const PIP_TIMEOUT_MS = 300_000;
const COMPILE_TIMEOUT_MS = 120_000;

/** Installs. UNAVAILABLE: not reachable; OBJECT_CORRUPT: other bytes than were locked; STORE_FULL: no space; PACKAGES_FAILED: it cannot be had. */
export async function installPackage(order: InstallOrder): Promise<Installed> {
  const { work } = order;
  try {
    await mkdir(work);
    const files = order.runtime === 'python3' ? await bringWheel(order) : await bringArchive(order);
    const list = listFiles(files);
    const bytes = list.reduce((sum, [, size]) => sum + size, 0);
    const record: PackageRecord = { id: order.id, name: order.name, version: order.version, integrity: order.integrity, bytes, boot: bootId() };
    await commit(order, files, list, record);
    return { bytes };
  } catch (error) {
    throw explain(error, order);
  } finally {
    // What was broken off may still write for a moment.
    await rm(work, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** The record comes last: with it the package is there. */
async function commit({ store, key, work }: InstallOrder, files: string, list: readonly FileEntry[], record: PackageRecord): Promise<void> {
  const home = join(store, key);
  await writeFile(join(work, 'list'), JSON.stringify(list));
  await writeFile(join(work, 'record'), JSON.stringify(record));
  await rm(`${home}.json`, { force: true });
  await rm(home, { recursive: true, force: true });
  await rename(files, home);
  await rename(join(work, 'list'), `${home}.files`);
  await rename(join(work, 'record'), `${home}.json`);
}

// ── npm ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A stream of npm's own kind, as far as it is used. */
interface ByteStream {
  on(event: 'data' | 'error', listener: (value: unknown) => void): unknown;
  pipe(target: unknown): unknown;
  destroy?(): unknown;
}

/** One of pacote's fetchers. It refuses what is not of its kind. */
type Fetcher = new (spec: string, options: object) => {
  tarballStream<T>(handler: (stream: ByteStream) => Promise<T>): Promise<T>;
  manifest(): Promise<{ readonly _resolved: string }>;
};

/** The part of pacote that is used: its types know an older version. Never the functions that choose a fetcher: the one for git and the one for folders run scripts. */
interface Pacote {
  readonly FileFetcher: Fetcher;
  readonly RegistryFetcher: Fetcher;
  readonly RemoteFetcher: Fetcher;
}

async function bringArchive(order: InstallOrder): Promise<string> {
  // Loaded at the first use: it takes longer than many a package.
  const pacote = (await import('pacote')).default as unknown as Pacote;
  const { name, version, npm = {} } = order;
  const fetchSpec = (spec: string): Promise<string> => attempt(() => fetchArchive(pacote, spec, order));
  if (order.file !== undefined) return fetchSpec(`file:${order.file}`);
  if (order.url !== undefined) return fetchSpec(order.url);
  try {
    // The usual address first: that saves the metadata of all versions, which can be megabytes.
    return await fetchSpec(`${registryOf(npm, name)}${tarballPath(name, version)}`);
  } catch (error) {
    if (codeOf(error) !== 'E404') throw error;
    const { _resolved } = await attempt(() => new pacote.RegistryFetcher(`${name}@${version}`, { ...requestOptions(npm), integrity: order.integrity }).manifest());
    return fetchSpec(_resolved);
  }
}

function requestOptions(npm: NpmSettings): object {
  // One attempt: attempt() repeats. Not from npm's own cache: this store is one.
  return { ...npm, retry: { retries: 0 }, timeout: SILENCE_MS, preferOnline: true, ignoreScripts: true };
}

async function fetchArchive(pacote: Pacote, spec: string, order: InstallOrder): Promise<string> {
  const broken = new AbortController();
  const giveUp = (why: string): void => broken.abort(Object.assign(new Error(why), { code: 'ETIMEDOUT' }));
  const silence = watchSilence(SILENCE_MS, () => giveUp(`nothing came for ${SILENCE_MS / 1_000} s`));
  const whole = setTimeout(giveUp, FETCH_MS, `it took longer than ${FETCH_MS / 60_000} min`);
  try {
    const Kind = order.file === undefined ? pacote.RemoteFetcher : pacote.FileFetcher;
    // Silence is judged here: the timers of a socket would take a thread that unpacks another archive for a registry that is silent.
    const fetcher = new Kind(spec, { ...requestOptions(order.npm ?? {}), timeout: FETCH_MS, integrity: order.integrity, signal: broken.signal });
    return await fetcher.tarballStream(async (stream) => {
      // An error may come before it is piped; whoever listens later is told it again.
      stream.on('error', () => {});
      // Never into the folder of an attempt that was broken off: it may still write for a moment.
      const target = await mkdtemp(join(order.work, 'files-'));
      await chmod(target, 0o755);
      const unpacked = unpackArchive(stream, target, order.maxBytes, broken.signal);
      // After it was piped: the stream flows from its first listener on, whoever that is.
      stream.on('data', silence.heard);
      await unpacked;
      return target;
    });
  } finally {
    silence.stop();
    clearTimeout(whole);
  }
}

/** As npm does it: the first folder is left out, links are, owners and times do not count. Files become read-only. */
function unpackArchive(stream: ByteStream, target: string, maxBytes: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let bytes = 0, files = 0;
    const fail = (error: unknown): void => {
      signal.removeEventListener('abort', onAbort);
      stream.destroy?.();
      reject(error as Error);
    };
    const onAbort = (): void => fail(signal.reason);
    const unpack = new Unpack({
      cwd: target, strip: 1, noMtime: true, preserveOwner: false, umask: 0, processUmask: 0, dmode: 0o755,
      filter: (_path, found) => {
        const entry = found as ReadEntry; // when it unpacks there are no stats
        if (entry.type === 'Directory') {
          entry.mode = 0o755;
          return true;
        }
        if (!entry.type.endsWith('File')) return false;
        bytes += entry.size;
        if (++files > MAX_PACKAGE_FILES) fail(new Error(`it has more than ${MAX_PACKAGE_FILES} files`));
        if (bytes > maxBytes) fail(Object.assign(new Error(`it has more than ${formatBytes(maxBytes)} unpacked`), { code: 'TOO_LARGE' }));
        entry.mode = ((entry.mode ?? 0) & 0o111) === 0 ? 0o444 : 0o555;
        return files <= MAX_PACKAGE_FILES && bytes <= maxBytes;
      },
    });
    signal.addEventListener('abort', onAbort, { once: true });
    unpack.on('error', fail);
    unpack.on('close', () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    stream.on('error', fail);
    stream.pipe(unpack);
  });
}

/** Repeats what the network broke, a bounded number of times. */
async function attempt<T>(work: () => Promise<T>): Promise<T> {
  for (const waitMs of RETRY_MS) {
    try {
      return await work();
    } catch (error) {
      if (!isPassing(error)) throw error;
      await sleep(waitMs * (0.5 + Math.random()));
    }
  }
  return work();
}

// ── Python ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function bringWheel(order: InstallOrder): Promise<string> {
  const wheel = order.file ?? (await downloadWheel(order));
  const target = join(order.work, 'files');
  const actual = `sha256-${digestOf(wheel, 'base64')}`;
  if (actual !== order.integrity) throw Object.assign(new Error(`it has the digest ${actual} instead of ${order.integrity}`), { code: 'EINTEGRITY' });
  await mkdir(target);
  unpackWheel(wheel, target, order.maxBytes);
  // Nobody may write to it later, and without byte code every cold start would compile it anew. Code that does not compile is the package's own affair.
  if (order.python !== undefined) await run(order.python, ['-I', '-m', 'compileall', '-q', '--invalidation-mode', 'unchecked-hash', target], COMPILE_TIMEOUT_MS).catch(() => {});
  return target;
}

/** pip fetches it: it knows the user's index, proxy and passwords. What comes must have the locked digest. */
async function downloadWheel(order: InstallOrder): Promise<string> {
  const { work } = order;
  if (order.python === undefined) throw new Error('this node has no Python 3');
  const folder = join(work, 'download');
  await mkdir(folder);
  const sha256 = Buffer.from(order.integrity.slice('sha256-'.length), 'base64').toString('hex');
  const requirement = `${order.url === undefined ? `${order.name}==${order.version}` : `${order.name} @ ${order.url}`} --hash=sha256:${sha256}\n`;
  await writeFile(join(work, 'requirement.txt'), requirement);
  await run(order.python, [...PIP, 'download', '--require-hashes', '--no-deps', '--only-binary=:all:', '--no-input', '--quiet', '--disable-pip-version-check', '--retries', '3', '--timeout', '15', '--dest', folder, '-r', join(work, 'requirement.txt')], PIP_TIMEOUT_MS);
  const [name] = await readdir(folder);
  if (name === undefined) throw new Error('pip fetched nothing');
  return join(folder, name);
}

function run(program: string, args: readonly string[], timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 4 * 1024 ** 2 }, (error, stdout, stderr) => {
      if (error === null) return resolve();
      const said = `${stderr}\n${stdout}`.trim();
      if (said.includes(WOULD_BUILD)) return reject(new Error('it is no wheel and would have to be built'));
      // An index that cannot be reached seems to pip to have nothing.
      const code = /DO NOT MATCH THE HASHES/.test(said) ? 'EINTEGRITY' : /No module named pip/.test(said) ? 'NO_PIP' : /ConnectionError|Connection (?:refused|broken)|timed out|Temporary failure/.test(said) ? 'ECONNREFUSED' : /No matching distribution/.test(said) ? 'ETARGET' : 'PIP';
      reject(Object.assign(new Error(firstLines(said) || error.message), { code: error.killed === true ? 'ETIMEDOUT' : code }));
    });
  });
}

function firstLines(text: string): string {
  return text.split('\n').map((line) => line.replace(/^ERROR: ?/, '').trim()).filter((line) => line !== '' && !/^WARNING|^\[notice\]/.test(line)).slice(0, 3).join(' · ').slice(0, 400);
}

// ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────

const CORRUPT = /^(?:EINTEGRITY|Z_DATA_ERROR|Z_BUF_ERROR|TAR_BAD_ARCHIVE)$/;
const NETWORK = /^(?:E5\d\d|E429|ECONN\w+|ETIMEDOUT|ESOCKET\w*|ENOTFOUND|EAI_AGAIN|EPIPE|EHOSTUNREACH|ENETUNREACH|ERR_SOCKET_TIMEOUT|ERR_STREAM_PREMATURE_CLOSE|FETCH_ERROR|ABORT_ERR|ERR_\w*ABORTED\w*|EIDLETIMEOUT|ERESPONSETIMEOUT|EBADSIZE)$/;

function codeOf(error: unknown): string {
  const { code, type, errno } = (typeof error === 'object' && error !== null ? error : {}) as { readonly code?: unknown; readonly type?: unknown; readonly errno?: unknown };
  if (typeof code === 'string') return code;
  if (typeof errno === 'string') return errno;
  return type === 'system' || type === 'request-timeout' || type === 'body-timeout' ? 'FETCH_ERROR' : '';
}

function isPassing(error: unknown): boolean {
  const code = codeOf(error);
  return NETWORK.test(code) || CORRUPT.test(code);
}

/** In our words: what, from where, whose fault, what to do. Addresses without passwords. */
function explain(error: unknown, order: InstallOrder): MetronomeError {
  const own = isDiskFull(error) ? orDiskFull(error, `The package ${order.id}`) : error;
  if (own instanceof MetronomeError) return own;
  const code = codeOf(error);
  const said = (error instanceof Error ? error.message : String(error)).replaceAll(/\/\/[^/@\s]+@/g, '//').replace(/\.$/, '').slice(0, 400);
  const where = order.file !== undefined ? 'the bundle of the function' : order.url !== undefined ? hostOf(order.url) : order.runtime === 'python3' ? "pip's index" : hostOf(registryOf(order.npm ?? {}, order.name));
  const what = `The package ${order.id} from ${where}`;
  const made = (kind: MetronomeError['code'], text: string): MetronomeError => new MetronomeError(kind, text, { component: 'agent', cause: error });
  if (code === 'TOO_LARGE') return made('STORE_FULL', `${what} does not fit: ${said}. Raise agent.packageQuota.`);
  if (CORRUPT.test(code)) return made('OBJECT_CORRUPT', `${what} came with other bytes than were locked when the function was applied (${said}). If that stays, make the lock again and apply the function.`);
  if (code === 'E404' || code === 'ETARGET') return made('PACKAGES_FAILED', `${what} does not exist there (${said}). Does the node use the registry that the lock was made with?`);
  if (code === 'E401' || code === 'E403') return made('PACKAGES_FAILED', `${what} is refused (${said}). The npm configuration of the user that runs the agent needs a token for it.`);
  if (code === 'NO_PIP') return made('PACKAGES_FAILED', `${what} needs pip on this node; on Debian: apt-get install -y python3-pip.`);
  if (NETWORK.test(code)) return made('UNAVAILABLE', `${what} cannot be fetched: ${said || code}. It was tried ${RETRY_MS.length + 1} times; the next cold start tries again.`);
  return made('PACKAGES_FAILED', `${what} cannot be installed: ${said}.`);
}

function hostOf(address: string): string {
  return URL.canParse(address) ? new URL(address).host : address.slice(0, 80);
}
